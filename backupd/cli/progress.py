"""The progress that people see, on standard error: bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

from backupd.cli.output import print_lines, printable
from backupd.cli.supervised import PipeTrace, progress_pipe
from backupd.model.text import human_bytes, human_duration
from backupd.trace import Event, PhaseDone, PhaseStarted, Progress, Trace, Warned

if TYPE_CHECKING:
    from rich.progress import TaskID

    from backupd.clock import Clock

PLAIN_INTERVAL = 5.0
"""Seconds between plain lines of one phase; a log should not fill up over night."""
_REDRAW_INTERVAL = 0.1
"""Seconds between two drawings of the bars."""


@dataclass(frozen=True, slots=True)
class Meter:
    """The state of one phase."""

    started: PhaseStarted
    since: float
    """Monotonic seconds when the phase began."""
    progress: Progress

    @property
    def name(self) -> str:
        """Return the phase with its subject."""
        return " ".join(part for part in (self.started.phase, self.started.subject) if part)

    @property
    def total(self) -> int | None:
        """Return the estimate of all that the phase has to do, in its unit; None where there is none."""
        better = self.progress.total_estimate
        return better if better is not None else self.started.total_estimate

    def with_progress(self, progress: Progress) -> Meter:
        """Return the meter after a later progress; an estimate once given is kept until a better one comes."""
        estimate = progress.total_estimate if progress.total_estimate is not None else self.progress.total_estimate
        return replace(self, progress=replace(progress, total_estimate=estimate))


def describe(meter: Meter, now: float, *, ended: bool = False) -> str:
    """Return text such as `56 % of 742 MB, 45 MB/s, 20.1 MB new (6.0:1), 14 s left`; unknown parts are left out.

    A phase that has counted nothing, and does not know how much there is, shows how long it takes.
    """
    done, total, seconds = meter.progress.bytes_in, None if ended else meter.total, now - meter.since
    if not done and total is None:
        return f"for {human_duration(timedelta(seconds=seconds))}"
    parts = [_share(meter, done, total)]
    if meter.started.unit == "bytes" and done and seconds > 0:
        parts.append(f"{human_bytes(done / seconds)}/s")
    if meter.progress.bytes_out:
        parts.append(_new(done, meter.progress.bytes_out))
    if total is not None and 0 < done < total and seconds > 0:
        parts.append(f"{_remaining(seconds * (total - done) / done)} left")
    return ", ".join(parts)


@contextmanager
def watched(clock: Clock, *, quiet: bool, out: TextIO | None = None) -> Iterator[Trace]:
    """Give a trace whose events are shown on `out`, with `quiet` warnings only, or go to the daemon that started us."""
    pipe = progress_pipe(os.environ)
    if pipe is not None:
        yield PipeTrace(pipe, clock)
        return
    stream = out or sys.stderr
    if quiet or not stream.isatty():
        yield PlainProgress(stream, clock, quiet=quiet)
        return
    with TerminalProgress(stream, clock).shown() as trace:
        yield trace


class _Meters:
    """The phases under way, fed with events by any thread."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self._running: dict[tuple[str, str], Meter] = {}

    def take(self, event: PhaseStarted | Progress | PhaseDone) -> Meter:
        """Return the phase's meter after the event; a phase that was not announced begins with its first event."""
        key = (event.phase, event.subject)
        if isinstance(event, PhaseStarted):
            self._running[key] = Meter(event, self.clock.monotonic(), Progress(event.phase, event.subject))
            return self._running[key]
        nothing = Progress(event.phase, event.subject)
        unannounced = Meter(PhaseStarted(event.phase, event.subject), self.clock.monotonic(), nothing)
        meter = self._running.get(key, unannounced)
        if isinstance(event, PhaseDone):
            self._running.pop(key, None)
            return meter
        self._running[key] = meter.with_progress(event)
        return self._running[key]


class PlainProgress:
    """A trace that prints lines: when a phase starts and ends, and every few seconds between."""

    def __init__(self, out: TextIO, clock: Clock, *, quiet: bool = False) -> None:
        self._out = out
        self._quiet = quiet
        self._meters = _Meters(clock)
        self._spoken: dict[str, float] = {}

    def emit(self, event: Event) -> None:
        with self._meters.lock:
            if isinstance(event, Warned):
                print_lines(_warning(event), self._out)
            elif not self._quiet:
                self._print(event, self._meters.take(event))
            self._out.flush()

    def _print(self, event: PhaseStarted | Progress | PhaseDone, meter: Meter) -> None:
        now = self._meters.clock.monotonic()
        if isinstance(event, Progress):
            if now - self._spoken.get(meter.name, meter.since) < PLAIN_INTERVAL:
                return
            line = f"{meter.name}: {describe(meter, now)}"
        elif isinstance(event, PhaseDone):
            line = f"{meter.name}: done in {human_duration(timedelta(seconds=event.seconds))}"
            line += f", {describe(meter, meter.since + event.seconds, ended=True)}" if meter.progress.bytes_in else ""
        else:
            line = f"{meter.name}: started"
        self._spoken[meter.name] = now
        print_lines([line], self._out)


class TerminalProgress:
    """A trace that draws bars, which stay when they are full.

    The thread that emits draws them: there is no thread of their own, so that workers may fork.
    """

    def __init__(self, out: TextIO, clock: Clock) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(bar_width=10), TextColumn("{task.fields[state]}"))
        # What is printed meanwhile goes above the bars where both share a terminal; a file or a pipe keeps its own.
        shared = sys.stdout.isatty()
        self._bars = Bars(*columns, console=Console(file=out), auto_refresh=False, redirect_stdout=shared)
        self._meters = _Meters(clock)
        self._tasks: dict[str, TaskID] = {}
        self._drawn = 0.0

    @contextmanager
    def shown(self) -> Iterator[TerminalProgress]:
        """Show the bars within the block."""
        with self._bars:
            yield self

    def emit(self, event: Event) -> None:
        with self._meters.lock:
            if isinstance(event, Warned):
                self._bars.console.print("\n".join(_warning(event)), markup=False, style="yellow")
            else:
                self._draw(event, self._meters.take(event))

    def _draw(self, event: PhaseStarted | Progress | PhaseDone, meter: Meter) -> None:
        now = self._meters.clock.monotonic()
        ended = isinstance(event, PhaseDone)
        if meter.name not in self._tasks or isinstance(event, PhaseStarted):
            self._tasks[meter.name] = self._bars.add_task(printable(meter.name), total=meter.total, state="")
        done, total = meter.progress.bytes_in, meter.total
        self._bars.update(
            self._tasks[meter.name],
            completed=(done or 1) if ended else done,
            total=(done or 1) if ended else total,
            state=describe(meter, now, ended=ended),
        )
        if ended or now - self._drawn >= _REDRAW_INTERVAL:
            self._drawn = now
            self._bars.refresh()


def _share(meter: Meter, done: int, total: int | None) -> str:
    shown = done if total is None else total
    amount = human_bytes(shown) if meter.started.unit == "bytes" else f"{shown} {meter.started.unit}"
    return f"{min(99, 100 * done // total)} % of {amount}" if total else amount


def _new(done: int, new: int) -> str:
    return f"{human_bytes(new)} new ({done / new:.1f}:1)"


def _remaining(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 59.5 else human_duration(timedelta(seconds=seconds))


def _warning(event: Warned) -> list[str]:
    return [f"warning: {event.message}", *([f"  {event.hint}"] if event.hint else [])]
