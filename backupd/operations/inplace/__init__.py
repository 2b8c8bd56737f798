"""Restore one tenant in place, into the running database: start reading at `run.restore_in_place`; values go in, a
report comes out.
"""

from backupd.operations.inplace.run import restore_in_place
from backupd.operations.inplace.types import InPlaceReport, InPlaceRequest

__all__ = [
    "InPlaceReport",
    "InPlaceRequest",
    "restore_in_place",
]
