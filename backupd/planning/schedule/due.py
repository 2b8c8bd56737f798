"""When a job runs next: on its timetable, and once for all that was missed. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backupd.planning.schedule.slots import next_slot

if TYPE_CHECKING:
    from backupd.model.timetables import Timetable


@dataclass(frozen=True, slots=True)
class Awake:
    """Since when somebody looks at the timetable, and how those who wake together are spread."""

    since: datetime
    seed: str
    """Of the machine and the region: their jobs wait together, other machines' and regions' wait differently."""
    spread: timedelta
    """What was missed runs within so much after waking."""


@dataclass(frozen=True, slots=True)
class Due:
    """The next run of a job."""

    at: datetime
    slot: datetime
    """What it is for: a run that began at or after this instant serves it."""
    missed: bool
    """Its time had passed before anybody was awake."""


def next_due(timetable: Timetable, last: datetime | None, now: datetime, awake: Awake) -> Due | None:
    """The next run after the last one that served its purpose; None when nothing is ever due.

    What was missed is caught up with once, however much it was. A last run in the future, of a clock that was wrong,
    counts as one of now.
    """
    if last is None:
        if next_slot(timetable, now) is None:
            return None
        return Due(awake.since + spread(awake), awake.since, missed=True)
    slot = next_slot(timetable, min(last, now))
    if slot is None:
        return None
    if slot < awake.since:
        return Due(awake.since + spread(awake), slot, missed=True)
    return Due(slot, slot, missed=False)


def spread(awake: Awake) -> timedelta:
    """A part of `awake.spread` that only the seed decides."""
    return awake.spread * fraction(awake.seed)


def fraction(seed: str) -> float:
    """At least 0, less than 1, and always the same for a seed."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6], "big") / (1 << 48)
