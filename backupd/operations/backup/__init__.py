"""Back up one database: start reading at `run.backup`; values go in, a report comes out."""

from backupd.model.answers import BackupReport
from backupd.operations.backup.run import backup
from backupd.operations.backup.types import BackupJob, Node

__all__ = [
    "BackupJob",
    "BackupReport",
    "Node",
    "backup",
]
