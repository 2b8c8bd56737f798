"""Tenants the application says it purged, and whose rows are still in the newest snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from backupd.catalog.memory.census import KeyringCache
from backupd.errors import UNSOUND
from backupd.model.instants import parse_stamp

if TYPE_CHECKING:
    from backupd.model.ids import TenantId
    from backupd.model.stored.documents import Record
    from backupd.operations.keeper.values import Keeper


def find_lingering(keeper: Keeper, purged: Mapping[TenantId, datetime]) -> set[TenantId]:
    """Of tenants and when the application says it removed their rows: those a later snapshot still has rows of.

    Looks at the newest snapshot of each database on every store. What it finds, the next purge of backups would only
    remove again: the application's purge missed something.
    """
    found: set[TenantId] = set()
    for name, repository in keeper.stores.items():
        newest: dict[tuple[str, str | None], Record] = {}
        for generation, snapshot in repository.records():
            try:
                record = repository.record(snapshot, generation)
            except UNSOUND:
                continue
            newest[record.database, record.member] = record
        with KeyringCache.opened(keeper.census(name), keeper.repository) as census:
            census.refresh(repository)
            for record in newest.values():
                found |= _in_record(keeper, census, record, purged)
    return found


def _in_record(
    keeper: Keeper, census: KeyringCache, record: Record, purged: Mapping[TenantId, datetime]
) -> set[TenantId]:
    exported = parse_stamp(record.exported)
    named = {segment for segment, _, _ in record.parts}
    return {
        tenant
        for tenant, at in purged.items()
        if at < exported
        and any(
            one.pseudonym in named
            for life in (keeper.book.lives.of(tenant) or [keeper.book.lives.current(tenant)])
            for one in census.of_tenant(
                record.generation, keeper.tags.tenant_tag(record.generation, tenant, life.key.incarnation)
            )
        )
    }
