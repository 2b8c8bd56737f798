"""Restore one snapshot into a new database or folder: start reading at `run.restore`; values go in, a report comes
out.
"""

from backupd.operations.restore.run import restore
from backupd.operations.restore.types import RestoreEnvironment, RestoreReport, RestoreRequest

__all__ = [
    "RestoreEnvironment",
    "RestoreReport",
    "RestoreRequest",
    "restore",
]
