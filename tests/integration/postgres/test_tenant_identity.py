"""A tenant has one spelling: columns in which the database finds different texts equal are refused, on real servers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from doubles.servers.postgres import Server
from fix_postgres import Database
from fix_regions import Region

from backupd.errors import ConfigError, UnmappedError
from backupd.model.tenancy import ClassPolicy, TableRule, Tenancy, TenancyKind, TenancyMap
from backupd.operations.preflight import check_source
from backupd.operations.tenancy.report import report_tenancy
from backupd.planning.mapping.tables import map_tables, require_mapped, tenant_columns
from backupd.postgres.connect import Source, connect
from backupd.postgres.inplace.session import Belonging
from backupd.postgres.lifecycle_query import read_tenant_dates
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.source.select import select_rows

CLASSES = {"uploaded": ClassPolicy.STANDARD, "session": ClassPolicy.NEVER}
BY_COLUMN = Tenancy(TenancyKind.COLUMN, "tenant", classes=CLASSES)
TYPES = (
    "CREATE EXTENSION citext",
    "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    "CREATE COLLATION german (provider = icu, locale = 'de-u-co-phonebk')",
    "CREATE TYPE color AS ENUM ('red', 'green')",
    "CREATE TYPE pair AS (a int, b int)",
    "CREATE DOMAIN amount AS numeric",
    "CREATE DOMAIN price AS amount CHECK (VALUE > 0)",
    "CREATE DOMAIN number AS int",
    "CREATE DOMAIN positive AS number CHECK (VALUE > 0)",
    "CREATE DOMAIN code AS varchar(40)",
    "CREATE DOMAIN shade AS color",
    "CREATE DOMAIN blind_code AS text COLLATE blind",
    "CREATE DOMAIN numbers AS int[]",
)
MADE = frozenset(statement.split()[2] for statement in TYPES if "COLLATION" not in statement)
FIT = {
    "int2": ("7", "07", " 7", "-7", "0", "-0"),
    "int4": ("7", "+7", "007", "70"),
    "int8": ("7", " 7 ", "9223372036854775807", "-7"),
    "oid": ("7", "07", "4294967295", "-1"),
    "text": ("a", "A", "a ", "é", "e\u0301", ""),
    'text COLLATE "C"': ("a", "A", "a ", "é", "e\u0301"),
    "text COLLATE german": ("a", "A", "ä", "ae", "ß", "ss", "é", "e\u0301"),
    "varchar": ("a", "A", "a ", "a  "),
    "varchar(3)": ("a", "a ", "a  ", "a    "),
    "name": ("a", "A", "a "),
    "uuid": (
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "{a0eebc999c0b4ef8bb6d6bb9bd380a11}",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12",
    ),
    "date": ("2030-01-02", "2030-1-2", "20300102", "0001-01-01 BC", "infinity", "2030-02-01"),
    "color": ("red", "green"),
    "number": ("7", "007"),
    "positive": ("7", "007", "8"),
    "code": ("a", "A", "a "),
    "shade": ("red", "green"),
}
"""Types that can say whose a row is, with texts that might be equal values."""
UNFIT = {
    "citext": ("public.citext", "Acme", "acme"),
    "text COLLATE blind": ("text in the nondeterministic collation blind", "Zoé", "ZOÉ"),
    "varchar(9) COLLATE blind": ("character varying(9) in the nondeterministic collation blind", "a", "A"),
    "name COLLATE blind": ("name in the nondeterministic collation blind", "a", "A"),
    "char(8)": ("character(8)", "", ""),
    "bpchar": ("bpchar", "a", "a "),
    "numeric": ("numeric", "7", "7.00"),
    "real": ("real", "0", "-0"),
    "double precision": ("double precision", "0", "-0"),
    "amount": ("public.amount, a domain over numeric", "7", "7.00"),
    "price": ("public.price, a domain over numeric", "7", "7.00"),
    "blind_code": ("public.blind_code, a domain over text in the nondeterministic collation blind", "a", "A"),
    "numeric[]": ("numeric[]", "{7}", "{7.00}"),
    "int[]": ("integer[]", "", ""),
    "numbers": ("public.numbers, a domain over integer[]", "", ""),
    "pair": ("public.pair", "", ""),
    "jsonb": ("jsonb", "1", "1.00"),
    "numrange": ("numrange", "[1,2)", "[1.0,2)"),
    "interval": ("interval", "1 day", "24:00:00"),
    "timetz": ("time with time zone", "", ""),
    "timestamptz": ("timestamp with time zone", "", ""),
    "bytea": ("bytea", "", ""),
    "inet": ("inet", "", ""),
    "boolean": ("boolean", "", ""),
    "money": ("money", "", ""),
    '"char"': ('"char"', "", ""),
}
"""Types that are refused, as people are told them, with two texts of one value where there are such."""


@pytest.fixture
def database(pg15: Server, make_database: Callable[..., Database]) -> Database:
    made = make_database(pg15)
    made.sql(*TYPES)
    return made


def mapped(database: Database, tenancy: Tenancy = BY_COLUMN) -> TenancyMap:
    with connect(Source(database.conninfo)) as connection:
        return map_tables(tenancy, read_inventory(connection, tenant_columns(tenancy)))


def with_schema(type_: str) -> str:
    """Return the type's name as a query has to write it that finds nothing by the search path."""
    return f"public.{type_}" if type_ in MADE else type_


def reasons(database: Database, tenancy: Tenancy = BY_COLUMN) -> dict[str, str]:
    return {one.table.table: one.reason for one in mapped(database, tenancy).unmapped}


@pytest.mark.parametrize("type_", FIT)
def test_listed_types_are_equal_exactly_when_their_texts_are(database: Database, type_: str) -> None:
    """Under the settings of our own sessions, for every two of many spellings; and such a column is mapped."""
    database.sql(f"CREATE TABLE note (tenant {type_}, n int)")
    # PostgreSQL has no operator for a domain over an enumeration.
    cast = "::public.color" if type_ == "shade" else ""
    with connect(Source(database.conninfo)) as connection:
        connection.execute("BEGIN")
        for number, spelled in enumerate(FIT[type_]):
            connection.execute("INSERT INTO public.note VALUES (%s, %s)", (spelled, number))
        pairs = connection.execute(
            f'SELECT a.tenant{cast} = b.tenant{cast}, a.tenant::text COLLATE "C" = b.tenant::text COLLATE "C" '
            "FROM public.note a CROSS JOIN public.note b"
        ).fetchall()
    assert len(pairs) == len(FIT[type_]) ** 2
    assert [equal for equal, _ in pairs] == [same for _, same in pairs]
    assert reasons(database) == {}


def test_a_cast_of_the_application_does_not_say_whose_rows_they_are(database: Database) -> None:
    """An enumeration's own cast to text may call two labels alike; a backup routes by what COPY writes."""
    database.sql(
        "CREATE FUNCTION spoken(color) RETURNS text IMMUTABLE LANGUAGE sql AS $$SELECT 'some'$$",
        "CREATE CAST (color AS text) WITH FUNCTION spoken(color)",
        "CREATE TABLE note (tenant color, n int)",
        "INSERT INTO note VALUES ('red', 1), ('green', 2)",
    )
    tables = mapped(database).tables
    belonging = Belonging(tables[0].route, "red")
    with connect(Source(database.conninfo)) as connection:
        (table,) = read_inventory(connection, tenant_columns(BY_COLUMN)).tables
        query = select_rows(table, tables[0].route)
        with connection.cursor().copy(query.sql.encode()) as copy:
            assert b"".join(copy) == b"red\tred\t1\ngreen\tgreen\t2\n"
        asked = f"SELECT t.n FROM public.note AS t WHERE {belonging.ours()}"
        assert connection.execute(asked.encode()).fetchall() == [(1,)]


@pytest.mark.parametrize("type_", UNFIT)
def test_other_types_are_refused_by_name(database: Database, type_: str) -> None:
    """The reason names table, column and type; where two spellings are shown, the database finds them equal."""
    told, one, other = UNFIT[type_]
    database.sql(f"CREATE TABLE note (tenant {type_}, n int)")
    if one != other:
        database.sql(f"INSERT INTO note VALUES ('{one}', 1), ('{other}', 2)")
        (found,) = database.sql(
            "SELECT a.tenant = b.tenant, format('%s', a.tenant) = format('%s', b.tenant) COLLATE \"C\" "
            "FROM note a, note b WHERE a.n = 1 AND b.n = 2"
        )
        assert found == (True, False) or type_ == "bpchar"
    assert reasons(database) == {
        "note": f"public.note.tenant says whose rows are, and is {told}: one tenant may have several spellings"
    }
    with pytest.raises(UnmappedError, match=r"public\.note\.tenant") as refused:
        require_mapped(mapped(database))
    assert "deterministic collation" in refused.value.hint


def test_the_end_of_a_path_is_held_to_the_same(database: Database) -> None:
    """Also where the end's own table is not the one that is read; the keys on the way may be of any type."""
    database.sql(
        "CREATE TABLE account (key numeric PRIMARY KEY, tenant int)",
        "CREATE TABLE note (account numeric CONSTRAINT to_account REFERENCES account)",
    )
    tenancy = Tenancy(
        TenancyKind.COLUMN, "tenant", rules=(TableRule(("public.note",), path=("to_account",)),), classes=CLASSES
    )
    assert reasons(database, tenancy) == {}
    database.sql("ALTER TABLE account ALTER tenant TYPE numeric")
    assert set(reasons(database, tenancy)) == {"account", "note"}
    assert all("public.account.tenant" in reason for reason in reasons(database, tenancy).values())


def test_what_a_tenant_column_refers_to_is_held_to_the_same(database: Database) -> None:
    """A foreign key compares as its target does: 'ZOÉ' may refer to 'Zoé', though the column itself is plain text."""
    database.sql(
        "CREATE TABLE tenant (id text COLLATE blind PRIMARY KEY)",
        'CREATE TABLE note (tenant text COLLATE "C" REFERENCES tenant)',
        "INSERT INTO tenant VALUES ('Zoé')",
        "INSERT INTO note VALUES ('ZOÉ'), ('zoé')",
    )
    tenancy = Tenancy(
        TenancyKind.COLUMN, "tenant", rules=(TableRule(("public.tenant",), shared=True),), classes=CLASSES
    )
    assert "public.tenant.id says whose rows are" in reasons(database, tenancy)["note"]


def test_partitions_and_their_parents_are_held_to_the_same(database: Database) -> None:
    """A partition has its parent's column."""
    database.sql(
        "CREATE TABLE note (tenant citext, n int) PARTITION BY RANGE (n)",
        "CREATE TABLE note_1 PARTITION OF note FOR VALUES FROM (0) TO (9)",
    )
    assert set(reasons(database)) == {"note_1"}


def test_tables_without_rows_in_backups_or_owners_are_left_alone(database: Database) -> None:
    """Of a class that is never backed up, and shared tables: nobody's spelling matters there."""
    database.sql("CREATE TABLE login (tenant citext)", "CREATE TABLE plan (tenant numeric)")
    rules = (TableRule(("public.login",), data_class="session"), TableRule(("public.plan",), shared=True))
    assert reasons(database, Tenancy(TenancyKind.COLUMN, "tenant", rules=rules, classes=CLASSES)) == {}


def test_a_backup_is_refused_and_says_why(region: Region, database: Database) -> None:
    """Nothing is published; `config check --connect` and `tenancy` say the same beforehand."""
    region.tenancy = BY_COLUMN
    database.sql("CREATE TABLE note (tenant citext)", "INSERT INTO note VALUES ('Acme'), ('ACME')")
    source = Source(database.conninfo)
    with pytest.raises(
        UnmappedError, match=r"public\.note\.tenant says whose rows are, and is public\.citext"
    ) as refused:
        region.backup(database)
    assert refused.value.exit_code == 5
    assert region.repository.snapshots() == []
    (finding,) = (one for one in check_source(source, BY_COLUMN) if one.severity == "error")
    assert (finding.message, finding.hint) == (refused.value.message, refused.value.hint)
    (line,) = report_tenancy("app", source, BY_COLUMN).lines
    assert (line.mapped, line.route, line.hint) == (False, finding.message, finding.hint)


@pytest.mark.parametrize(
    "type_", [name for name in UNFIT if "COLLATE" not in name and name not in ("blind_code", "bpchar")]
)
def test_the_lifecycle_query_names_tenants_by_the_same_types(database: Database, type_: str) -> None:
    """A query whose tenant is of another type is refused, and so its spelling never reaches the ledger."""
    query = (
        f"SELECT NULL::{with_schema(type_)} AS tenant, NULL::date AS unsubscribed_at, NULL::date AS erase_requested_at"
    )
    with pytest.raises(ConfigError, match='column "tenant" of the lifecycle query is'):
        read_tenant_dates(Source(database.conninfo), query)


@pytest.mark.parametrize("type_", FIT)
def test_the_lifecycle_query_spells_tenants_as_rows_do(database: Database, type_: str) -> None:
    """What it names is what COPY would have written."""
    plain = FIT[type_][0]
    bare = type_.split(" COLLATE", maxsplit=1)[0]
    typed = f"'{plain}'::{with_schema(bare)}"
    query = f"SELECT {typed} AS tenant, NULL::date AS unsubscribed_at, NULL::date AS erase_requested_at"
    (found,) = read_tenant_dates(Source(database.conninfo), query)
    assert database.sql(f"SELECT '{plain}'::{bare}::text") == [(found.tenant,)]


OWNERS = (
    "CREATE TABLE customer (id varchar(20), gone date)",
    "INSERT INTO customer VALUES ('ada', '2026-01-02')",
    "CREATE FUNCTION lower(varchar) RETURNS text LANGUAGE sql AS $$ SELECT 'somebody else' $$",
)
"""A table, and a function that fits its column better than PostgreSQL's own."""
DATES = "SELECT lower(id) AS tenant, gone AS unsubscribed_at, NULL::date AS erase_requested_at FROM "


def test_the_lifecycle_query_runs_no_code_that_it_does_not_name(database: Database) -> None:
    """Who may create in a schema of the search path has functions called by others: the backups' role reads all."""
    database.sql(*OWNERS)
    assert database.sql("SELECT lower(id) FROM customer") == [("somebody else",)]
    (found,) = read_tenant_dates(Source(database.conninfo), DATES + "public.customer")
    assert found.tenant == "ada"


def test_a_name_without_its_schema_is_refused(database: Database) -> None:
    """What the query does not name completely is not looked for anywhere; the message says how to write it."""
    database.sql(*OWNERS, "CREATE VIEW leaving AS SELECT lower(id) AS id, gone FROM customer")
    for sql in (DATES + "customer", DATES.replace("lower", "upright") + "public.customer"):
        with pytest.raises(ConfigError, match="names something that is not there") as refused:
            read_tenant_dates(Source(database.conninfo), sql)
        assert "with their schema" in (refused.value.hint or "")
    with pytest.raises(ConfigError, match="reads a view"):
        read_tenant_dates(Source(database.conninfo), DATES + "public.leaving")
