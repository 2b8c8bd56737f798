"""The watch over sessions that wait for a backup's locks: the backup gives way before they have waited for too long.

A migration that waits for a table keeps the application from the same table, and may itself have locked what one of our
programs waits for: a circle that PostgreSQL cannot see, because we wait for our programs outside of it. Each such
circle has a session in it that waits for a lock of ours, so giving way to such sessions ends all circles.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import psycopg

from backupd.errors import SourceBusyError, SourceError
from backupd.postgres.connect import Connection, Source, literal
from backupd.postgres.failures import translate
from backupd.postgres.source.exported import END_READERS, Holder, connect_beside

Waiter = tuple[int, int]
"""A server process, and the oid of the relation whose lock it waits for."""

LOOK_EVERY = 1.0
"""Seconds between two looks at who waits."""

_WAITERS = """
WITH ours AS (SELECT a.pid FROM pg_catalog.pg_stat_activity a WHERE a.application_name = %(readers)s
              UNION SELECT %(holder)s)
SELECT l.pid, l.relation::int8 FROM pg_catalog.pg_locks l
WHERE l.locktype = 'relation' AND NOT l.granted AND l.pid NOT IN (SELECT pid FROM ours)
  AND pg_catalog.pg_blocking_pids(l.pid) && ARRAY(SELECT pid FROM ours)
"""


class Waiters:
    """The watch itself, on a thread of its own: it ends the readers of the exported snapshot when somebody waits."""

    def __init__(self, holder: Holder, patience: float, monotonic: Callable[[], float]) -> None:
        """Watch over the holder's locks; `patience` is how many seconds others may wait."""
        self._holder = holder
        self._patience = patience
        self._monotonic = monotonic
        self._since: dict[Waiter, float] = {}
        self._error: SourceError | None = None
        self._over = threading.Event()

    def check(self) -> None:
        """Do nothing while nobody has waited for too long.

        Raises SourceBusyError once somebody has, and SourceError or a subclass when the watch has failed.
        """
        if self._error is not None:
            raise type(self._error)(self._error.message, hint=self._error.hint)

    def watch(self, connection: Connection) -> None:
        """Look until `end` is called, or somebody has waited for too long. Runs on a thread of its own."""
        try:
            while self._error is None and not self._over.wait(LOOK_EVERY):
                self._look(connection)
        except psycopg.Error as error:
            self._error = self._error or translate(error)

    def end(self) -> None:
        """Stop the watch at its next look."""
        self._over.set()

    def _look(self, connection: Connection) -> None:
        readers = self._holder.readers
        given = {"readers": readers, "holder": self._holder.connection.info.backend_pid}
        self._since = still_waiting(self._since, connection.execute(_WAITERS, given), self._monotonic())
        relation = longest_waited_for(self._since, self._monotonic() - self._patience)
        if relation is not None:
            self._error = _gave_way(relation, self._patience)
            connection.execute(END_READERS, (readers,))


@contextmanager
def giving_way(source: Source, holder: Holder, patience: float, monotonic: Callable[[], float]) -> Iterator[Waiters]:
    """Watch over the locks of the holder and its readers while the block lasts.

    On a standby there is no watch: its own settings say how long its replay waits for readers. Raises the errors of
    connecting.
    """
    waiters = Waiters(holder, patience, monotonic)
    if holder.exported.standby:
        yield waiters
        return
    with connect_beside(source, holder) as connection:
        # It reads nothing, and must not be ended with those who do.
        connection.execute(f"SET application_name = {literal(f'{holder.readers} waiters')}".encode())
        thread = threading.Thread(target=waiters.watch, args=(connection,), name="waiters", daemon=True)
        thread.start()
        try:
            yield waiters
        finally:
            waiters.end()
            thread.join()


def still_waiting(before: Mapping[Waiter, float], now: Iterable[Waiter], at: float) -> dict[Waiter, float]:
    """Return the sessions that wait now, each with the moment it was first seen waiting for the same relation."""
    return {waiter: before.get(waiter, at) for waiter in now}


def longest_waited_for(since: Mapping[Waiter, float], before: float) -> int | None:
    """Return the relation that somebody has waited for longest, if since `before` or earlier; else None."""
    waiter = min(since, key=lambda one: since[one], default=None)
    return waiter[1] if waiter is not None and since[waiter] <= before else None


def _gave_way(relation: int, patience: float) -> SourceBusyError:
    return SourceBusyError(
        f"the backup gave way to somebody who waited {patience:g} s for the table or index with oid {relation}",
        hint=f"`SELECT {relation}::regclass` in the database names it. The next attempt may succeed; with a greater "
        "node.lock_timeout others wait longer.",
    )
