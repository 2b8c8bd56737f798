"""The agenda of a job, which says when it is due; and the work that stores show as done. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from backupd.model.answers import StatusAnswer
from backupd.model.status import StoreFacts
from backupd.operations.service.jobs import SHOWN_BY_STORES, WELL, Job, JobKind, JobOutcome
from backupd.planning.schedule import Awake, Cause, Due, RetryDelays, next_due, retry_delay


@dataclass(frozen=True, slots=True)
class _Retry:
    at: datetime
    slot: datetime
    attempt: int
    observe_first: bool


class Agenda:
    """The standing of one job: its last success, its attempts since, and its next run. For one thread only."""

    def __init__(self, job: Job, last: datetime | None) -> None:
        self.job = job
        self._last = last
        """When the newest run that did the work began: here or, by what the stores show, on any machine."""
        self._tried: datetime | None = None
        self._retry: _Retry | None = None

    def was_done(self, at: datetime) -> None:
        """Take note that a run which did the work began at that instant, here or elsewhere."""
        self._last = at if self._last is None else max(at, self._last)
        if self._retry is not None and self._retry.slot <= self._last:
            self._retry = None

    def clock_was_set(self, now: datetime) -> None:
        """Date back to now every instant that lies ahead since the clock was set back; a retry is due at once."""
        self._last, self._tried = (at and min(at, now) for at in (self._last, self._tried))
        if self._retry is not None:
            self._retry = replace(self._retry, at=now)

    def due(self, now: datetime, awake: Awake) -> Due | None:
        """Return the next run: on the timetable, or sooner because the last one failed."""
        planned = next_due(self.job.timetable, max(filter(None, (self._last, self._tried)), default=None), now, awake)
        retry = self._retry
        if retry is not None and (planned is None or retry.at <= planned.at):
            return Due(retry.at, retry.slot, missed=False)
        return planned

    def attempt(self, due: Due) -> int:
        """Return the number of the attempt that `due` is, from 1 on."""
        return self._retry.attempt if self._retry is not None and self._retry.slot == due.slot else 1

    def must_be_observed_since(self, due: Due, awake: Awake) -> datetime | None:
        """Return since when the region must have been observed first: another machine may have done the work."""
        if self._retry is not None and self._retry.slot == due.slot:
            return self._retry.at if self._retry.observe_first else None
        if due.missed:
            return awake.since
        return due.slot if self.job.key.kind in SHOWN_BY_STORES else None

    def began(self, at: datetime) -> None:
        self._tried = at

    def ended(self, outcome: JobOutcome, slot: datetime, retry: RetryTerms | None) -> datetime | None:
        """Take note that the run for `slot` ended; return when it is tried again, None for its next regular time."""
        attempt = self._retry.attempt if self._retry is not None and self._retry.slot == slot else 1
        self._retry = None
        if outcome in WELL:
            self.was_done(self._tried or slot)
        if retry is None or (delay := retry_delay(retry.cause, attempt, retry.delays)) is None:
            return None
        self._retry = _Retry(retry.now + delay, slot, attempt + 1, observe_first=outcome is JobOutcome.BUSY)
        return self._retry.at


@dataclass(frozen=True, slots=True)
class RetryTerms:
    """The cause that a run failed for, and the delays before it is tried again."""

    cause: Cause
    now: datetime
    delays: RetryDelays


def retry_terms(cause: Cause | None, now: datetime, first: timedelta, seed: str) -> RetryTerms | None:
    """Return what `Agenda.ended` needs to know of a failure; None where nothing failed."""
    return None if cause is None else RetryTerms(cause, now, RetryDelays(first, seed))


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
