"""Metrics are the facts, as Prometheus' own parser reads them; no label names a tenant."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
import yaml
from doubles.paths import ROOT
from doubles.samples.region_facts import HOUR, NOW, job, region, store
from doubles.samples.status_pages import bad
from prometheus_client.parser import text_string_to_metric_families

from backupd.model.alerts import ALERTS, prometheus_rules
from backupd.model.ids import RegionName
from backupd.model.status import AlarmCode
from backupd.operations.monitoring.metrics import METRICS, Endpoint, Metrics
from backupd.operations.monitoring.state import DeliveryCounts, MonitorState
from backupd.operations.service.jobs import JobKey, JobKind
from backupd.planning.alarms import Watch, judge

BACKUP = JobKey(JobKind.BACKUP, RegionName("be"))
Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


class At:
    """A clock that stands at NOW."""

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def world(**changes: Any) -> MonitorState:
    said = {
        "since": NOW - HOUR,
        "regions": {"be": region(jobs=()), "ch": bad()},
        "jobs": {BACKUP: job()},
        "next_runs": {BACKUP: NOW + HOUR},
        "runs": {(BACKUP, "done"): 3, (BACKUP, "failed"): 1},
        "amounts": {(BACKUP, "sent"): 4096},
        "seconds": {BACKUP: 500.5},
        "alarms": judge(bad(), Watch(NOW, HOUR)),
        "delivery": DeliveryCounts(2, 1, ("notify.urls[0]:1 was refused",), NOW),
    }
    return MonitorState(**{**said, **changes})


def metrics(told: MonitorState) -> Metrics:
    return Metrics(lambda: told, At(), lambda: NOW - timedelta(seconds=5))


def parsed(text: bytes) -> Samples:
    families = text_string_to_metric_families(text.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def of(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def test_metrics_are_the_facts() -> None:
    """Ages, promises, deadlines, stores, runs and alarms, each with its labels and in its unit."""
    told = world()
    found, be, zurich = parsed(metrics(told).text()), told.regions["be"], told.regions["be"].stores[0]
    (app,) = zurich.databases
    for name, at in (("published", app.published), ("verified", app.verified), ("restored", app.restored)):
        value = of(found, f"backupd_snapshot_{name}_timestamp_seconds", region="be", store="zurich", database="app")
        assert at is not None
        assert value == at.timestamp()
    assert of(found, "backupd_snapshot_published_timestamp_seconds", region="ch", store="ch", database="ch") is None
    unread = {"region": "be", "store": "zurich", "database": "app"}
    assert app.unread is not None
    assert of(found, "backupd_unread_bytes", **unread) == app.unread.bytes
    assert of(found, "backupd_unread_distrusted", **unread) == 0
    assert of(found, "backupd_objective_seconds", region="be", objective="rpo") == be.promises.rpo
    assert of(found, "backupd_deadline_slack_seconds", region="be") == 40 * 86400
    assert of(found, "backupd_late_incarnations", region="ch") == 1
    assert of(found, "backupd_store_free_bytes", region="be", store="zurich") == 600e9
    assert of(found, "backupd_store_reachable", region="ch", store="cellar") == 0
    assert of(found, "backupd_store_free_bytes", region="ch", store="cellar") is None
    assert of(found, "backupd_store_enforcement_info", region="be", store="cellar", mode="plain") == 1
    assert of(found, "backupd_store_own_snapshots", region="be", store="zurich") == 7
    assert of(found, "backupd_job_runs_total", region="be", kind="backup", outcome="done") == 3
    assert of(found, "backupd_job_handled_total", region="be", kind="backup", what="sent") == 4096
    assert of(found, "backupd_job_next_timestamp_seconds", region="be", kind="backup") == (NOW + HOUR).timestamp()
    assert of(found, "backupd_watchdog_timestamp_seconds") == NOW.timestamp() - 5
    assert of(found, "backupd_messages_total", result="failed") == 1
    alarms = [dict(labels) for name, labels in found if name == "backupd_alarm"]
    assert {alarm["code"] for alarm in alarms} == {alarm.code.value for alarm in told.alarms}
    assert all(value == value for value in found.values())


def test_no_label_holds_a_tenant() -> None:
    """Regions, stores, databases and this program's own words are all there is."""
    text = metrics(world()).text().decode()
    assert "5eed" not in text
    labels = {
        label for family in text_string_to_metric_families(text) for one in family.samples for label in one.labels
    }
    assert labels <= {
        "region", "store", "database", "kind", "outcome", "what", "objective", "mode", "version", "result", "code",
        "subject", "severity",
    }  # fmt: skip


def test_a_store_that_is_away_lacks_nothing_it_had() -> None:
    """What is not known is not told as zero."""
    gone = world(regions={"be": region(stores=(store(space=None, kept=None, server_oldest=None),))})
    found = parsed(metrics(gone).text())
    assert of(found, "backupd_store_free_bytes", region="be", store="zurich") is None
    assert of(found, "backupd_keeper_timestamp_seconds", region="be", store="zurich") is None


def test_the_endpoint_answers_on_its_address() -> None:
    """As Prometheus asks; a port that is taken is an error for the caller."""
    told = metrics(world())
    endpoint = Endpoint(told, "127.0.0.1:0")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=20) as answer:
            assert parsed(answer.read()) == parsed(told.text())
        with pytest.raises(OSError, match=r"[Aa]ddress"):
            Endpoint(told, f"127.0.0.1:{endpoint.port}")
    finally:
        endpoint.close()


def names() -> set[str]:
    """Every metric, as rules name it."""
    return {
        family.name + ("_total" if family.type == "counter" else "") for family in metrics(world()).registry.collect()
    }


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((ROOT / "systemd" / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


def test_every_metric_says_its_name_and_its_labels() -> None:
    """The table from which the manual is printed is what Prometheus gets: no name twice, no label more or less."""
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert {metric.name for metric in METRICS} == names()
    labels = {metric.name: set(metric.labels) for metric in METRICS}
    seen = set()
    for family in metrics(world()).registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        for sample in family.samples:
            assert set(sample.labels) == labels[name], name
            seen.add(name)
    assert seen == names()


def test_every_rule_asks_for_metrics_that_exist() -> None:
    """By name, by labels and by objectives."""
    assert len(rules()) >= 17
    for rule in rules():
        used = set(re.findall(r"backupd_\w+", rule["expr"]))
        assert used, rule
        assert used <= names(), rule
        objectives = re.findall(r'objective="(\w+)"', rule["expr"])
        assert set(objectives) <= {"rpo", "rto", "drill_every", "repair_slack", "expiry_gap"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]


def test_every_alert_and_every_alarm_is_explained() -> None:
    """What each means and what to do is said once, and of no other."""
    assert sorted(alert.code for alert in ALERTS if alert.code) == sorted(AlarmCode)
    for alert in ALERTS:
        assert alert.names
        assert alert.means.endswith(".")
        assert alert.do.endswith(".")


def test_every_rule_names_the_topic_that_explains_it() -> None:
    """Who is woken finds the way from the alert to what to do."""
    assert {rule["annotations"]["runbook"] for rule in rules()} == {"backupd manual alerts"}


def test_the_rules_file_is_made_from_the_table() -> None:
    """Name, condition, severity and summary of a rule stand in the table of alerts only."""
    assert (ROOT / "systemd" / "alerts.yml").read_text() == prometheus_rules()
