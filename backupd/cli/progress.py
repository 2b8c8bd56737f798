"""The progress that people see, on standard error: bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

from backupd.cli.meter import Meter, describe
from backupd.cli.output import print_lines, print_prose, printable
from backupd.cli.supervised import PipeTrace, progress_pipe
from backupd.model.text import human_duration
from backupd.trace import Event, PhaseDone, PhaseEvent, PhaseFailed, PhaseStarted, Progress, Trace, Warned

if TYPE_CHECKING:
    from rich.progress import TaskID

    from backupd.clock import Clock

PLAIN_INTERVAL = 5.0
"""Seconds between plain lines of one phase; a log should not fill up over night."""
_REDRAW_INTERVAL = 0.1
"""Seconds between two drawings of the bars, at least."""
_BEAT = 1.0
"""Seconds between two drawings where nothing happens."""
_SILENT = 2.0
"""Seconds without any phase after which a terminal shows that something is still being done."""
_BAR = 10
"""Columns of a bar."""


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


def paused(trace: Trace | None) -> AbstractContextManager[None]:
    """Return the block within which a trace does not draw on the terminal."""
    return trace.paused() if isinstance(trace, TerminalProgress) else nullcontext()


class _Meters:
    """The phases under way, fed with events by any thread."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self._running: dict[tuple[str, str], Meter] = {}
        self._over: set[tuple[str, str]] = set()

    def take(self, event: PhaseEvent) -> Meter | None:
        """Return the phase's meter after the event; a phase that was not announced begins with its first event.

        None for late progress of a phase that is over, from another thread: the phase must not begin again by that.
        """
        key, now = (event.phase, event.subject), self.clock.monotonic()
        if isinstance(event, Progress) and key in self._over:
            return None
        if isinstance(event, PhaseStarted):
            self._over.discard(key)
            self._running[key] = Meter(event, now, Progress(event.phase, event.subject), heard=now)
            return self._running[key]
        nothing = Progress(event.phase, event.subject)
        unannounced = Meter(PhaseStarted(event.phase, event.subject), now, nothing, heard=now)
        meter = self._running.get(key, unannounced)
        if isinstance(event, PhaseDone | PhaseFailed):
            self._running.pop(key, None)
            self._over.add(key)
            return meter
        self._running[key] = meter.with_progress(event, now)
        return self._running[key]

    def running(self) -> list[Meter]:
        """Return the meters of the phases that have not ended."""
        return list(self._running.values())


class _Warnings:
    """The warnings of one command: what stands however often one looks is said once."""

    def __init__(self) -> None:
        self._said: set[Warned] = set()

    def lines(self, event: Warned) -> list[str]:
        """Return the lines to print of a warning; none of one that stands and was printed."""
        if event in self._said:
            return []
        if event.standing:
            self._said.add(event)
        return [f"warning: {event.message}", *([f"  {event.hint}"] if event.hint else [])]


class PlainProgress:
    """A trace that prints lines: when a phase starts and ends, and every few seconds between."""

    def __init__(self, out: TextIO, clock: Clock, *, quiet: bool = False) -> None:
        self._out = out
        self._quiet = quiet
        self._meters = _Meters(clock)
        self._warnings = _Warnings()
        self._spoken: dict[str, float] = {}

    def emit(self, event: Event) -> None:
        with self._meters.lock:
            if isinstance(event, Warned):
                print_prose(self._warnings.lines(event), self._out)
            elif not self._quiet:
                meter = self._meters.take(event)
                if meter is not None and not meter.started.quiet and not isinstance(event, PhaseFailed):
                    self._print(event, meter)
            self._out.flush()

    def _print(self, event: PhaseEvent, meter: Meter) -> None:
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

    A thread of its own draws them again every second, so that nobody wonders whether a wait goes on.
    """

    def __init__(self, out: TextIO, clock: Clock) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars
        from rich.table import Column

        one = Column(no_wrap=True)
        columns = (
            TextColumn("{task.description}", table_column=one, markup=False),
            BarColumn(bar_width=_BAR),
            TextColumn("{task.fields[state]}", table_column=one, markup=False),
        )
        # What is printed meanwhile goes above the bars where both share a terminal; a file or a pipe keeps its own.
        shared = sys.stdout.isatty()
        self._bars = Bars(*columns, console=Console(file=out), auto_refresh=False, redirect_stdout=shared)
        self._meters = _Meters(clock)
        self._warnings = _Warnings()
        self._tasks: dict[str, TaskID] = {}
        self._drawn = 0.0
        self._heard = clock.monotonic()
        self._idle: TaskID | None = None
        self._ended = threading.Event()

    @contextmanager
    def shown(self) -> Iterator[TerminalProgress]:
        """Show the bars within the block."""
        beat = threading.Thread(target=self._beat, daemon=True)
        with self._bars:
            beat.start()
            try:
                yield self
            finally:
                self._ended.set()
                beat.join()
                self._show_idle(self._heard)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal alone within the block: somebody is asked there. Events wait until it ends."""
        with self._meters.lock:
            self._bars.stop()
            try:
                yield
            finally:
                self._bars.start()

    def emit(self, event: Event) -> None:
        with self._meters.lock:
            self._heard = self._meters.clock.monotonic()
            if isinstance(event, Warned):
                for line in self._warnings.lines(event):
                    self._bars.console.print(line, markup=False, style="yellow")
            elif (meter := self._meters.take(event)) is not None:
                self._draw(event, meter)

    def redraw(self) -> None:
        """Draw what time has changed: how long each phase under way has taken, and how long it waits."""
        with self._meters.lock:
            now = self._meters.clock.monotonic()
            for meter in self._meters.running():
                self._bars.update(self._tasks[meter.name], state=self._state(meter, now))
            self._show_idle(self._heard if self._meters.running() else now)
            self._bars.refresh()

    def _show_idle(self, now: float) -> None:
        """Show how long nothing was heard, where that is long and no phase is under way; else take that away."""
        waited = now - self._heard
        if waited < _SILENT:
            if self._idle is not None:
                self._bars.remove_task(self._idle)
            self._idle = None
            return
        if self._idle is None:
            self._idle = self._bars.add_task("at work", total=None, state="")
        self._bars.update(self._idle, state=f"for {human_duration(timedelta(seconds=waited))}")

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT):
            self.redraw()

    def _draw(self, event: PhaseEvent, meter: Meter) -> None:
        now = self._meters.clock.monotonic()
        ended = isinstance(event, PhaseDone | PhaseFailed)
        if meter.name not in self._tasks or isinstance(event, PhaseStarted):
            self._tasks[meter.name] = self._bars.add_task(printable(meter.name), total=meter.total, state="")
        if ended and meter.started.quiet:
            self._bars.remove_task(self._tasks.pop(meter.name))
        elif isinstance(event, PhaseFailed):
            state = f"stopped after {human_duration(timedelta(seconds=event.seconds))}"
            self._bars.update(self._tasks[meter.name], state=state)
        else:
            self._update(meter, now, ended=ended)
        if ended or now - self._drawn >= _REDRAW_INTERVAL:
            self._drawn = now
            self._bars.refresh()

    def _update(self, meter: Meter, now: float, *, ended: bool) -> None:
        done, total = meter.progress.bytes_in, meter.total
        self._bars.update(
            self._tasks[meter.name],
            completed=(done or 1) if ended else done,
            total=(done or 1) if ended else total,
            state=self._state(meter, now, ended=ended),
        )

    def _state(self, meter: Meter, now: float, *, ended: bool = False) -> str:
        names = max(map(len, self._tasks), default=0)
        return describe(meter, now, ended=ended, width=self._bars.console.width - names - _BAR - 2)
