"""Parts of a snapshot restored alone: a tenant, some tables, a class; and a restore on paper."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from doubles.servers import postgres
from doubles.servers.postgres import Server
from doubles.stores.hooked_store import HookedStore
from fix_postgres import Database
from fix_regions import CLASSES, Region

from backupd.cli.commands.restore.clean import drop_unfinished, unfinished_databases
from backupd.clock import SystemClock
from backupd.errors import UsageError
from backupd.model.tenancy import ClassPolicy, TableRule, Tenancy, TenancyKind
from backupd.operations.restore import RestoreEnvironment, RestoreRequest
from backupd.operations.restore.preview import Rates, preview
from backupd.planning.selection import Selection
from backupd.postgres.schema.statements import TEMPORARY
from backupd.postgres.target import database as target_database
from backupd.repository.repository import Repository

TENANCY = Tenancy(
    kind=TenancyKind.COLUMN,
    column="tenant",
    classes={**CLASSES, "support": ClassPolicy.STANDARD},
    rules=(TableRule(("public.country",), shared=True), TableRule(("public.ticket",), data_class="support")),
)


@pytest.fixture
def crowd(pg17: Server, make_database: Callable[..., Database]) -> Database:
    """Sixty tenants; notes refer to countries, which are shared, and tickets to notes."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE country (code text PRIMARY KEY)",
        "INSERT INTO country VALUES ('be'), ('ch')",
        "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL, code text REFERENCES country, said text)",
        "INSERT INTO note SELECT g, g % 60, 'be', md5(g::text) || md5((-g)::text) FROM generate_series(1, 30000) g",
        "CREATE TABLE ticket (id int PRIMARY KEY, tenant int NOT NULL, note int REFERENCES note)",
        "INSERT INTO ticket SELECT g, g % 60, g FROM generate_series(1, 600) g",
        "COMMENT ON CONSTRAINT ticket_note_fkey ON ticket IS 'said of what may be left out'",
        "ANALYZE",
    )
    return database


@pytest.fixture
def restored(region: Region, crowd: Database) -> Iterator[Callable[..., tuple[Database, object]]]:
    """Restores a selection into a database of its own, dropped afterwards."""
    made: list[Database] = []
    region.tenancy = TENANCY
    region.backup(crowd)

    def run(**selection: object) -> tuple[Database, object]:
        database = Database(crowd.server, f"part_{os.urandom(4).hex()}")
        made.append(database)
        report = region.restore(crowd.server, database.name, selection=Selection(**selection))
        return database, report

    yield run
    for database in made:
        database.server.drop_database(database.name)


def count(database: Database, table: str) -> int:
    ((number,),) = database.sql(f"SELECT count(*) FROM {table}")
    return int(number)


def test_one_tenant_comes_with_the_shared_rows_and_nobody_elses(
    crowd: Database, restored: Callable[..., tuple[Database, object]]
) -> None:
    """Its rows are those of the source, its references hold, and every other tenant is absent."""
    found, report = restored(tenants=frozenset({"7"}))
    for table in ("note", "ticket"):
        wanted = f"SELECT * FROM {table} WHERE tenant = 7 ORDER BY id"
        assert found.sql(f"SELECT * FROM {table} ORDER BY id") == crowd.sql(wanted)
    assert count(found, "country") == 2
    assert (report.foreign_keys, report.exact) == (0, False)
    assert report.unselected == 59 * 2
    keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated"
    assert found.sql(keys) == crowd.sql(keys)


def test_one_tenant_reads_its_own_objects_only(
    region: Region, crowd: Database, restored: Callable[..., object]
) -> None:
    """A fiftieth of the bytes, not all of them."""
    read: dict[str, int] = {}
    inner = region.store

    class Counting(HookedStore):
        def get(self, name, offset=0, length=None):
            data = super().get(name, offset, length)
            read[name] = read.get(name, 0) + len(data)
            return data

    region.store = Counting(inner)
    restored()
    whole = sum(size for name, size in read.items() if name.startswith("packs/"))
    read.clear()
    restored(tenants=frozenset({"7"}))
    one = sum(size for name, size in read.items() if name.startswith("packs/"))
    assert one * 10 < whole


def test_some_tables_keep_the_structure_but_not_the_foreign_keys(
    crowd: Database, restored: Callable[..., tuple[Database, object]]
) -> None:
    """Rows of the chosen tables are whole, the others are empty, and what could not hold is left out and told."""
    found, report = restored(tables=("public.tick*",))
    assert found.sql("SELECT * FROM ticket ORDER BY id") == crowd.sql("SELECT * FROM ticket ORDER BY id")
    assert (count(found, "note"), count(found, "country")) == (0, 0)
    assert report.foreign_keys == 3  # two keys, and the comment on one
    assert found.sql("SELECT count(*) FROM pg_constraint WHERE contype = 'f'") == [(0,)]


def test_a_data_class_alone(crowd: Database, restored: Callable[..., tuple[Database, object]]) -> None:
    """Rows of other classes stay away."""
    found, _ = restored(classes=frozenset({"support"}))
    assert (count(found, "ticket"), count(found, "note")) == (600, 0)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"tenants": frozenset({"7", "marker"})}, "nothing of 1 of 2 tenants asked for"),
        ({"classes": frozenset({"nonsense"})}, "nothing of class nonsense"),
        ({"tables": ("public.nope",)}, "no table of the snapshot fits"),
        ({"tables": ("public.note", "public.tikcet")}, "no table of the snapshot fits 1 of the 2 patterns"),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_made(
    restored: Callable[..., object], monkeypatch: pytest.MonkeyPatch, selection: dict[str, object], message: str
) -> None:
    """No database is made, and no tenant is named."""
    monkeypatch.setattr(target_database, "create", lambda *_, **__: pytest.fail("a database is made"))
    with pytest.raises(UsageError, match=message) as caught:
        restored(**selection)
    assert "marker" not in str(caught.value) + caught.value.hint


def test_a_plan_says_what_a_restore_does(
    region: Region, crowd: Database, restored: Callable[..., tuple[Database, object]]
) -> None:
    """Rows and bytes are those that are written; a tenant's are a small part; the time comes from a measured rate."""
    _, report = restored()
    world = RestoreEnvironment(region.identity.secret, SystemClock(), region.events, os.urandom)
    request = RestoreRequest("app", "latest", region.source(crowd.server), "nowhere")
    repository = Repository(region.store, [region.node.signer.public])
    whole = preview(request, repository, world, Rates(seconds_per_byte=1e-6, fixed=5.0))
    assert (whole.rows, whole.bytes) == (report.rows, report.bytes)
    assert whole.expected is not None
    assert whole.expected > 5.0 + whole.bytes * 1e-6
    assert whole.fetched == region.repository.record(whole.snapshot).totals.stored
    one = preview(replace(request, selection=Selection(frozenset({"7"}))), repository, world, None)
    assert one.expected is None
    assert 0 < one.fetched * 10 < whole.fetched


def test_cleaning_drops_what_was_left_and_nothing_else(region: Region) -> None:
    """Databases of restores that were killed go; one that somebody is connected to, and all others, stay."""
    left, busy, mine = f"{TEMPORARY}left", f"{TEMPORARY}busy", "mine"
    with postgres.running(17) as server:  # of its own: on another one it would meet the restores of other tests
        for name in (left, busy, mine):
            server.create_database(name)
        with server.connect(busy):
            found = unfinished_databases(region.source(server), SystemClock())
            lines = list(drop_unfinished(region.source(server), found))
        names = {name for (name,) in server.sql("postgres", "SELECT datname FROM pg_database")}
        assert left not in names
        assert {busy, mine} <= names
        assert lines[1:] == [f"  {left}"]
