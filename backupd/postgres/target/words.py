"""What pg_restore's words mean. They quote names and rows, so only fixed texts come out."""

from __future__ import annotations

import re

from backupd.errors import BrokenKeysError, RefusedError, SourceError, SourceGoneError

_COMMAND = re.compile(r"^Command was: ([A-Z]+(?: [A-Z]+)*)\b", re.MULTILINE)
"""A command's key words up to the first name: pg_dump quotes names in capitals."""
_STATE = re.compile(r"ERROR: +(.*)")

_FAULT = "The rows break a rule of their own schema; the same fault is in the source."
_BROKEN_KEY = "violates foreign key constraint"
_WITHOUT = (
    "Rows refer to rows that are not in the snapshot. With --without-broken-keys, such keys are named and hold for new "
    "rows only."
)
_MEANINGS: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(mark), meaning, hint)
    for mark, meaning, hint in (
        ("^could not create unique index", "unique violation (sqlstate 23505)", _FAULT),
        (_BROKEN_KEY, "foreign key violation (sqlstate 23503)", _WITHOUT),
        ("^check constraint .* is violated|violates check", "check violation (sqlstate 23514)", _FAULT),
        ("^column .* contains null values", "not null violation (sqlstate 23502)", _FAULT),
        ("^could not create exclusion constraint", "exclusion violation (sqlstate 23P01)", _FAULT),
        ('^role ".*" does not exist', "a role does not exist (sqlstate 42704)", "Restore the roles too."),
        ('^tablespace ".*" does not', "a tablespace does not exist (sqlstate 42704)", "Create it on the server first."),
        ("^extension .* is not avail", "an extension is not installed (sqlstate 0A000)", "Install it on the server."),
        ("^could not open extension", "an extension is not installed (sqlstate 58P01)", "Install it on the server."),
        ("^could not (access|load)", "a library is not installed (sqlstate 58P01)", "Install it on the server."),
        ("^collation .* does not exist", "a collation does not exist (sqlstate 42704)", "Install its locale, or ICU."),
        ("^ICU is not supported", "the server has no ICU (sqlstate 0A000)", "Restore into a server built with ICU."),
        ("^unsupported XML", "the server has no XML (sqlstate 0A000)", "Restore into a server built with libxml."),
        ("^unrecognized configuration parameter", "a setting is unknown (sqlstate 42704)", "Compare the versions."),
        ("^permission denied", "insufficient privilege (sqlstate 42501)", "Restore as a superuser."),
        ("^must be ", "insufficient privilege (sqlstate 42501)", "Restore as a superuser."),
        ("^out of shared memory", "out of shared memory (sqlstate 53200)", "Raise max_locks_per_transaction."),
        ("No space left on device", "disk full (sqlstate 53100)", "Make room on the server's disk."),
        ("already exists$", "an object exists already", "Look into the server's log."),
        ("does not exist$", "an object that is needed does not exist", "Look into the server's log."),
    )
)
"""Beginnings or ends of PostgreSQL's own messages, what they mean, and what to do."""
_GONE = ("server closed the connection", "terminating connection", "could not connect", "connection to server")
_NEWER = "unsupported version"


def failure(stage: str, status: int, words: bytes) -> SourceError | RefusedError:
    """The error that says why pg_restore ended with `status` while it did `stage`, quoting nothing."""
    text = words.decode(errors="replace")
    if any(mark in text for mark in _GONE):
        return SourceGoneError(f"PostgreSQL went away during {stage}", hint="Look into the server's log.")
    if _NEWER in text:
        return RefusedError(
            "the schema was dumped by newer client programs than those at hand",
            hint="Install client programs of the newest PostgreSQL you use, or restore into a newer server.",
        )
    command = _COMMAND.search(text)
    where = f" at {command[1]}" if command else ""
    said = _STATE.search(text)
    for mark, meaning, hint in _MEANINGS:
        if said and mark.search(said[1]):
            family = BrokenKeysError if mark.pattern == _BROKEN_KEY else SourceError
            return family(f"{stage} failed{where}: {meaning}", hint=hint)
    return SourceError(f"{stage} failed{where} (pg_restore's exit status {status})", hint="Look into the server's log.")
