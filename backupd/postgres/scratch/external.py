"""A server that the operator set aside for drills: marked as such, empty before each drill, and empty again after it.

The mark is a database that only such a server has. One drill at a time holds a lock in it, which ends with the drill's
connection, however that ends; a table in it lists the roles that existed before. A process that finds the table without
the lock being held cleans up after a dead drill.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg

from backupd.errors import RefusedError, SourceBusyError, SourceError
from backupd.postgres.connect import Connection, Source, as_ourselves, connect, identifier, other_database
from backupd.postgres.schema.statements import TEMPORARY
from backupd.postgres.scratch.folder import ScratchDisposal, ScratchFolder, dispose, make_folder
from backupd.postgres.scratch.guardian import Reaping, watch_over
from backupd.postgres.target import session
from backupd.postgres.target.subscriptions import drop_subscriptions

MARK = "backupd_drill"
"""The database that marks a server: it is for drills, and holds nothing else."""
PREFIX = "backupd_drill_"
"""Prefix of the name of every database that a drill makes there."""
_LOCK = 0x6261636B_64726C6C
_UNKNOWN = 1 << 62

_DRILLS = "(starts_with(datname::text, 'backupd_drill_') OR starts_with(datname::text, %s))"
_OURS = f"SELECT datname FROM pg_catalog.pg_database WHERE {_DRILLS} ORDER BY 1"  # noqa: S608  # constants only
_STRANGE = f"""
SELECT count(*) FROM pg_catalog.pg_database
WHERE datname NOT IN ('postgres', 'template0', 'template1', 'backupd_drill') AND NOT {_DRILLS}
"""  # noqa: S608  # made of constants of this module
_RELATIONS = """
SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
AND NOT (n.nspname = 'public' AND c.relname = 'backupd_roles')
AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.objid = c.oid AND d.deptype = 'e')
"""
_NEW_ROLES = """
SELECT rolname FROM pg_catalog.pg_roles WHERE NOT starts_with(rolname::text, 'pg_')
AND rolname NOT IN (SELECT name FROM public.backupd_roles) ORDER BY 1
"""
_END = f"""
SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
WHERE pid <> pg_catalog.pg_backend_pid() AND {_DRILLS}
"""  # noqa: S608  # made of constants of this module
_SIZE = f"""
SELECT coalesce(sum(pg_catalog.pg_database_size(oid)), 0)::int8 FROM pg_catalog.pg_database WHERE {_DRILLS}
"""  # noqa: S608  # made of constants of this module


class ExternalServer:
    """The part of an external server that one drill uses."""

    def __init__(self, folder: ScratchFolder, target: Source, holding: Connection, token: str) -> None:
        self._folder = folder
        self._target = target
        self._holding = holding
        self._token = token
        self.roles = _roles(holding)

    @property
    def source(self) -> Source:
        return self._target

    @property
    def version(self) -> str:
        number = self._holding.info.server_version
        return f"{number // 10000}.{number % 10000}"

    @property
    def path(self) -> Path:
        return self._folder.path

    def name(self, real: str, what: str = "") -> str:  # noqa: ARG002  # the real one has no place on another's server
        return f"{PREFIX}{self._token}{what and '_' + what}"

    def size(self) -> int:
        with suppress(SourceError), connect(self._target) as connection:
            return int(connection.execute(_SIZE.encode(), (TEMPORARY,)).fetchall()[0][0])
        return 0

    def free(self) -> int:
        return _UNKNOWN

    def stop(self) -> None:
        with suppress(SourceError), session.connect(self._target, MARK) as connection:
            connection.execute(_END.encode(), (TEMPORARY,))

    def dispose(self) -> ScratchDisposal:
        """Remove the drill's databases, roles and folder. Raises nothing: what cannot be removed is counted."""
        left = 1
        with suppress(SourceError), session.connect(self._target, MARK) as connection:
            left = clean(connection)[1]
        removed = dispose(self._folder) and not self._folder.path.exists()
        destroyed = [("database", "listed-absent"), ("roles", "listed-absent")] if not left else []
        destroyed += [("data-folder", "listed-absent")] if removed else []
        return ScratchDisposal(tuple(destroyed), left + (not removed))


@contextmanager
def external_server(target: Source, parent: Path, token: str) -> Iterator[ExternalServer]:
    """Yield a server set aside for drills, for one drill; all that the drill makes is removed when the block ends.

    When this process is killed, a guardian process does the same, and if that is killed, too, the next drill. Raises
    RefusedError for a server that is not marked, or holds anything else, SourceBusyError while another drill has it,
    ConfigError and SourceError.
    """
    target = other_database(target, MARK)
    with _marked(target) as holding:
        target = as_ourselves(target, holding.info.user, holding.info.server_version)
        require_empty(target, holding)
        if not _locked(holding):
            raise SourceBusyError("another drill has the server", hint="Wait for its end; a drill needs it alone.")
        folder = make_folder(parent, token)
        guardian = watch_over(folder, _reaping(target))
        try:
            clean(holding)
            holding.execute("CREATE TABLE public.backupd_roles AS SELECT rolname AS name FROM pg_catalog.pg_roles")
            yield ExternalServer(folder, target, holding, token)
        finally:
            with suppress(SourceError, psycopg.Error):
                clean(holding)
            dispose(folder)
            if guardian.stdin is not None:
                guardian.stdin.close()
            holding.close()  # the guardian waits for its lock
            guardian.wait()


@contextmanager
def _marked(target: Source) -> Iterator[Connection]:
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(session.connect(target, MARK))
        except SourceError as error:
            if not error.message.endswith("the database does not exist"):
                raise
            raise RefusedError(
                "the server for drills is not marked as one",
                hint=f"Only where it holds nothing else, and never will: CREATE DATABASE {MARK}.",
            ) from None
        yield connection


def require_empty(target: Source, connection: Connection) -> None:
    """Check that the server holds only what drills made, and that the role is a superuser.

    Raises RefusedError, SourceError.
    """
    if not session.is_superuser(connection):
        raise RefusedError(
            "the role on the server for drills is no superuser",
            hint="A restore makes roles, extensions and owners; let it be one, on a server of its own.",
        )
    strange = int(connection.execute(_STRANGE.encode(), (TEMPORARY,)).fetchall()[0][0])
    for database in (MARK, "postgres"):
        with session.connect(target, database) as other:
            strange += int(other.execute(_RELATIONS).fetchall()[0][0])
    if strange:
        raise RefusedError(
            "the server for drills holds something that no drill made",
            hint=f'It may have the databases "postgres" and "{MARK}", both empty, and no other.',
        )


def clean(connection: Connection) -> tuple[int, int]:
    """Remove what drills made on a marked server; return how many databases and roles went, and how many remain.

    Roles are removed only if a drill has listed the roles that existed before. Only for a caller that holds the lock.
    """
    names = [name for (name,) in connection.execute(_OURS.encode(), (TEMPORARY,)).fetchall()]
    for name in names:
        drop_subscriptions(connection, name)
    gone = sum(_done(connection, f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)") for name in names)
    left = len(names) - gone
    if connection.execute("SELECT pg_catalog.to_regclass('public.backupd_roles')").fetchall() == [(None,)]:
        return gone, left
    roles = _new_roles(connection)
    while roles:
        for role in roles:
            _done(connection, f"DROP OWNED BY {identifier(role)} CASCADE")
        dropped = sum(_done(connection, f"DROP ROLE {identifier(role)}") for role in roles)
        gone += dropped
        roles = _new_roles(connection)
        if not dropped:
            break
    if not left and not roles:
        connection.execute("DROP TABLE public.backupd_roles")
    return gone, left + len(roles)


def reap_external(target: Source) -> tuple[int, int] | None:
    """Clean up after a dead drill as `clean` does; None while another drill holds the lock. Raises SourceError."""
    with session.connect(other_database(target, MARK), MARK) as connection:
        return clean(connection) if _locked(connection) else None


def reap_for_guardian(conninfo: str, passfile: str, servicefile: str) -> bool:
    """Clean up when the drill is dead; return whether the lock was free. A guardian calls this. Raises SourceError."""
    passwords, services = (Path(one) if one else None for one in (passfile, servicefile))
    return reap_external(Source(conninfo, passwords, services)) is not None


def _reaping(target: Source) -> Reaping:
    where = (target.conninfo, str(target.passfile or ""), str(target.servicefile or ""))
    return Reaping(f"{__name__}:{reap_for_guardian.__name__}", where)


def _locked(connection: Connection) -> bool:
    return bool(connection.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (_LOCK,)).fetchall()[0][0])


def _roles(connection: Connection) -> frozenset[str]:
    return frozenset(name for (name,) in connection.execute("SELECT name FROM public.backupd_roles").fetchall())


def _new_roles(connection: Connection) -> list[str]:
    return [name for (name,) in connection.execute(_NEW_ROLES).fetchall()]


def _done(connection: Connection, statement: str) -> bool:
    try:
        connection.execute(statement.encode())
    except psycopg.Error:
        return False
    return True
