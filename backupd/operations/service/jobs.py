"""Jobs as data: what is run for which region, by which command line, within which limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from backupd.model.ids import RegionName
    from backupd.model.timetables import Timetable


class JobKind(StrEnum):
    """What a job does; where several are due at once, in this order."""

    OBSERVE = "observe"
    BACKUP = "backup"
    INGEST = "ingest"
    SYNC = "sync"
    PURGE = "purge"
    EXPIRE = "expire"
    VERIFY = "verify"
    DRILL = "drill"


PRECEDENCE: Final = {kind: number for number, kind in enumerate(JobKind)}
QUICK: Final = frozenset({JobKind.OBSERVE, JobKind.SYNC})
"""Over in minutes, or something is wrong."""
LIGHT: Final = QUICK | {JobKind.INGEST}
"""They wait for nobody, and nobody waits for them."""

TOLD_BY_STORES: Final = frozenset({JobKind.BACKUP, JobKind.PURGE, JobKind.EXPIRE, JobKind.DRILL})
"""A look at the stores shows when it was done last, whichever machine did it."""


class JobKey(NamedTuple):
    """Which job."""

    kind: JobKind
    region: RegionName

    def __str__(self) -> str:
        return f"{self.kind} {self.region}"


@dataclass(frozen=True, slots=True)
class JobLimits:
    """What a run may take."""

    deadline: timedelta
    """From its start to its end."""
    stall: timedelta
    """Without a sign that it moves on."""
    grace: timedelta
    """From being asked to end to being killed."""


@dataclass(frozen=True, slots=True)
class Job:
    """One kind of work for one region."""

    key: JobKey
    timetable: Timetable
    arguments: tuple[str, ...]
    """Of backupd's command line; with `--json`."""
    limits: JobLimits

    @property
    def heavy(self) -> bool:
        return self.key.kind not in LIGHT


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many heavy jobs run at once."""

    machine: int
    region: int
