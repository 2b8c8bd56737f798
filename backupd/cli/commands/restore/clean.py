"""The command `restore clean`, which removes the remains of restores that were killed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import output
from backupd.cli.commands.restore.options import PassfileOption
from backupd.cli.consent import DryRunOption, YesOption, is_asked, show_and_ask
from backupd.cli.options import ConfigOption, load_context
from backupd.cli.waiting_line import counted_seconds
from backupd.errors import UsageError
from backupd.model.text import counted

if TYPE_CHECKING:
    from backupd.clock import Clock
    from backupd.postgres.connect import Source

_BETWEEN = 5.0
"""Seconds between two looks: a restore under way is without a connection for moments only."""


def clean(
    ctx: typer.Context,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="DSN", show_default=False, help="The server with unfinished databases."),
    ] = None,
    target_dir: Annotated[
        Path | None,
        typer.Option(
            "--target-dir",
            metavar="FOLDER",
            show_default=False,
            help="The folder that was restored into; what is unfinished lies beside it.",
        ),
    ] = None,
    passfile: PassfileOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
) -> None:
    """Remove what killed restores left on a server or beside a folder, and no more.

    \b
    Examples:
      backupd restore clean --target "host=db2 dbname=postgres user=postgres"
      backupd restore clean --target-dir acme
    """
    from backupd.wiring.restore import restore_server

    if (target is None) == (target_dir is None):
        raise UsageError(
            "what is cleaned is a server or a folder", hint="Give one of --target and --target-dir, as the restore had."
        )
    context = load_context(ctx, config)
    if target is not None:
        server = restore_server(context, target, passfile)[0]
        with counted_seconds("looking for unfinished databases"):
            found = unfinished_databases(server, context.clock)
    else:
        folder = (target_dir or Path()).absolute()
        found = [path.name for path in [*_unfinished_folders(folder), *_unfinished_servers(folder.parent)]]
    would = [f"would remove {counted(len(found), 'unfinished thing')}", *(f"  {name}" for name in found)]
    if dry_run:
        output.print_lines(would)
        return
    if found and is_asked(yes=yes):
        show_and_ask(would, "Remove them?")
    if target is not None:
        with counted_seconds("dropping unfinished databases"):
            done = list(drop_unfinished(server, found))
    else:
        with counted_seconds("removing what is unfinished"):
            done = [*_remove_folders(folder), *_remove_servers(folder.parent)]
    output.print_lines(done)


def unfinished_databases(target: Source, clock: Clock) -> list[str]:
    """Return the databases that killed restores left on a server: nobody is connected to them, twice in a row.

    Raises SourceError.
    """
    from backupd.postgres.target import database, session

    with session.connect(target, session.MAINTENANCE) as connection:
        before = database.leftovers(connection)
        if before:
            clock.sleep(_BETWEEN)
        return [name for name in database.leftovers(connection) if name in before]


def drop_unfinished(target: Source, found: Sequence[str]) -> Iterator[str]:
    """Drop unfinished databases; nobody may be connected to them. Yields the text. Raises SourceError."""
    from backupd.postgres.target import database

    gone = [name for name in found if database.drop(target, name)]
    yield f"dropped {len(gone)} of {counted(len(found), 'unfinished database')}"
    yield from (f"  {name}" for name in gone)


def _unfinished_folders(folder: Path) -> list[Path]:
    from backupd.operations.restore.files import leftovers

    return [path for parent in (folder.parent, folder) for path in leftovers(parent)]


def _unfinished_servers(parent: Path) -> list[Path]:
    from backupd.postgres.scratch.folder import leftovers

    found = []
    for one in leftovers(parent):
        one.lock.close()
        found.append(one.path)
    return found


def _remove_folders(folder: Path) -> Iterator[str]:
    """Remove unfinished folders beside the one that is named, and in it, where a region's would be."""
    found = _unfinished_folders(folder)
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    gone = [path for path in found if not path.exists()]
    yield f"removed {len(gone)} of {counted(len(found), 'unfinished folder')}"
    yield from (f"  {path.name}" for path in gone)


def _remove_servers(parent: Path) -> Iterator[str]:
    """Remove the unfinished scratch servers in a folder."""
    from backupd.postgres.scratch.cluster import reap

    gone, left = reap(parent)
    yield f"removed {gone} of {counted(gone + left, 'unfinished scratch server')}"
