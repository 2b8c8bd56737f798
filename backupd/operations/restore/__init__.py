"""Restore one snapshot into a new database: `run` tells the story; values in, a report out."""

from backupd.operations.restore.run import restore
from backupd.operations.restore.types import RestoreEnvironment, RestoreReport, RestoreRequest

__all__ = [
    "RestoreEnvironment",
    "RestoreReport",
    "RestoreRequest",
    "restore",
]
