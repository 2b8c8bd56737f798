"""The messages of pg_restore about what PostgreSQL refuses: they quote names and rows, so only fixed texts with
their meaning are passed on.
"""

from __future__ import annotations

import re
import threading

from backupd.errors import BrokenKeysError, ExtensionRefusedError, RefusedError, SourceError, SourceGoneError
from backupd.postgres.client_programs import killed

_ENTRY = re.compile(rb"^pg_restore: from TOC entry (\d+); \d+ \d+ ", re.MULTILINE)
"""The line that names an entry by its dump id before the errors about it."""
_OWN_ERRORS = re.compile(r"^pg_restore: error: (?!could not execute query).*", re.MULTILINE)
"""Errors of pg_restore itself, not of a statement."""

_COUNTED = "pg_restore: warning: errors ignored on restore: "
"""Its last word where it left entries out; of one that was killed before, what is missing is named nowhere."""


class Failures:
    """The entries that could not be restored, by dump id, each with the meaning of its first error."""

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}
        self._lock = threading.Lock()

    def take(self, words: bytes) -> bool:
        """Take what pg_restore said; return False when it did not end well with all entries that it could make."""
        text = words.decode(errors="replace")
        pieces = _ENTRY.split(words)
        if (
            _COUNTED not in text
            or len(pieces) < 3
            or any(mark in line for line in _OWN_ERRORS.findall(text) for mark in _GONE)
        ):
            return False
        with self._lock:
            for number, said in zip(pieces[1::2], pieces[2::2], strict=True):
                self.reasons.setdefault(int(number), _meaning(said.decode(errors="replace")))
        return True


def _meaning(text: str) -> str:
    error = _STATE.search(text)
    found = (meaning for mark, meaning, _ in _MEANINGS if error and mark.search(error[1]))
    return next(found, "PostgreSQL refused it")


_COMMAND = re.compile(r"^Command was: \s*([A-Z]+(?: [A-Z]+)*)\b", re.MULTILINE)
"""A command's key words up to the first name: pg_dump quotes names in capitals."""
_EXTENSION = re.compile(r"^Command was: CREATE EXTENSION IF NOT EXISTS (\S+)", re.MULTILINE)
"""An extension's name, which is never data."""
_STATE = re.compile(r"ERROR: +(.*)")

_FAULT = "The rows break a rule of their own schema; the same fault is in the source."
_BROKEN_KEY = "violates foreign key constraint"
_WITHOUT = (
    "Rows refer to rows that are not in the snapshot: of purged tenants, which the application still has, or such as "
    "the source lacks, too. With --without-broken-keys, such keys are named and hold for new rows only."
)
_KEEP_GOING = "--keep-going names what is refused, leaves it out and restores the rest; the server's log says more."
_OF_EXTENSIONS = (
    "Some want their library in the server's shared_preload_libraries; drill.preload names it for drills. "
    "Some, as pg_cron, can be made in a database of one name only, and a restore fills one of another name first: "
    f"`restore files` writes files that are loaded under the own name. {_KEEP_GOING}"
)
_RIGHTS = (
    "A superuser may do it; where that is not to be, --no-owner gives everything to the user of --target, and "
    "`restore preview` with --target names what needs a superuser."
)
_SETTING = "^unrecognized configuration parameter"
_MEANINGS: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(mark), meaning, hint)
    for mark, meaning, hint in (
        ("^could not create unique index", "unique violation (sqlstate 23505)", _FAULT),
        (_BROKEN_KEY, "foreign key violation (sqlstate 23503)", _WITHOUT),
        ("^check constraint .* is violated|violates check", "check violation (sqlstate 23514)", _FAULT),
        ("^column .* contains null values", "not null violation (sqlstate 23502)", _FAULT),
        ("^could not create exclusion constraint", "exclusion violation (sqlstate 23P01)", _FAULT),
        (
            '^role ".*" does not exist',
            "a role does not exist (sqlstate 42704)",
            "Add --globals, which makes the missing roles.",
        ),
        ('^tablespace ".*" does not', "a tablespace does not exist (sqlstate 42704)", "Create it on the server first."),
        ("^extension .* is not avail", "an extension is not installed (sqlstate 0A000)", "Install it on the server."),
        ("^could not open extension", "an extension is not installed (sqlstate 58P01)", "Install it on the server."),
        ("^could not (access|load)", "a library is not installed (sqlstate 58P01)", "Install it on the server."),
        ("^collation .* does not exist", "a collation does not exist (sqlstate 42704)", "Install its locale, or ICU."),
        ("^ICU is not supported", "the server has no ICU (sqlstate 0A000)", "Restore into a server built with ICU."),
        ("^unsupported XML", "the server has no XML (sqlstate 0A000)", "Restore into a server built with libxml."),
        (_SETTING, "a setting is unknown (sqlstate 42704)", "Compare the versions."),
        ("^permission denied", "insufficient privilege (sqlstate 42501)", _RIGHTS),
        ("^must be |^only superuser", "insufficient privilege (sqlstate 42501)", _RIGHTS),
        ("^out of shared memory", "out of shared memory (sqlstate 53200)", "Raise max_locks_per_transaction."),
        ("No space left on device", "disk full (sqlstate 53100)", "Make room on the server's disk."),
        ("already exists$", "an object exists already", _KEEP_GOING),
        (
            "does not exist$|^operator does not exist",
            "an object that is needed does not exist",
            f"A function of the schema may find it by search_path only, as pg_restore would not either. {_KEEP_GOING}",
        ),
    )
)
"""Beginnings or ends of PostgreSQL's own messages, their meaning, and a hint."""
_GONE = ("server closed the connection", "terminating connection", "could not connect", "connection to server")
_NEWER = "unsupported version"
_JOB_DIED = "a worker process died unexpectedly"


def _ended_early(stage: str, status: int, text: str) -> SourceError | None:
    """Return the error of a pg_restore that the server, or a signal to it or one of its jobs, kept from going on."""
    if any(mark in text for mark in _GONE):
        return SourceGoneError(f"PostgreSQL went away during {stage}", hint="Look into the server's log.")
    if status < 0 or (_JOB_DIED in text and not _STATE.search(text)):  # a job dies of what PostgreSQL refuses, too
        return killed(f"pg_restore during {stage}", min(status, 0))
    return None


def failure(stage: str, status: int, words: bytes) -> SourceError | RefusedError:
    """Make the error that says why pg_restore ended with `status` in `stage`, quoting nothing."""
    text = words.decode(errors="replace")
    if (ended := _ended_early(stage, status, text)) is not None:
        return ended
    if _NEWER in text:
        return RefusedError(
            "the schema was dumped by newer client programs than those at hand",
            hint="Install client programs of the newest PostgreSQL you use, or restore into a newer server.",
        )
    command = _COMMAND.search(text)
    extension = _EXTENSION.search(text)
    where = f" at {command[1]}" if command else ""
    where += f" {extension[1]}" if extension else ""
    error = _STATE.search(text)
    for mark, meaning, hint in _MEANINGS:
        if error and mark.search(error[1]):
            if extension:
                own = _OF_EXTENSIONS if mark.pattern == _SETTING else hint
                return ExtensionRefusedError(f"{stage} failed{where}: {meaning}", hint=own)
            family = BrokenKeysError if mark.pattern == _BROKEN_KEY else SourceError
            return family(f"{stage} failed{where}: {meaning}", hint=hint)
    if extension:
        return ExtensionRefusedError(f"{stage} failed{where}", hint=_OF_EXTENSIONS)
    return SourceError(f"{stage} failed{where} (pg_restore's exit status {status})", hint=_KEEP_GOING)
