"""A restore in place while others work, while it is cut off, and with what must not show."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from doubles.servers.postgres import Server
from fix_inplace import HARM, SHOP, Shop
from fix_postgres import Database
from fix_regions import Region

from backupd.errors import SourceBusyError, SourceError, SourceGoneError
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.operations.inplace import apply
from backupd.postgres.connect import Connection
from backupd.postgres.inplace.write import ChangeWriter


def test_others_go_on_writing_meanwhile(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """They insert, change and delete in the same tables before, during and after; nothing of it is lost or confuses."""
    then = shop.rows()
    shop.sql(*HARM)
    stop, written, errors = threading.Event(), [], []

    def work(tenant: int) -> None:  # one each, so that they do not deadlock among themselves
        try:
            with shop.database.server.connect(shop.database.name) as connection:
                while not stop.is_set():
                    made = connection.execute(
                        "INSERT INTO customer (tenant, mail, code) VALUES (%s, gen_random_uuid(), 'ch') RETURNING id",
                        [tenant],
                    ).fetchone()
                    connection.execute("INSERT INTO sale (tenant, customer, price) VALUES (%s, %s, 1)", [tenant, *made])
                    connection.execute("UPDATE sale SET price = price + 1 WHERE tenant = %s", [tenant])
                    connection.execute("UPDATE tag SET word = word || '' WHERE tenant = %s", [tenant])
                    written.append(tenant)
        except psycopg.Error as error:
            errors.append(error)

    during: list[int] = []
    write = ChangeWriter.write

    def slowly(self: ChangeWriter, changes: object) -> None:
        start = len(written)
        deadline = time.monotonic() + 20
        write(self, changes)
        while len(written) < start + 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        during.append(len(written) - start)

    monkeypatch.setattr(apply.ChangeWriter, "write", slowly)
    threads = [threading.Thread(target=work, args=(tenant,)) for tenant in (3, 4, 5)]
    for thread in threads:
        thread.start()
    report = shop.restore()
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert during[0] >= 20
    assert (report.applied, report.settled) == (True, True)
    assert shop.rows() == then
    ((made,),) = shop.sql("SELECT count(*) FROM sale WHERE tenant > 2")
    assert made == 120 + len(written)


def test_whoever_writes_to_the_tenant_is_waited_for_and_noticed(shop: Shop) -> None:
    """A row that is held stops the restore; a row that came after the backup would be lost, and stops it, too."""
    shop.sql(*HARM)
    before = shop.rows()
    with shop.database.server.connect(shop.database.name) as connection, connection.transaction():
        connection.execute("UPDATE sale SET price = 7 WHERE id = 1")
        with pytest.raises(SourceBusyError):
            shop.restore(lock_timeout=0.2)
        connection.execute("UPDATE sale SET price = 1.5 WHERE id = 1")
    assert shop.rows() == before

    def back_up() -> str:
        shop.sql("INSERT INTO tag VALUES (2, 'Marker')")
        return "snapshot"

    with pytest.raises(SourceBusyError, match="changed while they were backed up"):
        shop.restore(before=back_up)
    assert shop.sql("SELECT count(*) FROM tag WHERE word = 'Marker'") == [(1,)]


def test_rows_that_slip_in_before_the_locks_are_noticed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference made between the instant and the locks is invisible to the transaction, and not to the check."""
    shop.sql("INSERT INTO note VALUES (300, 2, NULL)")
    lock, slipped = apply.lock_rows, []

    def slow(connection: object, pair: object) -> None:
        lock(connection, pair)
        if not slipped:
            slipped.append(1)
            shop.sql("INSERT INTO note VALUES (301, 3, 300)")

    monkeypatch.setattr(apply, "lock_rows", slow)
    monkeypatch.setattr(apply, "_ATTEMPTS", 1)
    with pytest.raises(SourceBusyError, match="are being written to"):
        shop.restore()
    assert shop.found() == {("note", "referred-to"): 1}


@pytest.mark.parametrize("moment", ["locking", "writing", "checking"])
def test_a_connection_that_is_cut_leaves_everything_as_it_was(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """No row, no sequence and no table is different, and nothing of ours is left; the next run goes through."""
    then = shop.rows()
    shop.sql(*HARM, "SELECT setval('sale_id_seq', 5)")
    before = shop.rows(), shop.rows(others=True)
    objects = "SELECT relname FROM pg_class WHERE relname ~ '^(staged|changed)_'"
    name = {"locking": "lock_rows", "writing": "digest_others", "checking": "_require_right"}[moment]
    real = getattr(apply, name)

    def cut(*arguments: object) -> object:
        shop.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'backupd'"
        )
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(apply, name, cut)
        with pytest.raises(SourceGoneError):
            shop.restore()
    assert (shop.rows(), shop.rows(others=True)) == before
    assert shop.sql(objects) == []
    assert shop.sql("SELECT last_value FROM sale_id_seq") == [(5,)]
    assert shop.restore().applied
    assert shop.rows() == then
    assert shop.sql(objects) == []


def test_sequences_are_raised_and_never_lowered(shop: Shop) -> None:
    """One that was set back gives no value again that a row has; one that went on stays."""
    shop.sql("DELETE FROM line WHERE sale = 196", "DELETE FROM sale WHERE id = 196")
    ((gone,),) = shop.sql("SELECT nextval('customer_id_seq')")
    shop.sql("SELECT setval('sale_id_seq', 5)", "UPDATE customer SET mail = 'x' WHERE id = 1")
    report = shop.restore()
    assert report.sequences == 1
    assert shop.sql("SELECT last_value FROM sale_id_seq") == [(200,)]
    assert shop.sql("SELECT last_value FROM customer_id_seq") == [(gone,)]
    shop.sql("SELECT setval('sale_id_seq', 100000)", "DELETE FROM line WHERE sale = 196")
    shop.sql("DELETE FROM sale WHERE id = 196")
    assert shop.restore().sequences == 0
    assert shop.sql("SELECT last_value FROM sale_id_seq") == [(100000,)]


@pytest.mark.parametrize("to", [5, -1])
def test_a_crash_before_the_commit_leaves_sequences_raised_at_most(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, to: int
) -> None:
    """PostgreSQL takes no value back: what was to be raised may be, nothing else is, nothing is lower, and all rows are
    as they were; the next run finds nothing left to raise."""
    shop.sql("ALTER SEQUENCE customer_id_seq MINVALUE -10", "ALTER SEQUENCE sale_id_seq MINVALUE -10")
    shop.sql(*HARM, f"SELECT setval('sale_id_seq', {to})", "SELECT setval('customer_id_seq', 777, false)")
    before = shop.rows(), shop.rows(others=True)
    real = apply.commit

    def cut(connection: Connection) -> None:
        shop.sql(f"SELECT pg_terminate_backend({connection.info.backend_pid}, 5000)")
        real(connection)

    with monkeypatch.context() as patch:
        patch.setattr(apply, "commit", cut)
        with pytest.raises(SourceGoneError):
            shop.restore()
    assert (shop.rows(), shop.rows(others=True)) == before
    assert shop.sql("SELECT last_value, is_called FROM sale_id_seq") == [(200, True)]
    assert shop.sql("SELECT last_value, is_called FROM customer_id_seq") == [(777, False)]
    report = shop.restore()
    assert (report.applied, report.sequences) == (True, 0)
    assert shop.sql("SELECT last_value, is_called FROM sale_id_seq") == [(200, True)]
    assert shop.sql("SELECT last_value, is_called FROM customer_id_seq") == [(777, False)]


def test_triggers_are_off_where_the_role_may(shop: Shop) -> None:
    """What a trigger would send out is not sent."""
    shop.sql(
        *HARM,
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'fired'; END$$",
        *(
            f"CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION f()"
            for table in ("customer", "sale", "line", "tag", "note")
        ),
    )
    report = shop.restore()
    assert (report.applied, report.triggers) == (True, "off")


def test_two_rows_that_swapped_a_unique_value(shop: Shop) -> None:
    """They are swapped back, though each stands in the other's way."""
    then = shop.rows()
    shop.sql(
        "UPDATE customer SET mail = 'between' WHERE id = 1",
        "UPDATE customer SET mail = 'Marker1' WHERE id = 6",
        "UPDATE customer SET mail = 'Marker6' WHERE id = 1",
    )
    report = shop.restore()
    assert [(one.deletes, one.updates, one.inserts) for one in report.tables] == [(0, 2, 0)]
    assert shop.rows() == then


def test_keys_are_told_to_whoever_asks_and_no_other_value(shop: Shop) -> None:
    """Keys of rows that differ, by what becomes of them; nothing for a table without a key."""
    shop.sql(*HARM)
    told: list[tuple[str, str, str]] = []
    report = shop.restore(apply=False, report_key=lambda *key: told.append(key))
    counted = sum(one.deletes + one.updates + one.inserts for one in report.tables if one.keyed)
    assert len(told) == counted
    assert ("public.note", "insert", '{"id" : 1}') in told
    assert "Marker" not in repr(told) + repr(report)


def test_no_row_shows_when_postgresql_quotes_one(shop: Shop) -> None:
    """Its own errors quote rows and names; ours do not, at whatever step they come."""
    shop.sql(
        "DELETE FROM customer WHERE id = 0",
        "UPDATE customer SET mail = 'y' WHERE id = 1",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'Zyxomma %', OLD; END$$",
        "CREATE TRIGGER t BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION f()",
    )
    with pytest.raises(SourceError) as caught:
        shop.restore(triggers_fire=True)
    chain: list[BaseException | None] = [caught.value, caught.value.__cause__]
    text = " ".join(repr(one) for one in chain) + str(caught.value) + caught.value.hint
    assert "Zyxomma" not in text
    assert "Marker" not in text
    assert caught.value.__suppress_context__
    seen = repr(shop.region.events.seen)
    assert "Marker" not in seen
    assert "Zyxomma" not in seen


def test_a_tenant_with_a_schema_of_its_own(
    region: Region, pg17: Server, make_database: Callable[..., Database]
) -> None:
    """Rows of its tables come back; a table that had none is emptied; other tenants' schemas are not looked at."""
    database = make_database(pg17)
    for one in ("t_1", "t_2"):
        database.sql(
            f"CREATE SCHEMA {one}",
            f"CREATE TABLE {one}.thing (id serial PRIMARY KEY, said text)",
            f"INSERT INTO {one}.thing (said) SELECT 'Marker' || g FROM generate_series(1, 20) g",
            f"CREATE TABLE {one}.log (said text)",
        )
    region.tenancy = Tenancy(kind=TenancyKind.SCHEMA, schema_pattern=r"t_(?P<tenant>\d+)", classes=SHOP.classes)
    region.backup(database)
    shop = Shop(region, database)
    dump = "SELECT array_agg(t::text ORDER BY id) FROM {}.thing t"
    then = database.sql(dump.format("t_2"))
    for one in ("t_1", "t_2"):
        database.sql(
            f"DELETE FROM {one}.thing WHERE id > 15",
            f"SELECT setval('{one}.thing_id_seq', 3)",
            f"INSERT INTO {one}.log VALUES ('new')",
        )
    other = database.sql(dump.format("t_1"))
    report = shop.restore()
    assert {one.table: (one.deletes, one.updates, one.inserts) for one in report.tables} == {
        "t_2.log": (1, 0, 0),
        "t_2.thing": (0, 0, 5),
    }
    assert database.sql(dump.format("t_2")) == then
    assert database.sql(dump.format("t_1")) == other
    assert database.sql(
        "SELECT (SELECT last_value FROM t_1.thing_id_seq), (SELECT last_value FROM t_2.thing_id_seq)"
    ) == [(3, 20)]
    database.sql("ALTER TABLE t_2.thing DROP COLUMN said")
    blocked = shop.restore()
    assert (blocked.applied, [one.kind.value for one in blocked.conflicts]) == (False, ["column-gone"])


def test_partitions_are_tables_of_their_own(
    region: Region, pg17: Server, make_database: Callable[..., Database]
) -> None:
    """Rows come back into their partitions; one that was made since is emptied of the tenant's rows only."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE kind (code text PRIMARY KEY)",
        "INSERT INTO kind VALUES ('a')",
        "CREATE TABLE event (id bigint GENERATED ALWAYS AS IDENTITY, tenant int, day int, code text REFERENCES kind, "
        "PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
        "CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (10)",
        "INSERT INTO event (tenant, day, code) SELECT g % 3, g % 10, 'a' FROM generate_series(1, 90) g",
        "CREATE TABLE part (event bigint, day int, place int, CONSTRAINT of_event FOREIGN KEY (event, day) "
        "REFERENCES event, PRIMARY KEY (event, place))",
        "INSERT INTO part SELECT id, day, 1 FROM event",
    )
    region.tenancy = Tenancy(
        kind=TenancyKind.COLUMN,
        column="tenant",
        classes=SHOP.classes,
        rules=(TableRule(("public.kind",), shared=True), TableRule(("public.part",), path=("of_event",))),
    )
    region.backup(database)
    dump = (
        "SELECT (SELECT array_agg(e::text ORDER BY e) FROM event e WHERE {0}), "
        "(SELECT array_agg(p::text ORDER BY p) FROM part p JOIN event e ON e.id = p.event WHERE {0})"
    )
    then = database.sql(dump.format("tenant = 2"))
    database.sql(
        "DELETE FROM part WHERE event < 10",
        "DELETE FROM event WHERE id < 10",
        "CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM (10) TO (20)",
        "INSERT INTO event (tenant, day) VALUES (2, 11), (1, 12)",
        "UPDATE event SET day = day + 1 WHERE id = 20 AND NOT EXISTS (SELECT FROM part WHERE event = id)",
    )
    other = database.sql(dump.format("tenant <> 2"))
    shop = Shop(region, database)
    assert shop.restore().applied
    assert database.sql(dump.format("tenant = 2")) == then
    assert database.sql(dump.format("tenant <> 2")) == other
