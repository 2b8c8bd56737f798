"""The daemon's life: ready, at work, reloading, stopping. All that waits, waits here."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from backupd.clock import Clock
from backupd.errors import BackupdError
from backupd.model.text import human_duration
from backupd.operations.service.jobs import DaemonReady, Event, JobListener, JobOutcome, Reloaded, Stopped
from backupd.operations.service.systemd import Notifier

if TYPE_CHECKING:
    from backupd.operations.service.supervisor import Plan, Supervisor

_BUSY: Final = 0.2
"""Seconds between two looks at what runs."""
_IDLE: Final = 5.0
"""The most to wait: clocks are set, and watchdogs want to be fed."""
RELOAD: Final = "SIGHUP"


class SignalPipe:
    """Rung by signal handlers; wakes whoever waits."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._rung: list[str] = []

    def ring(self, name: str) -> None:
        """Safe in a signal handler."""
        self._rung.append(name)
        with contextlib.suppress(BlockingIOError):
            os.write(self._in, b".")

    def wait(self, seconds: float) -> None:
        if not self._rung:
            select.select([self._out], [], [], max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            os.read(self._out, 4096)

    def take(self) -> list[str]:
        """Who rang since the last time, in order."""
        rung, self._rung = self._rung, []
        return rung


class Fanout:
    """Passes everything on to several listeners; one that fails is told of, and keeps it from nobody else."""

    def __init__(self, listeners: Sequence[JobListener], failed: Callable[[JobListener, Exception], None]) -> None:
        self._listeners = listeners
        self._failed = failed

    def told(self, event: Event) -> None:
        for listener in self._listeners:
            try:
                listener.told(event)
            except Exception as error:  # noqa: BLE001 - a listener's fault must not stop the work
                self._failed(listener, error)


@dataclass(frozen=True, slots=True)
class DaemonIO:
    """Where the daemon lives."""

    clock: Clock
    bell: SignalPipe
    notifier: Notifier
    told: JobListener
    reload: Callable[[], Plan]
    """Read the configuration anew; raises BackupdError when it cannot be followed."""
    stop_within: float
    """Seconds, from being asked to stop to the end."""
    once: bool = False
    """End when nothing is due any more."""


def serve(supervisor: Supervisor, host: DaemonIO) -> int:
    """Work until a signal, or with `once` until nothing is due; the exit status."""
    host.notifier.ready()
    host.told.told(DaemonReady(host.clock.now(), supervisor.keys))
    stopped_since: float | None = None
    while True:
        for name in host.bell.take():
            if name == RELOAD and not supervisor.stopping:
                _reload(supervisor, host)
            elif name != RELOAD:
                host.notifier.stopping()
                stopped_since = stopped_since or host.clock.monotonic()
                supervisor.stop(name)
        supervisor.step()
        if _is_over(supervisor, host, stopped_since):
            break
        if supervisor.sound():
            host.notifier.alive()
        host.notifier.status(describe(supervisor, host.clock))
        host.bell.wait(_pause(supervisor, host.clock))
    seconds = host.clock.monotonic() - stopped_since if stopped_since is not None else 0.0
    host.told.told(Stopped(host.clock.now(), seconds))
    return _status(supervisor) if host.once and stopped_since is None else 0


def describe(supervisor: Supervisor, clock: Clock) -> str:
    """What is being done, what failed last, and what comes next, in a line."""
    if supervisor.stopping:
        return f"stopping, {len(supervisor.runs)} jobs have to end"
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


def _reload(supervisor: Supervisor, host: DaemonIO) -> None:
    host.notifier.reloading()
    try:
        supervisor.follow(host.reload())
    except BackupdError as error:
        host.told.told(Reloaded(host.clock.now(), fault_lines(error)))
    else:
        host.told.told(Reloaded(host.clock.now()))
    host.notifier.ready()


def fault_lines(error: BackupdError) -> tuple[str, ...]:
    """What is wrong, a line each: all faults of a configuration, or the error itself."""
    faults = getattr(error, "faults", ())
    told = (f"line {fault.line}: {fault.key}: {fault.message}" for fault in faults)
    return (error.message, *told)


def _is_over(supervisor: Supervisor, host: DaemonIO, stopped_since: float | None) -> bool:
    if supervisor.stopping:
        waited = host.clock.monotonic() - (stopped_since if stopped_since is not None else host.clock.monotonic())
        return not supervisor.runs or waited > host.stop_within
    return host.once and supervisor.idle()


def _pause(supervisor: Supervisor, clock: Clock) -> float:
    if supervisor.busy:
        return _BUSY
    at = supervisor.next_at()
    return _IDLE if at is None else min(_IDLE, max(0.0, (at - clock.now()).total_seconds()))


def _status(supervisor: Supervisor) -> int:
    """Of the first job that did not end well."""
    ends = (done.exit_status if done.exit_status is not None else 1 for done in supervisor.ended)
    return next((status for status in ends if status), 0)
