"""Migrations beside a backup: it ends, done or busy, in bounded time, and keeps the application waiting no longer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import psycopg
import pytest
from doubles.node.processes import eventually
from doubles.samples.saga_table import BY_KEY, saga_table
from doubles.servers.postgres import Server
from fix_inplace import HARM, Shop
from fix_postgres import Database
from fix_regions import Region

from backupd.errors import BackupdError, SourceBusyError
from backupd.model.ids import RegionName
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.operations.backup import BackupJob
from backupd.operations.backup.region import BackupOutcome, BackupTarget, back_up
from backupd.operations.inplace import apply
from backupd.planning.mapping.names import NamePatterns
from backupd.postgres.client_programs import client, find_programs
from backupd.postgres.connect import Connection, Source, resolved
from backupd.postgres.schema.dump import dump_schema
from backupd.postgres.source.busy import busy_table
from backupd.postgres.source.exported import Holder, hold
from backupd.postgres.source.facts import read_sequences
from backupd.trace import Event, NoTrace, Trace, Warned

BY_COLUMN = Tenancy(kind=TenancyKind.COLUMN, column="tenant")
BOUND = 20.0
"""Seconds in which whatever is tried here ends. The sleeping table alone takes longer."""
TRY = 3.5
"""Seconds: one try of a second, one look at the locks, and what two busy cores add."""


@dataclass
class Beside:
    """Something that runs in a thread of its own, timed."""

    act: Callable[[], object]
    seconds: float = 0.0
    error: BaseException | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self.act()
        except (BackupdError, psycopg.Error) as error:
            self.error = error
        self.seconds = time.monotonic() - began

    def ended(self, within: float = BOUND) -> bool:
        self.thread.join(within)
        return not self.thread.is_alive()


@pytest.fixture
def quick(pg17: Server, make_database: Callable[..., Database]) -> Iterator[Database]:
    """A table that is read at once, and a sequence. Whoever still waits in the end is ended."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE users (id int PRIMARY KEY, tenant int NOT NULL)",
        "INSERT INTO users SELECT g, g % 5 FROM generate_series(1, 50) g",
        "CREATE SEQUENCE numbers",
    )
    yield database
    end_everybody(database)


def end_everybody(database: Database) -> None:
    """End whoever still waits in a test that failed."""
    database.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


@pytest.fixture
def shop_floor(region: Region, quick: Database) -> Database:
    """One more table, the largest, and so the first to be read: it takes half a minute."""
    region.tenancy = BY_KEY
    quick.sql(
        *saga_table(),
        "ALTER TABLE saga ALTER pad SET STORAGE PLAIN",
        "INSERT INTO saga SELECT k, repeat('x', 7000) FROM saga, generate_series(1, 5)",
        "DELETE FROM saga WHERE pad <> ''",
    )
    return quick


@pytest.fixture(autouse=True)
def tenancy(region: Region) -> None:
    region.tenancy = BY_COLUMN
    region.node = replace(region.node, lock_timeout=1.0)


@contextlib.contextmanager
def migration(database: Database, *statements: str) -> Iterator[psycopg.Connection]:
    """A transaction that has done these statements, and is undone in the end."""
    connection = psycopg.connect(database.conninfo, application_name="migration")
    try:
        for statement in statements:
            connection.execute(statement)
        yield connection
    finally:
        with contextlib.suppress(psycopg.Error):
            connection.close()


def waiting(database: Database) -> bool:
    """Whether the migration waits for a lock."""
    return bool(
        database.sql(
            "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE NOT granted AND datname = current_database() AND application_name !~ '^backupd'"
            " AND mode = 'AccessExclusiveLock'"
        )
    )


def reading(database: Database) -> bool:
    return bool(
        database.sql(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^COPY' AND state = 'active'"
        )
    )


def oid(database: Database, name: str) -> int:
    ((found,),) = database.sql(f"SELECT '{name}'::regclass::oid::int8")
    return int(found)


def assert_busy(ended: Beside, database: Database | None = None, table: str = "") -> None:
    assert isinstance(ended.error, SourceBusyError), ended.error
    assert ended.error.retryable
    assert ended.error.exit_code == 4
    if database is not None:
        assert f"oid {oid(database, table)}" in ended.error.message
        assert table not in ended.error.message + ended.error.hint


class TestBackup:
    def test_a_table_that_somebody_waits_for_makes_it_busy_at_once(self, region: Region, quick: Database) -> None:
        """The holder has the table, an ALTER waits for that, and a worker must not wait behind the ALTER."""
        region.node = replace(region.node, lock_timeout=60.0)

        def alter() -> None:
            Beside(lambda: quick.sql("ALTER TABLE users ADD COLUMN note text"))
            eventually(lambda: waiting(quick))

        region.node = replace(region.node, trace=AtPhase("reading", alter))
        backup = Beside(lambda: region.backup(quick))
        eventually(lambda: waiting(quick))
        select = Beside(lambda: quick.sql("SELECT count(*) FROM users"))
        assert backup.ended()
        assert_busy(backup, quick, "users")
        assert select.ended()
        assert select.seconds < TRY

    @pytest.mark.parametrize("table", ["saga", "users"])
    def test_the_application_is_not_kept_waiting_while_rows_are_read(
        self, region: Region, shop_floor: Database, table: str
    ) -> None:
        """An ALTER waits for the table that is read, or for one that was read: the backup gives way."""
        backup = Beside(lambda: region.backup(shop_floor))
        eventually(lambda: reading(shop_floor))
        alter = Beside(lambda: shop_floor.sql(f"ALTER TABLE {table} ADD COLUMN note text"))
        # The backup may give way before anybody has looked: that it had to is what its message says.
        eventually(lambda: waiting(shop_floor) or alter.ended(0))
        select = Beside(lambda: shop_floor.sql(f"SELECT count(*) FROM {table}"))
        assert select.ended()
        assert alter.ended()
        assert backup.ended()
        assert_busy(backup, shop_floor, table)
        assert select.seconds < 1.0 + TRY
        assert backup.seconds < BOUND
        assert list(region.node.spool.iterdir()) == []

    @pytest.mark.parametrize(
        "done",
        [
            "CREATE OR REPLACE VIEW seen AS SELECT id, tenant FROM users",
            "ALTER SEQUENCE numbers RENAME TO figures",
            "REINDEX INDEX users_pkey",
        ],
    )
    def test_what_no_backup_locks_is_not_waited_for_without_an_end(
        self, region: Region, quick: Database, done: str
    ) -> None:
        """A migration has changed a view, a sequence or an index that our programs look at, then waits for a table."""
        quick.sql(
            "CREATE VIEW seen AS SELECT id, tenant FROM users",
            "CREATE TABLE bill (id int PRIMARY KEY, payer int NOT NULL CONSTRAINT paid_by REFERENCES users)",
            "INSERT INTO bill SELECT g, 1 + g % 50 FROM generate_series(1, 9) g",
        )
        region.tenancy = replace(BY_COLUMN, rules=(TableRule(("public.bill",), path=("paid_by",)),))
        with migration(quick, done) as other:
            backup = Beside(lambda: region.backup(quick))
            eventually(lambda: held(quick))
            alter = Beside(lambda: other.execute("ALTER TABLE users ADD COLUMN note text"))
            assert backup.ended()
            assert alter.ended()  # its connection is closed behind this: libpq takes no second thread meanwhile
        assert_busy(backup)

    @pytest.mark.parametrize("others", [(), ("ALTER SCHEMA green RENAME TO blue", "ALTER SCHEMA old RENAME TO green")])
    def test_a_schema_renamed_meanwhile_makes_it_busy(
        self, region: Region, quick: Database, others: tuple[str, ...]
    ) -> None:
        """No lock of ours keeps it from that; another schema of the same name must not be read in its place."""
        quick.sql(
            "CREATE SCHEMA blue",
            "CREATE TABLE blue.colour AS SELECT 1 AS tenant, 'blue' AS said",
            "CREATE SCHEMA green",
            "CREATE TABLE green.colour AS SELECT 1 AS tenant, 'green' AS said",
        )
        rename = AtPhase("reading", lambda: quick.sql("ALTER SCHEMA blue RENAME TO old", *others))
        region.node = replace(region.node, trace=rename)
        backup = Beside(lambda: region.backup(quick))
        assert backup.ended()
        assert_busy(backup)
        assert region.snapshots() == []

    def test_a_label_renamed_meanwhile_makes_it_busy(self, region: Region, quick: Database) -> None:
        """Rows would have the new one, and the type the old one: no restore could load them."""
        quick.sql(
            "CREATE TYPE mood AS ENUM ('glad', 'sad')", "CREATE TABLE day AS SELECT 1 AS tenant, mood 'sad' AS is"
        )
        rename = AtPhase("reading", lambda: quick.sql("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'"))
        region.node = replace(region.node, trace=rename)
        backup = Beside(lambda: region.backup(quick))
        assert backup.ended()
        assert_busy(backup)
        assert region.snapshots() == []

    def test_tables_that_come_and_go_hang_nothing(self, region: Region, quick: Database) -> None:
        """Done or busy, over and over, while tables are made and dropped beside it; it does succeed now and then."""
        stop = threading.Event()

        def churn() -> None:
            while not stop.is_set():
                quick.sql("CREATE TABLE coming (tenant int)", "SELECT pg_sleep(0.3)", "DROP TABLE coming")

        churning = Beside(churn)
        try:
            backups = []
            for _ in range(4):
                backups.append(Beside(lambda: region.backup(quick)))
                assert backups[-1].ended()
        finally:
            stop.set()
        assert churning.ended()
        assert churning.error is None
        assert {type(one.error) for one in backups} <= {SourceBusyError, type(None)}


class TestRun:
    def test_a_run_tries_again_what_was_busy(self, region: Region, quick: Database) -> None:
        """With a new snapshot, which has what the migration did; of the try before, nothing is left."""
        added = []

        def alter() -> None:
            if not added:
                added.append(Beside(lambda: quick.sql("ALTER TABLE users ADD COLUMN note text DEFAULT 'new'")))
                eventually(lambda: waiting(quick))

        outcome = tried(region, quick, AtPhase("reading", alter, region.events))
        assert outcome.error is None
        assert outcome.report is not None
        assert outcome.report.tries == 2
        assert len(region.snapshots()) == 1
        assert list(region.node.spool.iterdir()) == []
        said = [event.message for event in region.events.seen if isinstance(event, Warned) and "vain" in event.message]
        assert said == [f"app: try 1 of 10 was in vain: {busy_table(oid(quick, 'users')).message}"]

    def test_a_run_ends_busy_when_it_was_busy_too_often(self, region: Region, quick: Database) -> None:
        """Or for too long: a migration that never ends leaves its place to somebody who looks."""
        region.node = replace(region.node, lock_timeout=0.1, deadline=0.1)
        with migration(quick, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE"):
            outcome = tried(region, quick, region.events)
        assert isinstance(outcome.error, SourceBusyError)
        assert outcome.error.retryable
        assert outcome.error.message.endswith("(after 1 try)")
        assert region.snapshots() == []


def tried(region: Region, database: Database, trace: Trace) -> BackupOutcome:
    """The end of a run over one database, which tries again what is busy."""
    job = BackupJob(RegionName("be"), region.label, region.source(database.server, database.name), region.tenancy)
    node = replace(region.node, trace=trace)
    repository = region.repository
    target = BackupTarget(
        job.region, "disk", lambda: region.store, repository.signers, repository.keepers, (job,), node
    )
    (outcome,) = back_up([target])
    return outcome


class AtPhase:
    """A trace that acts when a phase starts."""

    def __init__(self, phase: str, act: Callable[[], object], onto: Trace | None = None) -> None:
        self._phase = phase
        self._act = act
        self._onto = onto or NoTrace()

    def emit(self, event: Event) -> None:
        self._onto.emit(event)
        if type(event).__name__ == "PhaseStarted" and getattr(event, "phase", "") == self._phase:
            self._act()


def held(database: Database) -> bool:
    """Whether a backup has locked the tables."""
    return bool(
        database.sql(
            "SELECT 1 FROM pg_locks WHERE relation = 'users'::regclass AND granted AND mode = 'AccessShareLock'"
            " AND pid IN (SELECT pid FROM pg_stat_activity WHERE application_name = 'backupd')"
        )
    )


class TestHolder:
    def test_others_do_not_wait_behind_a_backup_that_waits(self, quick: Database) -> None:
        """It cannot have one table; meanwhile it keeps nobody from another for longer than a try."""
        quick.sql("CREATE TABLE zebra (tenant int)")
        outcome: list[bool] = []

        def held_in_time() -> None:
            with hold(Source(quick.conninfo), lock_timeout=12.0):
                outcome.append(True)

        with migration(quick, "LOCK TABLE zebra IN ACCESS EXCLUSIVE MODE"):
            holding = Beside(held_in_time)
            for _ in range(6):
                alter = Beside(lambda: quick.sql("ALTER TABLE users SET (fillfactor = 90)", "TRUNCATE users"))
                assert alter.ended()
                assert alter.seconds < TRY
                time.sleep(0.4)
            assert not outcome
        assert holding.ended()
        assert outcome == [True]

    def test_the_table_that_stands_in_the_way_is_said_by_its_number(self, quick: Database) -> None:
        """As its name may be data; after all tries together took as long as they may."""
        with migration(quick, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE"):

            def fail() -> None:
                with hold(Source(quick.conninfo), lock_timeout=2.0):
                    pass

            holding = Beside(fail)
            assert holding.ended()
        assert_busy(holding, quick, "users")
        assert 1.0 < holding.seconds < 2.0 + TRY

    def test_pg_dump_does_not_wait_behind_a_migration(self, quick: Database) -> None:
        """Its wait for a lock is short, and a failure for that is worth a retry."""
        with held_source(quick) as holder:
            Beside(lambda: quick.sql("ALTER TABLE users ADD COLUMN note text"))
            eventually(lambda: waiting(quick))
            programs = find_programs((quick.server.bin,), holder.exported.version)
            with client(programs, resolved(holder.connection)) as started:
                names = NamePatterns(BY_COLUMN, quick.name)
                dump = Beside(lambda: dump_schema(started, holder.exported, names))
                assert dump.ended()
        assert_busy(dump)
        assert dump.seconds < TRY

    def test_a_sequence_dropped_since_is_worth_a_retry(self, quick: Database) -> None:
        """The snapshot shows it, and nothing kept it."""
        from backupd.postgres.source.exported import connect_beside

        source = Source(quick.conninfo)
        with held_source(quick) as holder:
            quick.sql("DROP SEQUENCE numbers")

            def read() -> None:
                with connect_beside(source, holder) as free:
                    read_sequences(holder.connection, free)

            reads = Beside(read)
            assert reads.ended()
        assert_busy(reads)


@contextlib.contextmanager
def held_source(database: Database) -> Iterator[Holder]:
    with hold(Source(database.conninfo)) as holder:
        yield holder


class TestInPlace:
    def test_an_alter_beside_a_restore_in_place_hangs_nothing(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It waits for the tables we hold; our second look must not wait behind it without an end."""
        shop.sql(*HARM)
        before = shop.rows()
        lock, altering = apply.lock_rows, []

        def slow(connection: Connection, pair: object) -> None:
            lock(connection, pair)
            if not altering:
                altering.append(Beside(lambda: shop.sql("ALTER TABLE sale ADD COLUMN note text")))
                eventually(lambda: waiting(shop.database))

        monkeypatch.setattr(apply, "lock_rows", slow)
        monkeypatch.setattr(apply, "_ATTEMPTS", 1)
        restoring = Beside(lambda: shop.restore(lock_timeout=1.0))
        try:
            assert restoring.ended()
            assert altering[0].ended()
        finally:
            end_everybody(shop.database)
        assert isinstance(restoring.error, SourceBusyError), restoring.error
        shop.sql("ALTER TABLE sale DROP COLUMN note")
        assert shop.rows() == before
