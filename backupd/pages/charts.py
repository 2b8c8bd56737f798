"""Charts as shapes with coordinates; templates draw them as inline SVG, and escape the texts in them.

A chart is 340 units wide and is shown about as many pixels wide, so that its letters have the same size on a phone, on
a screen and on paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from backupd.model.text import counted

WIDTH: Final = 340.0
_HEIGHT: Final = 168.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 330.0, 10.0, 142.0
_ROW: Final = 24.0
_BARS_LEFT: Final = 104.0
_BARS_RIGHT: Final = 272.0
_MOST_DOTS: Final = 80
"""Above this number of dots only drills that did not pass get one; the line connects all of them."""
_STEPS: Final = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)

Spell = Callable[[float], str]


class Rect(NamedTuple):
    """A rectangle, given by its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    kind: str


class Line(NamedTuple):
    """A straight line between two points."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str


class SvgPath(NamedTuple):
    """A line of many points, in SVG's own notation."""

    d: str
    kind: str


class Dot(NamedTuple):
    """A dot with a text that appears under the pointer."""

    x: float
    y: float
    kind: str
    """The drill's outcome: `pass`, `fail`, `error` or `missed`."""
    tip: str


class SvgText(NamedTuple):
    """A text, placed by its anchor on the base line."""

    x: float
    y: float
    text: str
    anchor: str
    """The anchor of the text: `start`, `middle` or `end`."""


@dataclass(frozen=True, slots=True)
class Chart:
    """The shapes of a chart in a box of `WIDTH` by `height` units."""

    title: str
    summary: str
    """The content of the chart in words, for readers who cannot see it."""
    height: float
    rects: list[Rect] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    paths: list[SvgPath] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    texts: list[SvgText] = field(default_factory=list)


class Bar(NamedTuple):
    """One row of a bar chart."""

    label: str
    value: float | None
    """None: the row shows only its text."""
    text: str
    limit: float | None = None
    """The value's upper limit, drawn as a line across the row."""


class Point(NamedTuple):
    """One drill of a trend."""

    at: datetime
    value: float | None
    outcome: str
    limit: float | None = None
    """The objective that was promised then."""


def bars(title: str, rows: Sequence[Bar]) -> Chart:
    """Draw a bar for each row, from one common zero; a bar beyond its limit is marked."""
    most = max([1e-9, *(row.value or 0 for row in rows), *(row.limit or 0 for row in rows)])
    summary = "; ".join(f"{row.label} {row.text}" for row in rows) or "nothing"
    chart = Chart(title, f"{title}: {summary}", max(1, len(rows)) * _ROW + 8)
    for index, row in enumerate(rows):
        y = 6 + index * _ROW
        chart.texts.append(SvgText(_BARS_LEFT - 6, y + 13, short(row.label), "end"))
        chart.texts.append(SvgText(_BARS_RIGHT + 6, y + 13, row.text, "start"))
        chart.rects.append(Rect(_BARS_LEFT, y, _BARS_RIGHT - _BARS_LEFT, 17, "ground"))
        if row.value is not None:
            beyond = row.limit is not None and row.value > row.limit
            chart.rects.append(Rect(_BARS_LEFT, y, _scaled(row.value, most), 17, "beyond" if beyond else "bar"))
        if row.limit is not None:
            x = _BARS_LEFT + _scaled(row.limit, most)
            chart.lines.append(Line(x, y - 3, x, y + 20, "most"))
    return chart


def trend(title: str, points: Sequence[Point], spell: Spell) -> Chart:
    """Draw values and their limits over time; a missed drill, or one without a value, is a dot on the ground line."""
    values = [point.value for point in points if point.value is not None]
    shown = [*values, *(point.limit for point in points if point.limit is not None)]
    newest = f", the newest {spell(values[-1])}" if values else ""
    chart = Chart(title, f"{title}: {counted(len(points), 'drill')}{newest}", _HEIGHT)
    chart.lines.append(Line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "axis"))
    if not points:
        chart.texts.append(SvgText((_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2, "no drill", "middle"))
        return chart
    scale = _Scale(points[0].at, points[-1].at, _top_of(max([*shown, 1])))
    for part in range(3):
        y = scale.y(scale.most * part / 2)
        chart.lines.append(Line(_LEFT, y, _RIGHT, y, "grid"))
        chart.texts.append(SvgText(_LEFT - 6, y + 4, spell(scale.most * part / 2), "end"))
    chart.texts.extend(_dates(points))
    chart.paths.extend(_paths(points, scale))
    many = len(points) > _MOST_DOTS
    chart.dots.extend(_dot(point, scale, spell) for point in points if not many or point.outcome != "pass")
    return chart


@dataclass(frozen=True, slots=True)
class _Scale:
    first: datetime
    last: datetime
    most: float

    def x(self, at: datetime) -> float:
        span = (self.last - self.first).total_seconds()
        part = (at - self.first).total_seconds() / span if span else 0.5
        return round(_LEFT + 5 + (_RIGHT - _LEFT - 10) * part, 1)

    def y(self, value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * value / self.most, 1)


def _paths(points: Sequence[Point], scale: _Scale) -> list[SvgPath]:
    line = [f"{scale.x(point.at)} {scale.y(point.value)}" for point in points if point.value is not None]
    found = [SvgPath("M" + "L".join(line), "series")] if len(line) > 1 else []
    limits = [(scale.x(point.at), scale.y(point.limit)) for point in points if point.limit is not None]
    if limits:
        # Steps: an objective applies from the first drill that was measured by it.
        steps = "".join(f"H{x}V{y}" for x, y in limits[1:])
        start = _LEFT if points[0].limit is not None else limits[0][0]
        found.append(SvgPath(f"M{start} {limits[0][1]}{steps}H{_RIGHT}", "limit"))
    return found


def _dot(point: Point, scale: _Scale, spell: Spell) -> Dot:
    day = point.at.astimezone(UTC).strftime("%Y-%m-%d")
    shown = spell(point.value) if point.value is not None else point.outcome
    y = scale.y(point.value) if point.value is not None else _BOTTOM
    return Dot(scale.x(point.at), y, point.outcome, f"{day}: {shown}")


def _dates(points: Sequence[Point]) -> list[SvgText]:
    first, last = (points[index].at.astimezone(UTC).strftime("%Y-%m-%d") for index in (0, -1))
    y = _BOTTOM + 18
    if first == last:
        return [SvgText((_LEFT + _RIGHT) / 2, y, first, "middle")]
    return [SvgText(_LEFT, y, first, "start"), SvgText(_RIGHT, y, last, "end")]


def _top_of(most: float) -> float:
    """Return the least round number that is at least `most`: twice a step of time, or of decimals above a day."""
    for step in _STEPS:
        if most <= 2 * step:
            return 2.0 * step
    power = 10.0 ** (len(str(int(most))) - 1)
    return next(power * part for part in (1, 2, 4, 6, 10, 20) if most <= power * part)


def _scaled(value: float, most: float) -> float:
    return round((_BARS_RIGHT - _BARS_LEFT) * value / most, 1)


def short(label: str) -> str:
    """Return a label as it fits before a row of a chart."""
    return label if len(label) <= 16 else f"{label[:15]}…"
