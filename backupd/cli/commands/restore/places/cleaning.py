"""`restore --clean`: what restores that were killed have left."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from backupd.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from backupd.cli.commands.restore.places.where import Where
    from backupd.clock import Clock
    from backupd.postgres.connect import Source
    from backupd.wiring import Wiring

_BETWEEN = 5.0
"""Seconds between two looks: a restore under way is without a connection for moments only."""


def clean(wiring: Wiring, where: Where) -> None:
    """Remove it where `where` says, and tell so."""
    if where.files is not None:
        _clean_folders([where.files.absolute().parent, where.files.absolute()])
    elif where.scratch is not None:
        _clean_servers(where.scratch.absolute().parent)
    else:
        clean_up(wiring.restore_server(where.target or "", where.passfile)[0], wiring.clock)


def clean_up(target: Source, clock: Clock) -> None:
    """Drop the databases that restores which were killed left on a server; nobody may be connected to them."""
    from backupd.postgres.target import database, session

    with session.connect(target, session.MAINTENANCE) as connection:
        before = database.leftovers(connection)
        if before:
            clock.sleep(_BETWEEN)
        found = [name for name in database.leftovers(connection) if name in before]
    gone = [name for name in found if database.drop(target, name)]
    output.print_lines([f"dropped {len(gone)} of {len(found)} unfinished databases", *(f"  {name}" for name in gone)])


def _clean_folders(parents: Iterable[Path]) -> None:
    """Remove unfinished folders beside the one that is named, and in it, where a region's would be."""
    from backupd.operations.restore.files.folder import leftovers

    found = [path for parent in parents for path in leftovers(parent)]
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    gone = [path for path in found if not path.exists()]
    output.print_lines(
        [f"removed {len(gone)} of {len(found)} unfinished folders", *(f"  {path.name}" for path in gone)]
    )


def _clean_servers(parent: Path) -> None:
    from backupd.postgres.scratch.cluster import reap

    gone, left = reap(parent)
    output.print_lines([f"removed {gone} of {gone + left} unfinished scratch servers"])
