"""Where a tenant's sections are is counted by packs' maps, live and in the store's own snapshots."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import pytest
from doubles.samples.budgets import HALF_A_YEAR
from fix_handmade_keeper import DAY, HandmadeKeeper, named

from backupd.operations.keeper.locate import Copy, find_remaining_rows, locate_tenant

SNAPSHOT = f"daily_{datetime.now(UTC):%Y-%m-%d}"


def copies(handmade: HandmadeKeeper, tenant: str) -> tuple[Copy, ...]:
    (incarnation,) = locate_tenant(handmade.keeper, HALF_A_YEAR, handmade.tenant(tenant))
    return incarnation.copies


@pytest.fixture
def kept(handmade: HandmadeKeeper) -> HandmadeKeeper:
    """Two snapshots of two tenants, and a third of one; the store took a snapshot of itself then."""
    handmade.backup(3, "ada", "bob")
    handmade.backup(2, "ada", "bob")
    handmade.backup(1, "ada")
    shutil.copytree(handmade.root, handmade.root.parent / ".zfs" / "snapshot" / SNAPSHOT / handmade.root.name)
    return handmade


def test_packs_keyrings_and_snapshots_of_a_tenant_are_counted(kept: HandmadeKeeper) -> None:
    """Those that hold a section or a key of it, and no others."""
    packs = {pack for pack, segment, _ in kept.sections() if segment == kept.pseudonym("bob")}
    assert packs != set(kept.names("packs"))
    (copy,) = copies(kept, "bob")
    assert (copy.segments, copy.objects, copy.readable) == (1, len(packs), 1)
    assert copy.snapshots == tuple(sorted(kept.repository.snapshots()[:2]))
    assert (copy.server_snapshots, copy.key_snapshots) == ((SNAPSHOT,), (SNAPSHOT,))
    assert len(copy.keyrings) == 2


def test_after_a_purge_only_the_stores_snapshots_hold_it(kept: HandmadeKeeper) -> None:
    """Records still name its sections, and no pack has one; in the end nothing is listed."""
    kept.erase("bob")
    kept.purge("bob")
    (copy,) = copies(kept, "bob")
    assert (copy.objects, copy.readable, copy.keyrings) == (0, 0, ())
    assert len(copy.snapshots) == 2
    assert (copy.server_snapshots, copy.key_snapshots) == ((SNAPSHOT,), (SNAPSHOT,))
    shutil.rmtree(kept.root.parent / ".zfs")
    assert copies(kept, "bob") == ()


def test_a_forged_listing_is_no_sighting(kept: HandmadeKeeper) -> None:
    """Tags that stand beside a stranger's segment do not make that the tenant's."""
    kept.forge(named("ada"), named("eve"))
    assert copies(kept, "eve") == ()


def test_rows_in_snapshots_behind_the_applications_own_purge_are_found(kept: HandmadeKeeper) -> None:
    """By the newest snapshot of each database: who is in it, and was said to be removed before."""
    long_ago, now = datetime.now(UTC) - 5 * DAY, datetime.now(UTC)
    ada, bob = kept.tenant("ada"), kept.tenant("bob")
    assert find_remaining_rows(kept.keeper, {ada: long_ago, bob: long_ago}) == {ada}
    assert find_remaining_rows(kept.keeper, {ada: now - timedelta(hours=1), bob: now}) == set()
