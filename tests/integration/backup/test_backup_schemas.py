"""Schemas of the kinds that real applications have: the tenants' table is named, a few lines are decided, and every row
goes where it belongs. Each row of `tests/schemas` says itself whose it is, in its column `mark`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from doubles.samples.example_config import EXAMPLE
from doubles.servers.postgres import Server
from doubles.stores.snapshots import look
from fix_postgres import Database
from fix_regions import Region

from backupd.cli.tenancy_lines import tenancy_lines
from backupd.config.load import parse
from backupd.model.ids import RegionName
from backupd.model.tenancy import Tenancy
from backupd.operations.tenancy.block import toml_block
from backupd.operations.tenancy.report import report_tenancy
from backupd.operations.tenancy.types import TenancyReport
from backupd.postgres.connect import Source
from backupd.wiring.context import Context, tenancy_of

SCHEMAS = Path(__file__).parents[2] / "schemas"
BE = RegionName("be")


@dataclass(frozen=True)
class Application:
    """One schema; `tenancy` is what is written first, `decided` what a person adds to the block that is proposed."""

    tenancy: str
    lines: int
    """Lines of configuration in the end."""
    decided: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    """Rules for what followed an undecided table, once that is shared."""


APPLICATIONS = {
    "tickets": Application(
        'kind = "column", table = "public.organizer", null_tenant = "shared"',
        8,
        (
            '{ match = ["public.gift_acceptance"], column = "issuer_id" },',
            '{ match = ["public.invoice_address"], path = ["order_id"] },',
        ),
    ),
    "erp": Application(
        'kind = "column", table = "public.company_company", null_tenant = "shared"',
        7,
        ('{ match = ["public.res_user"], shared = true },',),
        ('{ match = ["public.ir_note_read"], shared = true },',),
    ),
    "suite": Application(
        'kind = "column", table = "public.res_company", column = "company_id", null_tenant = "shared"',
        6,
        ('{ match = ["public.res_users"], shared = true },',),
    ),
    "projects": Application(
        'kind = "column", table = "public.tenants_workspace"',
        7,
        ('{ match = ["public.core_share"], column = "source_workspace_id" },',),
    ),
    "shop": Application(
        'kind = "column", table = "public.accounts"',
        7,
        (
            '{ match = ["public.shipments"], path = ["order_id"] },',
            '{ match = ["public.transfers"], column = "from_account_id" },',
            '{ match = ["public.line_items"], path = ["order_id"] },',
        ),
    ),
    "events": Application(
        'kind = "column", table = "public.tenant"', 5, ('{ match = ["public.building"], column = "tenant_id" },',)
    ),
}


def configured(*lines: str) -> Tenancy:
    """What the configuration says with these lines in the section of a database."""
    section = '[regions.be.databases.fresh]\ndsn = "host=db dbname=fresh"'
    return tenancy_of(Context(parse("\n".join([EXAMPLE, section, *lines]), "example"), {}), BE, "fresh")


def reported(database: Database, tenancy: Tenancy) -> TenancyReport:
    return report_tenancy("fresh", Source(database.conninfo), tenancy)


def effective(lines: list[str]) -> list[str]:
    return [line for text in lines for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_few_lines_map_a_schema_and_none_of_its_rows_wrongly(
    region: Region, pg15: Server, make_database: Callable[..., Database], name: str
) -> None:
    """The proposed block, pasted, and the decisions of a person: then the report is complete, and so is the backup."""
    application, database = APPLICATIONS[name], make_database(pg15)
    database.script(SCHEMAS / f"{name}.sql")
    first = f"tenancy = {{ {application.tenancy} }}"
    block = toml_block("be", reported(database, configured(first)))
    lines = effective([first, *block[:-1], *application.decided, *application.later, block[-1]])
    tenancy = configured(*lines)
    report = reported(database, tenancy)
    assert [line for line in report.lines if not line.mapped] == []
    assert len(lines) == application.lines

    region.tenancy = tenancy
    done = region.backup(database)
    found = look(region.repository, done.snapshot, region.identity.secret)
    tables = database.sql(
        "SELECT c.relname, (SELECT n FROM (SELECT (xpath('/row/n/text()', query_to_xml(format("
        "'SELECT count(*) AS n FROM ONLY %s', c.oid::regclass), false, true, '')))[1]::text::int AS n) x)"
        " FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace"
    )
    for table, rows in tables:
        by_tenant = found.rows(f"public.{table}")
        for tenant, listed in by_tenant.items():
            mark = "shared" if tenant is None else f"t{tenant[-1]}"
            assert [row for row in listed if mark not in row.split("\t")] == [], table
        assert sum(map(len, by_tenant.values())) == rows, table


def test_what_is_proposed_stops_where_rows_disagree(pg15: Server, make_database: Callable[..., Database]) -> None:
    """A table that was mapped by its nearest key is in doubt when another key of it leads elsewhere, and is named."""
    database = make_database(pg15)
    database.sql(
        "CREATE TABLE tenant (id int PRIMARY KEY)",
        "CREATE TABLE product (id int PRIMARY KEY, tenant int NOT NULL REFERENCES tenant)",
        "CREATE TABLE basket (id int PRIMARY KEY, tenant int NOT NULL REFERENCES tenant)",
        "CREATE TABLE orders (id int PRIMARY KEY, basket int NOT NULL REFERENCES basket)",
        "CREATE TABLE line (orders int NOT NULL REFERENCES orders, product int NOT NULL REFERENCES product)",
        "INSERT INTO tenant VALUES (1), (2)",
        "INSERT INTO product VALUES (1, 1)",
        "INSERT INTO basket VALUES (1, 1), (2, 2)",
        "INSERT INTO orders VALUES (1, 1), (2, 2)",
        "INSERT INTO line VALUES (1, 1), (2, 1)",
    )
    report = reported(database, configured('tenancy = { kind = "column", table = "public.tenant" }'))
    (line,) = (one for one in report.lines if not one.settled)
    assert (line.table, line.route, line.apart, line.counted) == ("public.line", "path product > tenant", 1, 2)
    assert [way.rule for way in line.ways] == ['path = ["orders"]']
    assert not report.complete
    ruled = configured(
        'tenancy = { kind = "column", table = "public.tenant" }',
        'tables = [{ match = ["public.line"], path = ["orders"] }]',
    )
    assert reported(database, ruled).complete


def test_rows_that_only_another_way_leads_to_a_tenant_are_in_doubt(
    pg15: Server, make_database: Callable[..., Database]
) -> None:
    """Shared, as their nearest key says nothing of them, they would outlive the tenant's purge."""
    database = make_database(pg15)
    database.sql(
        "CREATE TABLE tenant (id int PRIMARY KEY)",
        "CREATE TABLE part (id int PRIMARY KEY, tenant int REFERENCES tenant)",
        "CREATE TABLE plan (id int PRIMARY KEY, tenant int NOT NULL REFERENCES tenant)",
        "CREATE TABLE stage (id int PRIMARY KEY, plan int NOT NULL REFERENCES plan)",
        "CREATE TABLE line (part int NOT NULL REFERENCES part, stage int NOT NULL REFERENCES stage)",
        "INSERT INTO tenant VALUES (1)",
        "INSERT INTO part VALUES (1, 1), (2, NULL)",
        "INSERT INTO plan VALUES (1, 1)",
        "INSERT INTO stage VALUES (1, 1)",
        "INSERT INTO line VALUES (1, 1), (2, 1), (2, 1)",
    )
    tenancy = 'tenancy = { kind = "column", table = "public.tenant", null_tenant = "shared" }'
    rule = 'tables = [{ match = ["public.part"], column = "tenant" }'
    report = reported(database, configured(tenancy, f"{rule}]"))
    (line,) = (one for one in report.lines if not one.settled)
    assert (line.table, line.route, line.missed, line.counted) == ("public.line", "path part > tenant", 2, 3)
    assert 'in doubt: public.line: 2 of 3 rows without a tenant would be one\'s by path = ["stage"]' in list(
        tenancy_lines("be", report)
    )
    assert reported(database, configured(tenancy, f'{rule}, {{ match = ["public.line"], path = ["part"] }}]')).complete


def test_where_rules_exist_the_block_is_of_further_entries(
    pg15: Server, make_database: Callable[..., Database]
) -> None:
    """`tables` can be given once only; entries can always be added behind."""
    database = make_database(pg15)
    database.script(SCHEMAS / "tickets.sql")
    first = 'tenancy = { kind = "column", table = "public.organizer" }'
    ruled = f'{first}\n[[regions.be.databases.fresh.tables]]\nmatch = ["public.auth_*"]\nshared = true'
    block = toml_block("be", reported(database, configured(ruled)))
    entries = tomllib.loads("\n".join(block))["regions"]["be"]["databases"]["fresh"]["tables"]
    assert {"match": ["public.event_channels"], "path": ["event_id"]} in entries
    left = reported(database, configured(ruled, *block))
    assert sorted(line.table for line in left.lines if not line.mapped) == [
        "public.gift_acceptance",
        "public.invoice_address",
    ]


def test_names_of_tables_are_literal_in_the_block(pg15: Server, make_database: Callable[..., Database]) -> None:
    """Characters of patterns, quotes and line ends in a name match nothing else."""
    database = make_database(pg15)
    odd = ("a[b]*?", 'quo"te', "line\nend", "back\\slash")
    database.sql(
        "CREATE TABLE tenant (id int PRIMARY KEY)",
        *(f'CREATE TABLE "{name.replace(chr(34), chr(34) * 2)}" (n int)' for name in odd),
    )
    first = 'tenancy = { kind = "column", table = "public.tenant" }'
    block = toml_block("be", reported(database, configured(first)))
    report = reported(database, configured(first, *block))
    assert {line.table: line.route for line in report.lines} == {
        "public.tenant": "column id",
        **{f"public.{name}": "shared" for name in odd},
    }
