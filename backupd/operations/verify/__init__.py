"""Verify a store against its signed records: see `run.verify`."""

from backupd.operations.ledger.history import note_proven
from backupd.operations.verify.run import verify
from backupd.operations.verify.types import Scope, Tools, Verification

__all__ = [
    "Scope",
    "Tools",
    "Verification",
    "note_proven",
    "verify",
]
