"""Alarms on their way to people: what the configuration asks for, messages when they are due, and the heartbeat.

People's memory is a file: a restart repeats no message. When the file is deleted, every alarm in force is sent again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from backupd.atomic_file import write_whole
from backupd.model.status import Alarm, AlarmSeverity
from backupd.operations.monitoring.messages import HeartbeatUrl, SendAttempts, compose
from backupd.operations.monitoring.state import DeliveryCounts
from backupd.planning.notices import Memory, NoticeLimits, due, follow_alarms, mark_sent

if TYPE_CHECKING:
    from backupd.operations.monitoring.notify import NotifyTarget

_BETWEEN_HEARTBEATS: Final = timedelta(minutes=1)


class MonitorLog(Protocol):
    """The part of the daemon's log that monitoring writes to; `operations.service.log.Lines` is one."""

    def write(self, level: str, **fields: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """The part of the configuration that is about monitoring."""

    machine: str
    memory: Path
    """The file that remembers which alarms people have heard of."""
    regions: dict[str, timedelta]
    """The regions that are monitored, and how old their facts may be."""
    limits: NoticeLimits
    timeout: float
    """Seconds that all targets together may take."""
    targets: tuple[NotifyTarget, ...] = ()
    heartbeats: tuple[HeartbeatUrl, ...] = ()
    listen: str | None = None
    textfile: Path | None = None
    page: Path | None = None
    faults: tuple[str, ...] = ()
    """What is wrong with the settings themselves, one line each."""


class TroubleLog:
    """Obstacles to monitoring itself, by name: a target that is away, a file that cannot be written."""

    def __init__(self, log: MonitorLog) -> None:
        self._log = log
        self._current: dict[str, str] = {}

    @property
    def lines(self) -> tuple[str, ...]:
        """Every trouble that lasts, as one line each for the status page."""
        return tuple(f"{name}: {reason}" for name, reason in self._current.items())

    def set(self, name: str, reason: str) -> None:
        """Log a trouble when its reason changes; an empty reason ends it."""
        if self._current.get(name, "") != reason:
            level = "warning" if reason else "info"
            self._log.write(level, event="telling", what=name, trouble=reason or "none any more")
        if reason:
            self._current[name] = reason
        else:
            self._current.pop(name, None)

    def attempt(self, name: str, write: Callable[[], None]) -> None:
        """Write a file; an OSError becomes the trouble of that name."""
        try:
            write()
        except OSError as error:
            self.set(name, f"cannot be written ({error.strerror})")
        else:
            self.set(name, "")


class AlarmMessenger:
    """Messages about alarms. It remembers on disk which alarms people know, and tries again what no target took."""

    def __init__(self, memory_file: Path, attempts: SendAttempts, troubles: TroubleLog) -> None:
        self._memory = load(memory_file)
        self._attempts = attempts
        self._troubles = troubles

    def send_due(
        self,
        settings: Settings,
        alarms: Sequence[Alarm],
        now: datetime,
        counts: DeliveryCounts,
        unseen: Collection[str] = frozenset(),
    ) -> DeliveryCounts:
        """Send one message of all notices that are due, and return the counts with it; `unseen` as `follow_alarms` has
        it.
        """
        before, self._memory = self._memory, follow_alarms(self._memory, alarms, now, unseen)
        notices = due(self._memory, settings.limits, now) if settings.targets else []
        if notices:
            message = compose(settings.machine, notices, now)
            tasks = {target.name: lambda target=target: target.send(message) for target in settings.targets}
            failed = self._attempts.make(tasks, settings.timeout)
            for name in tasks:
                self._troubles.set(name, failed.get(name, ""))
            counts = _counted(counts, len(tasks), failed)
            if len(failed) < len(tasks):
                self._memory = mark_sent(self._memory, notices, now)
        if self._memory != before:
            self._troubles.attempt("telling's memory", lambda: save(settings.memory, self._memory))
        return counts


def _counted(counts: DeliveryCounts, tried: int, failed: Mapping[str, str]) -> DeliveryCounts:
    return replace(
        counts,
        sent=counts.sent + tried - len(failed),
        failed=counts.failed + len(failed),
        failing=tuple(f"{name} {reason}" for name, reason in failed.items()),
    )


class Heartbeat:
    """Requests to the heartbeat URLs, after a round that was really good.

    A round is good when each region was observed just now and nothing grave is wrong anywhere.
    """

    def __init__(self, attempts: SendAttempts, troubles: TroubleLog) -> None:
        self._attempts = attempts
        self._troubles = troubles
        self._observed: dict[str, datetime] = {}
        """When each region was last observed with success."""

    def observed(self, region: str, at: datetime) -> None:
        """Take note that an observation of a region ended well."""
        self._observed[region] = at

    def send_if_good(
        self, settings: Settings, alarms: Sequence[Alarm], now: datetime, counts: DeliveryCounts
    ) -> DeliveryCounts:
        """Request every heartbeat URL when one is due, and return the counts with the time of an answer."""
        if (
            not settings.heartbeats
            or not self._is_due(now, counts.heartbeat)
            or not self._is_good(settings, alarms, now)
        ):
            return counts
        seconds = settings.timeout
        tasks = {beat.name: lambda beat=beat: beat.request(seconds) for beat in settings.heartbeats}
        failed = self._attempts.make(tasks, seconds)
        for name in tasks:
            self._troubles.set(name, failed.get(name, ""))
        return replace(counts, heartbeat=now) if len(failed) < len(tasks) else counts

    def _is_due(self, now: datetime, last: datetime | None) -> bool:
        """Say whether something was observed since the last heartbeat, and that one is a minute old."""
        newest = max(self._observed.values(), default=None)
        if newest is None or last is None:
            return newest is not None
        return newest > last and not timedelta() <= now - last < _BETWEEN_HEARTBEATS

    def _is_good(self, settings: Settings, alarms: Sequence[Alarm], now: datetime) -> bool:
        fresh = all(
            region in self._observed and now - self._observed[region] <= within
            for region, within in settings.regions.items()
        )
        return fresh and not any(alarm.severity is AlarmSeverity.ERROR for alarm in alarms)


def load(path: Path) -> Memory:
    """Read what `save` wrote; a file that cannot be read is an empty memory."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=Memory)
    return Memory()


def save(path: Path, memory: Memory) -> None:
    """Write the memory in one step. Raises OSError when it cannot be written."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, msgspec.json.encode(memory))
