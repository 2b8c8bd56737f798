"""More segments than a worker's memory holds: each has one section a run all the same, and few packs hold them all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest
from doubles.servers.postgres import Server
from doubles.stores.snapshots import look
from fix_postgres import Database
from fix_regions import Region

from backupd.model.tenancy import ClassPolicy, Tenancy, TenancyKind
from backupd.operations.backup import BackupReport, read
from backupd.repository.state.index_file import IndexFile

TENANTS = 150
TENANCY = Tenancy(kind=TenancyKind.COLUMN, column="tenant", classes={"uploaded": ClassPolicy.STANDARD})


@pytest.fixture
def crowd(pg17: Server, make_database: Callable[..., Database]) -> Database:
    """Many tenants whose rows come by turns, in two tables."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int, tenant int NOT NULL, said text)",
        f"INSERT INTO note SELECT g, g % {TENANTS}, repeat(md5(g::text), 5) FROM generate_series(1, 6000) g",
        "CREATE TABLE mark (tenant int NOT NULL, mark text)",
        f"INSERT INTO mark SELECT g % {TENANTS}, md5(g::text) FROM generate_series(1, 6000) g",
        "ANALYZE",
    )
    return database


def database_rows(database: Database) -> list[str]:
    return ["\t".join(map(str, row)) for row in database.sql("SELECT id, tenant, said FROM note")]


def rows_of(region: Region, report: BackupReport) -> list[str]:
    found = look(region.repository, report.snapshot, region.identity.secret).rows("public.note")
    assert set(found) == {str(number) for number in range(TENANTS)}
    for tenant, rows in found.items():
        assert {row.split("\t")[1] for row in rows} == {tenant}
    return sorted(row for rows in found.values() for row in rows)


def sections(region: Region, report: BackupReport) -> int:
    return len(region.repository.sections(region.repository.record(report.snapshot)).sections)


def test_small_segments_have_one_section_a_run(
    region: Region, crowd: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a tenth of the memory their rows would take; every row is there, and the spool is empty afterwards."""
    monkeypatch.setattr(read, "PENDING_LIMIT", 200_000)
    region.node = replace(region.node, workers=1)
    transaction, committed = IndexFile.transaction, []

    def counting(self: IndexFile) -> AbstractContextManager[None]:
        committed.append(self)
        return transaction(self)

    monkeypatch.setattr(IndexFile, "transaction", counting)
    first = region.backup(crowd, tenancy=TENANCY)
    assert first.segments >= TENANTS
    assert 0 < len(committed) < 10, "the index took each section by itself"
    assert sections(region, first) == first.segments
    assert first.objects <= 3
    assert rows_of(region, first) == sorted(database_rows(crowd))
    crowd.sql(f"INSERT INTO note SELECT g, g % {TENANTS}, 'new' FROM generate_series(1, {TENANTS}) g")
    second = region.backup(crowd, tenancy=TENANCY)
    assert sections(region, second) <= first.segments + second.segments
    assert second.objects <= 3
    assert rows_of(region, second) == sorted(database_rows(crowd))
    assert list(region.node.spool.iterdir()) == []
