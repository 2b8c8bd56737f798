"""The ledger as this machine knows it, when no store answers: deadlines come nearer all the same."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from backupd.catalog.layout import entry_name
from backupd.errors import BackupdError
from backupd.model.stored.ledger import decode_entry
from backupd.operations.ledger import Book, LedgerPlace
from backupd.seal.documents import LIMITS, read_document

if TYPE_CHECKING:
    from backupd.clock import Clock
    from backupd.model.ids import RegionName
    from backupd.store.base import Store


def book_of(copy: Store, region: RegionName, trusted: Collection[str], clock: Clock) -> Book | None:
    """The region's book, from this machine's copy alone; None where there is none that can be believed."""
    first = entry_name(1)
    try:
        entry = decode_entry(read_document(copy.get(first, 0, LIMITS["ledger"]), "ledger", trusted, first), first)
        return Book(LedgerPlace(region, entry.repository, {}, copy, frozenset(trusted), clock))
    except BackupdError:
        return None
