"""All databases of a region, restored one after another; what fails does not stop the others."""

from backupd.operations.restore.region.finding import Finding, Found, find_databases
from backupd.operations.restore.region.run import Outcome, restore_region

__all__ = ["Finding", "Found", "Outcome", "find_databases", "restore_region"]
