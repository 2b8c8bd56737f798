"""The daemon's main loop: ready, at work, reloading, stopping. It is the only place where the daemon waits."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from backupd.clock import Clock
from backupd.errors import BackupdError
from backupd.model.text import counted, human_duration
from backupd.operations.service.jobs import (
    DaemonReady,
    Event,
    JobKind,
    JobListener,
    JobOutcome,
    Reloaded,
    Stopped,
)
from backupd.operations.service.systemd import Notifier

if TYPE_CHECKING:
    from backupd.operations.service.supervisor import Plan, Supervisor

_BUSY: Final = 0.2
"""Seconds between two steps while jobs run."""
_IDLE: Final = 5.0
"""The longest wait in seconds, because clocks are set and the watchdog has to be fed."""
RELOAD: Final = "SIGHUP"


class SignalPipe:
    """A pipe through which signal handlers wake the main loop."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._received: list[str] = []

    def record(self, name: str) -> None:
        """Take note of a signal by its name; safe in a signal handler."""
        self._received.append(name)
        with contextlib.suppress(BlockingIOError):
            os.write(self._in, b".")

    def wait(self, seconds: float) -> None:
        if not self._received:
            select.select([self._out], [], [], max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            os.read(self._out, 4096)

    def take(self) -> list[str]:
        """Return the names of the signals since the last call, in order."""
        received, self._received = self._received, []
        return received


class Fanout:
    """A listener that passes every event on to several others; one that fails is reported, and the rest still hear."""

    def __init__(self, listeners: Sequence[JobListener], failed: Callable[[JobListener, Exception], None]) -> None:
        self._listeners = listeners
        self._failed = failed

    def on_event(self, event: Event) -> None:
        for listener in self._listeners:
            try:
                listener.on_event(event)
            except Exception as error:  # noqa: BLE001 - a listener's fault must not stop the work
                self._failed(listener, error)


@dataclass(frozen=True, slots=True)
class DaemonIO:
    """The surroundings of the main loop: clock, signals, service manager, listeners, configuration."""

    clock: Clock
    signals: SignalPipe
    notifier: Notifier
    listener: JobListener
    reload: Callable[[], Plan]
    """Read the configuration again; raises BackupdError when it cannot be applied."""
    stop_within: float
    """The longest time in seconds from being asked to stop to the end."""
    once: bool = False
    """Whether to end as soon as nothing is due."""


def serve(supervisor: Supervisor, io: DaemonIO) -> int:
    """Run jobs until a signal, or with `once` until nothing is due, and return the exit status."""
    io.notifier.ready()
    io.listener.on_event(DaemonReady(io.clock.now(), supervisor.keys))
    stopped_since: float | None = None
    while True:
        for name in io.signals.take():
            if name == RELOAD and not supervisor.stopping:
                _reload(supervisor, io)
            elif name != RELOAD:
                io.notifier.stopping()
                stopped_since = stopped_since or io.clock.monotonic()
                supervisor.stop(name)
        supervisor.step()
        if _is_over(supervisor, io, stopped_since):
            break
        if supervisor.can_end_jobs():
            io.notifier.alive()
        io.notifier.status(describe(supervisor, io.clock))
        io.signals.wait(_pause(supervisor, io.clock))
    seconds = io.clock.monotonic() - stopped_since if stopped_since is not None else 0.0
    io.listener.on_event(Stopped(io.clock.now(), seconds))
    return _status(supervisor) if io.once and stopped_since is None else 0


def describe(supervisor: Supervisor, clock: Clock) -> str:
    """Return one line about the jobs that run, those that failed last, and the next one."""
    if supervisor.stopping:
        return f"stopping, {counted(len(supervisor.runs), 'job')} to end first"
    running = [f"{key} ({run.phase['phase']})" if run.phase else str(key) for key, run in supervisor.runs.items()]
    failing = [f"{done.key} ({done.outcome})" for done in supervisor.ended if done.outcome not in _FINE]
    parts = [f"at work: {', '.join(running)}"] if running else []
    parts += [f"FAILING: {', '.join(failing)}"] if failing else []
    key = supervisor.next_key()
    at = supervisor.next_at(key) if key else None
    if key and at and not running:
        parts.append(f"next: {key} in {human_duration(max(at - clock.now(), at - at))}")
    return "; ".join(parts) or "nothing is due, ever"


_FINE: Final = frozenset({JobOutcome.DONE, JobOutcome.BUSY, JobOutcome.STOPPED})


def _reload(supervisor: Supervisor, io: DaemonIO) -> None:
    io.notifier.reloading()
    try:
        supervisor.apply_plan(io.reload())
    except BackupdError as error:
        io.listener.on_event(Reloaded(io.clock.now(), fault_lines(error)))
    else:
        io.listener.on_event(Reloaded(io.clock.now()))
    io.notifier.ready()


def fault_lines(error: BackupdError) -> tuple[str, ...]:
    """Return what is wrong, one line each: the error, and all faults of a configuration."""
    faults = getattr(error, "faults", ())
    lines = (f"{fault.place}{fault.key}: {fault.message}" for fault in faults)
    return (error.message, *lines)


def _is_over(supervisor: Supervisor, io: DaemonIO, stopped_since: float | None) -> bool:
    if supervisor.stopping:
        waited = io.clock.monotonic() - (stopped_since if stopped_since is not None else io.clock.monotonic())
        return not supervisor.runs or waited > io.stop_within
    return io.once and supervisor.idle()


def _pause(supervisor: Supervisor, clock: Clock) -> float:
    if supervisor.busy:
        return _BUSY
    at = supervisor.next_at()
    return _IDLE if at is None else min(_IDLE, max(0.0, (at - clock.now()).total_seconds()))


def _status(supervisor: Supervisor) -> int:
    """Return the exit status of the first job that failed; 0 when none did.

    An observation that found something did not fail, and what it found may be mended since: it comes before the work.
    """
    failed = (done for done in supervisor.ended if (done.key.kind, done.outcome) != (JobKind.OBSERVE, JobOutcome.FOUND))
    ends = (done.exit_status if done.exit_status is not None else 1 for done in failed)
    return next((status for status in ends if status), 0)
