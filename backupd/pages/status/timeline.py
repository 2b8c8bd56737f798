"""What happened on a store of late: a lane for each database, and when nothing came that was promised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from backupd.model.status import RegionFacts, StoreFacts
from backupd.pages.charts import Chart, Dot, Line, Rect, SvgText

SPAN: Final = timedelta(days=28)
_LEFT, _RIGHT, _TOP = 104.0, 332.0, 8.0
_LANE: Final = 24.0
_WEEK: Final = timedelta(days=7)
_LEAST_GAP: Final = 1.5
"""Units that a gap is drawn wide at least, however short it was."""


@dataclass(frozen=True, slots=True)
class _Lane:
    label: str
    ticks: Sequence[datetime] = ()
    dots: Sequence[tuple[datetime, str]] = ()
    most: timedelta | None = None
    """The longest time between two."""
    since: datetime | None = None
    """From when on they were to come."""


def timeline(region: RegionFacts, store: StoreFacts, now: datetime) -> Chart:
    """The last four weeks: snapshots of each database, verifications, drills; too long without a snapshot is marked."""
    lanes = list(_lanes(region, store))
    height = _TOP + len(lanes) * _LANE + 22
    chart = Chart(f"Four weeks on {store.store}", "; ".join(_summaries(lanes, now)), height)
    begin = now - SPAN
    for index, lane in enumerate(lanes):
        y = _TOP + index * _LANE
        chart.texts.append(SvgText(_LEFT - 6, y + 13, _short(lane.label), "end"))
        chart.rects.append(Rect(_LEFT, y, _RIGHT - _LEFT, 17, "ground"))
        chart.rects.extend(_gap(first, last, y, now) for first, last in gaps(lane.ticks, lane.most, lane.since, now))
        seen = (at for at in lane.ticks if begin <= at <= now)
        chart.lines.extend(Line(_x(at, now), y + 2, _x(at, now), y + 15, "tick") for at in seen)
        chart.dots.extend(
            Dot(_x(at, now), y + 8.5, kind, f"{at:%Y-%m-%d}: {kind}") for at, kind in lane.dots if begin <= at <= now
        )
    bottom = _TOP + len(lanes) * _LANE
    for weeks in range(5):
        at = begin + weeks * _WEEK
        chart.lines.append(Line(_x(at, now), _TOP, _x(at, now), bottom, "grid"))
        anchor = "start" if not weeks else "end" if weeks == 4 else "middle"
        chart.texts.append(SvgText(_x(at, now), bottom + 12, f"{at:%m-%d}", anchor))
    return chart


def gaps(
    ticks: Sequence[datetime], most: timedelta | None, since: datetime | None, now: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """When more than `most` had passed since the last tick, until the next one or now; within what is drawn."""
    if most is None:
        return
    known = [*([since] if since and (not ticks or since < ticks[0]) else []), *ticks, now]
    begin = now - SPAN
    for earlier, later in pairwise(known):
        # What lies before the first tick that is known may have been there, and is not drawn as missing.
        if later - earlier > most and later > begin:
            yield max(begin, earlier + most), later


def _lanes(region: RegionFacts, store: StoreFacts) -> Iterator[_Lane]:
    rpo = region.promises.rpo
    most = timedelta(seconds=rpo) if rpo is not None else None
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


def _short(label: str) -> str:
    return label if len(label) <= 16 else f"{label[:15]}…"
