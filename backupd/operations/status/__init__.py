"""Facts about a region, read from its stores and its ledger: ages of backups, who is leaving, what stores can do."""

from backupd.operations.status.region import StatusRequest, StorePlace, book_of, region_facts, unreached

__all__ = [
    "StatusRequest",
    "StorePlace",
    "book_of",
    "region_facts",
    "unreached",
]
