"""Bring one store up to date from another, without a key: see `run.replicate`."""

from backupd.operations.replication.objects import Copying, Replication
from backupd.operations.replication.run import replicate

__all__ = [
    "Copying",
    "Replication",
    "replicate",
]
