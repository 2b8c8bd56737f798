"""All databases of a region, restored one after another; what fails does not stop the others."""

from backupd.operations.restore.region.finding import FoundDatabase, RegionContents, find_databases
from backupd.operations.restore.region.run import DatabaseOutcome, restore_region

__all__ = ["DatabaseOutcome", "FoundDatabase", "RegionContents", "find_databases", "restore_region"]
