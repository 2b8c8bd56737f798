"""When what failed is tried again, by what stood in the way. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final

from backupd.planning.schedule.due import fraction

_LONGEST_S: Final = timedelta(hours=1)
_PART: Final = 0.2
"""Of a delay that the seed adds, so that those who failed together do not come back together."""


class Cause(Enum):
    """What stood in the way; each with a factor on the first delay, and after how many tries it waits for its time."""

    PASSING = (1, 1000)
    """A connection that broke, a lock, a limit, somebody else who is at it."""
    SLOW = (10, 1000)
    """Something that somebody has to mend: no room, a disk that is not there."""
    BROKEN = (5, 3)
    """The program crashed, or had to be ended: perhaps it does so each time."""
    FINAL = (0, 0)
    """Keys, credentials, the configuration, damage: trying again is of no use, and may lock an account."""


@dataclass(frozen=True, slots=True)
class RetryDelays:
    """How long the first delay is, and who waits."""

    first: timedelta
    seed: str


def retry_delay(cause: Cause, attempt: int, patience: RetryDelays) -> timedelta | None:
    """How long to wait after the `attempt`-th try of the same work, from 1 on; None: until its next time.

    Doubled each time up to an hour, and a little more, which the seed decides.
    """
    factor, tries = cause.value
    if attempt > tries or attempt < 1:
        return None
    most = max(_LONGEST_S, patience.first)
    delay = min(most, patience.first * factor * (1 << min(attempt - 1, 12)))
    return delay * (1 + _PART * fraction(f"{patience.seed}/{attempt}"))
