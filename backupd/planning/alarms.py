"""The alarms of a region, judged from the facts alone: one list for people, notifications and the heartbeat. Pure.

Among them are changes of a store's own snapshots, which protect from ransomware and are part of each deadline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Final

from backupd.model.status import (
    Alarm,
    AlarmCode,
    AlarmSeverity,
    DatabaseFacts,
    JobFacts,
    Promises,
    RegionFacts,
    ServerChange,
    StoreFacts,
)
from backupd.model.text import counted, spell, spell_age

_ROOM: Final = 0.1
"""The part of a store's room below which the store counts as full."""
_LATE_PART: Final = 4
"""A proof is stale when it is late by more than a fourth of the time between two drills."""
_TRIES: Final = 3
"""The number of tries after which a failure that another try can help is reported."""
_FOUND: Final = "found"
_OBSERVE: Final = "observe"
_DATED_AHEAD: Final = timedelta(minutes=5)
"""A difference of clocks that no synchronised machines have."""
_QUIET: Final = frozenset({"done", "found", "busy", "stopped"})
_SERVER_WORDS: Final = {
    ServerChange.VANISHED: "are gone",
    ServerChange.FEWER: "are fewer than they were",
    ServerChange.MORE: "are more than they were",
    ServerChange.STOPPED: "are no longer made",
    ServerChange.LONGER: "live longer than lifecycle.store_snapshots says",
}


@dataclass(frozen=True, slots=True)
class Watch:
    """The expectations of the observation itself."""

    now: datetime
    observed_within: timedelta
    """The age beyond which facts no longer count."""


def judge(region: RegionFacts, watch: Watch) -> tuple[Alarm, ...]:
    """Return everything that is wrong with a region, worst first; at most one alarm of the same thing."""
    found = [
        *_observation(region, watch),
        *_deadlines(region, watch.now),
        *_ledger(region),
        *_proof(region, watch.now),
        *(alarm for store in region.stores for alarm in _store(region, store, watch.now)),
        # The findings of `observe` jobs are these facts themselves.
        *(alarm for job in region.jobs if job.kind != _OBSERVE for alarm in _job(region, job)),
    ]
    return tuple(
        sorted(found, key=lambda alarm: (alarm.severity is not AlarmSeverity.ERROR, list(AlarmCode).index(alarm.code)))
    )


def _observation(region: RegionFacts, watch: Watch) -> Iterator[Alarm]:
    age = watch.now - region.at
    if age > watch.observed_within:
        yield Alarm(
            code=AlarmCode.NOT_OBSERVED,
            region=region.region,
            message=f"nobody has seen how region '{region.region}' stands for {spell_age(age)}",
            hint="See what the daemon says of its `observe` jobs: what is not seen may be anything.",
        )


def _deadlines(region: RegionFacts, now: datetime) -> Iterator[Alarm]:
    if region.late:
        yield Alarm(
            code=AlarmCode.DEADLINE_MISSED,
            region=region.region,
            state=str(len(region.late)),
            message=f"{counted(len(region.late), 'tenant')} of region '{region.region}' overdue: data remains",
            hint="`backupd tenant list` names them by id, and `backupd purge` says what stands in the way.",
        )
    if region.next_deadline is not None and region.endangered is not None and now > region.endangered:
        left = region.next_deadline - now
        day = f"{region.next_deadline:%Y-%m-%d}"
        due = f"overdue since {day}" if left < timedelta() else f"due in {spell_age(left)}, on {day}"
        yield Alarm(
            code=AlarmCode.DEADLINE_NEAR,
            region=region.region,
            message=f"a tenant's deletion is {due}; data remains that should be gone by now",
            hint="Something stands still: `backupd purge` says which store, and `backupd status` since when.",
        )


def _ledger(region: RegionFacts) -> Iterator[Alarm]:
    if region.ledger_ahead is not None:
        yield Alarm(
            code=AlarmCode.LEDGER_AHEAD,
            region=region.region,
            state=str(region.ledger_ahead),
            message=f"entry {region.ledger_ahead} of the ledger of region '{region.region}' is dated ahead",
            hint="Until its time has come nothing can be appended: no purge, no expiry. If this machine's clock is "
            "right, `backupd ledger redate` lets work go on.",
        )


def _proof(region: RegionFacts, now: datetime) -> Iterator[Alarm]:
    every = region.promises.drill_every
    since = region.proven or region.founded
    if every is None or since is None:
        return
    age, most = now - since, timedelta(seconds=every) * (_LATE_PART + 1) / _LATE_PART
    if age > most:
        proof = f"the newest proof is {spell_age(age)} old" if region.proven else "there is no proof at all"
        yield Alarm(
            code=AlarmCode.PROOF_STALE,
            region=region.region,
            message=f"{proof}; every {spell(timedelta(seconds=every))} a drill must pass",
            hint="`backupd report list` tells of the drills that ran; `backupd drill` runs one now.",
        )


def _store(region: RegionFacts, store: StoreFacts, now: datetime) -> Iterator[Alarm]:
    if store.error is not None:
        yield Alarm(
            code=AlarmCode.STORE_UNREACHABLE,
            region=region.region,
            subject=store.store,
            message=f"store '{store.store}': {store.error.message}",
            hint=store.error.hint or "`backupd config check --connect` tries it.",
            patience=1800 if store.error.retryable else 0,
        )
        if store.mode is None:
            return
    # For a store that is out of reach the last known facts count: they do not improve by not being seen.
    yield from _ages(region, store, now)
    yield from _keeper(region, store, now)
    yield from _changes(region, store)


def _changes(region: RegionFacts, store: StoreFacts) -> Iterator[Alarm]:
    """Yield the alarms about a store that is no longer what it was."""
    if store.space is not None and store.space.free < _ROOM * store.space.total:
        part = 100 * store.space.free / max(store.space.total, 1)
        yield Alarm(
            code=AlarmCode.STORE_FULL,
            region=region.region,
            subject=store.store,
            severity=AlarmSeverity.WARNING,
            message=f"store '{store.store}' has {part:.1f} % of its room left",
            hint="Get more, or keep less; what is removed may stay in the store's own snapshots for a while.",
        )
    if store.server_changes:
        words = " and ".join(_SERVER_WORDS[change] for change in store.server_changes)
        yield Alarm(
            code=AlarmCode.STORE_SNAPSHOTS,
            region=region.region,
            subject=store.store,
            state=" ".join(store.server_changes),
            message=f"the own snapshots of store '{store.store}' {words}",
            hint="Look at the account's schedule: they protect from a thief of the keeper, and are part of deadlines.",
        )
    worse = [change for change in store.changes if change.worse]
    if worse:
        words = ", ".join(f"{change.what} was {change.before}, and is {change.now}" for change in worse)
        yield Alarm(
            code=AlarmCode.CAPABILITY_CHANGED,
            region=region.region,
            subject=store.store,
            state=words,
            message=f"store '{store.store}' is not what it was when that was last accepted: {words}",
            hint=f"If somebody wanted that, {_accept(store)} accepts it. Else ask who runs the store: what depends on "
            "it may not hold.",
        )
    if store.unnamed_signers:
        signers = counted(len(store.unnamed_signers), "trusted signer")
        yield Alarm(
            code=AlarmCode.SIGNER_UNNAMED,
            region=region.region,
            subject=store.store,
            severity=AlarmSeverity.WARNING,
            state=" ".join(store.unnamed_signers),
            message=f"the repository on '{store.store}' does not name {signers}",
            hint=f"Who has the store alone would leave out what they signed: {_accept(store)} names them.",
        )


def _ages(region: RegionFacts, store: StoreFacts, now: datetime) -> Iterator[Alarm]:
    most, expected = _oldest(region.promises)
    for database in store.databases:
        yield from _unread(region, store, database)
        at, subject = database.published, f"{store.store}/{database.label}"
        if at is None:
            yield Alarm(
                code=AlarmCode.BACKUP_OLD,
                region=region.region,
                subject=subject,
                message=f"there is no snapshot of '{database.label}' on '{store.store}'",
                hint="See what the daemon says of its `backup` jobs; `backupd backup` tries one now.",
            )
        elif at - now > _DATED_AHEAD:
            yield Alarm(
                code=AlarmCode.CLOCK_BEHIND,
                region=region.region,
                subject=subject,
                message=f"the newest snapshot of '{database.label}' on '{store.store}' is dated "
                f"{spell_age(at - now)} ahead of this machine's clock",
                hint="Set the clock that is wrong, this machine's or the node's: no age or date can be believed.",
            )
        elif most is not None and now - at > most:
            yield Alarm(
                code=AlarmCode.BACKUP_OLD,
                region=region.region,
                subject=subject,
                message=f"the newest snapshot of '{database.label}' on '{store.store}' is {spell_age(now - at)} old, "
                + expected,
                hint="See what the daemon says of its `backup` jobs; `backupd backup` tries one now.",
            )


def _unread(region: RegionFacts, store: StoreFacts, database: DatabaseFacts) -> Iterator[Alarm]:
    if database.unread is not None and database.unread.distrusted:
        yield Alarm(
            code=AlarmCode.UNREAD_DIFFERS,
            region=region.region,
            subject=f"{store.store}/{database.label}",
            message=f"backups of '{database.label}' to '{store.store}' may have missed changes: an audit found a "
            "difference",
            hint="Keep the newest snapshot, which was read as a whole. `backupd backup --audit` ends this when it "
            "finds none; `backupd manual speed` has more.",
        )


def _oldest(promises: Promises) -> tuple[timedelta | None, str]:
    """Return the greatest age of a newest snapshot that is well, and what it follows from; None where nothing says."""
    most = promises.greatest_age
    if most is None:
        return None, ""
    return (
        most,
        f"{spell(most)} are promised" if promises.rpo is not None else f"and one is due every {spell(most / 2)}",
    )


def _keeper(region: RegionFacts, store: StoreFacts, now: datetime) -> Iterator[Alarm]:
    gap, since = timedelta(seconds=region.promises.expiry_gap), store.kept or region.founded
    # While no tenant leaves, a region without a keeper harms nobody.
    if gap and since is not None and now - since > gap and (store.kept or region.leaving):
        yield Alarm(
            code=AlarmCode.KEEPER_IDLE,
            region=region.region,
            subject=store.store,
            message=f"no keeper's run came to its end on '{store.store}' for {spell_age(now - since)}",
            hint=f"Deadlines count on one within {spell(gap)}: see what the keeper's daemon says of its `purge` jobs.",
        )
    if region.ledger is not None and store.ledger_entries is not None and store.ledger_entries < region.ledger.seq:
        yield Alarm(
            code=AlarmCode.LEDGER_BEHIND,
            region=region.region,
            subject=store.store,
            severity=AlarmSeverity.WARNING,
            message=f"the ledger on '{store.store}' lacks {counted(region.ledger.seq - store.ledger_entries, 'entry')}",
            hint="The next run of a keeper gives them; if it does not, `backupd ledger verify` says why.",
            patience=7200,
        )


def _job(region: RegionFacts, job: JobFacts) -> Iterator[Alarm]:
    if job.outcome == _FOUND:
        code, message = AlarmCode.JOB_FOUND, f"`{job.kind}` found something wrong"
    elif job.outcome not in _QUIET and (job.final or job.attempt >= _TRIES):
        code, message = AlarmCode.JOB_FAILED, f"`{job.kind}` {_ENDED.get(job.outcome, 'failed')}"
    else:
        return
    yield Alarm(
        code=code,
        region=region.region,
        subject=job.kind,
        state=job.failure,
        message=f"{message}: {job.message}" if job.message else message,
        hint=job.hint
        or f"`journalctl` has what it printed; `backupd {_COMMAND.get(job.kind, job.kind)}` tries it now.",
    )


def _accept(store: StoreFacts) -> str:
    return f"`backupd store accept {store.store} --reason REFERENCE`"


_ENDED: Final = {"late": "was ended at its deadline", "hung": "hung and was ended", "crashed": "crashed"}
_COMMAND: Final = {"observe": "status", "sync": "tenant sync"}


_MEMORY: Final = timedelta(days=30)
_LEAST: Final = 3
"""The number of observations that make a habit."""
_LATE: Final = 3
"""The multiple of the usual distance of two snapshots after which the next one is overdue."""
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ShownSnapshots:
    """The store's own snapshots as it shows them."""

    number: int
    made: Sequence[datetime]
    """The times of those whose names show it, oldest first."""


def server_changes(
    shown: ShownSnapshots, seen: Sequence[tuple[datetime, int]], declared: timedelta, now: datetime
) -> tuple[ServerChange, ...]:
    """Return how the present differs from a habit; `seen` are the times and counts of earlier observations.

    A difference of one is none: stores rotate their snapshots at times of their own. `declared` is the greatest age
    they reach.
    """
    return tuple(_server_changes(shown, [number for at, number in seen if now - at <= _MEMORY], declared, now))


def _server_changes(
    shown: ShownSnapshots, numbers: Sequence[int], declared: timedelta, now: datetime
) -> Iterator[ServerChange]:
    usual = median(numbers) if len(numbers) >= _LEAST else None
    if usual is not None and usual > 0 and not shown.number:
        yield ServerChange.VANISHED
    elif usual is not None and shown.number < usual - 1:
        yield ServerChange.FEWER
    elif usual is not None and shown.number > max(numbers) + 1:
        yield ServerChange.MORE
    if shown.made and now - shown.made[0] > declared:
        yield ServerChange.LONGER
    gaps = [later - earlier for earlier, later in pairwise(shown.made)]
    if len(gaps) >= _LEAST and now - shown.made[-1] > max(2 * _DAY, _LATE * sorted(gaps)[len(gaps) // 2]):
        yield ServerChange.STOPPED
