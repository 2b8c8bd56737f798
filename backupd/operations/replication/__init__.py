"""Bring one store up to date from another, without a key: see `run.replicate`."""

from backupd.operations.replication.run import replicate
from backupd.operations.replication.values import Copying, Replication

__all__ = ["Copying", "Replication", "replicate"]
