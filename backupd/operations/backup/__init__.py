"""Back up one database: `run` tells the story; values in, a report out."""

from backupd.model.answers import BackupReport
from backupd.operations.backup.run import backup
from backupd.operations.backup.types import BackupJob, Node

__all__ = [
    "BackupJob",
    "BackupReport",
    "Node",
    "backup",
]
