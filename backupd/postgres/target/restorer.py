"""A role by which a snapshot is restored, so that what its owners wrote never runs with a superuser's rights.

It is no superuser, and a member of the owners, but of none by whom it could do what only superusers may. The statements
that make it are printed, for a superuser of the target to look at and run.

`backupd manual trust`, row *definitions: functions, checks, views, types*,
says who can write this, and what is checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from backupd.errors import RefusedError
from backupd.postgres.connect import Connection, identifier
from backupd.postgres.schema.needs import OWNER_OF_DATABASE, SchemaNeeds
from backupd.postgres.schema.statements import split_statements
from backupd.postgres.target.database import database_part
from backupd.postgres.target.pg_restore import DatabaseSql

_ATTRIBUTES = "LOGIN NOSUPERUSER CREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
_MIGHTY = """
SELECT DISTINCT r.rolname FROM pg_catalog.pg_roles r
JOIN pg_catalog.pg_roles m ON pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER')
WHERE r.rolname = ANY (%s) AND (m.rolsuper OR m.rolcreaterole OR m.rolreplication OR m.rolbypassrls
  OR pg_catalog.starts_with(m.rolname::text, 'pg_'))
"""
"""Roles that can do, or become who can, what no owner of a database's objects has to. Before 16, who has CREATEROLE
makes itself a member of roles that run programs on the server; replication reads every database."""
_MEMBER = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY (%s) AND pg_catalog.pg_has_role(%s, oid, %s)"
_SET_SINCE = 160000
_OTHER_DATABASES = """
SELECT DISTINCT o.rolname FROM pg_catalog.pg_database d
JOIN pg_catalog.pg_roles o ON pg_catalog.pg_has_role(o.oid, d.datdba, 'MEMBER') WHERE o.rolname = ANY (%s)
"""
_TRUSTED = """
SELECT DISTINCT name FROM pg_catalog.pg_available_extension_versions
WHERE name = ANY (%s) AND (trusted OR NOT superuser)
"""
_GUARDED = """
SELECT name FROM pg_catalog.pg_settings WHERE name = ANY (%s) AND context IN ('superuser', 'superuser-backend')
"""


@dataclass(frozen=True, slots=True)
class Restorer:
    """The role for one snapshot and one server."""

    name: str = field(repr=False)
    statements: tuple[str, ...] = field(repr=False)
    """What makes the role, for a superuser to run."""
    mapped: tuple[str, ...] = field(repr=False)
    """Owners of whom it must be no member: what they own is to be given to the role, by `--role-map`."""
    elsewhere: tuple[str, ...] = field(repr=False)
    """Owners that own other databases of the server, which code could rename, drop or set through this role."""


def restorer(connection: Connection, needs: SchemaNeeds, name: str) -> Restorer:
    """Return the role of this name. Raises RefusedError for one that could become a superuser; psycopg's errors."""
    owners = needs.owners - {name, OWNER_OF_DATABASE}
    there = {found for (found,) in connection.execute("SELECT rolname FROM pg_catalog.pg_roles").fetchall()}
    mighty = _found(connection, _MIGHTY, [*owners, name])
    if name in mighty:
        raise RefusedError(
            "the role of --restorer can act as a superuser, create roles, replicate, or pass by row security",
            hint="Give the name of a role that is to be made, or one without such rights and memberships.",
        )
    # A role's name that PostgreSQL keeps for itself is none that anybody could make.
    mapped = mighty | {one for one in owners if one.startswith("pg_")}
    granted = owners - mapped
    return Restorer(
        name,
        tuple(_statements(connection, needs, name, granted, there)),
        tuple(sorted(mapped)),
        tuple(sorted(_found(connection, _OTHER_DATABASES, granted))),
    )


def superusers(connection: Connection) -> set[str]:
    """Return the server's superusers. Raises psycopg's errors."""
    return {name for (name,) in connection.execute("SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper").fetchall()}


def superusers_part(connection: Connection, needs: SchemaNeeds, sql: DatabaseSql) -> tuple[str, ...]:
    """Return kind and name of what only a superuser can make: objects, extensions that this server does not trust,
    settings. Raises psycopg's errors.
    """
    trusted = _found(connection, _TRUSTED, needs.extensions)
    extensions = [f"EXTENSION {one}" for one in sorted(needs.extensions - trusted)]
    statements = [one for text in sql.properties for one in split_statements(text)]
    of_roles = {database_part(one) for one in statements if one.startswith("ALTER ROLE ")}
    of_all = {database_part(one).removeprefix("setting ") for one in statements if one.startswith("ALTER DATABASE ")}
    settings = of_roles | {f"setting {name}" for name in _found(connection, _GUARDED, of_all)}
    return (*extensions, *(f"{kind} {name}" for kind, name in needs.privileged), *sorted(settings))


def _statements(
    connection: Connection, needs: SchemaNeeds, name: str, granted: Collection[str], there: Collection[str]
) -> Iterator[str]:
    role = identifier(name)
    yield f"{'ALTER' if name in there else 'CREATE'} ROLE {role} {_ATTRIBUTES};"
    missing = {one for one in needs.roles - set(there) if not one.startswith("pg_")} - {name}
    yield from (f"CREATE ROLE {identifier(one)};" for one in sorted(missing))
    how = "SET" if connection.info.server_version >= _SET_SINCE else "MEMBER"
    member: set[str] = set()
    if name in there:
        member = {one for (one,) in connection.execute(_MEMBER, (list(granted), name, how)).fetchall()}
    yield from (f"GRANT {identifier(one)} TO {role};" for one in sorted(set(granted) - member))
    yield from (f"GRANT CREATE ON TABLESPACE {identifier(one)} TO {role};" for one in sorted(needs.tablespaces))


def _found(connection: Connection, query: str, names: Collection[str]) -> set[str]:
    return {name for (name,) in connection.execute(query.encode(), (list(names),)).fetchall()}
