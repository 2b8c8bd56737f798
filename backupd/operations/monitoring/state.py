"""All that is told, as one frozen value at a time.

Runs as facts: the last one of a job, and the ones before it.
"""

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
class Sent:
    """How telling people went since the daemon began."""

    sent: int = 0
    failed: int = 0
    """Messages that a target did not take."""
    failing: tuple[str, ...] = ()
    """Targets that did not take the last one, by their place in the configuration, and why."""
    heartbeat: datetime | None = None
    """When it was answered last."""


@dataclass(frozen=True, slots=True)
class MonitorState:
    """What is known of regions and jobs."""

    since: datetime
    """When the daemon began."""
    regions: Mapping[str, RegionFacts] = field(default_factory=dict)
    """As last observed; without jobs."""
    jobs: Mapping[JobKey, JobFacts] = field(default_factory=dict)
    next: Mapping[JobKey, datetime] = field(default_factory=dict)
    """When each job runs next, as the daemon last said."""
    runs: Mapping[tuple[JobKey, str], int] = field(default_factory=dict)
    """Runs since the daemon began, by outcome."""
    amounts: Mapping[tuple[JobKey, str], int] = field(default_factory=dict)
    """Bytes and things handled since then, as answers name them."""
    seconds: Mapping[JobKey, float] = field(default_factory=dict)
    alarms: tuple[Alarm, ...] = ()
    sent: Sent = Sent()

    def whole(self, names: Iterable[str]) -> Iterator[RegionFacts]:
        """These regions' facts, with what runs here; one that nobody has looked at yet has no stores."""
        for name in names:
            jobs = (
                replaced(facts, next_at=self.next.get(key, facts.next_at))
                for key, facts in self.jobs.items()
                if key.region == name
            )
            ordered = sorted(jobs, key=lambda job: list(JobKind).index(JobKind(job.kind)))
            region = self.regions.get(name) or RegionFacts(region=name, at=self.since)
            yield replaced(region, jobs=tuple(ordered))

    def without(self, regions: frozenset[str]) -> MonitorState:
        """No longer with these: they are not this daemon's any more."""
        return replace(
            self,
            regions={name: one for name, one in self.regions.items() if name not in regions},
            jobs={key: one for key, one in self.jobs.items() if key.region not in regions},
        )


def after_run(world: MonitorState, done: JobDone) -> MonitorState:
    """The world after a run; what `observe` answered is how regions stand now."""
    key, outcome = done.key, done.outcome.value
    regions = dict(world.regions)
    if key.kind is JobKind.OBSERVE:
        regions.update(_observed(done, world.regions.get(key.region)))
    amounts = dict(world.amounts)
    figures = done.answer.figures() if done.answer is not None else {}
    for name, number in figures.items():
        if isinstance(number, int):
            amounts[key, name] = amounts.get((key, name), 0) + number
    return replace(
        world,
        regions=regions,
        jobs={**world.jobs, key: after(world.jobs.get(key), done)},
        runs={**world.runs, (key, outcome): world.runs.get((key, outcome), 0) + 1},
        amounts=amounts,
        seconds={**world.seconds, key: world.seconds.get(key, 0.0) + done.seconds},
    )


def _observed(done: JobDone, before: RegionFacts | None) -> Iterator[tuple[str, RegionFacts]]:
    """Whatever the exit status was: what could not be reached says so itself, and is known as it was before."""
    if not isinstance(done.answer, StatusAnswer):
        return
    for region in done.answer.regions:
        if region.region == done.key.region:
            yield region.region, replaced(_remembering(region, before), jobs=())


def _remembering(region: RegionFacts, before: RegionFacts | None) -> RegionFacts:
    """The facts, and where nobody answered those that were known last: silence makes nothing well."""
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
    """The facts of one job's runs, oldest first; None when there are none."""
    facts: JobFacts | None = None
    for done in runs:
        facts = after(facts, done)
    return facts


def after(before: JobFacts | None, done: JobDone) -> JobFacts:
    """The facts after one more run."""
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
    """Of a daemon that ran before: whether it was going to try again, nobody knows, but for what is never tried."""
    return msgspec.structs.replace(facts, final=facts.outcome == JobOutcome.REFUSED, next_at=None)
