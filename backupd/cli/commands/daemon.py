"""`daemon`: everything by itself, for years."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli.options import EXIT_STATUS, ConfigOption, JsonOption, RegionArgument, configured_file
from backupd.errors import UsageError

if TYPE_CHECKING:
    from backupd.model.ids import RegionName
    from backupd.operations.service.jobs import JobKind
    from backupd.operations.service.log import Lines
    from backupd.operations.service.supervisor import Plan
    from backupd.operations.service.systemd import Locks
    from backupd.wiring.context import Context


def add(app: typer.Typer) -> None:
    app.command("daemon", epilog=EXIT_STATUS)(daemon)


def daemon(
    ctx: typer.Context,
    region: RegionArgument = None,
    jobs: Annotated[
        str | None,
        typer.Option(
            "--jobs",
            metavar="KIND,…",
            show_default=False,
            help="Only these: backup, sync, purge, expire, verify, observe, drill. "
            "[default: all that the configuration and the credentials at hand allow]",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Do what is due now, and end.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Do everything by itself, on the configured timetables, until it is told to stop.

    Each job is a process of its own with a deadline; one that fails or hangs stops no other. What was missed is done
    once, soon after the start. Failures that trying again can help are tried again, later and later; refused keys and
    credentials are not, until their next time. Each run leaves one line in the log. SIGHUP reads the configuration
    anew, and a wrong one changes nothing; SIGTERM ends the jobs in order, and the next start goes on from there. With
    --once the exit status is that of the first job that failed.

    \b
    Examples:
      backupd daemon
      backupd daemon be --jobs backup,verify,observe
      backupd daemon --once
    """
    from backupd.operations.service.log import Lines
    from backupd.operations.service.systemd import Locks

    file = configured_file(ctx, config)
    asked = _Asked(file, tuple(region or ()), _kinds(jobs), once=once)
    accepted = asked.read()
    lines = Lines(sys.stderr, os.environ, as_json=as_json)
    with closing(Locks(accepted.context.config.node.state_dir)) as locks:
        locks.hold(job.key for job in accepted.plan.jobs)
        return _serve(_Current(asked, accepted, locks), lines)


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A configuration that can be followed."""

    context: Context
    plan: Plan
    descriptor: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line says."""

    file: Path
    regions: tuple[str, ...]
    kinds: tuple[JobKind, ...]
    once: bool

    def read(self) -> _Accepted:
        """Raises ConfigError, with all faults where it can tell them, for what cannot be followed."""
        from backupd.config.faults import ConfigFaultsError, in_file_order
        from backupd.config.load import parse, read_text
        from backupd.config.toml_lines import positions
        from backupd.wiring.context import Context
        from backupd.wiring.daemon import config_descriptor, service_plan, timetable_findings

        text = read_text(self.file)
        context = Context(parse(text, str(self.file)), os.environ)
        findings = list(timetable_findings(context))
        if findings:
            raise ConfigFaultsError(str(self.file), in_file_order(findings, positions(text)))
        spread = timedelta(0) if self.once else None
        plan = service_plan(context, context.regions(self.regions), self.kinds, spread=spread)
        return _Accepted(context, plan, config_descriptor(text))


class _Current:
    """The configuration that holds now."""

    def __init__(self, asked: _Asked, accepted: _Accepted, locks: Locks) -> None:
        self.asked = asked
        self.accepted = accepted
        self._locks = locks

    @property
    def regions(self) -> list[RegionName]:
        return self.accepted.context.regions(self.asked.regions)

    def reload(self) -> Plan:
        """Take what the file says now. Raises BackupdError when that cannot be followed; then the old one holds."""
        found = self.asked.read()
        if found.context.config.node.state_dir != self.accepted.context.config.node.state_dir:
            os.close(found.descriptor)
            raise UsageError("node.state_dir is another one", hint="Restart the daemon for that.")
        try:
            self._locks.hold(job.key for job in found.plan.jobs)
        except BaseException:
            os.close(found.descriptor)
            raise
        os.close(self.accepted.descriptor)
        self.accepted = found
        return found.plan


def _serve(current: _Current, lines: Lines) -> int:
    from backupd.operations.monitoring.delivery import Settings
    from backupd.operations.monitoring.monitor import Monitor
    from backupd.operations.service.jobs import Event
    from backupd.operations.service.serve import DaemonIO, Fanout, SignalPipe, serve
    from backupd.operations.service.supervisor import Supervisor, SupervisorIO
    from backupd.operations.service.systemd import Notifier
    from backupd.wiring.daemon import run_history, start_child
    from backupd.wiring.status import monitoring_settings, state_at_start

    clock, signals = current.accepted.context.clock, SignalPipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda which, _frame: signals.record(signal.Signals(which).name))

    class _Remembering:
        """A listener that stores the runs of each region in its own history."""

        def on_event(self, event: Event) -> None:
            key = getattr(event, "key", None)
            if key is not None:
                run_history(current.accepted.context, key.region).on_event(event)

    def settings() -> Settings:
        return monitoring_settings(current.accepted.context, current.regions)

    monitor = Monitor(settings, state_at_start(current.accepted.context, current.regions), clock, lines)

    class _Feeding(Notifier):
        """A notifier that also reports to the metrics when the watchdog was fed."""

        def alive(self) -> None:
            monitor.loop.alive(lambda: {key: supervisor.next_at(key) for key in supervisor.keys})
            super().alive()

    listeners = Fanout(
        (lines, _Remembering(), monitor),
        lambda listener, error: lines.write(
            "error", event="listener", listener=type(listener).__name__, error=type(error).__name__
        ),
    )
    world = SupervisorIO(
        clock=clock,
        start=lambda arguments: start_child(current.accepted.context, arguments, current.accepted.descriptor),
        last_done=lambda key: run_history(current.accepted.context, key.region).last_done(key),
        listener=listeners,
    )
    host = DaemonIO(
        clock=clock,
        signals=signals,
        notifier=_Feeding(os.environ, clock),
        listener=listeners,
        reload=current.reload,
        stop_within=current.accepted.plan.stop_within.total_seconds(),
        once=current.asked.once,
    )
    supervisor = Supervisor(current.accepted.plan, world)
    with closing(monitor):
        monitor.start()
        return serve(supervisor, host)


def _kinds(text: str | None) -> tuple[JobKind, ...]:
    from backupd.operations.service.jobs import JobKind

    names = text.split(",") if text is not None else []
    unknown = [name for name in names if name not in set(JobKind)]
    if unknown or (text is not None and not names):
        raise UsageError("--jobs names a kind that does not exist", hint=f"Known are {', '.join(JobKind)}.")
    return tuple(JobKind(name) for name in names)
