"""Each row goes to one tenant and only one, counted by the database, or the way to the tenant is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from doubles.servers.postgres import Server
from doubles.stores.snapshots import look
from fix_postgres import Database
from fix_regions import Region

from backupd.model.inventory import TableName
from backupd.model.tenancy import ClassPolicy, TableRule, Tenancy, TenancyKind, TenancyMap
from backupd.planning.incremental.waypoints import Cell, Waypoint
from backupd.planning.mapping.tables import map_tables, tenant_columns
from backupd.postgres.connect import Source, connect
from backupd.postgres.inplace.session import Belonging
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.source.select import select_rows
from backupd.postgres.source.waypoints import Seeds, sum_cell, sum_oldest

CLASSES = {"uploaded": ClassPolicy.STANDARD}


def by_column(*rules: TableRule, **more: object) -> Tenancy:
    return Tenancy(TenancyKind.COLUMN, "tenant", rules=rules, classes=CLASSES, **more)


def mapped(database: Database, tenancy: Tenancy) -> TenancyMap:
    with connect(Source(database.conninfo)) as connection:
        return map_tables(tenancy, read_inventory(connection, tenant_columns(tenancy)))


def routed(database: Database, tenancy: Tenancy, name: str) -> list[tuple[str, str]]:
    """The rows of a table as a backup reads them, each with its tenant; and every row is the database's own."""
    with connect(Source(database.conninfo)) as connection:
        inventory = read_inventory(connection, tenant_columns(tenancy))
        (route,) = (one.route for one in map_tables(tenancy, inventory).tables if one.table.table == name)
        table = inventory.by_name()[TableName("public", name)]
        with connection.cursor().copy(select_rows(table, route).sql.encode()) as copy:
            rows = b"".join(copy).decode().splitlines()
        found = [(row.split("\t", 1)[0], row.split("\t", 1)[1]) for row in rows]
        for tenant in {tenant for tenant, _ in found} - {"\\N"}:
            asked = f"SELECT count(*) FROM ONLY public.{name} AS t WHERE {Belonging(route, tenant).ours()}"
            assert connection.execute(asked.encode()).fetchall() == [(sum(one == tenant for one, _ in found),)]
    assert database.sql(f"SELECT count(*) FROM ONLY {name}") == [(len(found),)]
    return found


def test_keys_between_columns_of_different_collations_are_followed(
    server: Server, make_database: Callable[..., Database]
) -> None:
    """PostgreSQL compares them by the collation of the target, which a join must name."""
    database = make_database(server)
    database.sql(
        'CREATE TABLE account (name text COLLATE "C" PRIMARY KEY, tenant int NOT NULL)',
        'CREATE TABLE note (account text COLLATE "POSIX" NOT NULL CONSTRAINT to_account REFERENCES account, n int)',
        "INSERT INTO account VALUES ('a', 1), ('b', 2)",
        "INSERT INTO note VALUES ('a', 1), ('b', 2), ('b', 3)",
    )
    found = routed(database, by_column(TableRule(("public.note",), path=("to_account",))), "note")
    assert found == [("1", "a\t1"), ("2", "b\t2"), ("2", "b\t3")]


def test_a_blind_collation_on_the_way_matches_as_the_database_does(
    pg15: Server, make_database: Callable[..., Database]
) -> None:
    """'ZOÉ' refers to 'Zoé' where the target's collation says so, whatever the referring column's is."""
    database = make_database(pg15)
    database.sql(
        "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        "CREATE TABLE account (name text COLLATE blind PRIMARY KEY, tenant int NOT NULL)",
        'CREATE TABLE note (account text COLLATE "C" NOT NULL CONSTRAINT to_account REFERENCES account)',
        "INSERT INTO account VALUES ('Zoé', 1)",
        "INSERT INTO note VALUES ('Zoé'), ('ZOÉ')",
    )
    assert routed(database, by_column(TableRule(("public.note",), path=("to_account",))), "note") == [
        ("1", "Zoé"),
        ("1", "ZOÉ"),
    ]


def test_a_stored_generated_column_says_whose_rows_are(
    server: Server, region: Region, make_database: Callable[..., Database]
) -> None:
    """It is not in the rows, and decides where they go all the same."""
    database = make_database(server)
    database.sql(
        'CREATE TABLE note (code text, tenant text COLLATE "C" GENERATED ALWAYS AS (left(code, 2)) STORED)',
        "INSERT INTO note VALUES ('be-1'), ('ch-1'), ('be-2')",
    )
    assert routed(database, by_column(), "note") == [("be", "be-1"), ("ch", "ch-1"), ("be", "be-2")]
    region.tenancy = by_column()
    report = region.backup(database)
    found = look(region.repository, report.snapshot, region.identity.secret)
    assert found.rows("public.note") == {"be": ["be-1", "be-2"], "ch": ["ch-1"]}


def test_a_virtual_generated_column_says_whose_rows_are(pg18: Server, make_database: Callable[..., Database]) -> None:
    """PostgreSQL computes it while the row is read, by functions of its own only; it is never taken for missing."""
    database = make_database(pg18)
    database.sql(
        'CREATE TABLE note (code text, tenant text COLLATE "C" GENERATED ALWAYS AS (left(code, 2)) VIRTUAL)',
        "INSERT INTO note VALUES ('be-1'), ('ch-1'), ('be-2')",
    )
    sharing = by_column(unclassified="shared")
    assert routed(database, sharing, "note") == [("be", "be-1"), ("ch", "ch-1"), ("be", "be-2")]


TEMPORAL = (
    "CREATE TABLE lease (id int4range, during daterange, tenant int, PRIMARY KEY (id, during WITHOUT OVERLAPS))",
    "CREATE TABLE note (lease int4range NOT NULL, during daterange NOT NULL, n int)",
    "ALTER TABLE note ADD CONSTRAINT to_lease FOREIGN KEY (lease, PERIOD during) REFERENCES lease (id, PERIOD during)",
    "INSERT INTO lease VALUES ('[1,2)', '[2030-01-01,2030-06-01)', 1), ('[1,2)', '[2030-06-01,2031-01-01)', 2)",
    "INSERT INTO note VALUES ('[1,2)', '[2030-05-01,2030-07-01)', 1)",
)


def test_temporal_keys_lead_to_no_tenant(pg18: Server, make_database: Callable[..., Database]) -> None:
    """A row may refer to rows of two tenants: such a key is neither proposed nor taken."""
    database = make_database(pg18)
    database.sql(*TEMPORAL)
    (without,) = mapped(database, by_column()).unmapped
    assert (without.table.table, without.ways) == ("note", ())
    (refused,) = mapped(database, by_column(TableRule(("public.note",), path=("to_lease",)))).unmapped
    assert refused.reason == (
        "its path names foreign key 'to_lease', which compares periods: a row may have several targets, and so several "
        "tenants"
    )


def test_keys_of_several_columns_are_followed_whole(server: Server, make_database: Callable[..., Database]) -> None:
    """One of their columns alone may lead to rows of several tenants."""
    database = make_database(server)
    database.sql(
        "CREATE TABLE account (site int, id int, tenant int NOT NULL, PRIMARY KEY (site, id))",
        "CREATE TABLE note (n int, id int NOT NULL, site int NOT NULL,"
        " CONSTRAINT to_account FOREIGN KEY (site, id) REFERENCES account)",
        "INSERT INTO account VALUES (1, 1, 11), (2, 1, 21), (1, 2, 12)",
        "INSERT INTO note VALUES (1, 1, 1), (2, 1, 2), (3, 2, 1)",
    )
    tenancy = by_column(TableRule(("public.note",), path=("to_account",)))
    assert [tenant for tenant, _ in routed(database, tenancy, "note")] == ["11", "21", "12"]


OWNED = (
    "CREATE TABLE settings (id int PRIMARY KEY, said text)",
    "CREATE TABLE org (id int PRIMARY KEY, settings int NOT NULL UNIQUE REFERENCES settings)",
    "CREATE TABLE look (id int PRIMARY KEY) PARTITION BY RANGE (id)",
    "CREATE TABLE look_1 PARTITION OF look FOR VALUES FROM (0) TO (100)",
    "CREATE TABLE team (org int NOT NULL REFERENCES org, look int UNIQUE REFERENCES look)",
    "INSERT INTO settings SELECT g, 's' || g FROM generate_series(1, 4) g",
    "INSERT INTO org VALUES (11, 2), (12, 1), (13, 4)",
    "INSERT INTO look SELECT generate_series(1, 3)",
    "INSERT INTO team VALUES (11, 3), (11, 1), (12, NULL), (13, NULL)",
)


def by_org(*rules: TableRule, **more: object) -> Tenancy:
    return Tenancy(TenancyKind.COLUMN, table=TableName("public", "org"), rules=rules, classes=CLASSES, **more)


def test_rows_that_their_owner_refers_to_one_to_one_are_its_own(
    server: Server, region: Region, make_database: Callable[..., Database]
) -> None:
    """Each goes to the tenant whose row refers to it; one that nobody refers to is nobody's, in any order of rows."""
    database = make_database(server)
    database.sql(*OWNED)
    rules = (
        TableRule(("*.settings",), path=("<public.org.settings",)),
        TableRule(("*.look",), path=("<public.team.look",)),
    )
    tenancy = by_org(*rules, null_tenant="shared")
    assert routed(database, tenancy, "settings") == [
        ("12", "1\ts1"),
        ("11", "2\ts2"),
        ("\\N", "3\ts3"),
        ("13", "4\ts4"),
    ]
    assert routed(database, tenancy, "look_1") == [("11", "1"), ("\\N", "2"), ("11", "3")]
    region.tenancy = tenancy
    found = look(region.repository, region.backup(database).snapshot, region.identity.secret)
    assert found.rows("public.settings") == {None: ["3\ts3"], "11": ["2\ts2"], "12": ["1\ts1"], "13": ["4\ts4"]}
    database.sql("UPDATE org SET settings = 3 WHERE id = 12")
    found = look(region.repository, region.backup(database).snapshot, region.identity.secret)
    assert found.rows("public.settings") == {None: ["1\ts1"], "11": ["2\ts2"], "12": ["3\ts3"], "13": ["4\ts4"]}


def test_only_a_unique_index_that_compares_as_the_key_does_says_that_rows_have_one_owner(
    pg15: Server, make_database: Callable[..., Database]
) -> None:
    """A partial one, one over an expression, or by another collation leaves room for two rows of two tenants."""
    database = make_database(pg15)
    database.sql(
        "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        "CREATE TABLE item (id int PRIMARY KEY, code text UNIQUE, plain text UNIQUE, blind text COLLATE blind UNIQUE,"
        " big bigint UNIQUE, UNIQUE (id, code))",
        "CREATE TABLE yes (a int UNIQUE REFERENCES item, b int UNIQUE REFERENCES item (big), c text UNIQUE DEFERRABLE"
        " REFERENCES item (code), d varchar(9) UNIQUE REFERENCES item (plain), e int UNIQUE, f text,"
        " FOREIGN KEY (e, f) REFERENCES item (id, code))",
        "CREATE TABLE no (a int REFERENCES item, b int REFERENCES item, c text REFERENCES item (code),"
        ' d text COLLATE "C" UNIQUE REFERENCES item (blind), e int, f text,'
        " FOREIGN KEY (e, f) REFERENCES item (id, code), UNIQUE (e, f, a))",
        "CREATE UNIQUE INDEX ON no (a) WHERE a > 0",
        "CREATE UNIQUE INDEX ON no (abs(b))",
        "CREATE UNIQUE INDEX ON no (c COLLATE blind)",
        "INSERT INTO item VALUES (1, 'x', 'x', 'zoé', 1)",
        "INSERT INTO no (d) VALUES ('Zoé'), ('ZOÉ')",
    )
    with connect(Source(database.conninfo)) as connection:
        tables = {table.name.table: table for table in read_inventory(connection).tables}
    assert {key.columns: key.single for key in tables["yes"].foreign_keys} == dict.fromkeys(
        [("a",), ("b",), ("c",), ("d",), ("e", "f")], True
    )
    assert {key.columns: key.single for key in tables["no"].foreign_keys} == dict.fromkeys(
        [("a",), ("b",), ("c",), ("d",), ("e", "f")], False
    )


def test_a_partitioned_target_is_read_with_its_partitions_and_an_inherited_one_without(
    server: Server, make_database: Callable[..., Database]
) -> None:
    """A key to a partitioned table leads into each of its partitions; one to a parent never into its children."""
    database = make_database(server)
    database.sql(
        "CREATE TABLE account (id int PRIMARY KEY, tenant int NOT NULL) PARTITION BY RANGE (id)",
        "CREATE TABLE account_1 PARTITION OF account FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE account_2 PARTITION OF account FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id)",
        "CREATE TABLE account_21 PARTITION OF account_2 FOR VALUES FROM (10) TO (20)",
        "CREATE TABLE note (account int NOT NULL CONSTRAINT note_account REFERENCES account)",
        "CREATE TABLE place (id int PRIMARY KEY, tenant int NOT NULL)",
        "CREATE TABLE town (PRIMARY KEY (id)) INHERITS (place)",
        "CREATE TABLE stay (place int NOT NULL CONSTRAINT stay_place REFERENCES place)",
        "INSERT INTO account VALUES (1, 1), (11, 2)",
        "INSERT INTO note VALUES (1), (11)",
        "INSERT INTO place VALUES (1, 1)",
        "INSERT INTO town VALUES (1, 2)",
        "INSERT INTO stay VALUES (1)",
    )
    tenancy = by_column(
        TableRule(("public.note",), path=("note_account",)), TableRule(("public.stay",), path=("stay_place",))
    )
    assert routed(database, tenancy, "note") == [("1", "1"), ("2", "11")]
    assert routed(database, tenancy, "stay") == [("1", "1")]
    assert routed(database, tenancy, "place") == [("1", "1\t1")]
    assert routed(database, tenancy, "town") == [("2", "1\t2")]


def test_not_null_that_was_never_checked_is_no_promise(pg18: Server, make_database: Callable[..., Database]) -> None:
    """From version 18 on, NOT NULL may be declared over nulls; and a key need not be enforced."""
    database = make_database(pg18)
    database.sql(
        "CREATE TABLE account (id int PRIMARY KEY, tenant int)",
        "CREATE TABLE note (account int CONSTRAINT to_account REFERENCES account)",
        "CREATE TABLE loose (account int NOT NULL CONSTRAINT loosely REFERENCES account NOT ENFORCED)",
        "INSERT INTO note VALUES (NULL)",
        "ALTER TABLE note ADD CONSTRAINT account_there NOT NULL account NOT VALID",
    )
    with connect(Source(database.conninfo)) as connection:
        tables = {table.name.table: table for table in read_inventory(connection).tables}
    assert [(key.required, key.validated) for key in tables["note"].foreign_keys] == [(False, True)]
    assert tables["note"].nullable == {"account"}
    assert [(key.required, key.validated) for key in tables["loose"].foreign_keys] == [(False, False)]


@pytest.mark.parametrize("action", ["CASCADE", "RESTRICT"])
def test_keys_and_unique_columns_are_read_as_they_are(
    pg15: Server, make_database: Callable[..., Database], action: str
) -> None:
    """The facts that say which key a row belongs by; keys that partitions inherit know the topmost one."""
    database = make_database(pg15)
    database.sql(
        "CREATE TABLE account (id int PRIMARY KEY, tenant int, code text UNIQUE, part text)",
        "CREATE UNIQUE INDEX ON account (lower(part))",
        "CREATE UNIQUE INDEX ON account (part) WHERE id > 5",
        f"CREATE TABLE note (n int, account int REFERENCES account ON DELETE {action}, PRIMARY KEY (account, n))"
        " PARTITION BY RANGE (n)",
        "CREATE TABLE note_1 PARTITION OF note FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (n)",
        "CREATE TABLE other (account int CONSTRAINT note_account_fkey CHECK (account > 0), n int NOT NULL)",
        "ALTER TABLE other ALTER account SET NOT NULL",
        "ALTER TABLE note_1 ATTACH PARTITION other FOR VALUES FROM (0) TO (10)",
    )
    with connect(Source(database.conninfo)) as connection:
        tables = {table.name.table: table for table in read_inventory(connection).tables}
    assert tables["account"].primary == ("id",)
    assert set(tables["account"].unique) == {frozenset({"id"}), frozenset({"code"})}
    assert tables["note"].primary == tables["other"].primary == ("account", "n")
    (key,), (inherited,) = tables["note"].foreign_keys, tables["other"].foreign_keys
    assert (key.name, key.root, key.cascades) == ("note_account_fkey", None, action == "CASCADE")
    assert (inherited.root, inherited.cascades) == ("note_account_fkey", action == "CASCADE")
    assert inherited.name != "note_account_fkey"


def test_the_secret_numbers_of_sums_stand_in_no_statement(
    server: Server, make_database: Callable[..., Database]
) -> None:
    """Whoever may see what others run, and writes rows, would else make rows that lead elsewhere with the same sum."""
    database = make_database(server)
    database.sql('CREATE TABLE "50%s" ("100%" int PRIMARY KEY, tenant int)', 'INSERT INTO "50%s" VALUES (1, 1), (2, 1)')
    waypoint = Waypoint(TableName("public", "50%s"), ("100%",), ("tenant",))
    seeds = Seeds(4611686018427387904, -4611686018427387905)
    with connect(Source(database.conninfo)) as connection:
        watched = f"SELECT query FROM pg_stat_activity WHERE pid = {connection.info.backend_pid}"
        whole = sum_cell(connection, waypoint, Cell(0, None), seeds)
        said = database.sql(watched)
        oldest = next(sum_oldest(connection, waypoint, [Cell(0, None)], 2, seeds))
        said += database.sql(watched)
        assert whole == oldest != sum_cell(connection, waypoint, Cell(0, None), Seeds(seeds.low, 1))
    assert whole.rows == 2
    for (query,) in said:
        assert "hashtextextended" in query
        assert not any(str(abs(seed)) in query for seed in seeds)
