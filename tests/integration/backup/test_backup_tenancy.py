"""Every row goes to its tenant's segment and to no other, whatever tells the tenant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from doubles.servers.postgres import Server
from doubles.stores.snapshots import Look, look
from fix_postgres import Database, unique
from fix_regions import REGION, Region

from backupd.errors import SourceError, UnmappedError
from backupd.model.tenancy import ClassPolicy, TableRule, Tenancy, TenancyKind
from backupd.operations.backup import BackupJob, BackupReport, backup

CLASSES = {"uploaded": ClassPolicy.STANDARD, "account": ClassPolicy.STANDARD, "session": ClassPolicy.NEVER}
BY_COLUMN = Tenancy(
    kind=TenancyKind.COLUMN,
    column="tenant",
    role_pattern="customer_(?P<tenant>.+)",
    rules=(
        TableRule(("public.note_text",), path=("note_text_note",)),
        TableRule(("public.note_mark",), path=("note_mark_text", "note_text_note")),
        TableRule(("public.country",), shared=True),
        TableRule(("public.plan", "public.empty_plan"), shared=True, data_class="account"),
        TableRule(("public.login",), data_class="session"),
        TableRule(("public.audit",), null_tenant="shared"),
    ),
    classes=CLASSES,
)
SCHEMA = (
    "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL, said text)",
    "CREATE TABLE note_text (id int PRIMARY KEY, note int CONSTRAINT note_text_note REFERENCES note, body text)",
    "CREATE TABLE note_mark (text int CONSTRAINT note_mark_text REFERENCES note_text, mark text)",
    "CREATE TABLE country (code text)",
    "CREATE TABLE plan (name text)",
    "CREATE TABLE login (tenant text, secret text)",
    "CREATE TABLE audit (tenant text, what text)",
)


def filled(database: Database) -> Database:
    database.sql(
        *SCHEMA,
        "INSERT INTO note SELECT g, 't' || g % 3, 'said ' || g FROM generate_series(1, 30) g",
        "INSERT INTO note_text SELECT g, 1 + g % 30, 'body ' || g FROM generate_series(1, 60) g",
        "INSERT INTO note_mark SELECT 1 + g % 60, 'mark ' || g FROM generate_series(1, 90) g",
        "INSERT INTO country VALUES ('BE'), ('CH')",
        "INSERT INTO plan VALUES ('gold')",
        "INSERT INTO login VALUES ('t0', 'cookie')",
        "INSERT INTO audit VALUES ('t0', 'zero'), (NULL, 'nobody'), ('t9', 'nine')",
    )
    return database


@pytest.fixture
def pg(pg17: Server) -> Server:
    return pg17


@pytest.fixture
def notes(pg: Server, make_database: Callable[..., Database]) -> Database:
    """Three tenants' notes, texts a foreign key away, marks two away."""
    return filled(make_database(pg))


def seen(region: Region, report: BackupReport) -> Look:
    return look(region.repository, report.snapshot, region.identity.secret)


def test_rows_go_to_the_tenant_their_column_names(region: Region, notes: Database) -> None:
    """By column, by one key, by two; shared tables to nobody; in the order of the heap, without the tenant's prefix."""
    region.tenancy = BY_COLUMN
    found = seen(region, region.backup(notes))
    numbers = {f"t{k}": [g for g in range(1, 31) if g % 3 == k] for k in range(3)}
    assert found.rows("public.note") == {t: [f"{g}\t{t}\tsaid {g}" for g in ids] for t, ids in numbers.items()}
    texts = {t: [g for g in range(1, 61) if 1 + g % 30 in ids] for t, ids in numbers.items()}
    assert found.rows("public.note_text") == {
        t: [f"{g}\t{1 + g % 30}\tbody {g}" for g in ids] for t, ids in texts.items()
    }
    marks = {t: [g for g in range(1, 91) if 1 + g % 60 in ids] for t, ids in texts.items()}
    assert found.rows("public.note_mark") == {t: [f"{1 + g % 60}\tmark {g}" for g in ids] for t, ids in marks.items()}
    assert found.rows("public.country") == {None: ["BE", "CH"]}
    assert found.of(None, "account").tables == {"public.plan": b"gold\n"}


def test_a_null_tenant_goes_to_nobody_where_its_rule_says_so(region: Region, notes: Database) -> None:
    """And the tenants beside it get what is theirs."""
    region.tenancy = BY_COLUMN
    found = seen(region, region.backup(notes))
    assert found.rows("public.audit") == {"t0": ["t0\tzero"], None: ["\\N\tnobody"], "t9": ["t9\tnine"]}


def test_a_null_tenant_is_refused_elsewhere(region: Region, notes: Database) -> None:
    """The run fails without a record and without the row in its words, and succeeds once there is none."""
    region.tenancy = BY_COLUMN
    notes.sql("ALTER TABLE note ALTER tenant DROP NOT NULL", "INSERT INTO note VALUES (99, NULL, 'unowned')")
    with pytest.raises(UnmappedError) as refused:
        region.backup(notes)
    assert "unowned" not in f"{refused.value} {refused.value.hint}"
    assert refused.value.message == "a row of public.note has no tenant (its tenant column or path is NULL)"
    assert region.repository.snapshots() == []
    notes.sql("DELETE FROM note WHERE tenant IS NULL")
    region.backup(notes)


def test_a_databases_default_for_null_tenants_is_for_all_its_tables(region: Region, notes: Database) -> None:
    """But for those whose rule says otherwise; rows that a path leads to nobody go the same way."""
    notes.sql(
        "ALTER TABLE note ALTER tenant DROP NOT NULL",
        "INSERT INTO note VALUES (99, NULL, 'unowned')",
        "INSERT INTO note_text VALUES (99, 99, 'of the unowned'), (100, NULL, 'of none')",
    )
    region.tenancy = replace(BY_COLUMN, null_tenant="shared")
    found = seen(region, region.backup(notes))
    assert found.rows("public.note")[None] == ["99\t\\N\tunowned"]
    assert found.rows("public.note_text")[None] == ["99\t99\tof the unowned", "100\t\\N\tof none"]
    strict = TableRule(("public.note",), null_tenant="refuse")
    region.tenancy = replace(BY_COLUMN, null_tenant="shared", rules=(strict, *BY_COLUMN.rules))
    with pytest.raises(UnmappedError, match=r"a row of public\.note has no tenant"):
        region.backup(notes)


def test_rows_of_a_class_that_is_never_kept_are_not_read(region: Region, notes: Database) -> None:
    """Their table is in the schema, their rows are nowhere."""
    region.tenancy = BY_COLUMN
    found = seen(region, region.backup(notes))
    assert found.rows("public.login") == {}
    assert b"login" in found.of(None, "structure").files["ddl"]
    assert all(b"cookie" not in data for one in found.segments.values() for data in one.tables.values())


def test_an_unmapped_table_is_refused_and_not_named(region: Region, notes: Database) -> None:
    """A table's name may be data; `backupd tenancy` tells it."""
    region.tenancy = BY_COLUMN
    notes.sql("CREATE TABLE surprise (x int)")
    with pytest.raises(UnmappedError, match="1 table is not covered") as refused:
        region.backup(notes)
    assert "surprise" not in f"{refused.value} {refused.value.hint}"
    assert region.repository.snapshots() == []


def test_the_only_table_of_a_class_may_be_empty(region: Region, notes: Database) -> None:
    """Its segment is new in this run, has nothing but an entry, and its key is in the keyring all the same."""
    region.tenancy = BY_COLUMN
    notes.sql("DROP TABLE plan", "CREATE TABLE empty_plan (name text)")
    found = seen(region, region.backup(notes))
    assert found.of(None, "account").tables == {"public.empty_plan": b""}


def test_what_segments_hold_adds_up_to_the_tables(region: Region, notes: Database) -> None:
    """The shared structure says how many rows each divided table has, and the record counts them all."""
    region.tenancy = BY_COLUMN
    report = region.backup(notes)
    found = seen(region, report)
    for schema, table, count in found.of(None, "structure").facts["tables"]:
        assert sum(map(len, found.rows(f"{schema}.{table}").values())) == count
        assert notes.sql(f"SELECT count(*) FROM {schema}.{table}") == [(count,)]
    rows = [row for one in found.segments.values() for data in one.tables.values() for row in data.splitlines()]
    assert found.record.totals.rows == report.rows == len(rows)
    assert found.record.totals.tables == report.tables == 6


def test_tenants_named_in_every_way_keep_apart(
    region: Region, pg: Server, make_database: Callable[..., Database]
) -> None:
    """Tabs, newlines, backslashes, `\\N` as text, the empty string, spaces and four-byte characters are names, too."""
    names = ["a", "A", "a ", "", "\\N", "\\", "a\tb", "a\nb", "a\\tb", "\x01", "ü", "🂡", "\\.", "x" * 5000, "\b\f\r\v"]
    database = make_database(pg)
    database.sql("CREATE TABLE thing (id int, tenant text)")
    with pg.connect(database.name) as connection:
        for number, name in enumerate(names):
            connection.execute("INSERT INTO thing VALUES (%s, %s)", (number, name))
    region.tenancy = replace(BY_COLUMN, rules=())
    found = seen(region, region.backup(database))
    ids = {tenant: [row.split("\t")[0] for row in rows] for tenant, rows in found.rows("public.thing").items()}
    assert ids == {name: [str(number)] for number, name in enumerate(names)}


def test_schemas_go_to_their_tenants(region: Region, pg: Server, make_database: Callable[..., Database]) -> None:
    """Rows, sequences and DDL of a tenant's own schema are its own; those of others are nobody's."""
    database = make_database(pg)
    for tenant in ("alpha", "beta"):
        database.sql(
            f"CREATE SCHEMA customer_{tenant}",
            f"CREATE TABLE customer_{tenant}.item (id serial, what text)",
            f"INSERT INTO customer_{tenant}.item (what) SELECT '{tenant} ' || g FROM generate_series(1, 5) g",
            f"CREATE TABLE customer_{tenant}.bare (id int)",
        )
    database.sql("CREATE TABLE common (x int)", "INSERT INTO common VALUES (7)")
    region.tenancy = Tenancy(
        kind=TenancyKind.SCHEMA,
        schema_pattern="customer_(?P<tenant>.+)",
        rules=(TableRule(("public.*",), shared=True),),
        classes=CLASSES,
    )
    found = seen(region, region.backup(database))
    for tenant, other in (("alpha", "beta"), ("beta", "alpha")):
        assert found.rows(f"customer_{tenant}.item") == {tenant: [f"{g}\t{tenant} {g}" for g in range(1, 6)]}
        assert found.rows(f"customer_{tenant}.bare") == {tenant: []}
        structure = found.of(tenant, "structure")
        assert [(schema, value) for schema, _, value, _ in structure.sequences] == [(f"customer_{tenant}", 5)]
        assert f"customer_{tenant}".encode() in structure.files["ddl"]
        assert f"customer_{other}".encode() not in structure.files["ddl"]
    shared = found.of(None, "structure")
    # Other tests' roles may have such names, too: roles are the server's, and this mapping gives them to nobody.
    for own in ("customer_alpha", "customer_beta"):
        assert all(own.encode() not in data for data in shared.files.values())
        assert own not in repr(shared.facts) + repr(shared.sequences)


def test_databases_go_to_their_tenants(region: Region, pg: Server, make_database: Callable[..., Database]) -> None:
    """One label, several databases: a record each with its own member tag, and not a byte for nobody."""
    label = unique("shop")
    region.tenancy = Tenancy(
        kind=TenancyKind.DATABASE, database_pattern=f"{label}_(?P<tenant>.+)", default_class="uploaded", classes=CLASSES
    )
    members = []
    for tenant in ("alpha", "beta"):
        database = make_database(pg, name=f"{label}_{tenant}")
        database.sql("CREATE TABLE item (what text)", f"INSERT INTO item VALUES ('{tenant}')")
        job = BackupJob(REGION, region.label, region.source(pg, "postgres"), region.tenancy)
        found = seen(region, backup(job, region.repository, region.node, database.name))
        assert {name.tenant for name in found.segments} == {tenant}
        assert {name.database for name in found.segments} == {database.name}
        assert found.rows("public.item") == {tenant: [tenant]}
        members.append(found.record.member)
    assert None not in members
    assert len(set(members)) == 2


def test_without_tenants_everything_is_shared(region: Region, notes: Database) -> None:
    """One segment a data class, and nothing is refused."""
    region.tenancy = Tenancy(kind=TenancyKind.NONE, classes=CLASSES)
    found = seen(region, region.backup(notes))
    assert {(name.tenant, name.data_class) for name in found.segments} == {(None, "uploaded"), (None, "structure")}
    assert len(found.of(None).tables) == 7


def test_a_section_is_of_one_segment_only(region: Region, notes: Database) -> None:
    """Every section that the packs list is needed by the segment whose key opens it, over several snapshots."""
    region.tenancy = BY_COLUMN
    known: dict[str, set[tuple[str, int]]] = {}
    for step in range(3):
        notes.sql(f"UPDATE note SET said = 'again {step}' WHERE id = {step + 1}")
        for one in seen(region, region.backup(notes)).segments.values():
            known.setdefault(one.pseudonym, set()).update(one.sections)
    (generation,) = {generation for generation, _ in region.repository.records()}
    listed: dict[str, set[tuple[str, int]]] = {}
    for sha256 in region.repository.list_packs(generation):
        for section in region.repository.pack(generation, sha256).sections():
            listed.setdefault(section.row.segment, set()).add((section.pack.name, section.at))
    assert listed == known


def test_bytes_that_are_no_text_are_refused_by_name(
    region: Region, pg: Server, make_database: Callable[..., Database]
) -> None:
    """A tenant in SQL_ASCII whose bytes are not UTF-8 has no name; the run says so and does not fall over."""
    database = make_database(pg, options="ENCODING 'SQL_ASCII' LOCALE 'C'")
    database.sql("CREATE TABLE thing (tenant text)", "INSERT INTO thing VALUES (E'\\xff\\xfe')")
    region.tenancy = replace(BY_COLUMN, rules=())
    with pytest.raises((UnmappedError, SourceError)) as refused:
        region.backup(database)
    assert "\udcff" not in repr(refused.value)
    assert list((region.folder / "spool").iterdir()) == []
