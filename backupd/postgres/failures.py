"""Translation of PostgreSQL's errors. Its messages quote rows and names, so only codes and fixed texts come out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import errors as pg

from backupd.errors import SourceAuthError, SourceBusyError, SourceError, SourceGoneError

_GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
"""SQLSTATEs of a server that shut down, crashed or is starting, and of a session ended for idling or length."""
_BUSY = frozenset({"55P03", "40001", "40P01", "53300", "55006", "57014"})
"""SQLSTATEs: lock not available, conflict with recovery, deadlock, too many connections, object in use, statement
cancelled."""

_NO_LINE = "Put it into a file of the form of ~/.pgpass, named as passfile in the configuration or by --passfile."

_REFUSALS = (
    (
        "no password supplied",
        "no password for it",
        _NO_LINE,
    ),
    ("password authentication failed", "the password is wrong", "Correct the password file of this database."),
    (
        "no pg_hba.conf entry",
        "its pg_hba.conf does not let us in",
        "Add a line for this role and machine to pg_hba.conf.",
    ),
    ("peer authentication failed", "peer authentication failed", "Map the operating system user to this role."),
    (
        "is not permitted to log in",
        "the role may not log in",
        "Grant it: ALTER ROLE … LOGIN.",
    ),
    (
        "permission denied for database",
        "the role may not connect to the database",
        "Grant it: GRANT CONNECT ON DATABASE … TO the role.",
    ),
    (
        "role ",
        "the role does not exist",
        "Create the role on that server, or correct the user in the connection string.",
    ),
    ("certificate", "TLS failed", "Check sslmode, sslrootcert and the server's certificate."),
)
_ERRORS = (
    (
        "is not currently accepting connections",
        "the database takes no connections",
        "Open it, and keep others out by REVOKE CONNECT: ALTER DATABASE … ALLOW_CONNECTIONS true.",
    ),
    (
        "cannot connect to invalid database",
        "what is left of the database is no database, as dropping it was interrupted",
        "Drop it again: DROP DATABASE.",
    ),
    ("database ", "the database does not exist", "Correct the database's name."),
    (
        "codec not available in Python",
        "its encoding is one that has no other name outside of PostgreSQL",
        "PostgreSQL has no way from MULE_INTERNAL to UTF-8. By pg_dump, move it to LATIN1, EUC_JP or what else fits.",
    ),
    ("definition of service", "the service is not defined", "Add it to the connection service file."),
)
"""Parts of libpq's messages, like those above, with their meaning and a hint: a failed connection has no code."""
_UNREACHED = (
    (
        "Connection refused",
        "nothing listens there",
        "See whether the server runs, and listens on that address and port (listen_addresses, port).",
    ),
    ("No such file or directory", "there is no socket", "Check the folder in host and the port, and that it runs."),
    ("could not translate host name", "its name is unknown", "Check host, and this machine's name service."),
    ("timeout expired", "it does not answer", "Check the address, and firewalls on the way."),
    ("No route to host", "there is no way to it", "Check the address, and this machine's routes."),
    ("Network is unreachable", "there is no way to it", "Check the address, and this machine's routes."),
    ("does not support SSL", "it offers no TLS", "Turn ssl on there; without it, sslmode=verify-full cannot work."),
)
"""Parts of libpq's messages where nothing was reached: their meaning, and a hint."""
_FULL = ("too many connections for ", "too many clients already", "remaining connection slots are reserved")
"""Parts of the messages of a server, database or role that has as many connections as it may have."""
_NOT_YET = "the database system is"
"""Part of the messages of a server that is starting up, shutting down or in recovery."""


def translate(error: psycopg.Error, server: str = "", passfile: Path | None = None) -> SourceError:
    """Return our error for one of psycopg's, without quoting anything; `server` names it where none was reached.

    `passfile` is named where it has no password for the server.
    """
    code = error.sqlstate
    if code is None:
        found = _without_code(error, f" at {server}" if server else "")
        if passfile is not None and found.hint == _NO_LINE:
            found.hint = (
                f"'{passfile}' is not there, is not its owner's alone (chmod 600), or has no line for this host, port, "
                "database and user."
            )
        return found
    name = _readable(code)
    if code.startswith("08") or code in _GONE:
        return SourceGoneError(f"PostgreSQL went away: {name} (sqlstate {code})", hint="Look into the server's log.")
    if code == "53200" and "shared memory" not in str(error):
        return SourceBusyError(
            "PostgreSQL has no memory left for what was asked",
            hint="On a server of a drill raise drill.memory; elsewhere look for what else takes the machine's.",
        )
    if code in _BUSY:
        return SourceBusyError(f"PostgreSQL is busy: {name} (sqlstate {code})", hint=_hint_when_busy(code))
    family = SourceAuthError if code.startswith("28") else SourceError
    return family(f"PostgreSQL refused: {name} (sqlstate {code})", hint=_hint(code))


@contextmanager
def translated(server: str = "", passfile: Path | None = None) -> Iterator[None]:
    """Turn psycopg's errors in the block into ours; the original, which may quote rows, is cut off.

    `server` and `passfile` are named where a connection failed; they come from the configuration.
    """
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, server, passfile) from None


def _without_code(error: psycopg.Error, at: str) -> SourceError:
    text = "" if _NOT_YET in str(error) else str(error)
    if any(mark in text for mark in _FULL):
        return SourceBusyError(
            f"PostgreSQL{at} has no connection left",
            hint="Look at max_connections, and at CONNECTION LIMIT of role and database.",
        )
    for family, known in ((SourceAuthError, _REFUSALS), (SourceError, _ERRORS)):
        for mark, meaning, hint in known:
            if mark in text and ("FATAL" in text or mark != "role "):
                return family(f"cannot connect to PostgreSQL{at}: {meaning}", hint=hint)
    if isinstance(error, psycopg.OperationalError) and "FATAL:" in text:
        # Something answered, whatever its words are: they quote names, and files that are not this machine's.
        return SourceGoneError(
            f"PostgreSQL{at} ended the session as it began",
            hint="The server's log says why. A setting of database or role may do that, such as a limit of time or a "
            "library to load: SELECT * FROM pg_db_role_setting.",
        )
    if isinstance(error, psycopg.OperationalError):
        for mark, meaning, hint in _UNREACHED:
            if mark in text:
                return SourceGoneError(f"cannot reach PostgreSQL{at}: {meaning}", hint=hint)
        return SourceGoneError(
            f"cannot reach PostgreSQL{at}, or the connection broke",
            hint="Check host and port, that the server runs, and that nothing in between cuts idle connections.",
        )
    return SourceError("PostgreSQL's answer makes no sense", hint="Check the client library's version.")


def reason(error: psycopg.Error) -> str:
    """Return the name of an error with its SQLSTATE, which quotes nothing."""
    code = error.sqlstate or "none"
    return f"{_readable(code)} (sqlstate {code})"


def _readable(code: str) -> str:
    try:
        name = pg.lookup(code).__name__
    except KeyError:
        return "an error"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _hint_when_busy(code: str) -> str:
    if code == "55P03":
        return "A migration holds or waits for a lock; the next attempt may find the tables free."
    return "The next attempt may succeed."


def _hint(code: str) -> str:
    if code == "42501":
        return "`backupd config check --connect` names the missing privileges and the statements that grant them."
    if code == "53200":
        return "Raise max_locks_per_transaction on the server: every table needs a lock."
    return "Look into the server's log."
