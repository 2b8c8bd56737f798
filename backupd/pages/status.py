"""The status page: alarms first, then ages, timelines, stores, tenants who leave, and jobs.

A store's timeline has a lane for each database, on which a promised snapshot that did not come is marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

from backupd.model.status import Alarm, AlarmSeverity, JobFacts, RegionFacts, StoreFacts
from backupd.model.text import human_bytes, human_duration
from backupd.pages.charts import Bar, Chart, Dot, Line, Rect, SvgText, bars, short
from backupd.pages.environment import environment, spell_seconds

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
    """The content of the status page."""

    made: datetime
    machine: str
    regions: Sequence[RegionFacts]
    alarms: Sequence[Alarm]
    """Alarms in force, worst first."""
    troubles: Sequence[str] = ()
    """Reasons why this machine cannot notify people."""
    stale_after: timedelta | None = None
    """The age beyond which the page is marked as stale, because nobody rewrites it; None: nobody is expected to."""


def render_status(page: StatusPage) -> str:
    """Render the page, one HTML file that fetches nothing from elsewhere."""
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
    """Return a bar for each database on each store; where nothing says how old is too old, there is only its text."""
    most = region.promises.greatest_age
    limit = None if most is None else most.total_seconds()
    return [
        Bar(
            f"{database.label}, {store.store}",
            None if limit is None else _seconds(database.published, now),
            _age(database.published, now),
            limit,
        )
        for store in region.stores
        for database in store.databases
    ]


def _run(job: JobFacts) -> Bar:
    return Bar(job.kind, job.seconds, spell_seconds(round(job.seconds, 1)))


def _seconds(at: datetime | None, now: datetime) -> float | None:
    return None if at is None else max(0.0, (now - at).total_seconds())


def _is_old(region: RegionFacts, at: datetime | None, now: datetime) -> bool:
    """Check whether there is no snapshot, or the newest is older than it should be."""
    most = region.promises.greatest_age
    return at is None or (most is not None and now - at > most)


def _age(at: datetime | None, now: datetime) -> str:
    if at is not None and at - now > timedelta(minutes=1):
        return f"dated {human_duration(at - now)} ahead"
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


SPAN: Final = timedelta(days=28)
_LEFT, _RIGHT, _TOP = 104.0, 332.0, 8.0
_LANE: Final = 24.0
_WEEK: Final = timedelta(days=7)
_LEAST_GAP: Final = 1.5
"""The smallest width of a gap in units, however short the gap was."""


@dataclass(frozen=True, slots=True)
class _Lane:
    """One row of a timeline."""

    label: str
    ticks: Sequence[datetime] = ()
    dots: Sequence[tuple[datetime, str]] = ()
    most: timedelta | None = None
    """The longest time allowed between two ticks."""
    since: datetime | None = None
    """The instant from which ticks were expected."""


def timeline(region: RegionFacts, store: StoreFacts, now: datetime) -> Chart:
    """Draw the last four weeks of snapshots, verifications and drills; too long a time without is marked."""
    lanes = list(_lanes(region, store))
    height = _TOP + len(lanes) * _LANE + 22
    chart = Chart(f"Four weeks on {store.store}", "; ".join(_summaries(lanes, now)), height)
    begin, bottom = now - SPAN, _TOP + len(lanes) * _LANE
    # Before the strokes: drawn after them, the last of these lines would hide the newest one.
    for weeks in range(5):
        at = begin + weeks * _WEEK
        chart.lines.append(Line(_x(at, now), _TOP, _x(at, now), bottom, "grid"))
        anchor = "start" if not weeks else "end" if weeks == 4 else "middle"
        chart.texts.append(SvgText(_x(at, now), bottom + 12, f"{at:%m-%d}", anchor))
    for index, lane in enumerate(lanes):
        y = _TOP + index * _LANE
        chart.texts.append(SvgText(_LEFT - 6, y + 13, short(lane.label), "end"))
        chart.rects.append(Rect(_LEFT, y, _RIGHT - _LEFT, 17, "ground"))
        chart.rects.extend(_gap(first, last, y, now) for first, last in gaps(lane.ticks, lane.most, lane.since, now))
        seen = (at for at in lane.ticks if begin <= at <= now)
        chart.lines.extend(Line(_x(at, now), y + 2, _x(at, now), y + 15, "tick") for at in seen)
        chart.dots.extend(
            Dot(_x(at, now), y + 8.5, kind, f"{at:%Y-%m-%d}: {kind}") for at, kind in lane.dots if begin <= at <= now
        )
    return chart


def gaps(
    ticks: Sequence[datetime], most: timedelta | None, since: datetime | None, now: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Yield each time in which more than `most` had passed since the last tick, up to the next tick or now.

    Times are cut to what is drawn, which is `SPAN`.
    """
    if most is None:
        return
    known = [*([since] if since and (not ticks or since < ticks[0]) else []), *ticks, now]
    begin = now - SPAN
    for earlier, later in pairwise(known):
        # Ticks before the first known one may have existed, and are not drawn as missing.
        if later - earlier > most and later > begin:
            yield max(begin, earlier + most), later


def _lanes(region: RegionFacts, store: StoreFacts) -> Iterator[_Lane]:
    most = region.promises.greatest_age
    for database in store.databases:
        since = None if database.recent else region.founded
        yield _Lane(database.label, database.recent, most=most, since=since)
    yield _Lane("verified", store.verifications)
    yield _Lane("drills", dots=[(drill.at, drill.verdict) for drill in region.drills])


def _summaries(lanes: Iterable[_Lane], now: datetime) -> Iterator[str]:
    for lane in lanes:
        happened = [*lane.ticks, *(at for at, _ in lane.dots)]
        yield f"{lane.label}: {sum(now - SPAN <= at <= now for at in happened)} times in four weeks"


def _gap(first: datetime, last: datetime, y: float, now: datetime) -> Rect:
    x = _x(first, now)
    return Rect(x, y, round(max(_LEAST_GAP, _x(last, now) - x), 1), 17, "beyond")


def _x(at: datetime, now: datetime) -> float:
    return round(_LEFT + (_RIGHT - _LEFT) * ((at - (now - SPAN)) / SPAN), 1)
