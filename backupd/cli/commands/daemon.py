"""The command `daemon`, which does everything by itself, for years."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli.options import EXIT_STATUS, ConfigOption, JsonOption, RegionArgument, configured_file
from backupd.errors import UsageError

if TYPE_CHECKING:
    from backupd.operations.service.jobs import JobKind


def add(app: typer.Typer) -> None:
    """Add the command to the program."""
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
    """Do everything by itself, on the configured timetables, until it is stopped.

    Each job is a process of its own with a deadline; one that fails or hangs stops no other. What was missed is done
    once, soon after the start. Failures that trying again can help are tried again, later and later; refused keys and
    credentials are not, until their next time. Each run leaves one line in the log. SIGHUP reads the configuration
    again, and a wrong one changes nothing; SIGTERM ends the jobs in order, and the next start does what is left. With
    --once the exit status is that of the first job that failed.

    \b
    Examples:
      backupd daemon
      backupd daemon be --jobs backup,verify,observe
      backupd daemon --once
    """
    from backupd.cli.service import Demand, run_service

    demand = Demand(configured_file(ctx, config), tuple(region or ()), _kinds(jobs), once=once)
    return run_service(demand, as_json=as_json)


def _kinds(text: str | None) -> tuple[JobKind, ...]:
    from backupd.operations.service.jobs import JobKind

    names = text.split(",") if text is not None else []
    unknown = [name for name in names if name not in set(JobKind)]
    if unknown or (text is not None and not names):
        raise UsageError("--jobs names a kind that does not exist", hint=f"Known are {', '.join(JobKind)}.")
    return tuple(JobKind(name) for name in names)
