"""A real daemon reports what the store holds: in metrics, the page, messages, the heartbeat, and `status`."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import msgspec
from doubles.node.processes import eventually
from doubles.samples.attestation_pages import PageReader
from doubles.servers.http_listener import HeardRequests, http_listener
from doubles.servers.ports import free_port
from fix_daemon import Nodes, scheduled
from fix_nodes import NodeFolder
from fix_postgres import Database
from prometheus_client.parser import text_string_to_metric_families

from backupd.model.answers import StatusAnswer
from backupd.model.text import parse_stamp

TELLS = """
[metrics]
listen = "{port}"
textfile = "{node}/backupd.prom"
[notify]
urls = ["{node}/urls"]
heartbeat = ["{node}/beats"]
[status]
page = "{node}/status.html"
[regions.be.objectives]
rpo = "26h"
"""
NAME = "secretive"


def configure_monitoring(node: NodeFolder, heard: HeardRequests) -> int:
    """Configures all ways of telling; the port of the metrics."""
    port = free_port()
    config = node.node / "backupd.toml"
    config.write_text(config.read_text() + TELLS.format(node=node.node, port=port))
    (node.node / "urls").write_text(f"# who is told\njson://user:hunter2@127.0.0.1:{heard.port}/told\n")
    (node.node / "beats").write_text(f"http://127.0.0.1:{heard.port}/beat/5ecret\n")
    for name in ("urls", "beats"):
        (node.node / name).chmod(0o600)
    return port


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def test_what_is_told_is_what_the_store_says(kept_node: NodeFolder, daemons: Nodes, tmp_path: Path) -> None:
    """Newest snapshots by metrics, page and status are the records' own; the heart beats; nothing holds a name."""
    with http_listener() as heard:
        scheduled(kept_node, backup="daily 00:00", verify="daily 00:00", purge="daily 00:00", observe="every 4s")
        port = configure_monitoring(kept_node, heard)
        daemon = daemons.start(kept_node)
        daemon.wait_for("verify", seconds=120)
        daemon.wait_for("observe", number=len(daemon.runs("observe")) + 2)
        eventually(lambda: any(path.startswith("/beat/") for path, _ in heard.requests), 60)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        daemon.stop()
    found = samples(text)
    repository = kept_node.repository()
    newest = parse_stamp(repository.record(repository.snapshots()[-1]).exported)
    place = (("database", "app"), ("region", "be"), ("store", "disk"))
    for age in ("published", "verified"):
        assert found[f"backupd_snapshot_{age}_timestamp_seconds", place] == newest.timestamp()
    assert found["backupd_job_runs_total", (("kind", "backup"), ("outcome", "done"), ("region", "be"))] == 1
    assert found["backupd_job_handled_total", (("kind", "backup"), ("region", "be"), ("what", "rows"))] == 300
    assert found["backupd_watchdog_timestamp_seconds", ()] > newest.timestamp()
    page, textfile = kept_node.node / "status.html", kept_node.node / "backupd.prom"
    assert f"{newest:%Y-%m-%d %H:%M}" in PageReader(page.read_text()).text
    assert samples(textfile.read_text())["backupd_snapshot_published_timestamp_seconds", place] == newest.timestamp()
    answer = kept_node.json("status", "--html", str(tmp_path / "own.html"))
    (region,) = msgspec.convert(answer, StatusAnswer).regions
    assert region.stores[0].databases[0].published == newest
    assert region.stores[0].probed is not None
    assert {job.kind for job in region.jobs} >= {"backup", "verify", "observe"}
    everything = text + page.read_text() + textfile.read_text() + json.dumps(answer) + daemon.log.read_text()
    everything += (tmp_path / "own.html").read_text() + repr(heard.requests)
    for secret in (NAME, "hunter2"):
        assert secret not in everything
    assert "5ecret" not in everything.replace("/beat/5ecret", "")


def test_history_can_be_deleted(kept_node: NodeFolder) -> None:
    """With every memory of this machine gone, `status` says the same of the stores.

    Only what a backup here did not read is known here alone.
    """
    kept_node.json("backup")
    kept_node.json("verify", "--read-data", "all")
    (before,) = msgspec.convert(kept_node.json("status"), StatusAnswer).regions
    for memory in (kept_node.node / "state").rglob("*"):
        if memory.is_file() and memory.suffix in (".json", ".sqlite") and "ledger" not in memory.parts:
            memory.unlink()
    (after,) = msgspec.convert(kept_node.json("status"), StatusAnswer).regions
    (had,) = before.stores[0].databases
    assert had.unread is not None
    assert after.stores[0].databases == (msgspec.structs.replace(had, unread=None),)
    assert after.stores[0].databases[0].verified is not None


def test_a_failure_is_told_once_and_its_end(kept_node: NodeFolder, daemons: Nodes) -> None:
    """A table nobody mapped stops the backup: one message says so, with the command that helps, and one that it is
    over."""
    database: Database = kept_node.database
    database.sql("CREATE TABLE unmapped (id int PRIMARY KEY)")
    with http_listener() as heard:
        scheduled(kept_node, backup="every 3s", observe="every 3s")
        configure_monitoring(kept_node, heard)
        daemon = daemons.start(kept_node)

        def messages() -> list[dict[str, str]]:
            return [json.loads(body) for path, body in heard.requests if path == "/told"]

        daemon.wait_for("backup", "refused", number=2)
        eventually(messages, 60)
        database.sql("DROP TABLE unmapped")
        daemon.wait_for("backup", "done")
        eventually(lambda: any("RESOLVED" in message["message"] for message in messages()), 60)
        daemon.stop()
        failed = [
            message for message in messages() if "job-failed" in message["title"] and message["type"] == "failure"
        ]
        assert len(failed) == 1
        assert "unmapped" not in failed[0]["title"]
