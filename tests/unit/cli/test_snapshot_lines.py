"""Snapshots as lines for people: what a tenant is named changes nothing of what a line says."""

from backupd.cli.output import TextTable
from backupd.cli.snapshot_lines import holdings_tables
from backupd.model.ids import Pseudonym
from backupd.operations.snapshots.holdings import OpenedHoldings, TenantHolding

NAMES = ("(shared)", '"(shared)"', '"', "", "acme")


def test_no_tenants_name_passes_for_that_of_shared_rows() -> None:
    """Nor for another tenant's: each line begins otherwise."""
    tenants = tuple(
        TenantHolding(segment=Pseudonym("0" * 32), tenant=name, data_class="live", rows=1, bytes=1, stored=1)
        for name in (None, *NAMES)
    )
    holdings = OpenedHoldings(tables=(), tenants=tenants, purged=0, aged=0)
    (told,) = [one for one in holdings_tables(holdings) if isinstance(one, TextTable) and "tenant" in one.headings]
    assert [row[0] for row in told.rows] == ["(shared)", '"(shared)"', '""(shared)""', '"""', '""', "acme"]
