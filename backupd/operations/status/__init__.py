"""How a region stands on each of its stores, and who is leaving: facts, read from the stores and the ledger."""

from backupd.operations.status.looking import StatusRequest, StorePlace, region_facts, unreached
from backupd.operations.status.offline import book_of

__all__ = ["StatusRequest", "StorePlace", "book_of", "region_facts", "unreached"]
