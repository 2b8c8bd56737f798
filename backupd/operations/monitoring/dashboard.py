"""The dashboard for Grafana, made from the table of metrics: what matters most at the top, below it every figure.

`systemd/dashboard.json` is this text; a test compares the two, and asks a Prometheus each of the questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from backupd.operations.monitoring.metrics import METRICS, MetricDefinition

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24
_HEIGHT = 7
_REGIONS = 'region=~"$region"'
_AHEAD = ("backupd_deadline", "backupd_job_next")
"""Beginnings of the names of instants that lie ahead; all others are in the past, and shown as ages."""
_ROWS = (
    ("Snapshots", ("backupd_snapshot",)),
    ("Stores", ("backupd_store", "backupd_keeper", "backupd_expiry")),
    ("Jobs", ("backupd_job",)),
    ("The daemon", ("backupd_build", "backupd_start", "backupd_watchdog", "backupd_message", "backupd_heartbeat")),
    ("Regions and tenants", ("backupd_",)),
)
"""Each row with the beginnings of its metrics' names; a metric stands in the first row that fits."""


@dataclass(frozen=True, slots=True)
class _Question:
    """One query, and how its answers are called."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    about: str
    unit: str
    questions: tuple[_Question, ...]
    kind: str = "timeseries"
    width: int = 8


def _of(name: str) -> str:
    """Return a metric of the chosen regions."""
    return f"{name}{{{_REGIONS}}}"


def _age(name: str) -> str:
    return f"time() - {_of(name)}"


def _share(name: str) -> str:
    return f"backupd_store_{name}_bytes{{{_REGIONS}}}"


_DATABASE = "{{region}} {{database}} on {{store}}"
_OVERVIEW = (
    _Panel(
        "Alarms in force",
        "What the daemon judges to be wrong now; `backupd manual alerts` says what to do.",
        "short",
        (_Question(f"sum by (severity) ({_of('backupd_alarm')}) or vector(0)", "{{severity}}"),),
        "stat",
        4,
    ),
    _Panel(
        "Tenants past a date",
        "Each is somebody whose data should be gone.",
        "short",
        (_Question(_of("backupd_late_incarnations"), "{{region}}"),),
        "stat",
        4,
    ),
    _Panel(
        "Until the nearest deadline",
        "By then nothing may be left of a tenant.",
        "s",
        (_Question(_of("backupd_deadline_slack_seconds"), "{{region}}"),),
        "stat",
        4,
    ),
    _Panel(
        "Since a drill passed",
        "A restore that was checked row by row.",
        "s",
        (_Question(_age("backupd_proof_timestamp_seconds"), "{{region}}"),),
        "stat",
        4,
    ),
    _Panel(
        "Room left on stores",
        "Below a tenth, an alert goes off.",
        "percentunit",
        (_Question(f"{_share('free')} / {_share('size')}", "{{region}} {{store}}"),),
        "stat",
        4,
    ),
    _Panel(
        "Jobs that fail",
        "Their last run did not do its work.",
        "short",
        (_Question(f"sum by (region) ({_of('backupd_job_failing')})", "{{region}}"),),
        "stat",
        4,
    ),
    _Panel(
        "What may be lost, and what is promised",
        "The age of the newest snapshot on each store, beside the objective of its region.",
        "s",
        (
            _Question(_age("backupd_snapshot_published_timestamp_seconds"), _DATABASE),
            _Question(f'backupd_objective_seconds{{{_REGIONS},objective="rpo"}}', "{{region}} promised"),
        ),
        width=12,
    ),
    _Panel(
        "Alarms by name",
        "One line for each thing that is wrong.",
        "short",
        (_Question(_of("backupd_alarm"), "{{severity}}: {{code}} {{region}} {{subject}}"),),
        width=12,
    ),
)


def grafana_dashboard() -> str:
    """Return the text of `systemd/dashboard.json`."""
    facts = {
        "uid": "backupd",
        "title": "backupd",
        "description": "Made from backupd's table of metrics; `backupd manual metrics` explains each.",
        "tags": ["backupd"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-7d", "to": "now"},
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }
    return json.dumps(facts, indent=1) + "\n"


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus"}
    yield {
        "name": "region",
        "label": "Region",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": "label_values(backupd_observed_timestamp_seconds, region)", "refId": "region"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels() -> Iterator[dict[str, Any]]:
    """Yield what stands open at the top, then a closed row for each kind of metric, with a panel for each metric."""
    at = 0
    for panel in _placed(_OVERVIEW, first=1, top=0):
        yield panel
        at = max(at, panel["gridPos"]["y"] + _HEIGHT)
    for place, (title, _) in enumerate(_ROWS):
        number, y = 100 * (place + 1), at + place
        below = [_metric_panel(metric) for metric in METRICS if _row(metric.name) == place]
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": True,
            "gridPos": {"x": 0, "y": y, "w": _WIDTH, "h": 1},
            "panels": list(_placed(below, first=number + 1, top=y + 1)),
        }


def _row(name: str) -> int:
    return next(place for place, (_, beginnings) in enumerate(_ROWS) if name.startswith(beginnings))


def _placed(panels: Iterable[_Panel], first: int, top: int) -> Iterator[dict[str, Any]]:
    x, y = 0, top
    for number, panel in enumerate(panels, first):
        if x + panel.width > _WIDTH:
            x, y = 0, y + _HEIGHT
        yield {
            "id": number,
            "type": panel.kind,
            "title": panel.title,
            "description": panel.about,
            "datasource": _SOURCE,
            "gridPos": {"x": x, "y": y, "w": panel.width, "h": _HEIGHT},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0 if panel.unit == "percentunit" else None}},
            "targets": [
                {"refId": chr(ord("A") + place), "expr": one.expression, "legendFormat": one.legend}
                for place, one in enumerate(panel.questions)
            ],
        }
        x += panel.width


def _metric_panel(metric: MetricDefinition) -> _Panel:
    """Return the panel of a metric: its name says the unit, and whether it is an instant, a sum or a figure."""
    stem = metric.name.removeprefix("backupd_")
    expression = _of(metric.name) if "region" in metric.labels else metric.name
    unit = "short"
    if stem.endswith("_timestamp_seconds"):
        ahead = metric.name.startswith(_AHEAD)
        expression = f"{expression} - time()" if ahead else f"time() - {expression}"
        stem, unit = f"{stem.removesuffix('_timestamp_seconds')}: {'time left' if ahead else 'age'}", "s"
    elif stem.endswith("_total"):
        expression = f"increase({expression}[1h])"
        stem, unit = f"{stem.removesuffix('_total')} in an hour", "s" if "_seconds_" in stem else "short"
    elif stem.endswith(("_seconds", "_bytes")):
        stem, _, word = stem.rpartition("_")
        unit = "s" if word == "seconds" else "bytes"
    title = stem.replace("_", " ").capitalize()
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels) or "{{instance}}"
    return _Panel(title, metric.help, unit, (_Question(expression, legend),))
