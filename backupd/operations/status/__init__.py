"""How a region stands on each of its stores, and who is leaving: facts, read from the stores and the ledger."""

from backupd.operations.status.looking import Place, Request, region_facts, unreached
from backupd.operations.status.offline import book_of

__all__ = ["Place", "Request", "book_of", "region_facts", "unreached"]
