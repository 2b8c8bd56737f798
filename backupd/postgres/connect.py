"""Connections to databases, under settings that do not depend on the database; and names and values as SQL text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from backupd.errors import ConfigError, SourceError
from backupd.postgres import settings
from backupd.postgres.failures import translated

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

_DEFAULTS: dict[str, str | int] = {
    "application_name": "backupd",
    "connect_timeout": 15,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 4,
    "tcp_user_timeout": 60_000,
}
"""Connection parameters by which a dead peer is noticed within about a minute; in seconds, except the last, in
milliseconds."""
_CHOOSING = frozenset({"host", "hostaddr", "port", "load_balance_hosts", "target_session_attrs"})


@dataclass(frozen=True, slots=True)
class Source:
    """The place of a database. It holds no secret: passwords stand in files that libpq reads itself."""

    conninfo: str = field(repr=False)
    """libpq keywords or URI, `service=name` among them; a password in it is refused."""
    passfile: Path | None = None
    servicefile: Path | None = None
    client_folders: tuple[Path, ...] = ()
    """Folders in which pg_dump and the other client programs are looked for first."""


def parameters(source: Source, database: str | None = None) -> dict[str, Any]:
    """Return libpq's parameters for the source, or for another database of the same server.

    Raises ConfigError for text libpq cannot read, and for a password in it.
    """
    try:
        given = conninfo_to_dict(source.conninfo)
    except psycopg.Error:
        raise ConfigError(
            "the connection string cannot be read",
            hint='Write it as "host=… port=… dbname=… user=…" or as a postgresql:// URI.',
        ) from None
    if given.get("password") or given.get("sslpassword"):
        raise ConfigError(
            "the connection string holds a password",
            hint="Put it into a password file of the form of ~/.pgpass, readable by its owner only, and name that with "
            "--passfile; in the configuration, as passfile.",
        )
    if source.passfile is not None:
        given["passfile"] = str(source.passfile)
    if source.servicefile is not None and "service" in given:
        given = {**_service(source.servicefile, str(given.pop("service"))), **given}
    if database is not None:
        given["dbname"] = database
    return {**_DEFAULTS, **given}


def address(source: Source) -> str:
    """Return host and port as the connection string has them, for messages; empty when libpq decides by itself.

    Raises what `parameters` raises.
    """
    given = parameters(source)
    host = given.get("host") or given.get("hostaddr")
    return f"{host}, port {given.get('port', 5432)}" if host else ""


def _service(path: Path, name: str) -> dict[str, str]:
    """Read one section of a connection service file; libpq itself takes the file's path from the environment only."""
    parser = ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",), strict=False)
    try:
        parser.read_string(path.read_text())
        return dict(parser[name])
    except (OSError, KeyError, ConfigParserError):
        raise ConfigError(
            f"the service is not in {str(path)!r}", hint="Add a section of that name, or correct the file's path."
        ) from None


def other_database(source: Source, database: str) -> Source:
    """Return the source for another database of the same server."""
    return replace(source, conninfo=make_conninfo(source.conninfo, dbname=database))


def as_ourselves(source: Source, user: str, version: int) -> Source:
    """Return the source for sessions that stay this user's under all settings that its databases may have.

    None of them makes another role of the user, loads a library, forbids writing, or ends the session in time.
    `version` is the server's `server_version_num`. Raises what `parameters` raises.
    """
    name = user.replace("\\", "\\\\").replace(" ", "\\ ")
    plain = "role=none", f"session_authorization={name}", "default_transaction_read_only=off"
    libraries = "local_preload_libraries=", "session_preload_libraries="
    ours = " ".join(f"-c {setting}" for setting in (*plain, *libraries))
    options = f"{parameters(source).get('options', '')} {ours} {settings.without_limits(version)}".strip()
    return replace(source, conninfo=make_conninfo(source.conninfo, options=options))


@contextmanager
def connect(source: Source, database: str | None = None) -> Iterator[Connection]:
    """Yield a connection in autocommit under the fixed settings, closed afterwards.

    PostgreSQL's errors, also those inside the block, leave it as SourceError or SourceGoneError.
    """
    with translated(address(source), source.passfile):
        connection = open_connection(source, database)
        try:
            yield connection
        finally:
            connection.close()


def open_connection(source: Source, database: str | None = None, place: Mapping[str, str] | None = None) -> Connection:
    """Open a connection as `connect` does; the caller closes it. Raises psycopg's own errors.

    With a `place`, which `place_of` returned, it is to that very server.
    """
    given = parameters(source, database)
    if place:
        given = {**_anywhere(given), **place}
    connection: Connection = psycopg.connect(**given, autocommit=True)
    try:
        connection.prepare_threshold = None
        connection.execute(settings.statements(settings.dump_settings(connection.info.server_version)).encode())
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_pooler(connection: Connection) -> None:
    """Refuse a connection that a pooler forwards.

    A pooler invents the process id it gives to clients, so it differs from the one that the server reports. Raises
    SourceError.
    """
    row = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    if row is None or row[0] != connection.info.backend_pid:
        raise SourceError(
            "the connection goes through a pooler, which breaks exported snapshots and session settings",
            hint="Give host and port of PostgreSQL itself.",
        )


def resolved(connection: Connection) -> dict[str, str]:
    """Return the parameters that libpq used for this connection, files and environment included.

    They suffice for a client program, and lead it to the same server. Defaults are left out: an older program may not
    know them. `options` lift the limits of time that database and role have. The result may hold the password: it is
    for the private service file of a child only.
    """
    unwanted = {"service", "servicefile", "replication", "fallback_application_name"}
    used = {
        option.keyword.decode(): option.val.decode()
        for option in connection.pgconn.info
        if option.val and option.val != option.compiled and option.keyword.decode() not in unwanted
    }
    options, limits = used.get("options", ""), settings.without_limits(connection.info.server_version)
    used["options"] = options if limits in options else f"{options} {limits}".strip()
    return {**_anywhere(used), **place_of(connection)}


def place_of(connection: Connection) -> dict[str, str]:
    """Return the parameters that lead to the connection's own server, where its source names several.

    A snapshot exists on one server only, and for each connection libpq may choose another host or address.
    """
    info = connection.info
    given = {option.keyword: option.val for option in connection.pgconn.info}
    place = {"port": str(info.port)}
    if given.get(b"host") or not given.get(b"hostaddr"):
        place["host"] = info.host  # which a certificate is compared with
    if not info.host.startswith(("/", "@")):
        place["hostaddr"] = info.hostaddr
    return place


def _anywhere(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters without those that choose a server."""
    return {key: value for key, value in given.items() if key not in _CHOOSING}


_DATABASES = "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname"


def list_databases(source: Source) -> tuple[str, list[str]]:
    """Return the database that `source` leads to, and the names of all, without templates.

    Those that take no connections are among them: who backs up all must fail there, and not leave them out
    unsaid, as pg_dumpall does. Raises SourceError, SourceGoneError.
    """
    with connect(source) as connection:
        names = [str(name) for (name,) in connection.execute(_DATABASES)]
        return connection.info.dbname, names


def identifier(name: str) -> str:
    """Put a name in double quotes; always, so that no list of key words is needed."""
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """Return a relation's name with its schema, both quoted."""
    return f"{identifier(schema)}.{identifier(name)}"


def literal(value: str) -> str:
    """Return a string constant that means the same under each setting of standard_conforming_strings."""
    text = value.replace("'", "''")
    return "E'" + text.replace("\\", "\\\\") + "'" if "\\" in value else f"'{text}'"
