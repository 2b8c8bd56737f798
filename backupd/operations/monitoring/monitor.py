"""The one listener that metrics, messages, the page and the heartbeat hang on.

What is heard is put into a queue and worked off by a thread of its own: nothing here can block a job or fail one. What
cannot be told to somebody is told in the log, in the metrics and on the page.

What people were told already, on disk: a restart repeats nothing. Deleted, everything in force is told once more.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from backupd.atomic_file import write_whole
from backupd.clock import Clock
from backupd.model.status import AlarmSeverity
from backupd.operations.monitoring.messages import Attempts, HeartbeatUrl, message
from backupd.operations.monitoring.metrics import Endpoint, Metrics
from backupd.operations.monitoring.state import MonitorState, after_run
from backupd.operations.service.jobs import WELL, Event, JobDone, JobKey, JobKind, Reloaded
from backupd.pages.status import StatusPage, render_status
from backupd.planning.alarms import Watch, judge
from backupd.planning.notices import Memory, NoticeLimits, due, follow_alarms, mark_sent

if TYPE_CHECKING:
    from backupd.operations.monitoring.notify import NotifyTarget

_TURN = 60.0
"""Seconds without an event, after which time alone may have changed something."""
_BEATS = timedelta(minutes=1)
_ASKED = timedelta(seconds=10)
_LAST = 5.0
"""Seconds that the end waits for a message under way."""


class Log(Protocol):
    """`operations.service.host.lines.Lines`."""

    def write(self, level: str, **fields: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says of telling."""

    machine: str
    memory: Path
    """A file that keeps what people were told."""
    regions: dict[str, timedelta]
    """Those told of, and how old their facts may be."""
    manners: NoticeLimits
    timeout: float
    """Seconds that targets may take, all together."""
    targets: tuple[NotifyTarget, ...] = ()
    pulses: tuple[HeartbeatUrl, ...] = ()
    listen: str | None = None
    textfile: Path | None = None
    page: Path | None = None
    faults: tuple[str, ...] = ()
    """What is wrong with the settings themselves, a line each."""


class Monitor:
    """See the module. `turn` does the work; `start` has a thread call it."""

    def __init__(self, settings: Callable[[], Settings], world: MonitorState, clock: Clock, log: Log) -> None:
        """`settings` is asked again after each reload; it raises nothing."""
        self._read = settings
        self._settings = settings()
        self._clock = clock
        self._log = log
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._attempts = Attempts()
        self._memory = load(self._settings.memory)
        self._fed: datetime | None = None
        self._asked = clock.now()
        self._next: Mapping[JobKey, datetime] = {}
        self._troubles: dict[str, str] = {}
        self._endpoint: Endpoint | None = None
        self._well: dict[str, datetime] = {}
        self.world = world
        self.metrics = Metrics(lambda: self.world, clock, lambda: self._fed)

    def told(self, event: Event) -> None:
        self._queue.put(event)

    def alive(self, next_times: Callable[[], Mapping[JobKey, datetime | None]]) -> None:
        """The daemon's loop turned, and no job hangs; `next_times` is asked now and then when jobs run next."""
        before, self._fed = self._fed, self._clock.now()
        if before is None or not timedelta() <= self._fed - self._asked < _ASKED:
            self._asked = self._fed
            self._next = {key: at for key, at in next_times().items() if at is not None}

    def start(self) -> None:
        self._follow()
        self._thread = threading.Thread(target=self._run, daemon=True, name="telling")
        self._thread.start()

    def close(self) -> None:
        """Tell what was heard, as far as that is quick."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(_LAST)
        if self._endpoint is not None:
            self._endpoint.close()

    def turn(self, events: Sequence[Event] = ()) -> None:
        """Take what happened, judge, and tell."""
        for event in events:
            if isinstance(event, JobDone):
                self._take(event)
            elif isinstance(event, Reloaded) and not event.faults:
                self._settings = self._read()
                self._follow()
        now = self._clock.now()
        alarms = tuple(
            alarm
            for region in self.world.whole(self._settings.regions)
            for alarm in judge(region, Watch(now, self._settings.regions[region.region]))
        )
        self._log_changes({alarm.key for alarm in alarms}, alarms)
        self.world = replace(self.world, alarms=alarms, next=self._next)
        self._tell(now)
        self._beat(now)
        self._show(now)

    def _run(self) -> None:
        ended = False
        while not ended:
            events: list[Event] = []
            with contextlib.suppress(queue.Empty):
                found = self._queue.get(timeout=_TURN)
                while found is not None:
                    events.append(found)
                    found = self._queue.get_nowait()
                ended = True
            try:
                self.turn(events)
            except Exception as error:  # noqa: BLE001 - telling goes on, whatever was wrong with this
                self._trouble("telling", f"failed with {type(error).__name__}")

    def _take(self, done: JobDone) -> None:
        self.world = after_run(self.world, done)
        if done.key.kind is JobKind.OBSERVE and done.outcome in WELL:
            self._well[done.key.region] = done.ended

    def _follow(self) -> None:
        """The settings hold from now on."""
        gone = frozenset(self.world.regions) - frozenset(self._settings.regions)
        self.world = self.world.without(gone)
        for fault in self._settings.faults:
            self._log.write("warning", event="telling", fault=fault)
        address = self._endpoint.address if self._endpoint else None
        if address == self._settings.listen:
            return
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None
        if self._settings.listen is not None:
            try:
                self._endpoint = Endpoint(self.metrics, self._settings.listen)
            except OSError as error:
                self._trouble("metrics.listen", f"cannot be had ({error.strerror})")

    def _tell(self, now: datetime) -> None:
        before, self._memory = self._memory, follow_alarms(self._memory, self.world.alarms, now)
        notices = due(self._memory, self._settings.manners, now) if self._settings.targets else []
        if notices:
            letter = message(self._settings.machine, notices, now)
            tasks = {target.name: lambda target=target: target.send(letter) for target in self._settings.targets}
            failed = self._attempts.make(tasks, self._settings.timeout)
            self._account(failed, len(tasks))
            if len(failed) < len(tasks):
                self._memory = mark_sent(self._memory, notices, now)
        if self._memory != before:
            self._try("telling's memory", lambda: save(self._settings.memory, self._memory))

    def _account(self, failed: dict[str, str], tried: int) -> None:
        sent = self.world.sent
        targets = [target.name for target in self._settings.targets]
        self.world = replace(
            self.world,
            sent=replace(
                sent,
                sent=sent.sent + tried - len(failed),
                failed=sent.failed + len(failed),
                failing=tuple(f"{name} {why}" for name, why in failed.items()),
            ),
        )
        for name in targets:
            self._trouble(name, failed.get(name, ""))

    def _beat(self, now: datetime) -> None:
        """Only after a round that was really good: each region looked at just now, and nothing grave anywhere."""
        last = self.world.sent.heartbeat
        if not self._settings.pulses or (last is not None and timedelta() <= now - last < _BEATS):
            return
        newest = max(self._well.values(), default=None)
        if newest is None or (last is not None and newest <= last) or not self._is_good(now):
            return
        seconds = self._settings.timeout
        tasks = {pulse.name: lambda pulse=pulse: pulse.beat(seconds) for pulse in self._settings.pulses}
        failed = self._attempts.make(tasks, seconds)
        for name in tasks:
            self._trouble(name, failed.get(name, ""))
        if len(failed) < len(tasks):
            self.world = replace(self.world, sent=replace(self.world.sent, heartbeat=now))

    def _is_good(self, now: datetime) -> bool:
        fresh = all(
            region in self._well and now - self._well[region] <= within
            for region, within in self._settings.regions.items()
        )
        return fresh and not any(alarm.severity is AlarmSeverity.ERROR for alarm in self.world.alarms)

    def _show(self, now: datetime) -> None:
        settings = self._settings
        if settings.page is not None:
            page = StatusPage(
                made=now,
                machine=settings.machine,
                regions=tuple(self.world.whole(settings.regions)),
                alarms=self.world.alarms,
                troubles=tuple(f"{name}: {what}" for name, what in self._troubles.items()),
                stale_after=timedelta(minutes=5),
            )
            where = settings.page
            self._try("status.page", lambda: write_whole(where, render_status(page).encode(), 0o640))
        if settings.textfile is not None:
            file = settings.textfile
            self._try("metrics.textfile", lambda: write_whole(file, self.metrics.text(), 0o644))

    def _try(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            self._trouble(what, f"cannot be written ({error.strerror})")
        else:
            self._trouble(what, "")

    def _trouble(self, what: str, why: str) -> None:
        """Told in the log when it changes; empty: it is over."""
        if self._troubles.get(what, "") != why:
            self._log.write("warning" if why else "info", event="telling", what=what, trouble=why or "none any more")
        if why:
            self._troubles[what] = why
        else:
            self._troubles.pop(what, None)

    def _log_changes(self, keys: set[str], alarms: Sequence[Any]) -> None:
        before = {alarm.key: alarm for alarm in self.world.alarms}
        for alarm in alarms:
            if alarm.key not in before:
                level = "error" if alarm.severity is AlarmSeverity.ERROR else "warning"
                self._log.write(
                    level,
                    event="alarm",
                    code=alarm.code.value,
                    region=alarm.region,
                    subject=alarm.subject,
                    message=alarm.message,
                )
        for key, alarm in before.items():
            if key not in keys:
                self._log.write(
                    "info", event="alarm-over", code=alarm.code.value, region=alarm.region, subject=alarm.subject
                )


def load(path: Path) -> Memory:
    """What `save` wrote; an empty memory where that cannot be read."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=Memory)
    return Memory()


def save(path: Path, memory: Memory) -> None:
    """Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, msgspec.json.encode(memory))
