"""How a region stands on each of its stores, and who is leaving: facts, read from the stores and the ledger."""

from backupd.operations.status.region import StatusRequest, StorePlace, book_of, region_facts, unreached

__all__ = [
    "StatusRequest",
    "StorePlace",
    "book_of",
    "region_facts",
    "unreached",
]
