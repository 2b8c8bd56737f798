"""The objects of a running daemon: the configuration that holds now, what listens to it, and what feeds the watchdog.

They stand apart from the command because they need all of the daemon's libraries: `--help` does without them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import FrameType

from backupd.clock import Clock
from backupd.config.document import read_document
from backupd.config.faults import ConfigFaultsError, in_file_order
from backupd.config.load import parse_document
from backupd.errors import UsageError
from backupd.model.ids import RegionName
from backupd.operations.monitoring.delivery import Settings
from backupd.operations.monitoring.monitor import Monitor
from backupd.operations.service.jobs import Event, JobKey, JobKind, JobListener
from backupd.operations.service.log import Lines
from backupd.operations.service.process import Child
from backupd.operations.service.serve import DaemonIO, Fanout, SignalPipe, serve
from backupd.operations.service.supervisor import Plan, Supervisor, SupervisorIO
from backupd.operations.service.systemd import Locks, Notifier
from backupd.wiring.context import Context
from backupd.wiring.daemon import config_descriptor, run_history, service_plan, start_child, timetable_findings
from backupd.wiring.status import monitoring_settings, state_at_start


@dataclass(frozen=True, slots=True)
class AcceptedConfig:
    """A configuration that can be followed."""

    context: Context
    plan: Plan
    descriptor: int
    """The number of a descriptor that runs inherit, and read this configuration from."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The command line of a daemon."""

    file: Path
    """The configuration's file, which is read again when a signal asks for it."""
    regions: tuple[str, ...]
    kinds: tuple[JobKind, ...]
    once: bool

    def read(self) -> AcceptedConfig:
        """Read the configuration's file.

        Raises ConfigError for one that cannot be followed, with all of its faults where they can be listed.
        """
        document = read_document(self.file)
        context = Context(parse_document(document), os.environ)
        findings = list(timetable_findings(context))
        if findings:
            raise ConfigFaultsError(str(self.file), in_file_order(findings, document.merged()[1]))
        spread = timedelta(0) if self.once else None
        plan = service_plan(context, context.regions(self.regions), self.kinds, spread=spread)
        return AcceptedConfig(context, plan, config_descriptor(document.bundle()))


class CurrentConfig:
    """The configuration that holds now, and what the daemon does by it."""

    def __init__(self, demand: Demand, accepted: AcceptedConfig, locks: Locks) -> None:
        self.demand = demand
        self._accepted = accepted
        self._locks = locks

    @property
    def context(self) -> Context:
        """Return the configuration as commands use it."""
        return self._accepted.context

    @property
    def plan(self) -> Plan:
        """Return the jobs that the configuration asks for."""
        return self._accepted.plan

    @property
    def regions(self) -> list[RegionName]:
        """Return the regions that this daemon works for."""
        return self.context.regions(self.demand.regions)

    def settings(self) -> Settings:
        """Return whom the daemon notifies, and where it reports."""
        return monitoring_settings(self.context, self.regions)

    def start(self, arguments: tuple[str, ...]) -> Child:
        """Start a run of backupd with this configuration. Raises OSError."""
        return start_child(self.context, arguments, self._accepted.descriptor)

    def last_done(self, key: JobKey) -> datetime | None:
        """Return when a job was last done, by this machine's history."""
        return run_history(self.context, key.region).last_done(key)

    def reload(self) -> Plan:
        """Follow the configuration that the file holds now.

        Raises BackupdError when it cannot be followed; then the old one holds.
        """
        found = self.demand.read()
        if found.context.config.node.state_dir != self.context.config.node.state_dir:
            os.close(found.descriptor)
            raise UsageError("node.state_dir is another one", hint="Restart the daemon for that.")
        try:
            self._locks.hold(job.key for job in found.plan.jobs)
        except BaseException:
            os.close(found.descriptor)
            raise
        os.close(self._accepted.descriptor)
        self._accepted = found
        return found.plan


class HistoryListener:
    """The listener that writes each region's runs into the region's history."""

    def __init__(self, current: CurrentConfig) -> None:
        self._current = current

    def on_event(self, event: Event) -> None:
        """Write an event that belongs to a job into its region's history."""
        key = getattr(event, "key", None)
        if key is not None:
            run_history(self._current.context, key.region).on_event(event)


class MonitoredNotifier(Notifier):
    """The service manager's notifier, which also has the metrics say that the daemon lives and what comes next."""

    def __init__(self, environ: Mapping[str, str], clock: Clock, monitor: Monitor, supervisor: Supervisor) -> None:
        super().__init__(environ, clock)
        self._monitor = monitor
        self._supervisor = supervisor

    def alive(self) -> None:
        """Feed the watchdog, and the metrics before it."""
        self._monitor.loop.alive(self._next_times)
        super().alive()

    def _next_times(self) -> dict[JobKey, datetime | None]:
        return {key: self._supervisor.next_at(key) for key in self._supervisor.keys}


def run_service(demand: Demand, *, as_json: bool) -> int:
    """Run the daemon until it is stopped; return its exit status. Raises ConfigError, BusyError."""
    pipe = _signal_pipe()  # before the configuration is read: who changes it then asks for a reload, too
    accepted = demand.read()
    lines = Lines(sys.stderr, os.environ, as_json=as_json)
    with closing(Locks(accepted.context.config.node.state_dir)) as locks:
        locks.hold(job.key for job in accepted.plan.jobs)
        return _serve(CurrentConfig(demand, accepted, locks), lines, pipe)


def _serve(current: CurrentConfig, lines: Lines, pipe: SignalPipe) -> int:
    clock = current.context.clock
    monitor = Monitor(current.settings, state_at_start(current.context, current.regions), clock, lines)
    fanout = Fanout((lines, HistoryListener(current), monitor), partial(_log_failure, lines))
    supervisor = Supervisor(
        current.plan,
        SupervisorIO(clock=clock, start=current.start, last_done=current.last_done, listener=fanout),
    )
    host = DaemonIO(
        clock=clock,
        signals=pipe,
        notifier=MonitoredNotifier(os.environ, clock, monitor, supervisor),
        listener=fanout,
        reload=current.reload,
        stop_within=current.plan.stop_within.total_seconds(),
        once=current.demand.once,
    )
    with closing(monitor):
        monitor.start()
        return serve(supervisor, host)


def _signal_pipe() -> SignalPipe:
    """Have the signals that stop or reload a daemon recorded in a pipe, and return the pipe."""
    pipe = SignalPipe()

    def record(number: int, _frame: FrameType | None) -> None:
        pipe.record(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, record)
    return pipe


def _log_failure(lines: Lines, listener: JobListener, error: Exception) -> None:
    """Log that a listener failed; the message of the error is left out, which may quote anything."""
    lines.write("error", event="listener", listener=type(listener).__name__, error=type(error).__name__)
