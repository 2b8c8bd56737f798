"""The databases behind one configured label."""

from __future__ import annotations

from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.planning.source.members import choose_members
from backupd.postgres.connect import Source
from backupd.postgres.databases import list_databases


def find_members(source: Source, tenancy: Tenancy) -> list[str | None]:
    """Their real names, which may name tenants: never print them. `[None]` is the one the source leads to.

    Raises SourceError, SourceGoneError, UnmappedError.
    """
    if tenancy.kind is not TenancyKind.DATABASE:
        return [None]
    own, names = list_databases(source)
    return list(choose_members(tenancy, own, names))
