"""How a region stands on each of its stores, and who is leaving: facts, read from the stores and the ledger."""

from backupd.operations.status.looking import Place, Request, region_facts, unreached

__all__ = ["Place", "Request", "region_facts", "unreached"]
