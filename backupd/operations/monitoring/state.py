"""The state of monitoring as a frozen value: regions as last observed, runs of jobs, alarms, deliveries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import msgspec
from msgspec.structs import replace as replaced

from backupd.model.answers import StatusAnswer
from backupd.model.status import Alarm, JobFacts, RegionFacts
from backupd.operations.service.jobs import WELL, JobDone, JobKey, JobKind, JobOutcome


@dataclass(frozen=True, slots=True)
class DeliveryCounts:
    """Counts of messages since the daemon began, and the last heartbeat."""

    sent: int = 0
    failed: int = 0
    """Messages that a target did not take."""
    failing: tuple[str, ...] = ()
    """Targets that did not take the last message, by their place in the configuration, and why."""
    heartbeat: datetime | None = None
    """When a heartbeat was last answered."""


@dataclass(frozen=True, slots=True)
class MonitorState:
    """Everything that is known of the monitored regions and their jobs."""

    since: datetime
    """When the daemon began."""
    regions: Mapping[str, RegionFacts] = field(default_factory=dict)
    """Each region as it was last observed, without its jobs."""
    jobs: Mapping[JobKey, JobFacts] = field(default_factory=dict)
    next_runs: Mapping[JobKey, datetime] = field(default_factory=dict)
    """When each job runs next, as the daemon last said."""
    runs: Mapping[tuple[JobKey, str], int] = field(default_factory=dict)
    """Runs since the daemon began, by outcome."""
    amounts: Mapping[tuple[JobKey, str], int] = field(default_factory=dict)
    """Bytes and things handled since then, as answers name them."""
    seconds: Mapping[JobKey, float] = field(default_factory=dict)
    alarms: tuple[Alarm, ...] = ()
    delivery: DeliveryCounts = DeliveryCounts()

    def regions_with_jobs(self, names: Iterable[str]) -> Iterator[RegionFacts]:
        """Yield these regions' facts with the jobs of this machine; a region never observed yet has no stores."""
        for name in names:
            jobs = (
                replaced(facts, next_at=self.next_runs.get(key, facts.next_at))
                for key, facts in self.jobs.items()
                if key.region == name
            )
            ordered = sorted(jobs, key=lambda job: list(JobKind).index(JobKind(job.kind)))
            region = self.regions.get(name) or RegionFacts(region=name, at=self.since)
            yield replaced(region, jobs=tuple(ordered))

    def without(self, regions: frozenset[str]) -> MonitorState:
        """Return the state without these regions, which are no longer this daemon's."""
        return replace(
            self,
            regions={name: one for name, one in self.regions.items() if name not in regions},
            jobs={key: one for key, one in self.jobs.items() if key.region not in regions},
        )


def after_run(state: MonitorState, done: JobDone) -> MonitorState:
    """Return the state after a run; the answer of an `observe` job is how its region stands now."""
    key, outcome = done.key, done.outcome.value
    regions = dict(state.regions)
    if key.kind is JobKind.OBSERVE:
        regions.update(_observed(done, state.regions.get(key.region)))
    amounts = dict(state.amounts)
    figures = done.answer.figures() if done.answer is not None else {}
    for name, number in figures.items():
        if isinstance(number, int):
            amounts[key, name] = amounts.get((key, name), 0) + number
    return replace(
        state,
        regions=regions,
        jobs={**state.jobs, key: after(state.jobs.get(key), done)},
        runs={**state.runs, (key, outcome): state.runs.get((key, outcome), 0) + 1},
        amounts=amounts,
        seconds={**state.seconds, key: state.seconds.get(key, 0.0) + done.seconds},
    )


def _observed(done: JobDone, before: RegionFacts | None) -> Iterator[tuple[str, RegionFacts]]:
    """Yield the observed region, also of a failed run: a store that was not reached has an error, and older facts."""
    if not isinstance(done.answer, StatusAnswer):
        return
    for region in done.answer.regions:
        if region.region == done.key.region:
            yield region.region, replaced(_with_facts_before(region, before), jobs=())


def _with_facts_before(region: RegionFacts, before: RegionFacts | None) -> RegionFacts:
    """Return the facts, with those known before where a store did not answer: silence ends no alarm."""
    if before is None:
        return region
    known = {store.store: store for store in before.stores}
    stores = tuple(
        replaced(known[store.store], error=store.error) if store.error is not None and store.store in known else store
        for store in region.stores
    )
    if region.ledger is None:
        return replaced(before, at=region.at, stores=stores, promises=region.promises)
    return replaced(region, stores=stores, founded=region.founded or before.founded)


_RUNS = 60


def of_runs(runs: Sequence[JobDone]) -> JobFacts | None:
    """Return the facts of one job from its runs, which come oldest first; None when there are none."""
    facts: JobFacts | None = None
    for done in runs:
        facts = after(facts, done)
    return facts


def after(before: JobFacts | None, done: JobDone) -> JobFacts:
    """Return a job's facts after one more run."""
    first = done.failures[0] if done.failures else None
    well = done.outcome in WELL
    run = (done.started, done.seconds, done.outcome.value)
    return JobFacts(
        kind=done.key.kind.value,
        started=done.started,
        ended=done.ended,
        outcome=done.outcome.value,
        well=well,
        seconds=done.seconds,
        attempt=done.attempt,
        failure=first.kind if first else "",
        message=first.message if first else "",
        hint=first.hint if first else "",
        final=not well and done.retry_at is None and done.outcome is not JobOutcome.BUSY,
        good=done.started if well else before.good if before else None,
        next_at=done.retry_at or done.next_at,
        runs=(*(before.runs if before else ()), run)[-_RUNS:],
    )


def remembered(facts: JobFacts) -> JobFacts:
    """Return a job's facts as the history of an earlier daemon has them.

    Nobody knows whether that daemon would have tried again, except that a refused job is never tried again.
    """
    return msgspec.structs.replace(facts, final=facts.outcome == JobOutcome.REFUSED, next_at=None)
