"""Restore into a server of the drill's own, check the result against signed records, and remove it: see `run.drill`."""

from backupd.operations.drill.run import drill
from backupd.operations.drill.types import Assertion, DrillEnvironment, DrillOutcome, DrillPlace, DrillRequest

__all__ = [
    "Assertion",
    "DrillEnvironment",
    "DrillOutcome",
    "DrillPlace",
    "DrillRequest",
    "drill",
]
