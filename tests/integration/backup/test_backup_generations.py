"""A second backup sends what changed; generations end in time; the node's index may be lost or damaged."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from doubles.node.processes import eventually
from doubles.servers.postgres import Server
from doubles.stores.hooked_store import HookedStore
from doubles.stores.snapshots import Look, look
from fix_clock import FAR
from fix_postgres import Database
from fix_regions import Region, make_region

from backupd.clock import SystemClock
from backupd.errors import BackupdError, BusyError
from backupd.model.ids import Pseudonym, SnapshotName
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.backup import BackupReport
from backupd.operations.backup.generation import current_generation
from backupd.repository.repository import Repository
from backupd.repository.state.index import Index
from backupd.trace import Event, PhaseDone, PhaseStarted, Warned

BY_COLUMN = Tenancy(kind=TenancyKind.COLUMN, column="tenant")
ROWS = 20_000


@pytest.fixture
def crowd(pg17: Server, make_database: Callable[..., Database]) -> Database:
    """Twenty tenants with a thousand notes each, about 2 MB."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL, said text)",
        f"INSERT INTO note SELECT g, g % 20, md5(g::text) || md5((-g)::text) FROM generate_series(1, {ROWS}) g",
        "ANALYZE",
    )
    return database


@pytest.fixture
def store(region: Region) -> HookedStore:
    """The region's store, with an ear on it."""
    hooked = HookedStore(region.store)
    region.store, region.repository = hooked, Repository(hooked, [region.node.signer.public])
    region.tenancy = BY_COLUMN
    return hooked


def seen(region: Region, report: BackupReport) -> Look:
    return look(region.repository, report.snapshot, region.identity.secret)


def manifests(region: Region, snapshot: SnapshotName) -> set[tuple[Pseudonym, int]]:
    """The segments of a snapshot, each with the number of the section that has its manifest."""
    listed = region.repository.sections(region.repository.record(snapshot)).manifests
    return {(segment, section.row.number) for segment, section in listed.items()}


class Elsewhen(SystemClock):
    """Some time from now."""

    def __init__(self, ahead: timedelta) -> None:
        self._ahead = ahead

    def now(self) -> datetime:
        return super().now() + self._ahead


class Hooked:
    """A trace that acts on what it hears."""

    def __init__(self, hear: Callable[[Event], None]) -> None:
        self.emit = hear


def test_an_unchanged_database_sends_its_record_only(region: Region, crowd: Database, store: HookedStore) -> None:
    """Everything else is on the store already, and the new record names the very same sections."""
    first = region.backup(crowd)
    store.put.clear()
    second = region.backup(crowd)
    assert [name.split("/")[0] for name in store.put] == ["runs", "snapshots"]
    assert (second.new, second.sent) == (0, 0)
    one, other = (region.repository.record(report.snapshot) for report in (first, second))
    assert one.packs == other.packs
    assert other.previous == first.snapshot


def test_a_small_change_sends_little(region: Region, crowd: Database, store: HookedStore) -> None:
    """One tenant's rows change: its section is sent, nobody else's, and the snapshot has both old and new."""
    # Two workers may both have kept a piece that two files share, of which the next manifest then names the other one.
    region.node = replace(region.node, workers=1)
    whole = region.backup(crowd).sent
    before = manifests(region, region.repository.snapshots()[0])
    store.put.clear()
    crowd.sql("UPDATE note SET said = 'changed' WHERE tenant = 7 AND id % 100 = 7")
    report = region.backup(crowd)
    found = seen(region, report)
    changed = {segment for segment, _ in manifests(region, report.snapshot) - before}
    assert changed == {found.of("7").pseudonym}
    assert [name.split("/")[0] for name in store.put] == ["runs", "keyrings", "packs", "snapshots"]
    assert report.sent < whole / 10
    rows = found.rows("public.note")
    assert sum(row.endswith("changed") for row in rows["7"]) == 200
    assert sum(map(len, rows.values())) == ROWS


def test_scattered_changes_send_their_surroundings(region: Region, crowd: Database, store: HookedStore) -> None:
    """One row in a thousand, all over the table, is a fraction of the whole."""
    whole = region.backup(crowd).sent
    crowd.sql("UPDATE note SET said = md5(said) WHERE id % 1000 = 3")
    report = region.backup(crowd)
    assert 0 < report.sent < whole / 3
    assert sorted(row for rows in seen(region, report).rows("public.note").values() for row in rows) == sorted(
        "\t".join(map(str, row)) for row in crowd.sql("SELECT id, tenant, said FROM note")
    )


def test_a_generation_ends_after_its_length(region: Region, crowd: Database, store: HookedStore) -> None:
    """A full copy under new pseudonyms that shares no object with the one before, which stays whole."""
    first = region.backup(crowd)
    region.node = replace(
        region.node, clock_tolerance=FAR, clock=Elsewhen(region.node.generation_length - timedelta(minutes=1))
    )
    assert region.backup(crowd).generation == first.generation
    region.node = replace(
        region.node, clock_tolerance=FAR, clock=Elsewhen(region.node.generation_length + timedelta(minutes=1))
    )
    last = region.backup(crowd)
    assert last.generation != first.generation
    one, other = seen(region, first), seen(region, last)
    assert one.rows("public.note") == other.rows("public.note")
    assert not {c.pseudonym for c in one.segments.values()} & {c.pseudonym for c in other.segments.values()}
    assert last.sent >= first.sent * 0.9
    assert other.record.previous in region.repository.snapshots()


def test_a_clock_that_went_backwards_starts_a_generation(region: Region, crowd: Database, store: HookedStore) -> None:
    """A generation that begins in the future may be of any age."""
    first = region.backup(crowd)
    region.node = replace(region.node, clock_tolerance=FAR, clock=Elsewhen(timedelta(days=-1)))
    assert region.backup(crowd).generation != first.generation


@pytest.mark.parametrize("wrong", [timedelta(days=-1), timedelta(days=29)])
def test_a_clock_that_is_wrong_ends_no_generation(region: Region, wrong: timedelta) -> None:
    """The store's clock says otherwise: a full copy would be the price, and the run is refused soon after anyway."""
    warned: list[Event] = []
    with Index.locked(region.node.state) as index:
        first = current_generation(index, region.repository, region.node)
        node = replace(region.node, clock=Elsewhen(wrong), trace=Hooked(warned.append))
        assert current_generation(index, region.repository, node) == first
        assert current_generation(index, region.repository, region.node) == first
    (warning,) = warned
    assert isinstance(warning, Warned)
    assert "the store's clock says" in warning.message


def test_a_lost_index_costs_a_generation(region: Region, crowd: Database, store: HookedStore) -> None:
    """Nothing is read back from the store; everything is sent again, and the old snapshot stays whole."""
    first = region.backup(crowd)
    for path in region.node.state.glob("index.sqlite*"):
        path.unlink()
    second = region.backup(crowd)
    assert second.generation != first.generation
    assert seen(region, first).rows("public.note") == seen(region, second).rows("public.note")


@pytest.mark.parametrize("damage", ["garbage", "empty", "cut", "middle", "other"])
def test_a_damaged_index_is_set_aside(region: Region, crowd: Database, store: HookedStore, damage: str) -> None:
    """It is kept for whoever wants to look, a person is warned, and the run goes on in a new generation."""
    first = region.backup(crowd)
    path = region.node.state / "index.sqlite"
    whole = path.read_bytes()
    match damage:
        case "garbage":
            path.write_bytes(b"this is not a database" * 5000)
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "middle":
            path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 16384) + whole[-8192:])
        case "other":
            with sqlite3.connect(path) as database:
                database.execute("PRAGMA user_version = 4711")
            database.close()
    region.events.seen.clear()
    second = region.backup(crowd)
    assert second.generation != first.generation
    assert seen(region, first).rows("public.note") == seen(region, second).rows("public.note")
    # An empty file is what SQLite makes of a new one.
    assert bool(list(region.node.state.glob("*.damaged*"))) == bool(warned_of_index(region)) == (damage != "empty")
    region.events.seen.clear()
    assert region.backup(crowd).generation == second.generation
    assert warned_of_index(region) == []


def warned_of_index(region: Region) -> list[Warned]:
    return [event for event in region.events.seen if isinstance(event, Warned) and "index" in event.message]


def test_an_index_damaged_under_way_stops_the_run(region: Region, crowd: Database, store: HookedStore) -> None:
    """No record is published from it, and the next run starts a generation."""
    region.backup(crowd)
    path = region.node.state / "index.sqlite"

    def spoil(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase == "reading":
            with path.open("r+b") as file:
                file.write(b"\xff" * path.stat().st_size)

    crowd.sql("UPDATE note SET said = 'x' WHERE id = 1")
    before = region.repository.snapshots()
    with pytest.raises(BackupdError, match="the node's index"):
        run_with(region, crowd, spoil)
    assert region.repository.snapshots() == before
    seen(region, region.backup(crowd))


def run_with(region: Region, database: Database, hear: Callable[[Event], None]) -> BackupReport:
    usual = region.node
    region.node = replace(usual, trace=Hooked(hear))
    try:
        return region.backup(database)
    finally:
        region.node = usual


def test_an_object_removed_behind_our_back_is_noticed_and_sent_again(
    region: Region, crowd: Database, store: HookedStore
) -> None:
    """The very run that notices is a full copy that refers to nothing older."""
    first = region.backup(crowd)
    victim = max(region.folder.glob("store/be/packs/*/*"), key=lambda path: path.stat().st_size)
    victim.unlink()
    report = region.backup(crowd)
    assert (report.generation != first.generation, report.missing) == (True, 1)
    assert any(isinstance(event, Warned) and victim.stem in event.message for event in region.events.seen)
    assert sum(map(len, seen(region, report).rows("public.note").values())) == ROWS


def test_rows_written_while_it_reads_are_not_in_it(region: Region, crowd: Database, store: HookedStore) -> None:
    """Inserted, changed, removed and a table made after the snapshot was exported: it shows the instant before."""

    def write(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase == "reading":
            crowd.sql(
                "INSERT INTO note SELECT g, 3, 'late' FROM generate_series(100000, 100100) g",
                "UPDATE note SET said = 'late' WHERE tenant = 5",
                "DELETE FROM note WHERE tenant = 6",
                "CREATE TABLE afterthought (tenant int)",
            )

    before = {str(t): n for t, n in crowd.sql("SELECT tenant, count(*) FROM note GROUP BY 1")}
    found = seen(region, run_with(region, crowd, write))
    rows = found.rows("public.note")
    assert {tenant: len(some) for tenant, some in rows.items()} == before
    assert not any(row.endswith("late") for some in rows.values() for row in some)
    assert b"afterthought" not in found.of(None, "structure").files["ddl"]


def test_the_exported_snapshot_is_let_go_while_packs_still_ship(
    region: Region, crowd: Database, store: HookedStore
) -> None:
    """A store that takes nothing at all keeps no backend from moving on once the rows are read."""
    gate, read = threading.Event(), threading.Event()
    store.before = lambda method, name: gate.wait(60) if method == "put_new" and not name.startswith("runs/") else None

    def hear(event: Event) -> None:
        if isinstance(event, PhaseDone) and event.phase == "reading":
            read.set()

    thread = threading.Thread(target=run_with, args=(region, crowd, hear))
    thread.start()
    try:
        assert read.wait(60)
        query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{crowd.name}' AND backend_xmin IS NOT NULL"
        # A server process notices only a moment later that its client has gone.
        eventually(lambda: crowd.server.sql("postgres", query) == [(0,)])
        # Who keeps others from backing up the same meanwhile is in no transaction.
        everybody = f"SELECT state, xact_start FROM pg_stat_activity WHERE datname = '{crowd.name}'"
        eventually(lambda: crowd.server.sql("postgres", everybody) == [("idle", None)])
        assert [name for name in store.put if not name.startswith("runs/")] == []
    finally:
        gate.set()
        thread.join()
    assert region.repository.snapshots()


def test_a_node_runs_one_backup_of_a_store_at_a_time(region: Region, crowd: Database, store: HookedStore) -> None:
    """The second says so at once and disturbs nothing."""
    gate, there = threading.Event(), threading.Event()

    def wait(method: str, _name: str) -> None:
        if method == "put_new":
            there.set()
            gate.wait(60)

    store.before = wait
    thread = threading.Thread(target=region.backup, args=(crowd,))
    thread.start()
    try:
        assert there.wait(60)
        with pytest.raises(BusyError, match="another backup of this region"):
            region.backup(crowd)
    finally:
        gate.set()
        thread.join()
    assert len(region.repository.snapshots()) == 1


def test_two_nodes_do_not_read_a_database_at_once(region: Region, crowd: Database, store: HookedStore) -> None:
    """PostgreSQL itself decides, as the nodes share nothing else."""
    refused: list[Exception] = []

    def other_node(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase == "reading":
            usual = region.node
            region.node = replace(usual, state=region.folder / "state2", spool=region.folder / "spool2")
            try:
                region.backup(crowd)
            except BusyError as error:
                refused.append(error)
            finally:
                region.node = usual

    run_with(region, crowd, other_node)
    assert len(refused) == 1
    assert len(region.repository.snapshots()) == 1


def test_another_repository_behind_the_same_configuration_starts_anew(
    region: Region, crowd: Database, store: HookedStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What the index knows is of the old one: neither objects nor the chain of records reach over."""
    region.backup(crowd)
    state = region.node.state
    other = replace_store(region, tmp_path_factory)
    other.node = replace(other.node, state=state)
    found = look(other.repository, other.backup(crowd).snapshot, other.identity.secret)
    assert found.record.previous is None
    assert sum(map(len, found.rows("public.note").values())) == ROWS


def replace_store(region: Region, folders: pytest.TempPathFactory) -> Region:
    """A region of the same node on a new, empty store."""
    return replace(make_region(folders.mktemp("other")), tenancy=region.tenancy)
