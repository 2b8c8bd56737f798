"""The text by which `tenant where` says where something of a tenant is, and what was not looked at."""

from __future__ import annotations

from datetime import UTC, datetime

from backupd.cli.tenant_lines import location_lines, rest_lines
from backupd.model.ids import TenantId
from backupd.operations.keeper.locate import TenantLocation
from backupd.operations.tenants.standing import TenantStanding
from backupd.planning.incarnations import State

DAY = datetime(2026, 11, 29, tzinfo=UTC)


def standing(state: State) -> TenantStanding:
    return TenantStanding(TenantId("a" * 32), 1, "", state, None, None, None, None, (), None)


def test_what_was_not_looked_at_is_said_of_a_tenant_that_is_gone_too() -> None:
    """The live database still has the rows, for all that the stores say."""
    rule = "purged on 2026-11-29, seen to be gone from every store"
    gone = TenantLocation(standing(State.ATTESTED), (), DAY, DAY, rule)
    lines = list(location_lines(gone))
    assert "  gone by 2026-11-29: purged on 2026-11-29, seen to be gone from every store" in lines
    assert lines[-1].startswith("  not looked for here: the live database, ")


def test_what_comes_after_an_erasure_is_said() -> None:
    """The stores are cleared: what is left is to have it attested, and the application's own rows."""
    lines = list(rest_lines("be", standing(State.CLEARED)))
    assert any("`backupd tenant attest be TENANT`" in line for line in lines)
    assert any("the application's database was not touched" in line for line in lines)
    assert list(rest_lines("be", standing(State.PURGING))) == []
