"""One job's standing: when it was last done, what was tried since, and when it is due. Pure.

When each kind of work was last done for a region, by what its stores and its ledger say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from backupd.model.answers import StatusAnswer
from backupd.model.status import StoreFacts
from backupd.operations.service.jobs import TOLD_BY_STORES, WELL, Job, JobKind, JobOutcome
from backupd.planning.schedule import Awake, Cause, Due, RetryDelays, next_due, retry_delay


@dataclass(frozen=True, slots=True)
class _Retry:
    at: datetime
    slot: datetime
    attempt: int
    look: bool


class Agenda:
    """For one thread."""

    def __init__(self, job: Job, last: datetime | None) -> None:
        self.job = job
        self._last = last
        """Begin of the newest run that did the work, here or, by what the stores say, anywhere."""
        self._tried: datetime | None = None
        self._retry: _Retry | None = None

    def was_done(self, at: datetime) -> None:
        """Somebody did the work at that instant."""
        self._last = at if self._last is None else max(at, self._last)
        if self._retry is not None and self._retry.slot <= self._last:
            self._retry = None

    def clock_was_set(self, now: datetime) -> None:
        """What was done in a future that is none any more was done just now."""
        self._last, self._tried = (at and min(at, now) for at in (self._last, self._tried))
        if self._retry is not None:
            self._retry = replace(self._retry, at=now)

    def due(self, now: datetime, awake: Awake) -> Due | None:
        """The next run: on the timetable, or sooner because the last one failed."""
        planned = next_due(self.job.timetable, max(filter(None, (self._last, self._tried)), default=None), now, awake)
        retry = self._retry
        if retry is not None and (planned is None or retry.at <= planned.at):
            return Due(retry.at, retry.slot, missed=False)
        return planned

    def attempt(self, due: Due) -> int:
        """The number of the try that `due` is, from 1 on."""
        return self._retry.attempt if self._retry is not None and self._retry.slot == due.slot else 1

    def wants_look(self, due: Due, awake: Awake) -> datetime | None:
        """From when on the region must have been looked at first: perhaps somebody else did the work."""
        if self._retry is not None and self._retry.slot == due.slot:
            return self._retry.at if self._retry.look else None
        if due.missed:
            return awake.since
        return due.slot if self.job.key.kind in TOLD_BY_STORES else None

    def began(self, at: datetime) -> None:
        self._tried = at

    def ended(self, outcome: JobOutcome, slot: datetime, again: Again | None) -> datetime | None:
        """The run for `slot` has ended; when it is tried again, None: at its next time."""
        attempt = self._retry.attempt if self._retry is not None and self._retry.slot == slot else 1
        self._retry = None
        if outcome in WELL:
            self.was_done(self._tried or slot)
        if again is None or (delay := retry_delay(again.cause, attempt, again.patience)) is None:
            return None
        self._retry = _Retry(again.now + delay, slot, attempt + 1, look=outcome is JobOutcome.BUSY)
        return self._retry.at


@dataclass(frozen=True, slots=True)
class Again:
    """What stood in the way of a run, and how long to wait."""

    cause: Cause
    now: datetime
    patience: RetryDelays


def again(cause: Cause | None, now: datetime, first: timedelta, seed: str) -> Again | None:
    """For `Agenda.ended`; None where nothing stood in the way."""
    return None if cause is None else Again(cause, now, RetryDelays(first, seed))


def last_done(answer: StatusAnswer, labels: Iterable[str]) -> dict[JobKind, datetime]:
    """Say when each kind of work was done last, by what stores and ledger show; unknown kinds are left out.

    Work that has to be done on every store, and for every database in `labels`, counts from where it was done longest
    ago. A store that could not be reached says nothing.
    """
    found: dict[JobKind, datetime | None] = {}
    for region in answer.regions:
        stores = [store for store in region.stores if store.error is None]
        found[JobKind.PURGE] = _oldest(store.kept for store in stores)
        found[JobKind.EXPIRE] = _oldest(store.expired for store in stores)
        found[JobKind.BACKUP] = _oldest(_published(stores, labels))
        found[JobKind.DRILL] = region.drilled
    return {kind: at for kind, at in found.items() if at is not None}


def _published(stores: Iterable[StoreFacts], labels: Iterable[str]) -> Iterator[datetime | None]:
    for store in stores:
        newest = {database.label: database.published for database in store.databases}
        for label in labels:
            yield newest.get(label)


def _oldest(instants: Iterable[datetime | None]) -> datetime | None:
    """Return None when one of them is missing."""
    known = list(instants)
    return min((one for one in known if one is not None), default=None) if None not in known else None
