"""A running database of many tenants, and restores of one of them in place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from doubles.servers.postgres import Server
from fix_postgres import Database
from fix_regions import CLASSES, Region

from backupd.clock import SystemClock
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.operations.inplace import InPlaceReport, InPlaceRequest, restore_in_place
from backupd.operations.restore import RestoreEnvironment
from backupd.repository.repository import Repository

SHOP = Tenancy(
    kind=TenancyKind.COLUMN,
    column="tenant",
    classes=CLASSES,
    rules=(
        TableRule(("public.country",), shared=True),
        TableRule(("public.visit",), data_class="session"),
        TableRule(("public.line",), path=("line_sale",)),
    ),
)
TENANTED = ("customer", "sale", "line", "tag", "note")
OURS = {
    "line": "sale IN (SELECT id FROM sale WHERE tenant = {})",
}


@dataclass
class Shop:
    """Tenants 1 to 5; tenant 2 is restored unless a test says otherwise."""

    region: Region
    database: Database
    noted: list[Any] = field(default_factory=list)

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.database.sql(*statements)

    def rows(self, tenant: int = 2, *, others: bool = False) -> dict[str, list[tuple[Any, ...]]]:
        """Of one tenant, or of all but that one."""
        found = {}
        for table in TENANTED:
            ours = OURS.get(table, "tenant = {}").format(tenant)
            where = f"NOT ({ours})" if others else ours
            found[table] = self.sql(f"SELECT t::text FROM {table} t WHERE {where} ORDER BY 1")
        return found

    def restore(self, *, apply: bool = True, user: str = "postgres", **changes: Any) -> InPlaceReport:
        request = InPlaceRequest(
            label=self.region.label,
            snapshot="latest",
            target=replace(self.region.source(self.database.server), conninfo=self.database.server.conninfo(user=user)),
            database=self.database.name,
            tenant="2",
            tenancy=self.region.tenancy,
            apply=apply,
            before="TICKET-1",
        )
        world = RestoreEnvironment(
            self.region.identity.secret, SystemClock(), self.region.events, os.urandom, note=self.noted.append
        )
        repository = Repository(self.region.store, self.region.repository.signers)
        return restore_in_place(replace(request, **changes), repository, world)

    def found(self, **changes: Any) -> dict[tuple[str, str], int]:
        """Conflicts of a restore that was to be applied and was not."""
        before = self.rows(), self.rows(others=True)
        report = self.restore(**changes)
        assert not report.applied
        assert report.blocked
        assert (self.rows(), self.rows(others=True)) == before
        return {(one.table.removeprefix("public."), one.kind.value): one.count for one in report.conflicts}


TABLES = (
    "CREATE TABLE country (code text PRIMARY KEY, said text)",
    "INSERT INTO country VALUES ('be', 'waffles'), ('ch', 'roesti')",
    """CREATE TABLE customer (
        id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant int NOT NULL, mail text UNIQUE,
        code text CONSTRAINT customer_country REFERENCES country,
        size int GENERATED ALWAYS AS (length(mail)) STORED)""",
    """INSERT INTO customer (tenant, mail, code)
        SELECT 1 + g % 5, 'Marker' || g, 'be' FROM generate_series(1, 200) g""",
    """CREATE TABLE sale (
        id serial PRIMARY KEY, tenant int NOT NULL, customer int NOT NULL CONSTRAINT sale_customer REFERENCES customer,
        price numeric, said json)""",
    """INSERT INTO sale (tenant, customer, price, said)
        SELECT 1 + g % 5, g, g * 1.50, '{"a": 1}' FROM generate_series(1, 200) g""",
    """CREATE TABLE line (
        sale int NOT NULL CONSTRAINT line_sale REFERENCES sale, place int, said text, PRIMARY KEY (sale, place))""",
    "INSERT INTO line SELECT g, p, 'line' FROM generate_series(1, 200) g, generate_series(1, 3) p",
    "CREATE TABLE tag (tenant int, word text)",
    "INSERT INTO tag SELECT 1 + g % 5, 'w' || g / 20 FROM generate_series(1, 200) g",
    "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL, above int CONSTRAINT note_above REFERENCES note)",
    "INSERT INTO note SELECT g, 1 + g % 5, CASE WHEN g > 5 THEN g - 5 END FROM generate_series(1, 50) g",
    "INSERT INTO note VALUES (100, 2, 5)",
    "CREATE TABLE visit (id int PRIMARY KEY, tenant int NOT NULL, customer int REFERENCES customer)",
)
HARM = (
    "DELETE FROM line WHERE sale IN (SELECT id FROM sale WHERE tenant = 2 AND id > 100)",
    "DELETE FROM sale WHERE tenant = 2 AND id > 100",
    "DELETE FROM customer c WHERE tenant = 2 AND id > 150 AND NOT EXISTS (SELECT FROM sale WHERE customer = c.id)",
    "UPDATE customer SET mail = 'wrong' || id, code = 'ch' WHERE tenant = 2 AND id < 50",
    "UPDATE sale SET price = 1.5 WHERE id = 1",
    "INSERT INTO customer (tenant, mail) VALUES (2, 'new one'), (3, 'new other')",
    "INSERT INTO sale (tenant, customer) SELECT 2, id FROM customer WHERE mail = 'new one'",
    "INSERT INTO line SELECT max(id), 1, 'new' FROM sale",
    "DELETE FROM tag WHERE ctid = (SELECT min(ctid) FROM tag WHERE tenant = 2)",
    "INSERT INTO tag VALUES (2, 'w3'), (2, 'w3'), (3, 'w3')",
    "UPDATE note SET above = NULL WHERE tenant = 2",
    "DELETE FROM note WHERE id = 1",
)
"""What somebody did to tenant 2 by mistake, and to others on purpose."""


def make_shop(region: Region, database: Database) -> Shop:
    """Backed up, and then harmed."""
    database.sql(*TABLES)
    region.tenancy = SHOP
    region.backup(database)
    return Shop(region, database)


@pytest.fixture
def shop(region: Region, pg17: Server, make_database: Callable[..., Database]) -> Shop:
    return make_shop(region, make_database(pg17))
