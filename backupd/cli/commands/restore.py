"""`restore`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import output
from backupd.cli.commands.store import tell_signers
from backupd.cli.options import (
    EXIT_STATUS,
    ConfigOption,
    IdentityOption,
    JsonOption,
    PassphraseOption,
    StoreOption,
    wired,
)
from backupd.cli.passphrase import open_identity
from backupd.cli.progress import watched

if TYPE_CHECKING:
    from backupd.operations.restore import RestoreReport


def add(app: typer.Typer) -> None:
    app.command("restore", epilog=EXIT_STATUS)(restore)


def restore(
    context: typer.Context,
    region: Annotated[str, typer.Argument(metavar="REGION", show_default=False)],
    database: Annotated[str, typer.Argument(metavar="DATABASE", help="The configured label.", show_default=False)],
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="DSN",
            show_default=False,
            help="The server to restore to, and as dbname the name of the new database.",
        ),
    ],
    snapshot: Annotated[
        str,
        typer.Option("--snapshot", metavar="ID|TIME|latest", help="Its name's beginning, or the newest at a time."),
    ] = "latest",
    identity: IdentityOption = None,
    passphrase_file: PassphraseOption = None,
    globals_: Annotated[bool, typer.Option("--globals", help="Make roles that the server does not have.")] = False,
    member: Annotated[
        str | None,
        typer.Option(
            "--member", metavar="NAME", show_default=False, help="Which database, where the label stands for several."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Tables and indexes at once.")] = 4,
    analyze: Annotated[bool, typer.Option("--analyze", help="Gather statistics before handing it over.")] = False,
    passfile: Annotated[
        Path | None,
        typer.Option("--passfile", metavar="FILE", show_default=False, help="The target's password file, as .pgpass."),
    ] = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a database into a new one.

    The database is filled under a temporary name and gets its own when everything is there: rows, sequences, large
    objects, indexes, constraints, owners, privileges, comments. Every row is compared with what was read when it was
    backed up. An existing database is never touched; a failed restore leaves none.

    \b
    Examples:
      backupd restore be app --target "host=db2 dbname=app_restored" --identity ops.identity
      backupd restore be app --snapshot 2026-03-31T14:00 --globals --target "dbname=app" --identity ops.identity
    """
    from backupd.operations.restore import RestoreRequest
    from backupd.operations.restore import restore as run
    from backupd.operations.restore.values import World

    wiring = wired(context, config)
    place = wiring.regions([region])[0]
    (label,) = wiring.databases(place, database)
    source, name = wiring.restore_target(target, passfile)
    request = RestoreRequest(label, snapshot, source, name, member=member, jobs=jobs, roles=globals_, analyze=analyze)
    pair = open_identity(identity, passphrase_file)
    with wiring.repository(place, store) as repository, watched(wiring.clock, quiet=as_json) as trace:
        tell_signers(wiring, repository)
        report = run(request, repository, World(pair.secret, wiring.clock, trace, os.urandom))
    if as_json:
        output.print_json({"region": region, "target": name, "report": report})
    else:
        output.print_lines(_told(name, report))


def _told(name: str, report: RestoreReport) -> list[str]:
    phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in report.phases)
    return [
        f'restored {report.label} of {report.exported} as "{name}"',
        f"  {report.tables} tables with rows, {report.rows} rows, {output.human_bytes(report.bytes)}",
        f"  {report.verified} digests compared, all equal",
        f"  {report.seconds:.1f} s in all: {phases}",
    ]
