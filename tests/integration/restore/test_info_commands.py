"""What `info`, `ls` and `diff` say of real backups, on two stores, with and without an identity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from doubles.servers.postgres import Server
from fix_nodes import DISK, NodeFolder
from fix_postgres import Database

OPENED = ("--identity", "ops.identity", "--passphrase-file", "passphrase")
SECOND = DISK.replace("stores.disk", "stores.cellar").replace("/disk", "/cellar")


@pytest.fixture
def backed_up(
    pg17: Server, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder], tmp_path: Path
) -> tuple[NodeFolder, Database]:
    """A node that is its own keeper, with two snapshots on two stores: one row of one tenant changed between them."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL, said text)",
        "CREATE TABLE bill (id int PRIMARY KEY, tenant text NOT NULL)",
        "INSERT INTO note SELECT g, 'secretive-' || g % 3, md5(g::text) FROM generate_series(1, 300) g",
        "INSERT INTO bill SELECT g, 'secretive-' || g % 2 FROM generate_series(1, 10) g",
    )
    (tmp_path / "cellar").mkdir()
    both = (DISK + SECOND).format(folder=tmp_path)
    node = node_of(database, stores=both, names='["disk", "cellar"]')
    node.become_keeper()
    node.write_identity()
    node.json("backup", "be")
    database.sql("UPDATE note SET said = 'changed' WHERE id = 3", "INSERT INTO note VALUES (999, 'secretive-3', 'new')")
    node.json("backup", "be")
    return node, database


def names(node: NodeFolder, store: str = "disk") -> list[str]:
    return sorted(path.name for path in (node.folder / store / "be" / "snapshots").glob("*/*"))


def lines(node: NodeFolder, *arguments: str, status: int = 0) -> list[str]:
    done = node.run(*arguments)
    assert done.returncode == status, (done.stdout + done.stderr).decode()
    found = done.stdout.decode().splitlines()
    assert max(map(len, found)) <= 80, found
    return found


def test_a_region_on_one_screen(backed_up: tuple[NodeFolder, Database]) -> None:
    """Stores with what each has, the newest snapshot, which was verified where, and no line beyond 80 columns."""
    node, _ = backed_up
    node.json("verify", "be", "--store", "cellar", "--read-data", "all")

    shown = lines(node, "info", "be")
    region = node.json("info", "be")["region"]

    (app,) = region["databases"]
    newest = app["newest"]["snapshot"]
    assert newest in names(node) + names(node, "cellar")
    assert (app["database"], app["snapshots"], app["newest"]["totals"]["rows"]) == ("app", 4, 311)
    assert [(one["store"], one["snapshots"]) for one in region["stores"]] == [("disk", 2), ("cellar", 2)]
    by_store = {one["store"]: one for one in app["stores"]}
    assert by_store["disk"].get("verified") is None
    assert by_store["cellar"]["verified"] == names(node, "cellar")[-1]
    assert any(newest[:25] in line for line in shown)
    assert len(shown) < 24
    listed = node.node / "state" / "be" / "snapshots.txt"
    assert listed.read_text().split() == sorted(
        (name[:25] for name in names(node) + names(node, "cellar")), reverse=True
    )
    assert "secretive" not in "\n".join(shown)


def test_a_snapshot_on_one_screen(backed_up: tuple[NodeFolder, Database]) -> None:
    """By the short name that the screen shows: sizes, where it lies, who looked, and what keeps it until when."""
    node, _ = backed_up
    name = names(node)[0]

    shown = "\n".join(lines(node, "info", "be", name[:25]))
    one = node.json("info", "be", name.partition("-")[2][:10])["snapshot"]

    assert one["snapshot"] == name
    assert (one["totals"]["rows"], one["totals"]["tables"]) == (310, 2)
    on = {store["store"]: store for store in one["stores"]}
    assert on["disk"]["there"]
    assert on["disk"]["kept"]
    assert on["disk"]["reasons"] == ["within 14 d"]
    assert not on["cellar"]["there"]
    assert f"snapshot    {name[:25]}\n" in shown
    assert "on cellar: not there" in shown
    assert "kept: within 14 d" in shown
    assert "note" not in shown


def test_with_an_identity_the_tables_are_shown(backed_up: tuple[NodeFolder, Database]) -> None:
    """Biggest first, with their rows over all tenants."""
    node, _ = backed_up

    found = node.json("info", "be", names(node)[-1], *OPENED)

    assert [(one["table"], one["rows"]) for one in found["holdings"]["tables"]] == [("note", 301), ("bill", 10)]
    shown = lines(node, "info", "be", names(node)[-1][:25], *OPENED)
    assert [line.split()[:2] for line in shown[-2:]] == [["public.note", "301"], ["public.bill", "10"]]


def test_tables_and_tenants_are_listed_with_an_identity_only(backed_up: tuple[NodeFolder, Database]) -> None:
    """Every tenant with its rows; what is reported beside it, on standard error, names none."""
    node, _ = backed_up

    done = node.run("ls", "be", names(node)[-1][:25], *OPENED)
    assert f"snapshot {names(node)[-1][:25]} of app, exported ".encode() in done.stdout
    found = node.json("ls", "be", names(node)[-1], *OPENED)["holdings"]

    assert b"secretive-3" in done.stdout
    assert b"secretive" not in done.stderr
    rows = {one["tenant"]: one["rows"] for one in found["tenants"] if one["tenant"]}
    assert rows == {"secretive-0": 105, "secretive-1": 105, "secretive-2": 100, "secretive-3": 1}
    assert all(one["stored"] > 0 for one in found["tenants"])
    refused = node.run("ls", "be")
    assert (refused.returncode, b"needs an identity" in refused.stderr) == (2, True)


def test_the_difference_of_two_snapshots(backed_up: tuple[NodeFolder, Database]) -> None:
    """Without an identity by segments; with one, the tables and tenants that changed, and no others."""
    node, _ = backed_up
    first, second = names(node)

    blind = node.json("diff", "be", first[:25], second[:25])["difference"]
    opened = node.json("diff", "be", first, second, *OPENED)["difference"]

    changes = sorted(one["change"] for one in blind["segments"])
    assert changes.count("new") == 1
    assert "gone" not in changes
    assert [(one["table"], one["change"], one["rows_before"], one["rows"]) for one in opened["tables"]] == [
        ("note", "changed", 300, 301)
    ]
    tenants = {one["tenant"]: one["change"] for one in opened["tenants"] if one["tenant"]}
    assert tenants == {"secretive-0": "changed", "secretive-3": "new"}
    shown = lines(node, "diff", "be", first[:25], second[:25], *OPENED)
    assert shown[0] == f"from {first[:25]} to {second[:25]}"
    same = node.json("diff", "be", first, first, *OPENED)["difference"]
    assert (same["segments"], same["tables"], same["tenants"]) == ([], [], [])


def test_what_two_snapshots_begin_with_names_none(backed_up: tuple[NodeFolder, Database]) -> None:
    """A prefix that is not unique is refused, and so is one that nothing has."""
    node, _ = backed_up
    [(common, _)] = Counter(name[:6] for name in names(node) + names(node, "cellar")).most_common(1)

    several = node.run("info", "be", common)
    none = node.run("info", "be", "20010101T000000Z")

    assert (several.returncode, b"several snapshots begin like that" in several.stderr) == (2, True)
    assert none.returncode == 2


def test_a_store_that_is_away_is_named_and_hides_no_other(backed_up: tuple[NodeFolder, Database]) -> None:
    """The first store is gone: the second answers, also for what is opened; the exit status says that one is away."""
    node, _ = backed_up
    (node.folder / "disk").rename(node.folder / "gone")

    done = node.run("info", "be", "latest", *OPENED)

    assert done.returncode == 6
    assert b"be on disk" in done.stderr
    assert b"public.note" in done.stdout


def test_what_was_purged_is_left_out(backed_up: tuple[NodeFolder, Database]) -> None:
    """A tenant that was erased is not listed any more, and its segments are counted."""
    node, _ = backed_up
    node.json("tenant", "erase", "be", "secretive-1")

    found = node.json("ls", "be", names(node)[-1], *OPENED)["holdings"]

    assert "secretive-1" not in {one["tenant"] for one in found["tenants"]}
    assert found["purged"] == 1


def test_a_damaged_record_is_damage(backed_up: tuple[NodeFolder, Database]) -> None:
    """It is named, the others are shown, and the exit status is that of damage."""
    node, _ = backed_up
    (record,) = (node.folder / "disk" / "be" / "snapshots").glob(f"*/{names(node)[0]}")
    record.chmod(0o600)
    record.write_bytes(record.read_bytes().replace(b"app", b"apq", 1))

    done = node.run("info", "be")

    assert done.returncode == 7
    assert f"damage: {names(node)[0]}".encode() in done.stderr
    assert b"app: 3 snapshots" in done.stdout
