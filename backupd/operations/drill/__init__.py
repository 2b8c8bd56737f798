"""A restore into a server of one's own, checked against what signed records say, and disposed of: see `run.drill`."""

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
