"""Find out before anything is loaded which things a schema needs and the server does not have, or does not allow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import psycopg

from backupd.errors import RefusedError
from backupd.model.text import counted
from backupd.postgres.connect import Connection
from backupd.postgres.failures import reason
from backupd.postgres.schema.needs import OWNER_OF_DATABASE, SchemaNeeds
from backupd.postgres.schema.statements import renamed, split_statements
from backupd.postgres.target import session
from backupd.postgres.target.database import database_part
from backupd.postgres.target.pg_restore import DatabaseSql

_NAMED = 10
"""Names that an error lists of one kind."""
_MAY_CREATE = "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER"
_STRANGE_OWNERS = """
SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.rolname = ANY (%s) AND NOT pg_catalog.pg_has_role(r.oid, %s)
"""
_SET_SINCE = 160000
"""The `server_version_num` from which a member may be kept from giving objects to a role."""
_TRIALS = {
    "EVENT TRIGGER": (
        "CREATE FUNCTION pg_temp.backupd_trial() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER backupd_trial ON ddl_command_end EXECUTE FUNCTION pg_temp.backupd_trial()",
    ),
    "PUBLICATION": ("CREATE PUBLICATION backupd_trial FOR ALL TABLES",),
    "SUBSCRIPTION": (
        "CREATE SUBSCRIPTION backupd_trial CONNECTION 'dbname=x password=x' PUBLICATION x WITH (connect = false)",
    ),
}
"""Statements by which it is found out, and undone, whether the role may make objects of a kind."""


@dataclass(frozen=True, slots=True)
class Lack:
    """Things of one kind that are missing, and what to do about them."""

    what: str
    """The kind of thing, as in `role`."""
    names: tuple[str, ...] = field(repr=False)
    cure: str
    named: bool = True
    """Whether a message may say the names; roles may be named after tenants."""

    def summary(self) -> str:
        """Return kind, number and names, where these may be said."""
        if not self.named:
            return counted(len(self.names), self.what)
        more = ", …" if len(self.names) > _NAMED else ""
        return f"{self.what} {', '.join(self.names[:_NAMED])}{more}"


def require_nothing(lacks: Sequence[Lack]) -> None:
    """Raise RefusedError with all that is missing, and what to do about each."""
    if lacks:
        raise RefusedError(
            "the target lacks what the snapshot needs: " + "; ".join(lack.summary() for lack in lacks),
            hint=" ".join(dict.fromkeys(lack.cure for lack in lacks)),
        )


def missing_things(connection: Connection, needs: SchemaNeeds, *, roles: bool) -> list[Lack]:
    """Return what is missing of what the schema names; `roles` says whether missing roles are made.

    Raises psycopg's errors.
    """
    found: list[Lack] = []
    if connection.execute(_MAY_CREATE).fetchall() != [(True,)]:
        cure = "Give the user of --target CREATEDB, or name a superuser there."
        found.append(Lack("the right to make databases", ("CREATEDB",), cure))
    there = _names(connection, "SELECT rolname FROM pg_catalog.pg_roles")
    if not roles:
        cure = (
            "Add --globals, which makes the roles; or give them others with --role-map OLD=NEW, or leave them out with "
            "--no-owner and --no-acl. `restore preview` with --target names them."
        )
        found += _lack("role", needs.roles - there, cure, named=False)
    if not session.is_superuser(connection):
        how = "SET" if connection.info.server_version >= _SET_SINCE else "MEMBER"
        rows = connection.execute(_STRANGE_OWNERS, (list(needs.owners - {OWNER_OF_DATABASE}), how)).fetchall()
        cure = "Make the user of --target a member of the owners, or a superuser; or give everything to it: --no-owner."
        found += _lack("owner whose role it is not", {name for (name,) in rows}, cure, named=False)
    spaces = _names(connection, "SELECT spcname FROM pg_catalog.pg_tablespace")
    cure = "Create the tablespace, or give --no-tablespaces or --tablespace-map OLD=NEW."
    found += _lack("tablespace", needs.tablespaces - spaces, cure)
    available = _names(connection, "SELECT name FROM pg_catalog.pg_available_extensions")
    cure = "Install the extension's package on the server."
    return found + _lack("extension", needs.extensions - available, cure)


def refused_things(connection: Connection, needs: SchemaNeeds, sql: DatabaseSql, name: str) -> list[Lack]:
    """Try, and undo, what comes after the rows: settings and privileges of the database, and what needs rights.

    `name` is that of the new database, which the connection is to. Raises psycopg's errors.
    """
    found: list[Lack] = []
    with connection.transaction(force_rollback=True):
        for kind in () if session.is_superuser(connection) else sorted(needs.kinds):
            for statement in _TRIALS[kind]:
                refused = _refused(connection, statement)
                if refused:
                    cure = "Restore as a superuser, or leave out what fails: --keep-going."
                    found.append(Lack(f"{kind.lower()} ({refused})", ("not allowed",), cure))
                    break
        for text in sql.properties:
            for statement in split_statements(renamed(text, name)):
                refused = _refused(connection, statement)
                if refused:
                    cure = "The server refuses it: compare versions and rights, or leave out what fails: --keep-going."
                    found.append(Lack("property of the database", (f"{database_part(statement)} ({refused})",), cure))
    return found


def _refused(connection: Connection, statement: str) -> str:
    try:
        with connection.transaction():
            connection.execute(statement.encode(errors="surrogateescape"))
    except psycopg.Error as error:
        if connection.broken:
            raise
        return reason(error)
    return ""


def _names(connection: Connection, query: str) -> set[str]:
    return {name for (name,) in connection.execute(query.encode()).fetchall()}


def _lack(what: str, names: Iterable[str], cure: str, *, named: bool = True) -> list[Lack]:
    found = tuple(sorted(names))
    return [Lack(what, found, cure, named)] if found else []
