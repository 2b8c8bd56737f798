"""`restore in-place` as it is typed, by a process of its own on the machine that makes the backups."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from typing import Any

import pytest
from doubles.servers.postgres import Server
from fix_inplace import HARM, TABLES
from fix_nodes import NodeFolder, on_terminal
from fix_postgres import Database

from backupd.seal import keyfiles

TENANCY = """
tenancy = { kind = "column", column = "tenant" }
[[regions.be.databases.app.tables]]
match = ["public.country"]
shared = true
[[regions.be.databases.app.tables]]
match = ["public.line"]
path = ["line_sale"]
"""
OURS = "SELECT array_agg(t::text ORDER BY t::text) FROM customer t WHERE tenant = 2"


class Typed:
    """Restores of tenant 2 on the command line."""

    def __init__(self, node: NodeFolder, database: Database) -> None:
        self.node = node
        self.database = database
        keyfiles.write_identity(node.folder / "ops.identity", "ops", node.pair, "pass")
        (node.folder / "pass").write_text("pass\n")

    def __call__(self, *options: str, status: int = 0, tenant: str = "2") -> str:
        with_key = ("--identity", "ops.identity", "--passphrase-file", "pass")
        target = () if "--target" in options else ("--target", self.database.conninfo)
        done = self.node.run("restore", "in-place", "be", "app", "--tenant", tenant, *target, *options, *with_key)
        printed = (done.stdout + done.stderr).decode()
        assert done.returncode == status, printed
        assert "Marker" not in printed
        return printed

    def json(self, *options: str) -> Any:
        printed = self(*options, "--json")
        return json.loads(next(line for line in printed.splitlines() if line.startswith("{")))["report"]


@pytest.fixture
def typed(pg17: Server, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder]) -> Typed:
    """Backed up, and then harmed."""
    database = make_database(pg17)
    database.sql(*TABLES)
    node = node_of(database, TENANCY)
    node.json("backup")
    typed = Typed(node, database)
    database.sql(*HARM)
    return typed


def test_from_preview_to_restored(typed: Typed) -> None:
    """A preview writes nothing; applied, the database is backed up first, and the keys stay with who asked."""
    harmed = typed.database.sql(OURS)
    (snapshot,) = typed.node.repository().snapshots()
    told = typed("--keys-file", "keys.json")
    assert "preview: one tenant" in told
    assert "public.customer       1      10      10" in told
    keys = typed.node.folder / "keys.json"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in keys.read_text().splitlines()]
    assert {"table": "public.note", "change": "insert", "key": {"id": 1}} in lines
    assert typed.database.sql(OURS) == harmed
    typed("--keys-file", "keys.json", status=2)
    report = typed.json("--apply", "--snapshot", snapshot)
    assert (report["applied"], report["settled"], report["snapshot"]) == (True, True, snapshot)
    assert set(typed.node.repository().snapshots()) == {snapshot, report["before"]}
    back = typed.json("--apply", "--snapshot", report["before"], "--no-backup-before", snapshot[:20])
    assert back["before"] == snapshot[:20]
    assert typed.database.sql(OURS) == harmed


def test_what_is_in_the_way_is_told_with_what_to_do(typed: Typed) -> None:
    """The exit status of a restore that was refused is 10, that of a preview is 0; nothing was backed up."""
    typed.database.sql("UPDATE customer SET mail = 'free' WHERE id = 50", "ALTER TABLE tag DROP COLUMN word")
    for options, status in (((), 0), (("--apply",), 10)):
        told = typed(*options, status=status)
        assert "conflict column-gone: public.tag: 1 columns of the snapshot" in told
        assert "Restore into a new database and migrate it" in told
    assert len(typed.node.repository().snapshots()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--table", "public.*"), "no such option: --table"),
        (("--accept", "everything"), '--accept does not take "everything"'),
        (("--tenant", "-"), "one tenant is restored in place"),
        (("--apply", "--no-backup-before", "it is fine"), "--no-backup-before is no reference"),
    ],
)
def test_options_that_do_not_fit(typed: Typed, options: tuple[str, ...], words: str) -> None:
    """They are refused before anything is opened."""
    assert words in typed(*options, status=2)


def test_the_backup_before_must_be_of_the_same_database(typed: Typed, make_database: Callable[..., Database]) -> None:
    """One of another database would not save what is about to be written over."""
    other = make_database(typed.database.server, template=typed.database.name)
    told = typed("--apply", "--target", other.conninfo, status=10)
    assert "the target is not the database that is backed up under this label" in told
    assert "nothing was written" not in typed("--apply", "--target", other.conninfo, "--no-backup-before", "CHG-7")


def test_a_machine_that_makes_no_backups_needs_a_reference(typed: Typed) -> None:
    """It says so before it writes."""
    file = typed.node.node / "backupd.toml"
    file.write_text(file.read_text().replace("signing_key_file", "# signing_key_file"))
    told = typed("--apply", status=10)
    assert "the tenant is not backed up before" in told


def test_on_a_terminal_it_shows_what_it_would_write_and_asks(typed: Typed) -> None:
    """Without a yes not a row changes, and no backup is made; with one the tenant is as it was."""
    harmed = typed.database.sql(OURS)
    known = ("--identity", "ops.identity", "--passphrase-file", "pass", "--target", typed.database.conninfo)
    apply = ("restore", "in-place", "be", "app", "--tenant", "2", "--apply", *known)
    status, text = on_terminal(typed.node, "\n", *apply)
    assert (status, "preview: one tenant" in text, "nothing was changed" in text) == (10, True, True), text
    assert typed.database.sql(OURS) == harmed
    assert len(typed.node.repository().snapshots()) == 1
    (snapshot,) = typed.node.repository().snapshots()
    assert on_terminal(typed.node, "y\n", *apply, "--snapshot", snapshot)[0] == 0
    assert typed.database.sql(OURS) != harmed
