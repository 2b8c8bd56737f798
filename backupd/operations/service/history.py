"""The history of jobs on this machine: a small SQLite file that can be deleted at any time.

The lasting record of what was done lies on the stores.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from backupd.model.ids import RegionName
from backupd.model.text import parse_stamp, stamp
from backupd.operations.service.jobs import WELL, Event, Failure, JobDone, JobKey, JobKind, JobOutcome

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, region TEXT NOT NULL, started TEXT NOT NULL,
  ended TEXT NOT NULL, seconds REAL NOT NULL, attempt INTEGER NOT NULL, outcome TEXT NOT NULL, status INTEGER,
  failure TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS run_of ON run (kind, region, id);
"""
_NOT_BROKEN = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
    | {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
)
"""Errors that say nothing against the file: at another time or from another place it can be read."""
_KEPT = 500
"""Runs that are kept of each job; the oldest are deleted first."""


class JobHistory:
    """The runs of one region's jobs on this machine, as a listener that stores every `JobDone`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_event(self, event: Event) -> None:
        if not isinstance(event, JobDone):
            return
        key, failure = event.key, event.failures[0].kind if event.failures else ""
        row = (
            *(key.kind, key.region, stamp(event.started), stamp(event.ended), event.seconds, event.attempt),
            *(event.outcome, event.exit_status, failure),
        )

        def write(database: sqlite3.Connection) -> None:
            database.execute("INSERT INTO run VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            database.execute(
                "DELETE FROM run WHERE kind = :kind AND region = :region AND id <= (SELECT id FROM run"
                " WHERE kind = :kind AND region = :region ORDER BY id DESC LIMIT 1 OFFSET :kept)",
                {"kind": key.kind, "region": key.region, "kept": _KEPT},
            )

        self._with(write)

    def last_done(self, key: JobKey) -> datetime | None:
        """Return when the last run that did its work began; None when the history has none."""
        marks = ", ".join("?" * len(WELL))
        query = f"SELECT max(started) FROM run WHERE kind = ? AND region = ? AND outcome IN ({marks})"  # noqa: S608 - marks only

        def read(database: sqlite3.Connection) -> str | None:
            found: str | None = database.execute(query, (key.kind, key.region, *sorted(WELL))).fetchone()[0]
            return found

        found = self._with(read)
        return parse_stamp(found) if found else None

    def runs(self, key: JobKey, most: int = _KEPT) -> list[JobDone]:
        """Return the newest runs of a job, oldest first; of their answers only the kind of the first error is kept."""

        def read(database: sqlite3.Connection) -> list[JobDone]:
            rows = database.execute(
                "SELECT started, ended, seconds, attempt, outcome, status, failure FROM run"
                " WHERE kind = ? AND region = ? ORDER BY id DESC LIMIT ?",
                (key.kind, key.region, most),
            )
            return [_of_row(key, row) for row in rows][::-1]

        return self._with(read) or []

    def _with(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Work with the database, replacing a broken file; None, and nothing is stored, where that cannot be done."""
        for _ in range(2):
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with contextlib.closing(sqlite3.connect(self._path, timeout=5)) as database, database:
                    database.executescript(_SCHEMA)
                    return work(database)
            except (sqlite3.DatabaseError, ValueError) as error:
                if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) in _NOT_BROKEN:
                    return None
                with contextlib.suppress(OSError):
                    self._path.unlink()
        return None


def _of_row(key: JobKey, row: tuple[str, str, float, int, str, int | None, str]) -> JobDone:
    started, ended, seconds, attempt, outcome, status, failure = row
    return JobDone(
        key=JobKey(JobKind(key.kind), RegionName(key.region)),
        started=parse_stamp(started),
        ended=parse_stamp(ended),
        seconds=seconds,
        attempt=attempt,
        outcome=JobOutcome(outcome),
        exit_status=status,
        failures=(Failure(failure, message="", hint="", retryable=False),) if failure else (),
    )
