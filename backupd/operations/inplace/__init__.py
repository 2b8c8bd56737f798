"""Restore one tenant in place, into the running database: `run` tells the story; values in, a report out."""

from backupd.operations.inplace.run import restore_in_place
from backupd.operations.inplace.types import InPlaceReport, InPlaceRequest

__all__ = [
    "InPlaceReport",
    "InPlaceRequest",
    "restore_in_place",
]
