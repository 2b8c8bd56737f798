"""One page of how regions stand: what is wrong first, then three ages, timelines, stores, who leaves, and jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from backupd.model.amounts import human_bytes, human_duration
from backupd.model.status import Alarm, AlarmSeverity, JobFacts, RegionFacts, StoreFacts
from backupd.pages.charts import Bar, Chart, bars
from backupd.pages.environment import environment
from backupd.pages.status.timeline import timeline
from backupd.pages.words import spell_seconds

OUTCOMES: Final = {
    "done": ("pass", "done"),
    "found": ("fail", "found something wrong"),
    "failed": ("fail", "failed"),
    "refused": ("fail", "refused"),
    "busy": ("skip", "somebody else was at it"),
    "stopped": ("skip", "stopped with the daemon"),
    "late": ("fail", "ended at its deadline"),
    "hung": ("fail", "hung, and was ended"),
    "crashed": ("fail", "crashed"),
}
ENFORCED: Final = {
    "append-only": "only the keeper: append-only for writers",
    "ingest": "only the keeper: writers hand in",
    "plain": "writers, too",
}
_SHOWN_DAYS: Final = 8


class StatusPage(NamedTuple):
    """What the page is made of."""

    made: datetime
    machine: str
    regions: Sequence[RegionFacts]
    alarms: Sequence[Alarm]
    """Worst first."""
    troubles: Sequence[str] = ()
    """What keeps this machine from telling people."""
    stale_after: timedelta | None = None
    """When nobody rewrites the page any more; None: nobody does."""


def render_status(page: StatusPage) -> str:
    """One HTML page, with nothing in it that is fetched from elsewhere."""
    return (
        environment()
        .get_template("status.html")
        .render(
            page=page,
            grave=sum(alarm.severity is AlarmSeverity.ERROR for alarm in page.alarms),
            charts={region.region: _charts(region, page.made) for region in page.regions},
            shown_days=_SHOWN_DAYS,
            outcomes=OUTCOMES,
            enforced=ENFORCED,
            age=lambda at: _age(at, page.made),
            left=lambda at: _left(at, page.made),
            at=_instant,
            size=human_bytes,
            span=spell_seconds,
            took=lambda job: spell_seconds(round(job.seconds, 1)),
            own=_own_snapshots,
            is_old=lambda region, at: _is_old(region, at, page.made),
        )
    )


def _charts(region: RegionFacts, now: datetime) -> list[Chart]:
    found = [timeline(region, store, now) for store in region.stores if store.error is None]
    found.append(bars("Age of the newest snapshot", _ages(region, now)))
    if region.jobs:
        found.append(bars("How long the last runs took", [_run(job) for job in region.jobs]))
    return found


def _ages(region: RegionFacts, now: datetime) -> list[Bar]:
    limit = region.promises.rpo
    return [
        Bar(f"{database.label}, {store.store}", _seconds(database.published, now), _age(database.published, now), limit)
        for store in region.stores
        for database in store.databases
    ]


def _run(job: JobFacts) -> Bar:
    return Bar(job.kind, job.seconds, spell_seconds(round(job.seconds, 1)))


def _seconds(at: datetime | None, now: datetime) -> float | None:
    return None if at is None else max(0.0, (now - at).total_seconds())


def _is_old(region: RegionFacts, at: datetime | None, now: datetime) -> bool:
    """Whether the newest snapshot is older than promised."""
    rpo = region.promises.rpo
    return rpo is not None and (at is None or now - at > timedelta(seconds=rpo))


def _age(at: datetime | None, now: datetime) -> str:
    return "never" if at is None else human_duration(max(timedelta(), now - at))


def _left(at: datetime, now: datetime) -> str:
    return human_duration(at - now) if at > now else f"{human_duration(now - at)} ago"


def _instant(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M}"


def _own_snapshots(store: StoreFacts) -> str:
    if not store.server_snapshots:
        return "none"
    oldest = f", since {store.server_oldest:%Y-%m-%d}" if store.server_oldest else ""
    return f"{len(store.server_snapshots)}{oldest}"
