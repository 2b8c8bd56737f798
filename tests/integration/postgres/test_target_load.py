"""Rows are loaded into real servers: their order, what is refused, and how a refusal is reported."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from doubles.servers.postgres import Server
from fix_every_type import install_extension
from fix_postgres import Database

from backupd.errors import DamageError, SourceError
from backupd.planning.load_order import Circle
from backupd.planning.restore import TablePlan
from backupd.postgres.connect import Source
from backupd.postgres.target.early_keys import early_keys
from backupd.postgres.target.load import Loader, fits_one_page

SECRET = "hidden-marker"


def source_of(database: Database) -> Source:
    return Source(database.server.conninfo("postgres"), client_folders=(database.server.bin,))


def plan(name: str, rows: int, pieces: int = 1, columns: tuple[str, ...] = ("id", "t")) -> TablePlan:
    return TablePlan("public", name, columns, rows, 1, pieces)


@pytest.fixture
def loaded() -> Callable[..., None]:
    """Loads rows into one table, each argument a piece."""

    def load(database: Database, table: TablePlan, *pieces: bytes) -> None:
        loader = Loader(source_of(database), database.name, [table])
        try:
            for piece in pieces:
                with loader.piece(0) as writer:
                    writer.write(memoryview(piece))
        finally:
            loader.close()

    return load


def test_rows_keep_their_order(database: Database, loaded: Callable[..., None]) -> None:
    """Rows of mixed width, sent in several pieces, come back in the order they were sent, and are frozen.

    A plain COPY puts small rows where larger ones left room; frozen ones show by their visibility map.
    """
    database.sql("CREATE TABLE public.t (id int, t text)", "ALTER TABLE public.t ALTER t SET STORAGE PLAIN")
    rows = [b"%d\t%s\n" % (number, b"x" * (number * number * 37 % 6000)) for number in range(5000)]
    loaded(database, plan("t", 5000, 3), b"".join(rows[:5]), b"".join(rows[5:3000]), b"".join(rows[3000:]))
    assert [row[0] for row in database.sql("SELECT id FROM public.t")] == list(range(5000))
    frozen = database.server.major >= 14  # before, COPY did not mark its pages
    assert database.sql("SELECT pg_relation_size('public.t', 'vm') > 0") == [(frozen,)]


def test_small_tables_are_not_emptied_before(database: Database, loaded: Callable[..., None]) -> None:
    """Rows that cannot but lie in one page are in order without; those of a table that spreads them are not small."""
    columns = ", ".join(f"c{place} name" for place in range(20))
    named = tuple(f"c{place}" for place in range(20))
    rows = [b"\t".join([b"%d" % number] * 20) + b"\n" for number in range(4)]
    for name, options, emptied in (("t", "", False), ("spread", "WITH (fillfactor = 20)", True)):
        database.sql(f"CREATE TABLE public.{name} ({columns}) {options}")
        made = f"SELECT pg_relation_filenode('public.{name}')"
        before = database.sql(made)
        loaded(database, TablePlan("public", name, named, 4, sum(map(len, rows)), 1), b"".join(rows))
        assert (database.sql(made) != before) == emptied
        assert database.sql(f"SELECT c0 FROM public.{name}") == [(str(number),) for number in range(4)]
    assert database.sql("SELECT max((ctid::text::point)[0]) FROM public.t") == [(0.0,)]
    assert not fits_one_page(TablePlan("public", "t", named, 6, 600, 1))
    assert fits_one_page(TablePlan("public", "t", named, 1, 1 << 30, 1))


def test_a_refused_row_is_told_by_its_place(database: Database, loaded: Callable[..., None]) -> None:
    """The message has PostgreSQL's code, the table's and the row's place, and nothing of the row; nothing stays."""
    database.sql("CREATE TABLE public.t (id int, t text)")
    bad, more = b"1\tx\n%s\tx\n" % SECRET.encode(), b"3\tenough to be noticed while rows are still sent\n" * 1_000_000
    with pytest.raises(SourceError) as caught:
        loaded(database, plan("t", 1_000_002), bad + more)
    assert "22P02" in caught.value.message
    assert "table 1 of 1, row 2" in caught.value.message
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert database.sql("SELECT count(*) FROM public.t") == [(0,)]


def test_a_value_that_names_what_is_not_there_is_told_so(database: Database, loaded: Callable[..., None]) -> None:
    """It is the value, and not a function of the table, that finds nothing; the name is not said."""
    database.sql("CREATE TABLE public.t (id int, t regrole)")
    with pytest.raises(SourceError, match="row 2") as caught:
        loaded(database, plan("t", 2), b"1\tpg_monitor\n2\t%s\n" % SECRET.encode())
    assert "regrole" in caught.value.hint
    assert SECRET not in caught.value.message + caught.value.hint


def test_a_piece_that_ends_within_a_row_is_damage(database: Database, loaded: Callable[..., None]) -> None:
    """Two pieces are never glued together into one row."""
    database.sql("CREATE TABLE public.t (id int, t text)")
    with pytest.raises(DamageError, match="table 1 of 1 ends within a row"):
        loaded(database, plan("t", 1, 2), b"1\thal", b"f\n")
    assert database.sql("SELECT count(*) FROM public.t") == [(0,)]


def test_a_number_of_rows_that_differs_is_refused(database: Database, loaded: Callable[..., None]) -> None:
    """PostgreSQL's own count is compared with the manifest's."""
    database.sql("CREATE TABLE public.t (id int, t text)")
    with pytest.raises(SourceError, match="took 2 of 3 rows of table 1 of 1"):
        loaded(database, plan("t", 3), b"1\ta\n2\tb\n")
    assert database.sql("SELECT count(*) FROM public.t") == [(0,)]


def test_several_threads_fill_one_table(database: Database) -> None:
    """Pieces written at once do not tear each other's rows, though their bytes come cut anywhere."""
    database.sql("CREATE TABLE public.t (id int, t text)")
    pieces = [b"".join(b"%d\t%s\n" % (part, b"y" * (row % 90)) for row in range(3000)) for part in range(8)]
    loader = Loader(source_of(database), database.name, [plan("t", 8 * 3000, 8)])

    def write(piece: bytes) -> None:
        with loader.piece(0) as writer:
            for at in range(0, len(piece), 777):
                writer.write(memoryview(piece)[at : at + 777])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, pieces))
    loader.close()
    found = database.sql("SELECT id, array_agg(length(t) ORDER BY ctid) FROM public.t GROUP BY 1 ORDER BY 1")
    assert found == [(part, [row % 90 for row in range(3000)]) for part in range(8)]


def test_who_waits_for_a_full_table_sees_its_rows(database: Database) -> None:
    """It is told once, after the last piece; what it raises ends the writing."""
    database.sql("CREATE TABLE public.t (id int, t text)", "CREATE TABLE public.u (id int, t text)")
    seen: list[object] = []

    def filled(place: int) -> None:
        seen.append((place, *database.sql(f"SELECT count(*) FROM public.{'tu'[place]}")))
        if place:
            raise SourceError("enough")

    loader = Loader(source_of(database), database.name, [plan("t", 2, 2), plan("u", 1)])
    loader.filled = filled
    for place, rows in ((0, b"1\ta\n"), (0, b"2\tb\n")):
        with loader.piece(place) as writer:
            writer.write(memoryview(rows))
    with pytest.raises(SourceError, match="enough"), loader.piece(1) as writer:
        writer.write(memoryview(b"1\ta\n"))
    loader.close()
    assert seen == [(0, (2,)), (1, (1,))]


def test_rows_of_an_extension_stay(
    server: Server, make_every_type: Callable[..., Database], loaded: Callable[..., None]
) -> None:
    """A table that an extension made is added to, not emptied."""
    every_type = make_every_type(server)
    before = every_type.sql("SELECT count(*) FROM backupd_zoo.settings")
    loaded(every_type, TablePlan("backupd_zoo", "settings", ("name", "value", "standard"), 1, 1, 1), b"new\trow\tf\n")
    assert every_type.sql("SELECT count(*) FROM backupd_zoo.settings") == [(before[0][0] + 1,)]


def test_tables_in_a_circle_are_checked_together(database: Database) -> None:
    """Their keys are checked once both are filled, and are as before afterwards; rows that break one are refused."""
    install_extension(database.server)
    database.sql("CREATE SCHEMA backupd_keys", "CREATE EXTENSION backupd_keys")
    a, b = ("backupd_keys", "heads"), ("backupd_keys", "versions")
    with database.server.connect(database.name) as connection:
        before = early_keys(connection)
    fixed = tuple(key for key in before if key.table == b)
    assert [(key.parent, key.deferrable) for key in fixed] == [(a, False)]
    tables = [TablePlan(*a, ("id", "newest"), 1, 1, 1), TablePlan(*b, ("id", "head"), 1, 1, 1)]

    def fill(*pieces: bytes) -> None:
        circles = [Circle(frozenset({0, 1}), fixed)]
        loader = Loader(source_of(database), database.name, tables, circles=circles)
        try:
            for place, rows in enumerate(pieces):
                with loader.piece(place) as writer:
                    writer.write(memoryview(rows))
        finally:
            loader.close()

    with pytest.raises(SourceError, match=r"23503.* at table 2 of 2"):
        fill(b"1\t2\n", b"2\t3\n")
    count = "SELECT (SELECT count(*) FROM backupd_keys.heads), (SELECT count(*) FROM backupd_keys.versions)"
    assert database.sql(count) == [(0, 0)]
    fill(b"1\t2\n", b"2\t1\n")
    assert database.sql(count) == [(1, 1)]
    with database.server.connect(database.name) as connection:
        assert early_keys(connection) == before


def test_text_is_read_as_it_was_written(database: Database, loaded: Callable[..., None]) -> None:
    """The database's own settings do not change what a row means."""
    database.sql(
        f"ALTER DATABASE {database.name} SET datestyle TO 'SQL, DMY'",
        f"ALTER DATABASE {database.name} SET intervalstyle TO 'sql_standard'",
        f"ALTER DATABASE {database.name} SET array_nulls TO off",
        f"ALTER DATABASE {database.name} SET default_transaction_read_only TO on",
    )
    with database.server.connect(database.name) as connection:
        connection.execute("SET default_transaction_read_only TO off")
        connection.execute("CREATE TABLE public.t (d date, i interval, a text[])")
    loaded(database, plan("t", 1, columns=("d", "i", "a")), b'2026-02-01\t-1 days +02:03:00\t{NULL,"NULL"}\n')
    meant = "d = '2026-02-01'::date, i = make_interval(days => -1, hours => 2, mins => 3), a"
    assert database.sql(f"SELECT {meant} FROM public.t") == [(True, True, [None, "NULL"])]
