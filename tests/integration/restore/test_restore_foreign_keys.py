"""Rows that refer to what is left out: keys that cannot hold are found, named, and kept for new rows if asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import ANY

import psycopg
import pytest
from doubles.servers.postgres import Server
from fix_keeper import DAY, KeeperRegion
from fix_nodes import NodeFolder
from fix_postgres import Database, unique
from fix_regions import CLASSES, Region

from backupd.errors import BrokenKeysError
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.operations.restore import RestoreReport
from backupd.planning import lifecycle
from backupd.planning.lifecycle import ClockDates
from backupd.planning.selection import Selection
from backupd.seal.keyfiles import write_identity
from backupd.trace import PhaseDone, PhaseStarted, Warned

TENANCY = Tenancy(
    kind=TenancyKind.COLUMN,
    column="tenant",
    classes=CLASSES,
    rules=(TableRule(("public.country",), shared=True),),
)
TABLES = (
    "CREATE TABLE country (code text PRIMARY KEY)",
    "INSERT INTO country VALUES ('be'), ('ch')",
    "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL, code text REFERENCES country)",
    "INSERT INTO note SELECT g, g % 5, 'be' FROM generate_series(1, 100) g",
    'CREATE TABLE ticket (id int PRIMARY KEY, tenant int NOT NULL, note int CONSTRAINT "to Note" REFERENCES note)',
    "INSERT INTO ticket SELECT g, g % 5, CASE g WHEN 6 THEN 2 ELSE g END FROM generate_series(1, 100) g",
    "COMMENT ON CONSTRAINT \"to Note\" ON ticket IS 'said of one that breaks'",
    "COMMENT ON CONSTRAINT note_code_fkey ON note IS 'said of one that holds'",
    "CREATE TABLE line (tenant int NOT NULL, note int CONSTRAINT line_note REFERENCES note) PARTITION BY LIST (tenant)",
    "CREATE TABLE line_all PARTITION OF line DEFAULT",
    "INSERT INTO line VALUES (1, 1), (1, 2)",
    "CREATE TABLE old (tenant int NOT NULL, note int)",
    "INSERT INTO old VALUES (1, 4711)",
    "ALTER TABLE old ADD CONSTRAINT old_note FOREIGN KEY (note) REFERENCES note NOT VALID",
    """CREATE FUNCTION stop() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'nobody changes tables here'; END $$""",
    "CREATE EVENT TRIGGER keeps ON ddl_command_start WHEN TAG IN ('ALTER TABLE', 'COMMENT') EXECUTE FUNCTION stop()",
    "ANALYZE",
)
"""Ticket 6 and a line, of tenant 1, refer to note 2, of tenant 2; and one row refers to nothing since long ago."""
KEYS = "SELECT conname, convalidated FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 ORDER BY 1"

Restoring = Callable[..., tuple[Database, RestoreReport]]


@pytest.fixture
def restoring(region: Region) -> Iterator[Restoring]:
    """Restores into a database of its own, dropped afterwards."""
    made: list[Database] = []

    def run(server: Server, **request: Any) -> tuple[Database, RestoreReport]:
        database = Database(server, unique("keys"))
        made.append(database)
        return database, region.restore(server, database.name, **request)

    yield run
    for database in made:
        database.server.drop_database(database.name)


def databases(server: Server) -> set[str]:
    found = server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'backupd_restoring%'")
    return {name for (name,) in found}


def said_before_loading(region: Region) -> list[str]:
    """The warnings before the first row is loaded, about rows that are left out; planning was one phase."""
    started = [one.phase for one in region.events.seen if isinstance(one, PhaseStarted)]
    assert started.count("planning") == 1
    loading = next(place for place, one in enumerate(region.events.seen) if one == PhaseDone("schema", "app", ANY))
    warned = [one for one in region.events.seen[:loading] if isinstance(one, Warned)]
    assert all("--without-broken-keys" in one.hint for one in warned if "left out" in one.message)
    return [one.message for one in warned if "left out" in one.message]


def test_keys_that_cannot_hold_stop_a_restore_by_name(region: Region, database: Database, restoring: Restoring) -> None:
    """All of them are named, no row and no schema is, nothing is left; asked for, they hold for new rows only, the
    others for all, and comments, event triggers and rows are there."""
    database.sql(*TABLES)
    region.tenancy = TENANCY
    region.backup(database)
    alone = {"selection": Selection(tenants=frozenset({"1"}))}
    before = databases(database.server)
    with pytest.raises(BrokenKeysError) as caught:
        restoring(database.server, **alone)
    assert caught.value.message.endswith("are left out: line.line_note, ticket.to Note")
    assert "--without-broken-keys" in caught.value.hint
    assert databases(database.server) <= before
    (said,) = said_before_loading(region)
    assert said.startswith("rows are left out (4 segments not asked for): if others refer to them by one of 4 foreign")

    region.events.seen.clear()
    found, report = restoring(database.server, without_broken_keys=True, **alone)
    assert said_before_loading(region) == []
    late = database.server.major >= 18
    assert {key.constraint: key.kept for key in report.broken_keys} == {"to Note": True, "line_note": late}
    keys = dict(found.sql(KEYS))
    assert keys.pop("line_note", False) is False
    assert keys == {"note_code_fkey": True, "old_note": False, "to Note": False}
    assert found.sql("SELECT count(*), count(*) FILTER (WHERE note = 2) FROM ticket") == [(20, 1)]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        found.sql("INSERT INTO ticket VALUES (1000, 1, 2)")
    said = found.sql("SELECT description FROM pg_description WHERE description LIKE 'said of%' ORDER BY 1")
    assert said == [("said of one that breaks",), ("said of one that holds",)]
    assert found.sql("SELECT evtname, evtenabled FROM pg_event_trigger") == [("keeps", "O")]


def test_a_purged_tenant_whose_rows_were_referred_to(
    keeper_region: KeeperRegion, pg17: Server, make_database: Callable[..., Database], restoring: Restoring
) -> None:
    """A snapshot from before the purge says which keys cannot hold any more; all other rows come back."""
    database = make_database(pg17)
    database.sql(*TABLES)
    keeper_region.region.tenancy = TENANCY
    keeper_region.region.backup(database)
    now = keeper_region.clock.now()
    keeper_region.book.append(
        lambda states: lifecycle.erase(states, keeper_region.tenant("2"), ClockDates(now, now + 3 * DAY, now))
    )
    keeper_region.purge(keeper_region.incarnation("2"))
    with pytest.raises(BrokenKeysError, match="2 foreign keys cannot hold"):
        restoring(pg17)
    found, report = restoring(pg17, without_broken_keys=True)
    assert (report.purged, len(report.broken_keys)) == (1, 2)
    assert found.sql("SELECT count(*) FROM ticket") == [(80,)]
    assert dict(found.sql(KEYS))["note_code_fkey"]


def test_keys_that_hold_are_made_as_they_were(region: Region, pg17: Server, make_database, restoring) -> None:
    """A part of a snapshot that refers to nothing else has every key, checked; so has a whole one, asked or not."""
    database = make_database(pg17)
    database.sql(*TABLES)
    region.tenancy = TENANCY
    region.backup(database)
    for request in ({"selection": Selection(tenants=frozenset({"3"}))}, {"without_broken_keys": True}):
        found, report = restoring(pg17, **request)
        assert report.broken_keys == ()
        assert found.sql(KEYS) == database.sql(KEYS)
        assert found.sql("SELECT count(*) FROM pg_event_trigger") == [(1,)]


def test_the_command_says_which_and_what_became_of_them(
    pg17: Server, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder]
) -> None:
    """Without the option its status is PostgreSQL's refusal, and the choice is explained; with it, each key is told."""
    database = make_database(pg17)
    database.sql(*TABLES)
    node = node_of(database)
    config = node.node / "backupd.toml"
    rule = '[[regions.be.databases.app.tables]]\nmatch = ["public.country"]\nshared = true\n'
    config.write_text(config.read_text() + rule)
    node.json("backup", "be")
    write_identity(node.folder / "id", "ops", node.pair, "pass")
    (node.folder / "pass").write_text("pass\n")
    name = unique("told")
    asked = ("restore", "database", "be", "app", "--tenant", "1", "--target", pg17.conninfo(name))
    key = ("--identity", "id", "--passphrase-file", "pass")
    refused = node.run(*asked, *key)
    assert (refused.returncode, b"--without-broken-keys" in refused.stderr) == (4, True)
    assert b"left out: line.line_note, ticket.to Note" in refused.stderr
    done = node.run(*asked, "--without-broken-keys", *key)
    try:
        assert done.returncode == 0, done.stderr
        told = done.stdout.decode()
        assert "2 foreign keys cannot hold" in told
        assert "    ticket.to Note: holds for new rows only\n" in told
        assert "    line.line_note: left out\n" in told
    finally:
        pg17.drop_database(name)
