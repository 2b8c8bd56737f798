"""`backupd tenancy` on real databases: rows are counted, by the database, where that helps to decide."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from doubles.servers.postgres import Server
from fix_postgres import Database, quoted

from backupd.cli.tenancy_lines import tenancy_lines
from backupd.errors import SourceBusyError, SourceError, UnmappedError
from backupd.model.inventory import TableName
from backupd.model.tenancy import ClassPolicy, Gap, TableRule, Tenancy, TenancyKind
from backupd.operations.tenancy.block import toml_block
from backupd.operations.tenancy.report import report_tenancy
from backupd.operations.tenancy.types import TenancyLine
from backupd.postgres.connect import Source
from backupd.postgres.source import ways

CLASSES = {"uploaded": ClassPolicy.STANDARD, "session": ClassPolicy.NEVER}


def by_table(*rules: TableRule, **more: object) -> Tenancy:
    table = TableName("public", "tenant")
    return Tenancy(TenancyKind.COLUMN, table=table, rules=rules, classes=CLASSES, **more)


def lines(database: Database, tenancy: Tenancy) -> dict[str, TenancyLine]:
    return {line.table: line for line in report_tenancy("app", Source(database.conninfo), tenancy).lines}


def told(database: Database, tenancy: Tenancy) -> list[str]:
    report = report_tenancy("app", Source(database.conninfo), tenancy)
    return [line for line in tenancy_lines("be", report) if isinstance(line, str)]


@pytest.fixture
def notes(server: Server, make_database: Callable[..., Database]) -> Database:
    """Notes of two tenants, and some of nobody."""
    made = make_database(server)
    made.sql(
        "CREATE TABLE tenant (id int PRIMARY KEY)",
        "CREATE TABLE note (id int PRIMARY KEY, tenant int REFERENCES tenant)",
        "CREATE TABLE word (note int NOT NULL REFERENCES note, parent int REFERENCES note)",
        "INSERT INTO tenant VALUES (1), (2)",
        "INSERT INTO note VALUES (1, 1), (2, 2), (3, NULL)",
        "INSERT INTO word VALUES (1, NULL), (3, 1), (3, 2), (2, NULL)",
    )
    return made


def test_rows_without_a_tenant_are_counted_before_a_backup_stops_at_them(notes: Database) -> None:
    """In each table that may have some, by column and by path; the table is named, and what to do."""
    found = lines(notes, by_table())
    assert {name: (line.without, line.counted, line.settled) for name, line in found.items()} == {
        "public.tenant": (0, None, True),
        "public.note": (1, 3, False),
        "public.word": (2, 4, False),
    }
    assert not report_tenancy("app", Source(notes.conninfo), by_table()).complete
    text = told(notes, by_table())
    assert "without a tenant: public.note: 1 of 3 rows; a backup stops at them" in text
    assert "without a tenant: public.word: 2 of 4 rows; a backup stops at them" in text


def test_rows_that_are_shared_for_want_of_a_tenant_are_told_and_stop_nothing(notes: Database) -> None:
    """By the database's default; a rule may say otherwise for its table."""
    shared = by_table(null_tenant="shared")
    assert report_tenancy("app", Source(notes.conninfo), shared).complete
    assert "without a tenant: public.note: 1 of 3 rows, which are shared" in told(notes, shared)
    strict = by_table(TableRule(("*.note",), column="tenant", null_tenant="refuse"), null_tenant="shared")
    assert [name for name, line in lines(notes, strict).items() if not line.settled] == ["public.note"]


def test_a_rule_for_rows_that_are_referred_to_one_to_one_is_printed_where_each_row_has_an_owner(
    server: Server, make_database: Callable[..., Database]
) -> None:
    """Where one has none, or there are no rows, it is for a person to say."""
    database = make_database(server)
    database.sql(
        "CREATE TABLE settings (id int PRIMARY KEY)",
        "CREATE TABLE empty (id int PRIMARY KEY)",
        "CREATE TABLE tenant (id int PRIMARY KEY, settings int NOT NULL UNIQUE REFERENCES settings,"
        " empty int UNIQUE REFERENCES empty)",
        "INSERT INTO settings VALUES (7), (8)",
        "INSERT INTO tenant VALUES (1, 7, NULL), (2, 8, NULL)",
    )
    printed = toml_block("be", report_tenancy("app", Source(database.conninfo), by_table()))[1:]
    rule = '{ match = ["public.settings"], path = ["<public.tenant.settings"] },'
    assert printed == [
        "tables = [",
        f"  {rule}",
        "  # public.empty: public.tenant refers to each row one to one",
        '  # { match = ["public.empty"], path = ["<public.tenant.empty"] },  # may be null; 0 of 0 rows',
        "]",
    ]
    database.sql("INSERT INTO settings VALUES (9)")
    printed = toml_block("be", report_tenancy("app", Source(database.conninfo), by_table()))
    assert f"  # {rule}  # 2 of 3 rows" in printed
    ruled = by_table(
        TableRule(("*.settings",), path=("<public.tenant.settings",)), TableRule(("*.empty",), shared=True)
    )
    line = lines(database, ruled)["public.settings"]
    assert (line.route, line.without, line.counted) == ("path <public.tenant.settings > id", 1, 3)


def test_a_large_table_is_sampled_and_that_is_said(
    pg15: Server, make_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading all of it could take hours."""
    database = make_database(pg15)
    database.sql(
        "CREATE TABLE tenant (id int PRIMARY KEY)",
        "CREATE TABLE note (tenant int REFERENCES tenant, said text)",
        "INSERT INTO note SELECT NULL, repeat('x', 1000) FROM generate_series(1, 700) g",
    )
    monkeypatch.setattr(ways, "SAMPLED_FROM", 50)
    monkeypatch.setattr(ways, "_SAMPLE", 60)
    line = lines(database, by_table())["public.note"]
    assert line.sampled
    assert line.without == line.counted
    assert 0 < (line.counted or 0) < 700
    assert any(" rows of a sample; a backup stops at them" in text for text in told(database, by_table()))


def test_partitions_are_one_line_and_counted_together(pg15: Server, make_database: Callable[..., Database]) -> None:
    """Also where they are not mapped, and where their keys have names of their own."""
    database = make_database(pg15)
    database.sql(
        "CREATE TABLE tenant (id int PRIMARY KEY)",
        "CREATE TABLE log (tenant int, owner int, n int) PARTITION BY RANGE (n)",
        "CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM (10) TO (20)",
        "ALTER TABLE log_1 ADD CONSTRAINT one FOREIGN KEY (tenant) REFERENCES tenant",
        "ALTER TABLE log_2 ADD CONSTRAINT two FOREIGN KEY (tenant) REFERENCES tenant",
        "INSERT INTO tenant VALUES (1)",
        "INSERT INTO log VALUES (1, 1, 1), (NULL, 1, 2), (1, 1, 11)",
    )
    line = lines(database, by_table())["public.log"]
    assert (line.tables, line.route, line.without, line.counted) == (2, "column tenant", 1, 3)
    database.sql(
        "ALTER TABLE log ADD FOREIGN KEY (tenant) REFERENCES tenant",
        "ALTER TABLE log ADD FOREIGN KEY (owner) REFERENCES tenant",
    )
    line = lines(database, by_table())["public.log"]
    assert (line.tables, line.gap, line.counted) == (2, Gap.SEVERAL, 3)
    assert {way.rule: way.named for way in line.ways} == {'column = "owner"': 3, 'column = "tenant"': 2}


def test_what_cannot_be_counted_stops_nothing(
    pg15: Server, make_database: Callable[..., Database], make_role: Callable[..., str]
) -> None:
    """A table that the role may not read is mapped all the same."""
    database, role = make_database(pg15), make_role(pg15)
    database.sql(
        "CREATE TABLE tenant (id int PRIMARY KEY)", "CREATE TABLE note (tenant int REFERENCES tenant)",
        "INSERT INTO note VALUES (NULL)",
    )  # fmt: skip
    report = report_tenancy("app", Source(pg15.conninfo(database.name, role)), by_table())
    assert {(line.table, line.mapped, line.counted, line.route) for line in report.lines} == {
        ("public.note", True, None, "column tenant"),
        ("public.tenant", True, None, "column id"),
    }


def test_nobody_waits_for_a_table_that_is_locked(pg15: Server, make_database: Callable[..., Database]) -> None:
    """A migration must not have the application wait behind a look at the tables."""
    database = make_database(pg15)
    database.sql("CREATE TABLE tenant (id int PRIMARY KEY)")
    with database.server.connect(database.name) as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE tenant IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SourceBusyError):
            lines(database, by_table())


def test_a_server_of_tenants_is_shown_as_a_backup_sees_it(pg16: Server, make_database: Callable[..., Database]) -> None:
    """Every database of the label, none by its name; one that is closed or nobody's is refused, as by a backup."""
    own = make_database(pg16)
    made = [make_database(pg16, name=f"{own.name}_t{number}") for number in (1, 2)]
    for database in made:
        database.sql("CREATE TABLE note (n int)")
    made[1].sql("CREATE TABLE more (n int)")
    pattern = f"{own.name}_t(?P<tenant>\\d+)"
    tenancy = Tenancy(TenancyKind.DATABASE, database_pattern=pattern, classes=CLASSES, unclassified="shared")
    others = [name for (name,) in pg16.sql("postgres", "SELECT datname FROM pg_database WHERE datallowconn")]
    report = report_tenancy("app", Source(own.conninfo), tenancy)
    ours = {line.table: (line.route, line.tables) for line in report.lines if line.route == "database"}
    assert ours == {"public.note": ("database", 2), "public.more": ("database", 1)}
    assert report.databases == len([one for one in others if one not in {own.name, "postgres", "template1"}])
    text = "\n".join(one for one in tenancy_lines("be", report) if isinstance(one, str))
    assert f"be/app, {report.databases} databases" in text
    assert "_t1" not in text
    pg16.sql("postgres", f"ALTER DATABASE {quoted(made[0].name)} ALLOW_CONNECTIONS false")
    with pytest.raises(SourceError, match="takes no connections"):
        report_tenancy("app", Source(own.conninfo), tenancy)
    pg16.sql("postgres", f"ALTER DATABASE {quoted(made[0].name)} ALLOW_CONNECTIONS true")
    stranger = make_database(pg16)
    with pytest.raises(UnmappedError, match="1 database of the server named after no tenant"):
        report_tenancy(
            "app", Source(own.conninfo), Tenancy(TenancyKind.DATABASE, database_pattern=pattern, classes=CLASSES)
        )
    assert stranger.name not in text
