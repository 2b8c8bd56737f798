"""The dashboard for Grafana: made from the table of metrics, and each of its questions has an answer in Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.paths import ROOT
from doubles.samples.region_facts import HOUR, NOW, job, region
from doubles.samples.status_pages import bad
from doubles.servers.ports import free_port

from backupd.model.ids import RegionName
from backupd.operations.monitoring.dashboard import grafana_dashboard
from backupd.operations.monitoring.metrics import METRICS, Endpoint, Metrics
from backupd.operations.monitoring.state import DeliveryCounts, MonitorState
from backupd.operations.service.jobs import JobKey, JobKind
from backupd.planning.alarms import Watch, judge

BACKUP = JobKey(JobKind.BACKUP, RegionName("be"))
STATE = MonitorState(
    since=NOW - HOUR,
    regions={"be": region(jobs=()), "ch": bad()},
    jobs={BACKUP: job()},
    next_runs={BACKUP: NOW + HOUR},
    runs={(BACKUP, "done"): 3},
    amounts={(BACKUP, "sent"): 4096},
    seconds={BACKUP: 500.5},
    alarms=judge(bad(), Watch(NOW, HOUR)),
    delivery=DeliveryCounts(2, 1, ("notify.urls[0]:1 was refused",), NOW),
)
"""Facts of which every metric has a figure."""


class At:
    """A clock that stands at NOW."""

    def now(self) -> Any:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def panels() -> list[dict[str, Any]]:
    found = []
    for panel in json.loads(grafana_dashboard())["panels"]:
        found += panel["panels"] if panel["type"] == "row" else [panel]
    return found


def questions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """The address of a real Prometheus that asks a real endpoint of ours every second."""
    endpoint = Endpoint(Metrics(lambda: STATE, At(), lambda: NOW), "127.0.0.1:0")
    port = free_port()
    (tmp_path / "prometheus.yml").write_text(
        "global: { scrape_interval: 1s }\n"
        "scrape_configs:\n"
        f"  - {{ job_name: backupd, static_configs: [ {{ targets: ['127.0.0.1:{endpoint.port}'] }} ] }}\n"
    )
    program = shutil.which("prometheus")
    assert program is not None
    options = (f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data")
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([program, *options, f"--web.listen-address=127.0.0.1:{port}"], stderr=log, stdout=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)
        endpoint.close()


def answers(address: str, question: str) -> list[dict[str, Any]]:
    """What Prometheus answers; raises OSError as long as it does not, and for what is no query."""
    text = question.replace("$region", ".*")
    with urllib.request.urlopen(f"{address}/api/v1/query?{urllib.parse.urlencode({'query': text})}", timeout=30) as got:
        return list(json.load(got)["data"]["result"])


def wait_for_two_looks(address: str) -> None:
    """`increase` needs two figures."""
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        try:
            found = answers(address, "count_over_time(backupd_build_info[5m])")
        except OSError:
            found = []
        if found and float(found[0]["value"][1]) >= 2:
            return
        time.sleep(0.2)
    pytest.fail("Prometheus never asked twice")


def test_the_file_is_made_from_the_table() -> None:
    """Nothing in it was typed there."""
    assert (ROOT / "systemd" / "dashboard.json").read_text() == grafana_dashboard()


def test_every_metric_has_a_panel_that_explains_it() -> None:
    """With the words of the manual, and no panel lies on another."""
    described = {panel["description"] for panel in panels()}
    asked = "\n".join(questions())
    for metric in METRICS:
        assert metric.help in described
        assert re.search(rf"\b{metric.name}\b", asked), metric.name
    assert len({panel["id"] for panel in panels()}) == len(panels())
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()[:8]]
    assert len(set(places)) == 8
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels())


def test_every_question_has_an_answer(prometheus: str) -> None:
    """Names, labels and arithmetic fit what the daemon exposes, and each label that a legend names is there."""
    wait_for_two_looks(prometheus)
    for panel in panels():
        for target in panel["targets"]:
            found = answers(prometheus, target["expr"])
            assert found, target["expr"]
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert labels <= set().union(*(one["metric"] for one in found)), target


def test_the_rules_are_ones_that_prometheus_takes() -> None:
    """Beside the dashboard, the alerts."""
    checked = ["promtool", "check", "rules", str(ROOT / "systemd" / "alerts.yml")]
    done = subprocess.run(checked, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
