"""The keeper's commands, as ops give them, on a node that is also its keeper."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from doubles.paths import RECOVER
from doubles.servers.postgres import Server
from fix_nodes import NodeFolder
from fix_postgres import Database
from fix_recover import Recover

from backupd.clock import SystemClock
from backupd.model.ids import RegionName, RepositoryId
from backupd.model.ledger import Observed
from backupd.model.text import stamp
from backupd.repository.lease import Claimant, hold_lease
from backupd.repository.ledger import Chain, next_document, put_entry
from backupd.seal.keyfiles import read_signer, write_identity
from backupd.store.directory import DirectoryStore

QUERY = """
[regions.be.lifecycle.query]
database = "app"
sql = "SELECT name AS tenant, left_at AS unsubscribed_at, erase_at AS erase_requested_at FROM public.customer"
"""


@pytest.fixture
def kept(pg17: Server, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder]) -> NodeFolder:
    """A node with a keeper's key, and three customers with rows."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL, said text)",
        "INSERT INTO note SELECT g, 'secretive-' || g % 3, md5(g::text) FROM generate_series(1, 300) g",
        "CREATE TABLE customer (name text, left_at timestamptz, erase_at timestamptz, tenant text)",
        "INSERT INTO customer SELECT n, NULL, NULL, n FROM unnest(ARRAY['secretive-0','secretive-1','secretive-2']) n",
    )
    node = node_of(database)
    node.become_keeper(QUERY)
    node.json("backup")
    node.database = database
    return node


def tenant(node: NodeFolder, *arguments: str) -> dict:
    return node.json("tenant", *arguments)


def test_a_tenant_leaves_comes_back_and_is_erased(kept: NodeFolder) -> None:
    """Every answer gives ids and dates, and no answer the name."""
    day = datetime.now(UTC) - timedelta(days=3)
    changed = tenant(kept, "unsubscribe", "be", "secretive-1", "--at", day.isoformat())
    who = changed["tenant"]["tenant"]
    assert (changed["changed"], changed["tenant"]["state"]) == (True, "marked")
    assert not tenant(kept, "unsubscribe", "be", who, "--id", "--at", day.isoformat())["changed"]
    other = kept.run("tenant", "unsubscribe", "be", "secretive-1")
    assert (other.returncode, b"marked since" in other.stderr) == (10, True)
    (line,) = kept.json("tenant", "list", "be")["tenants"]
    assert line["deadline"] > line["purge_by"] > line["since"]
    (incarnation,) = tenant(kept, "where", "be", "secretive-1")["incarnations"]
    assert incarnation["copies"][0]["readable"] >= 1
    assert incarnation["gone_by"] == line["deadline"]
    assert tenant(kept, "resubscribe", "be", "secretive-1")["tenant"]["state"] == "active"
    erased = tenant(kept, "erase", "be", "secretive-1")
    assert erased["tenant"]["state"] == "cleared"
    assert erased["purged"][0]["objects"] >= 1
    (incarnation,) = tenant(kept, "where", "be", "secretive-1")["incarnations"]
    assert (incarnation["copies"], incarnation["standing"]["absent"]) == ([], ["disk"])
    shown = tenant(kept, "show", "be", who, "--id")
    assert [happened["event"]["event"] for happened in shown["history"]] == [
        "unsubscribed", "resubscribed", "erasure-requested", "purge-began", "shredded", "cleared", "absent",
    ]  # fmt: skip
    again = kept.run("backup", "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.returncode == 0
    assert json.loads(again.stdout)["backups"][0]["report"]["left_out"] == 101
    for command in (
        ("tenant", "list", "be"),
        ("tenant", "show", "be", who, "--id"),
        ("ledger", "show", "be"),
        ("plan",),
    ):
        done = kept.run(*command)
        assert done.returncode == 0
        assert b"secretive" not in done.stdout + done.stderr
    assert kept.json("ledger", "verify", "be")["clean"]


def test_a_keeper_that_joined_after_init_is_reported(kept: NodeFolder, tmp_path: Path, recover: Recover) -> None:
    """By verify as a warning, by init, and with its key on the runbook, whose last line works as it stands."""
    public = read_signer(kept.node / "keeper.key").public
    tenant(kept, "erase", "be", "secretive-1")
    (seen,) = kept.json("verify", "be")["stores"]
    assert (seen["clean"], seen["verification"]["unnamed_keepers"]) == (True, [public])
    shown = kept.run("verify", "be").stdout.decode()
    assert f"warning: the repository does not name the keeper {public}" in shown
    again = kept.run("init", "be")
    assert (again.returncode, f"does not name the keeper {public}" in again.stderr.decode()) == (10, True)

    secret, passphrase = tmp_path / "ops.identity", tmp_path / "passphrase"
    write_identity(secret, "ops", kept.pair, "pass")
    passphrase.write_text("pass\n")
    options = "--identity", str(secret), "--passphrase-file", str(passphrase)
    book = kept.run("restore", "runbook", "be", "app", *options)
    compared, line = [line for line in book.stdout.decode().split("\n") if "store/recover" in line]
    assert shlex.split(compared)[1].split() == [sha256(RECOVER.read_bytes()).hexdigest(), "store/recover"]
    words = shlex.split(line)[2:]
    config = kept.node / "backupd.toml"
    config.write_text(config.read_text().replace(f'keepers = ["{public}"]\n', ""))
    unnamed = kept.run("restore", "preview", "be", "app", *options)
    assert (unnamed.returncode, "to trust.keepers" in unnamed.stderr.decode()) == (7, True)

    chosen = words[words.index("FILE.identity") + 1 : words.index("--out")]
    done = recover(kept.folder / "disk" / "be", *options, *chosen, "--out", tmp_path / "recovered")
    assert done.returncode == 0, done.stderr


def test_the_application_says_who_leaves(kept: NodeFolder) -> None:
    """What the query says is what the ledger says after a sync, and again nothing after a second."""
    database: Database = kept.database
    database.sql("UPDATE customer SET left_at = now() - interval '10 days' WHERE name = 'secretive-2'")
    done = kept.json("tenant", "sync", "be")
    assert (done["tenants"], len(done["events"]), done["refused"]) == (3, 1, {})
    assert kept.json("tenant", "sync", "be")["events"] == []
    database.sql("UPDATE customer SET left_at = now() - interval '1 day' WHERE name = 'secretive-2'")
    assert [event["event"] for event in kept.json("tenant", "sync", "be")["events"]] == ["resubscribed", "unsubscribed"]
    database.sql("UPDATE customer SET left_at = NULL")
    assert [event["event"] for event in kept.json("tenant", "sync", "be")["events"]] == ["resubscribed"]
    database.sql("UPDATE customer SET erase_at = now() WHERE name = 'secretive-2'")
    assert [event["event"] for event in kept.json("tenant", "sync", "be")["events"]] == ["erasure-requested"]
    assert len(kept.json("purge", "--dry-run")["regions"][0]["plan"]["due"]) == 1
    (run,) = kept.json("purge")["regions"]
    assert (run["errors"], run["done"][0]["absent"]) == ({}, True)
    assert kept.json("plan")["regions"][0]["tenants"][0]["state"] == "cleared"


def test_a_live_purge_that_missed_something_is_told(kept: NodeFolder) -> None:
    """The application says it removed a tenant's rows, and a later snapshot has them: an alarm, by id."""
    database: Database = kept.database
    config = kept.node / "backupd.toml"
    config.write_text(config.read_text().replace(" FROM public", ", left_at AS live_purged_at FROM public"))
    database.sql("UPDATE customer SET left_at = now() - interval '1 hour' WHERE name = 'secretive-2'")
    done = kept.run("tenant", "sync", "be", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, len(told["lingering"])) == (10, 1)
    database.sql("DELETE FROM note WHERE tenant = 'secretive-2'", "DELETE FROM customer WHERE name = 'secretive-2'")
    kept.json("backup")
    database.sql("INSERT INTO customer VALUES ('secretive-2', now() - interval '1 hour', NULL, 'other')")
    assert kept.json("tenant", "sync", "be")["lingering"] == []


def test_a_hold_keeps_a_tenant_whose_date_has_come(kept: NodeFolder) -> None:
    """It is not due while it is held, and erasing it is refused."""
    long_ago = (datetime.now(UTC) - timedelta(days=170)).isoformat()
    tenant(kept, "unsubscribe", "be", "secretive-0", "--at", long_ago)
    soon = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    assert tenant(kept, "hold", "be", "secretive-0", "CASE-7", "--review", soon)["tenant"]["holds"] == ["CASE-7"]
    assert kept.json("purge", "--dry-run")["regions"][0]["plan"]["due"] == []
    refused = kept.run("tenant", "erase", "be", "secretive-0")
    assert (refused.returncode, b"held by CASE-7" in refused.stderr) == (10, True)
    assert tenant(kept, "release", "be", "secretive-0", "CASE-7")["tenant"]["holds"] == []


def test_a_hold_for_a_sentence_is_refused(kept: NodeFolder) -> None:
    """A sentence would name people in the ledger; it is refused before anything is written, and not repeated."""
    soon = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    done = kept.run("tenant", "hold", "be", "secretive-0", "because Jane Marker sued", "--review", soon)
    assert (done.returncode, b"needs a reference" in done.stderr, b"Marker" in done.stderr) == (2, True, False)
    assert list((kept.folder / "disk").rglob("ledger/*")) == []
    assert kept.json("ledger", "verify", "be")["clean"]


def test_expire_says_what_it_would_do(kept: NodeFolder) -> None:
    """A dry run lists every snapshot with its reasons and removes nothing; nothing is old enough to go."""
    (planned,) = kept.json("expire", "--dry-run")["stores"]
    (decision,) = planned["plan"]["decisions"]
    assert (decision["keep"], decision["reasons"][0], planned["expired"]) == (True, "within 14 d", None)
    (done,) = kept.json("expire")["stores"]
    assert (done["expired"]["snapshots"], done["expired"]["objects"]) == (0, 0)


def test_a_machine_that_is_no_keeper_removes_nothing(kept: NodeFolder) -> None:
    """Without a [keeper] section every command that writes the ledger is refused."""
    config = kept.node / "backupd.toml"
    config.write_text(config.read_text().replace(f'[keeper]\nsigning_key_file = "{kept.node}/keeper.key"\n', ""))
    for command in (("tenant", "unsubscribe", "be", "x"), ("purge",), ("expire",), ("tenant", "where", "be", "x")):
        done = kept.run(*command)
        assert (done.returncode, b"this machine is no keeper" in done.stderr) == (3, True)
    assert kept.run("tenant", "list", "be").returncode == 0


def test_status_tells_three_ages_and_who_is_late(kept: NodeFolder) -> None:
    """Published is not verified, and neither is restored; a tenant past its date makes the exit status tell."""
    (region,) = kept.json("status")["regions"]
    (disk,) = region["stores"]
    (app,) = disk["databases"]
    assert app["published"]
    assert (app["verified"], app["restored"], disk["append_only"], disk["kept"]) == (None, None, False, None)
    assert kept.json("verify", "--read-data", "all")
    kept.json("purge")
    (region,) = kept.json("status")["regions"]
    (disk,) = region["stores"]
    assert disk["databases"][0]["verified"] == app["published"]
    assert disk["kept"]
    long_ago = (datetime.now(UTC) - timedelta(days=200)).isoformat()
    tenant(kept, "unsubscribe", "be", "secretive-0", "--at", long_ago)
    late = kept.run("status")
    assert (late.returncode, b"LATE: tenant" in late.stdout, b"secretive" in late.stdout) == (10, True, False)


def test_an_entry_that_is_dated_ahead_stops_nobody_for_good(kept: NodeFolder) -> None:
    """Every command that would append names it, as do `status` and `ledger verify`; once it is said, work goes on."""
    store, signer = DirectoryStore(kept.folder / "disk" / "be"), read_signer(kept.node / "keeper.key")
    repository = RepositoryId(
        json.loads((kept.folder / "disk/be/repository.json").read_text().splitlines()[0])["repository"]
    )
    ahead = stamp(datetime.now(UTC) + timedelta(days=600))
    event = Observed(store="disk", snapshots=[])
    put_entry(store, 1, next_document(Chain(RegionName("be"), repository), ahead, [event], signer))
    for command in (("expire",), ("tenant", "unsubscribe", "be", "secretive-1")):
        done = kept.run(*command)
        assert (done.returncode, b"entry 1 of the ledger is of" in done.stderr) == (10, True), done.stderr
    status = kept.run("status")
    assert (status.returncode, b"entry 1 of the ledger of region 'be' is dated ahead" in status.stdout) == (10, True)
    verified = kept.run("ledger", "verify", "be")
    assert (verified.returncode, b"dated ahead: entry 1" in verified.stdout) == (0, True)
    assert kept.run("ledger", "redate", "be", "--decision", "somebody's clock").returncode == 2
    assert kept.json("ledger", "redate", "be", "--decision", "OPS-312")["misdated"] == [1]
    assert kept.json("ledger", "redate", "be", "--decision", "OPS-312")["misdated"] == []
    kept.json("expire")
    assert tenant(kept, "unsubscribe", "be", "secretive-1")["changed"]
    assert b"dated ahead" not in kept.run("status").stdout + kept.run("ledger", "verify", "be").stdout
    assert b"(dated ahead by a wrong clock)" in kept.run("ledger", "show", "be").stdout
    # The keeper with that clock, should its key have to go, too.
    other, config = "fe" * 32, kept.node / "backupd.toml"
    config.write_text(config.read_text().replace("keepers = [", f'keepers = ["{other}", '))
    retiring = ("ledger", "retire-keeper", "be", other, "--decision", "OPS-313")
    assert kept.json(*retiring) == {"region": "be", "keeper": other, "changed": True, "dry_run": False}
    assert not kept.json(*retiring)["changed"]


def test_another_keeper_is_at_work(kept: NodeFolder) -> None:
    """What it does need not be done twice: said with an exit status of its own, and nothing was removed."""
    store = DirectoryStore(kept.folder / "disk" / "be")
    signer = read_signer(kept.node / "keeper.key")
    claimant = Claimant(
        RegionName("be"),
        kept.repository().info().repository,
        "cellar",
        signer,
        frozenset({signer.public}),
        SystemClock(),
        os.urandom,
    )
    with hold_lease(store, claimant):
        for command in ("purge", "expire"):
            busy = kept.run(command)
            assert (busy.returncode, b"the keeper on cellar is at work" in busy.stderr) == (11, True)
    assert kept.run("purge").returncode == 0


def test_status_of_a_store_that_is_not_there(kept: NodeFolder) -> None:
    """The region's other facts cannot be read from one store; what is wrong is named, with the store's exit status."""
    (kept.folder / "disk").rename(kept.folder / "elsewhere")
    done = kept.run("status")
    assert (done.returncode, b"the store's folder" in done.stdout + done.stderr) == (6, True)


def test_a_false_snapshot_is_removed_by_its_name(kept: NodeFolder) -> None:
    """A dry run says what would go; a name that nobody ever saw is refused; then nothing misses it."""
    kept.json("backup")
    first, second = [one["name"] for one in kept.json("snapshots", "be")["regions"][0]["snapshots"]]
    assert kept.json("verify", "be")["stores"][0]["clean"]
    shown = kept.json("expire", "be", "--false", second, "--dry-run")["stores"][0]
    assert (shown["plan"]["objects"], shown["expired"]) == (1, None)
    unknown = kept.run("expire", "be", "--false", f"{first[:-1]}x")
    assert (unknown.returncode, b"has no snapshot" in unknown.stderr) == (2, True)
    short = kept.run("expire", "be", "--false", second[:25])
    assert (short.returncode, f"{second}." in short.stderr.decode()) == (2, True), short.stderr
    done = kept.run("expire", "be", "--false", second)
    assert (done.returncode, b"removed 1 object of 1 false snapshot" in done.stdout) == (0, True)
    assert [one["name"] for one in kept.json("snapshots", "be")["regions"][0]["snapshots"]] == [first]
    assert kept.json("verify", "be")["stores"][0]["clean"]
    assert kept.json("expire", "be")["stores"][0]["expired"]["snapshots"] == 0
