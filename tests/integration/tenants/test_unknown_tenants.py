"""A tenant that nothing knows is not changed, and what removes for good can be looked at and declined before."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from doubles.servers.postgres import Server
from fix_nodes import DISK, NodeFolder, on_terminal
from fix_postgres import Database

REVIEW = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
CHANGES = {
    "unsubscribe": (),
    "resubscribe": (),
    "erase": (),
    "hold": ("CASE-7", "--review", REVIEW),
    "release": ("CASE-7",),
    "move": ("--to", "ch"),
}
QUERY = """
[regions.be.lifecycle.query]
database = "app"
sql = "SELECT name AS tenant, NULL::date AS unsubscribed_at, NULL::date AS erase_requested_at FROM public.customer"
"""
ELSEWHERE = """
[regions.ch]
locations = ["here"]
stores = ["disk"]
[regions.ch.databases.app]
dsn = "{dsn}"
tenancy = {{ kind = "column", column = "tenant" }}
"""


@pytest.fixture
def kept(pg17: Server, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder]) -> NodeFolder:
    """A node that is its own keeper, with three tenants' rows backed up, and a customer who has no rows yet."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL, said text)",
        "INSERT INTO note SELECT g, 'secretive-' || g % 3, md5(g::text) FROM generate_series(1, 30) g",
        "CREATE TABLE customer (tenant text, name text)",
        "INSERT INTO customer VALUES ('secretive-0', 'newcomer')",
    )
    node = node_of(database)
    node.become_keeper(ELSEWHERE.format(dsn=database.conninfo))
    node.json("backup", "be")
    return node


def entries(node: NodeFolder) -> int:
    return len(list((node.folder / "disk").rglob("ledger/*")))


def test_a_tenant_that_nothing_knows_is_refused(kept: NodeFolder) -> None:
    """By every command that changes a tenant: a typo proves no erasure, and the ledger gains no entry."""
    for command, options in CHANGES.items():
        done = kept.run("tenant", command, "be", "99", *options)
        assert (done.returncode, b"nothing knows tenant" in done.stderr) == (10, True), (command, done.stderr)
        assert b"searched were the ledger and all keyrings on disk" in done.stderr
        assert b"--unknown" in done.stderr
    assert entries(kept) == 0


def test_where_says_that_a_tenant_is_unknown(kept: NodeFolder) -> None:
    """It is not active, and not gone either; one with rows is active."""
    answer = kept.json("tenant", "where", "be", "99")
    (incarnation,) = answer["incarnations"]
    assert (answer["known"], incarnation["standing"]["state"], incarnation["gone_by"]) == (False, "unknown", None)
    assert b"active" not in kept.run("tenant", "where", "be", "99").stdout
    answer = kept.json("tenant", "where", "be", "secretive-1")
    assert (answer["known"], answer["incarnations"][0]["standing"]["state"]) == (True, "active")


def test_those_who_know_better_say_so(kept: NodeFolder) -> None:
    """With `--unknown` the change is made; from then on the ledger knows the tenant."""
    assert kept.json("tenant", "unsubscribe", "be", "99", "--unknown")["changed"]
    assert kept.json("tenant", "resubscribe", "be", "99")["changed"]


def test_a_held_tenant_is_known(kept: NodeFolder) -> None:
    """The ledger names it, though it has no rows and no dates: its hold can be released."""
    kept.json("tenant", "hold", "be", "99", "CASE-7", "--review", REVIEW, "--unknown")
    assert kept.json("tenant", "where", "be", "99")["known"]
    assert kept.json("tenant", "release", "be", "99", "CASE-7")["changed"]


def test_the_lifecycle_query_knows_tenants(kept: NodeFolder) -> None:
    """One that it returns is known without rows; a spelling near it is refused, with its id and without its name."""
    config = kept.node / "backupd.toml"
    config.write_text(config.read_text() + QUERY)
    done = kept.run("tenant", "hold", "be", "newcomr", "CASE-7", "--review", REVIEW)
    told = done.stdout + done.stderr
    assert (done.returncode, b"the lifecycle query" in told, b"newcome" in told) == (10, True, False)
    held = kept.json("tenant", "hold", "be", "newcomer", "CASE-7", "--review", REVIEW)
    assert held["tenant"]["tenant"].encode() in told


def test_a_store_out_of_reach_is_no_reason_to_believe(kept: NodeFolder) -> None:
    """What it has is not known; a tenant whom another store knows is changed all the same."""
    config = kept.node / "backupd.toml"
    gone = DISK.replace("[stores.disk]", "[stores.gone]").replace("/disk", "/gone").format(folder=kept.folder)
    text = config.read_text().replace('["disk"]', '["disk", "gone"]', 1)
    config.write_text(f"{text}\n{gone}")
    done = kept.run("tenant", "hold", "be", "99", "CASE-7", "--review", REVIEW)
    assert (done.returncode, b"gone could not be" in done.stderr, b"--unknown" in done.stderr) == (10, True, True)
    assert kept.json("tenant", "hold", "be", "secretive-1", "CASE-7", "--review", REVIEW)["changed"]


@pytest.mark.parametrize("command", ["unsubscribe", "hold"])
def test_a_dry_run_of_what_removes_nothing_at_once(kept: NodeFolder, command: str) -> None:
    """The dates that it would set, or none; no entry is written."""
    shown = kept.json("tenant", command, "be", "secretive-1", *CHANGES[command], "--dry-run")
    assert (shown["changed"], shown["dry_run"]) == (False, True)
    assert bool(shown["tenant"]["purge_by"]) == (command == "unsubscribe")
    assert entries(kept) == 0


def test_the_release_of_a_hold_asks_where_something_then_goes(kept: NodeFolder) -> None:
    """A tenant that is leaving is purged soon after; one that is not stays, and nobody is asked."""
    for tenant in ("secretive-1", "secretive-2"):
        kept.json("tenant", "hold", "be", tenant, "CASE-7", "--review", REVIEW)
    kept.json("tenant", "unsubscribe", "be", "secretive-1")
    status, text = on_terminal(kept, "\n", "tenant", "release", "be", "secretive-1", "CASE-7")
    assert (status, "purged by" in text, "nothing was changed" in text) == (10, True, True), text
    assert on_terminal(kept, "\n", "tenant", "release", "be", "secretive-2", "CASE-7")[0] == 0


def test_a_store_is_declared_gone_by_consent(kept: NodeFolder) -> None:
    """Dry, it says what waits; on a terminal it asks; and a program is not asked."""
    config = kept.node / "backupd.toml"
    text = config.read_text()
    other = DISK.replace("[stores.disk]", "[stores.other]").replace("/disk", "/other").format(folder=kept.folder)
    (kept.folder / "other").mkdir()
    config.write_text(text.replace('["disk"]', '["disk", "other"]', 1) + other)
    kept.json("init", "be")
    kept.json("tenant", "erase", "be", "secretive-1")
    config.write_text(text)
    before, retire = entries(kept), ("ledger", "retire", "be", "other", "--decision", "OPS-311")
    assert not kept.json(*retire, "--dry-run")["changed"]
    status, text = on_terminal(kept, "\n", *retire)
    assert (status, "would be retired" in text, "nothing was changed" in text) == (10, True, True), text
    assert entries(kept) == before
    assert on_terminal(kept, "y\n", *retire)[0] == 0
    assert not kept.json(*retire)["changed"]


@pytest.mark.parametrize("command", ["erase", "move"])
def test_a_dry_run_says_what_would_be_done(kept: NodeFolder, command: str) -> None:
    """With the dates and the places; nothing is written and nothing goes."""
    before = sorted(kept.folder.glob("disk/be/**/*"))
    shown = kept.json("tenant", command, "be", "secretive-1", *CHANGES[command], "--dry-run")
    assert (shown["changed"], shown["dry_run"], shown["tenant"]["state"]) == (False, True, "marked")
    assert shown["tenant"]["purge_by"]
    assert shown["incarnations"][0]["copies"][0]["segments"] >= 1
    assert sorted(kept.folder.glob("disk/be/**/*")) == before
    text = kept.run("tenant", command, "be", "secretive-1", *CHANGES[command], "--dry-run").stdout
    assert b"purged by" in text
    assert b"disk, generation" in text


def test_a_terminal_is_asked(kept: NodeFolder) -> None:
    """What goes is shown before; anything but a yes leaves all as it was, and programs say `--yes`."""
    erase = ("tenant", "erase", "be", "secretive-1")
    status, text = on_terminal(kept, "\n", *erase)
    assert (status, "disk, generation" in text, "nothing was changed" in text) == (10, True, True), text
    assert entries(kept) == 0
    assert on_terminal(kept, "y\n", *erase)[0] == 0
    assert on_terminal(kept, "\n", "tenant", "erase", "be", "secretive-2", "--yes")[0] == 0
    assert kept.json("tenant", "where", "be", "secretive-1")["incarnations"][0]["standing"]["state"] == "cleared"


def test_a_purge_by_hand_asks(kept: NodeFolder) -> None:
    """When something is due; a tenant that is due stays as it is until somebody agrees."""
    assert on_terminal(kept, "\n", "purge", "be")[0] == 0
    long_ago = (datetime.now(UTC) - timedelta(days=170)).isoformat()
    kept.json("tenant", "unsubscribe", "be", "secretive-1", "--at", long_ago)
    status, text = on_terminal(kept, "\n", "purge", "be")
    assert (status, "would purge tenant" in text, "nothing was changed" in text) == (10, True, True), text
    assert json.loads(on_terminal(kept, "", "purge", "be", "--yes", "--json")[1])["regions"][0]["plan"]["due"]


def test_an_expiry_by_hand_asks(kept: NodeFolder) -> None:
    """When something would go; without a yes every object stays."""
    config = kept.node / "backupd.toml"
    rules = 'keep_within = "0s"\ndaily = 0\nweekly = 0\nmonthly = 0\nkeep_minimum = 1\n'
    config.write_text(f"{config.read_text()}\n[regions.be.retention]\n{rules}")
    before = sorted(kept.folder.glob("disk/be/snapshots/**/*"))
    status, text = on_terminal(kept, "\n", "expire", "be")
    assert (status, "would remove" in text, "nothing was changed" in text) == (10, True, True), text
    assert sorted(kept.folder.glob("disk/be/snapshots/**/*")) == before
    status, text = on_terminal(kept, "y\n", "expire", "be")
    assert (status, "removed 1 snapshot, " in text) == (0, True), text
