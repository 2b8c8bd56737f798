"""Back up one database: `run` tells the story; values in, a report out."""

from backupd.operations.backup.run import backup
from backupd.operations.backup.values import BackupReport, Job, Node

__all__ = ["BackupReport", "Job", "Node", "backup"]
