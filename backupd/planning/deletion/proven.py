"""Which snapshots the ledger calls proven, and which expired. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from backupd.model.ids import SnapshotName
from backupd.model.stored.ledger import ExpiryBegan, LedgerEntry, Verified


def proven_on(entries: Iterable[LedgerEntry], store: str) -> set[SnapshotName]:
    """Snapshots whose every byte was read from this store, and was right."""
    return {
        name
        for entry in entries
        for event in entry.events
        if isinstance(event, Verified) and event.store == store
        for name in event.snapshots
    }


def expired_on(entries: Iterable[LedgerEntry], store: str) -> set[SnapshotName]:
    """Snapshots whose records may be missing on this store."""
    return {
        name
        for entry in entries
        for event in entry.events
        if isinstance(event, ExpiryBegan) and event.store == store
        for name in event.snapshots
    }
