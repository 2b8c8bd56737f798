"""What the daemon tells of its work: frozen values for whoever listens, without a row, a secret or a tenant's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from backupd.operations.service.jobs import JobKey


class JobOutcome(StrEnum):
    """How a run ended."""

    DONE = "done"
    """Exit status 0: all of it was done, and verified."""
    FOUND = "found"
    """It was done, and says that something is wrong: damage, a drill that failed, a tenant past its date."""
    FAILED = "failed"
    """It could not be done; trying again can help, or waiting."""
    REFUSED = "refused"
    """It could not be done, and trying again cannot help: keys, credentials, the configuration, the tenancy."""
    BUSY = "busy"
    """Somebody else is at it."""
    STOPPED = "stopped"
    """The daemon ended it, to stop itself; it goes on the next time."""
    LATE = "late"
    """The daemon ended it at its deadline."""
    HUNG = "hung"
    """The daemon ended it because it no longer moved on."""
    CRASHED = "crashed"
    """It ended by a signal, or without an answer."""


WELL = frozenset({JobOutcome.DONE, JobOutcome.FOUND})
"""The work was done: the timetable is served."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One error of a run, as `--json` printed it."""

    kind: str
    """The error's family without `Error`: `StoreGone`, `StoreAuth`, …"""
    message: str
    hint: str
    retryable: bool
    where: str = ""
    """`store`, or `store/database`; empty for the whole region."""


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A run began."""

    key: JobKey
    at: datetime
    attempt: int
    """1 for the first try of a slot."""
    missed: bool
    """It catches up with one whose time nobody was there for."""


@dataclass(frozen=True, slots=True)
class JobDone:
    """A run ended."""

    key: JobKey
    started: datetime
    ended: datetime
    seconds: float
    """By a clock that nobody sets."""
    attempt: int
    outcome: JobOutcome
    exit_status: int | None
    """None: ended by a signal."""
    failures: tuple[Failure, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    """What it warned of: message and hint."""
    answer: Any = field(default=None, repr=False)
    """The object it printed; of `observe`, what `backupd status --json` prints for its region."""
    retry_at: datetime | None = None
    """When it is tried again; None: at its next time."""
    next_at: datetime | None = None
    """Its next time on the timetable."""


@dataclass(frozen=True, slots=True)
class DaemonReady:
    """The daemon is able to work."""

    at: datetime
    jobs: tuple[JobKey, ...]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The configuration was read anew, and holds from now on; or it is wrong, and the old one stays."""

    at: datetime
    faults: Sequence[str] = ()
    """What is wrong with the new one, a line each; empty: it was taken."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The daemon ends."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The daemon has ended; nothing of it runs any more."""

    at: datetime
    seconds: float


Event: TypeAlias = DaemonReady | Reloaded | JobStarted | JobDone | Stopping | Stopped


class JobListener(Protocol):
    """Hears everything, from one thread, in order. Quick; what it raises is its own fault and told as such."""

    def told(self, event: Event) -> None: ...
