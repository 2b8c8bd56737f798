"""Reports of drills are listed, shown, verified and exported, with and without a configuration."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from doubles.samples.reports import checks, sample
from fix_nodes import NodeFolder
from fix_regions import Events

from backupd.cli.main import main
from backupd.clock import SystemClock
from backupd.config.load import load
from backupd.errors import RefusedError
from backupd.model.ids import DrillId, RegionName
from backupd.model.report import CheckName, Objectives, Report
from backupd.model.text import compact, stamp
from backupd.operations.reports import publish_report
from backupd.seal.documents import Signer
from backupd.trace import NoTrace, Warned
from backupd.wiring.context import Context
from backupd.wiring.drill import open_report_desk

BE = RegionName("be")
DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)


def report(node: NodeFolder, days_ago: int, *failed: CheckName, every: int = 2) -> Report:
    """Of a drill so many days ago."""
    began = NOW - days_ago * DAY
    return sample(
        0,
        repository=node.repository().info().repository,
        drill=DrillId(f"{compact(began)}-{abs(days_ago):08x}"),
        started=stamp(began),
        finished=stamp(began + timedelta(minutes=3)),
        objectives=Objectives(rpo=93600, rto=14400, drill_every=every * 86400, approval="ISMS-1"),
        checks=checks(failed=failed),
    )


def publish(node: NodeFolder, signer: Signer, one: Report) -> None:
    """As the drill does when it ends."""
    context = Context(load(node.node / "backupd.toml"), {})
    with open_report_desk(context, BE, signer, NoTrace()) as desk:
        publish_report(desk, one)


@pytest.fixture
def keeper(node: NodeFolder) -> Signer:
    """A node with a repository, a keeper, and objectives; no database is ever asked."""
    database = SimpleNamespace(server=SimpleNamespace(bin="/usr/bin"), conninfo="host=/nowhere dbname=app")
    node.configure(database)
    objectives = '[regions.be.objectives]\nrpo = "26h"\nrto = "4h"\ndrill_every = "2d"\napproval = "ISMS-1"\n'
    signer = node.become_keeper(objectives)
    node.json("init", "be")
    return signer


def status(node: NodeFolder, *arguments: str) -> int:
    return node.run("report", *arguments).returncode


def test_from_the_first_drill_to_the_auditor(node: NodeFolder, keeper: Signer, tmp_path: Path) -> None:
    """Each command with its exit status; nothing is lost when the region is not configured any more."""
    assert (status(node, "list"), status(node, "list", "--check"), status(node, "show", "be", "latest")) == (0, 10, 2)
    publish(node, keeper, report(node, 9))
    assert status(node, "list", "be", "--check") == 10  # one was missed since
    publish(node, keeper, report(node, 1))
    assert status(node, "list", "be", "--check") == 0
    (told,) = node.json("report", "list", "be")["regions"]
    assert told["counts"] == {"pass": 2, "fail": 0, "error": 0, "missed": 3}
    assert [drill["outcome"] for drill in told["drills"]] == ["pass", *["missed"] * 3, "pass"]
    publish(node, keeper, report(node, 0, CheckName.EQUALITY))
    assert (status(node, "list"), status(node, "list", "--check")) == (0, 7)
    assert b"3 equality     fail" in node.run("report", "show", "be").stdout
    assert node.json("report", "verify")["clean"]
    assert status(node, "list", "--from", "2030-13-01") == 2
    assert status(node, "list", "--from", "2030-01-02", "--to", "2030-01-01") == 2
    out, page = tmp_path / "out", tmp_path / "page.html"
    assert node.json("report", "export", "be", "--out", str(out))["reports"] == 3
    assert status(node, "export", "be", "--out", str(out)) == 10
    node.json("report", "show", "be", told["drills"][0]["drill"][:20], "--out", str(page))
    assert status(node, "show", "be", "latest", "--out", str(page)) == 10
    shutil.copytree(node.folder / "disk" / "be", tmp_path / "copy" / "be")
    (node.node / "backupd.toml").unlink()
    key = ("--keeper", keeper.public)
    assert status(node, "verify") == 3
    for folder in (out, tmp_path / "copy", tmp_path / "copy" / "be"):
        assert node.json("report", "verify", "--folder", str(folder), *key)["regions"][0]["reports"] == 3
        assert status(node, "list", "--folder", str(folder)) == 0
        assert status(node, "show", "be", "latest", "--folder", str(folder)) == 0
    assert status(node, "verify", "--folder", str(out), "--keeper", "ab" * 32) == 7
    assert status(node, "verify", "--folder", str(out), "--keeper", "ab") == 2
    assert status(node, "show", "nl", "latest", "--folder", str(out)) == 2
    assert b"NOT checked" in node.run("report", "verify", "--folder", str(out), *key).stdout
    max((tmp_path / "copy" / "be" / "reports").iterdir()).unlink()
    assert status(node, "verify", "--folder", str(tmp_path / "copy"), *key) == 7
    for text in (*map(Path.read_text, out.rglob("*.*ml")), json.dumps(told)):
        assert str(tmp_path) not in text


@dataclass
class AheadClock(SystemClock):
    """The clock of a machine that lives in 2028."""

    by: timedelta = timedelta(days=600)

    def now(self) -> datetime:
        return super().now() + self.by


def test_a_drill_under_a_clock_that_is_ahead_is_not_told(node: NodeFolder, keeper: Signer) -> None:
    """The ledger gets no entry of the future; the next drill is published, and says that the other one was dropped."""
    config, events = load(node.node / "backupd.toml"), Events()
    ahead = report(node, -600)
    with (
        open_report_desk(Context(config, {}, AheadClock()), BE, keeper, events) as desk,
        pytest.raises(RefusedError, match="clock of store 'disk'"),
    ):
        publish_report(desk, ahead)
    assert node.json("ledger", "show", "be")["entries"] == []
    assert not (node.folder / "disk" / "be" / "reports").exists()
    with open_report_desk(Context(config, {}), BE, keeper, events) as desk:
        publish_report(desk, report(node, 1))
    (told,) = node.json("report", "list", "be")["regions"]
    assert told["counts"] == {"pass": 1, "fail": 0, "error": 0, "missed": told["counts"]["missed"]}
    (warning,) = [event for event in events.seen if isinstance(event, Warned)]
    assert warning.message.startswith(f"the report of drill {ahead.drill} is dated ahead")
    assert not list((node.node / "state").glob("be/reports/*.json"))


def test_a_drill_under_a_clock_that_is_ahead_does_not_begin(
    node: NodeFolder, keeper: Signer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its report could not be told, so nothing is fetched or restored: not even its identity is opened."""
    config = node.node / "backupd.toml"
    section = f'[drill]\nidentity = "{node.node}/none"\npassphrase_file = "{node.node}/none"\n'
    config.write_text(f"{config.read_text()}\n{section}")
    monkeypatch.setenv("BACKUPD_CONFIG", str(config))
    assert main(["drill", "be"]) == 3
    assert "passphrase file" in capsys.readouterr().err
    monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + 600 * DAY)
    assert main(["drill", "be"]) == 10
    assert "clock of store 'disk'" in capsys.readouterr().err


def test_damage_on_a_store_is_told_everywhere(node: NodeFolder, keeper: Signer, tmp_path: Path) -> None:
    """List, verify and export exit with 7 and name the report; what can be believed is exported all the same."""
    publish(node, keeper, report(node, 2))
    publish(node, keeper, report(node, 1))
    done = node.run("verify", "be", "--json")  # there is no snapshot, which is no good end of a verify
    assert (done.returncode, json.loads(done.stdout)["stores"][0]["verification"]["foreign"]) == (6, [])
    first = min((node.folder / "disk" / "be" / "reports").iterdir())
    first.chmod(0o600)
    first.write_bytes(first.read_bytes().replace(b"app", b"apq", 1))
    for command in (("list",), ("verify",), ("export", "--out", str(tmp_path / "out"))):
        done = node.run("report", *command)
        assert done.returncode == 7
        assert first.stem in done.stdout.decode()
    assert len(list((tmp_path / "out" / "be" / "reports").iterdir())) == 1


def test_a_report_of_an_unknown_repository_is_refused(node: NodeFolder, keeper: Signer) -> None:
    """A drill of another region's copy is not filed here."""
    other = msgspec.structs.replace(report(node, 1), repository="ab" * 16)
    with pytest.raises(Exception, match="another repository"):
        publish(node, keeper, other)
