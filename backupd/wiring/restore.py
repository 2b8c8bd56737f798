"""The parts of restores: the server to restore to, a scratch server that stays, and the files that restores leave."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import UsageError
from backupd.model.ids import RegionName
from backupd.wiring.context import Context

if TYPE_CHECKING:
    from backupd.postgres.connect import Source
    from backupd.postgres.scratch.cluster import ClusterSpec


def restore_target(context: Context, dsn: str, passfile: Path | None) -> tuple[Source, str]:
    """Return a server to restore to, and the name of the new database there.

    Raises UsageError when the connection string names no database, ConfigError when it cannot be read or holds a
    password.
    """
    source, name = restore_server(context, dsn, passfile)
    if not name:
        raise UsageError("the target names no database", hint='Name the new one in it, as in "dbname=restored".')
    return source, name


def restore_server(context: Context, dsn: str, passfile: Path | None) -> tuple[Source, str | None]:
    """Return a server to restore to, and the database its connection string names, if any.

    Raises ConfigError when it cannot be read or holds a password.
    """
    from backupd.postgres.connect import Source, parameters

    source = Source(conninfo=dsn, passfile=passfile, client_folders=context.config.node.client_dirs)
    name = parameters(source).get("dbname")
    return source, str(name) if name else None


def programs_alone(context: Context) -> Source:
    """Return where PostgreSQL's programs are, as the settings of a server that nothing connects to."""
    from backupd.postgres.connect import Source

    return Source("", client_folders=context.config.node.client_dirs)


def scratch_making(context: Context, folder: Path, server: int) -> ClusterSpec:
    """Return the specification of a server of the major version of `server`, a `server_version_num`, beside `folder`.

    Raises RefusedError when `folder` cannot be there, ConfigError when programs or the server's user are missing.
    """
    from backupd.postgres.scratch.cluster import ClusterSpec
    from backupd.postgres.scratch.kept import require_place
    from backupd.postgres.scratch.programs import find_server, runner

    require_place(folder)
    drill, node = context.config.drill, context.config.node
    programs = find_server(node.client_dirs, server // 10000)
    user, preload = (None, ()) if drill is None else (drill.user, drill.preload)
    return ClusterSpec(folder.parent, programs, runner(user), secrets.token_hex(8), preload=preload)


def rates_file(context: Context, region: RegionName, label: str) -> Path:
    """Return the file that says how fast a database was restored here."""
    return context.config.node.state_dir / region / f"rates-{label}.json"


def restored_file(context: Context, region: RegionName) -> Path:
    """Return the file that says which databases restores of the region have completed, so they are not repeated."""
    return context.config.node.state_dir / region / "restored.json"
