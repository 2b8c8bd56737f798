"""Jobs as data: work for a region, its command line, its limits and its answer; and events about jobs for listeners.

Events are frozen values without a row, a secret or a tenant's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple, Protocol, TypeAlias

from backupd.model.answers import (
    BackupAnswer,
    DrillAnswer,
    ExpireAnswer,
    IngestAnswer,
    JobAnswer,
    PurgeAnswer,
    StatusAnswer,
    SyncAnswer,
    VerifyAnswer,
)
from backupd.model.ids import RegionName
from backupd.model.text import stamp
from backupd.model.timetables import Timetable
from backupd.planning.schedule import Due


class JobKind(StrEnum):
    """A kind of work; jobs that are due at once run in this order."""

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
"""Kinds of work that end within minutes unless something is wrong."""
LIGHT: Final = QUICK | {JobKind.INGEST}
"""Kinds of work that no bound on jobs at once counts."""

SHOWN_BY_STORES: Final = frozenset({JobKind.BACKUP, JobKind.PURGE, JobKind.EXPIRE, JobKind.DRILL})
"""Kinds of work of which the stores show when it was last done, on any machine."""


class JobKey(NamedTuple):
    """The name of a job: its kind of work and its region."""

    kind: JobKind
    region: RegionName

    def __str__(self) -> str:
        return f"{self.kind} {self.region}"


@dataclass(frozen=True, slots=True)
class JobLimits:
    """The times that a run is allowed."""

    deadline: timedelta
    """The longest time from its start to its end."""
    stall: timedelta
    """The longest time without a sign of progress."""
    grace: timedelta
    """The time from being asked to end to being killed."""


@dataclass(frozen=True, slots=True)
class Job:
    """One kind of work for one region."""

    key: JobKey
    timetable: Timetable
    arguments: tuple[str, ...]
    """The arguments of backupd's command line, to which `--json` is added."""
    limits: JobLimits

    @property
    def heavy(self) -> bool:
        return self.key.kind not in LIGHT

    def arguments_of_run(self, due: Due) -> tuple[str, ...]:
        """Return the arguments of one run: a drill is given what it was due for, which its signed report says."""
        if self.key.kind is not JobKind.DRILL:
            return self.arguments
        return (*self.arguments, "--due", stamp(due.slot), *(("--caught-up",) if due.missed else ()))


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most heavy jobs that run at once, on this machine and for one region."""

    machine: int
    region: int


class JobOutcome(StrEnum):
    """The ways in which a run can end."""

    DONE = "done"
    """Exit status 0: all of it was done, and verified."""
    FOUND = "found"
    """It was done, and says that something is wrong: damage, a drill that failed, a tenant past its date."""
    FAILED = "failed"
    """It could not be done; trying again can help, or waiting."""
    REFUSED = "refused"
    """It could not be done, and trying again cannot help: keys, credentials, the configuration, the tenancy."""
    BUSY = "busy"
    """Another process is doing the same work."""
    STOPPED = "stopped"
    """The daemon ended it to stop itself; the next run continues the work."""
    LATE = "late"
    """The daemon ended it at its deadline."""
    HUNG = "hung"
    """The daemon ended it because it made no progress."""
    CRASHED = "crashed"
    """It ended by a signal, or without an answer."""


WELL = frozenset({JobOutcome.DONE, JobOutcome.FOUND})
"""Outcomes of runs that did their work, so that the timetable is served."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One error of a run, as `--json` printed it."""

    kind: str
    """The error's family without `Error`: `StoreGone`, `StoreAuth`, …"""
    message: str
    hint: str
    retryable: bool
    where: str = ""
    """The place: `store`, or `store/database`; empty for the whole region."""


@dataclass(frozen=True, slots=True)
class JobStarted:
    """The event that a run began."""

    key: JobKey
    at: datetime
    attempt: int
    """The number of the attempt, 1 for the first one of a slot of the timetable."""
    missed: bool
    """Whether it makes up for a run whose time passed while no daemon ran."""


@dataclass(frozen=True, slots=True)
class JobDone:
    """The event that a run ended."""

    key: JobKey
    started: datetime
    ended: datetime
    seconds: float
    """The duration by a monotonic clock."""
    attempt: int
    outcome: JobOutcome
    exit_status: int | None
    """The exit status; None when a signal ended the process."""
    failures: tuple[Failure, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    """Its warnings, each with message and hint."""
    answer: JobAnswer | None = field(default=None, repr=False)
    """The object that its command printed; None where it printed none, or another one."""
    retry_at: datetime | None = None
    """When it is tried again; None for its next time on the timetable."""
    next_at: datetime | None = None
    """The next time of the job, on its timetable or for a retry."""


@dataclass(frozen=True, slots=True)
class DaemonReady:
    """The event that the daemon is able to work."""

    at: datetime
    jobs: tuple[JobKey, ...]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The event that the configuration was read again: it holds from now on, or it is wrong and the old one stays."""

    at: datetime
    faults: Sequence[str] = ()
    """The faults of the new configuration, one line each; empty when it holds from now on."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The event that the daemon begins to stop."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The event that the daemon has stopped, and nothing it started runs any more."""

    at: datetime
    seconds: float


Event: TypeAlias = DaemonReady | Reloaded | JobStarted | JobDone | Stopping | Stopped


class JobListener(Protocol):
    """A receiver of every event, in order and from one thread. It must be quick, and not raise."""

    def on_event(self, event: Event) -> None: ...


ANSWERS: Final[Mapping[JobKind, type[JobAnswer]]] = {
    JobKind.OBSERVE: StatusAnswer,
    JobKind.BACKUP: BackupAnswer,
    JobKind.INGEST: IngestAnswer,
    JobKind.SYNC: SyncAnswer,
    JobKind.PURGE: PurgeAnswer,
    JobKind.EXPIRE: ExpireAnswer,
    JobKind.VERIFY: VerifyAnswer,
    JobKind.DRILL: DrillAnswer,
}
"""The type of the answer that the command of each kind of job prints."""
