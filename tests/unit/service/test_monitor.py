"""Events of jobs reach metrics, people, the page and the heartbeat, and nothing there can hold a job up."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from doubles.samples.region_facts import DAY, HOUR, NOW, database, region, store
from doubles.samples.status_pages import bad
from doubles.servers.http_listener import HeardRequests, http_listener

from backupd.model.answers import ErrorAnswer, FailedAnswer, StatusAnswer
from backupd.model.ids import RegionName
from backupd.model.status import RegionFacts, StoreFacts, StoreFault
from backupd.operations.monitoring.delivery import Settings
from backupd.operations.monitoring.messages import HeartbeatUrl
from backupd.operations.monitoring.monitor import Monitor
from backupd.operations.monitoring.notify import NotifyTarget
from backupd.operations.monitoring.state import MonitorState, of_runs, remembered
from backupd.operations.service.history import JobHistory
from backupd.operations.service.jobs import Failure, JobDone, JobKey, JobKind, JobOutcome, Reloaded
from backupd.planning.notices import NoticeLimits

SECRET = "hunter2"
OLD = region(stores=(store(databases=(database(published=NOW - 30 * HOUR),)),))


@dataclass
class Hand:
    """A clock moved by hand."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Log:
    lines: list[dict[str, Any]] = field(default_factory=list)

    def write(self, level: str, **fields: Any) -> None:
        self.lines.append({"level": level, **fields})


@dataclass
class WatchedMonitor:
    """A monitor with all its targets, which listen on loopback."""

    folder: Path
    heard: HeardRequests
    clock: Hand = field(default_factory=Hand)
    log: Log = field(default_factory=Log)

    def __post_init__(self) -> None:
        self.settings = Settings(
            machine="node-1",
            memory=self.folder / "telling.json",
            regions={"be": HOUR},
            limits=NoticeLimits(24 * HOUR, 6),
            timeout=5.0,
            targets=(NotifyTarget("notify.urls[0]:1", f"json://user:{SECRET}@127.0.0.1:{self.heard.port}/told"),),
            heartbeats=(HeartbeatUrl("notify.heartbeat[0]:1", f"http://127.0.0.1:{self.heard.port}/beat/{SECRET}"),),
            page=self.folder / "status.html",
            textfile=self.folder / "backupd.prom",
        )
        self.restart()

    def restart(self) -> None:
        self.monitor = Monitor(lambda: self.settings, MonitorState(self.clock.now()), self.clock, self.log)

    def look(self, facts: RegionFacts, outcome: JobOutcome = JobOutcome.DONE) -> None:
        """The daemon's `observe` ends now, with these facts as of now."""
        moved = msgspec.structs.replace(facts, at=self.clock.now(), jobs=())
        self.monitor.process(
            [done(JobKind.OBSERVE, self.clock.now(), outcome, answer=StatusAnswer(regions=(moved,), alarms=()))]
        )

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(body) for path, body in self.heard.requests if path == "/told"]

    @property
    def beats(self) -> int:
        return sum(path.startswith("/beat") for path, _ in self.heard.requests)


def done(kind: JobKind, at: datetime, outcome: JobOutcome = JobOutcome.DONE, **more: Any) -> JobDone:
    return JobDone(JobKey(kind, RegionName("be")), at - timedelta(seconds=9), at, 9.0, 1, outcome, 0, **more)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[WatchedMonitor]:
    with http_listener() as heard:
        yield WatchedMonitor(tmp_path, heard)


def test_people_hear_what_is_wrong_and_when_it_is_over(watched: WatchedMonitor) -> None:
    """One message for both, with what to do; and none while nothing changes, also not after a restart."""
    watched.look(OLD)
    (message,) = watched.messages
    assert message["type"] == "failure"
    assert message["title"] == "backupd on node-1: be: backup-old"
    assert "30 h old" in message["message"] or "1 d 6 h old" in message["message"]
    assert "backupd backup" in message["message"]
    for _ in range(3):
        watched.clock.sleep(600)
        watched.look(OLD)
        watched.restart()
    watched.look(OLD)
    assert len(watched.messages) == 1
    watched.look(region())
    assert [message["type"] for message in watched.messages] == ["failure", "success"]
    assert "RESOLVED (be, zurich/app, backup-old)" in watched.messages[1]["message"]


def test_no_secret_and_no_tenant_is_told(watched: WatchedMonitor) -> None:
    """Not in messages, on the page, in metrics, in the log or on disk; not when a target fails either."""
    watched.settings = replace(watched.settings, regions={"ch": HOUR})
    watched.restart()
    watched.heard.status = 500
    facts = msgspec.structs.replace(bad(), at=NOW)
    event = done(JobKind.OBSERVE, NOW, answer=StatusAnswer(regions=(facts,), alarms=()))
    watched.monitor.process([replace(event, key=JobKey(JobKind.OBSERVE, RegionName("ch")))])
    everything = "".join(path.read_text() for path in watched.folder.iterdir()) + repr(watched.log.lines)
    everything += watched.monitor.metrics.text().decode() + repr(watched.settings) + repr(watched.messages)
    assert watched.messages
    assert SECRET not in everything
    assert "5eed" not in everything


def test_a_target_that_fails_is_told_and_tried_again(watched: WatchedMonitor) -> None:
    """In the log, on the page and in the metrics; what was not taken is sent the next time."""
    watched.heard.status = 500
    watched.look(OLD)
    assert watched.log.lines[-1]["trouble"] == "was refused"
    assert "notify.urls[0]:1: was refused" in watched.settings.page.read_text()
    assert b"backupd_message_targets_failing 1.0" in watched.monitor.metrics.text()
    watched.heard.status = 200
    watched.look(OLD)
    assert len(watched.messages) == 2
    assert "was refused" not in watched.settings.page.read_text()
    assert b'backupd_messages_total{result="failed"} 1.0' in watched.monitor.metrics.text()


def test_a_target_that_hangs_holds_nothing_up(watched: WatchedMonitor) -> None:
    """Hearing of an event takes no time; the work behind it takes what a target may, and the rest is told."""
    watched.heard.delay = 3.0
    watched.settings = replace(watched.settings, timeout=0.3)
    watched.restart()
    began = time.monotonic()
    watched.monitor.on_event(done(JobKind.BACKUP, NOW))
    assert time.monotonic() - began < 0.2
    watched.look(OLD)
    assert time.monotonic() - began < 2.5
    assert watched.log.lines[-1]["trouble"] == "did not answer in time"
    assert watched.settings.page.exists()


def test_the_heart_beats_only_after_a_good_round(watched: WatchedMonitor) -> None:
    """Once for each look that found nothing grave; not for being alive, for other jobs, or with something wrong."""
    watched.monitor.process()
    watched.monitor.process([done(JobKind.BACKUP, NOW)])
    watched.look(region(), JobOutcome.FAILED)
    watched.look(OLD)
    assert watched.beats == 0
    watched.look(region())
    assert watched.beats == 1
    watched.clock.sleep(120)
    watched.monitor.process()
    assert watched.beats == 1
    watched.look(region(stores=(store(ledger_entries=39),)))
    assert watched.beats == 2
    watched.settings = replace(watched.settings, regions={"be": HOUR, "ch": HOUR})
    watched.monitor.process([Reloaded(watched.clock.now())])
    watched.clock.sleep(120)
    watched.look(region())
    assert watched.beats == 2
    assert b"backupd_heartbeat_timestamp_seconds" in watched.monitor.metrics.text()


def test_silence_is_told(watched: WatchedMonitor) -> None:
    """When nobody looks any more, or never did, that is wrong; a job's failure is, with its words."""
    watched.clock.sleep(7200)
    watched.monitor.process()
    assert [message["title"] for message in watched.messages] == ["backupd on node-1: be: not-observed"]
    failure = Failure("StoreAuth", "the store refuses this key", "Check the key.", retryable=False)
    watched.monitor.process([done(JobKind.BACKUP, watched.clock.now(), JobOutcome.REFUSED, failures=(failure,))])
    assert "the store refuses this key. Check the key." in watched.messages[1]["message"]
    assert [line["code"] for line in watched.log.lines if line["event"] == "alarm"] == ["not-observed", "job-failed"]


def test_the_page_and_the_textfile_are_whole_files(watched: WatchedMonitor) -> None:
    """Readable by who must read them; one that cannot be written is told, and stops nothing."""
    watched.look(region())
    assert stat.S_IMODE(watched.settings.textfile.stat().st_mode) == 0o644
    assert stat.S_IMODE(watched.settings.page.stat().st_mode) == 0o640
    assert "Everything is as promised." in watched.settings.page.read_text()
    assert (
        b'backupd_job_runs_total{kind="observe",outcome="done",region="be"} 1.0'
        in watched.settings.textfile.read_bytes()
    )
    assert sorted(path.name for path in watched.folder.iterdir()) == ["backupd.prom", "status.html"]
    watched.settings = replace(watched.settings, page=watched.folder / "none" / "status.html")
    watched.restart()
    watched.look(OLD)
    assert any(line.get("what") == "status.page" for line in watched.log.lines)
    assert len(watched.messages) == 1


def test_a_store_that_goes_away_makes_nothing_well(watched: WatchedMonitor) -> None:
    """What was wrong there stays wrong, also when no store answers: only a look says that something is over."""
    watched.look(msgspec.structs.replace(OLD, next_deadline=NOW + 3 * DAY, endangered=NOW - 4 * DAY))
    gone = StoreFault("StoreGone", "the connection broke", retryable=True)
    away = (StoreFacts(store="zurich", error=gone),)
    nothing = RegionFacts(region="be", at=NOW, stores=away, promises=OLD.promises)
    for facts in (region(stores=away, next_deadline=NOW + 3 * DAY, endangered=NOW - 4 * DAY), nothing):
        watched.clock.sleep(60)
        watched.look(facts, JobOutcome.FAILED)
        assert len(watched.messages) == 1
        codes = {alarm.code.value for alarm in watched.monitor.state.alarms}
        assert codes == {"backup-old", "deadline-near", "store-unreachable"}
    watched.look(region())
    assert [message["type"] for message in watched.messages] == ["failure", "success"]


def test_a_restart_neither_repeats_a_failure_nor_ends_it(watched: WatchedMonitor) -> None:
    """The history of the machine remembers what failed, and how."""
    failure = Failure("StoreAuth", "the store refuses this key", "Check the key.", retryable=False)
    failed = done(JobKind.BACKUP, NOW, JobOutcome.REFUSED, failures=(failure,))
    history = JobHistory(watched.folder / "history.sqlite")
    history.on_event(failed)
    watched.monitor.process([failed])
    known = of_runs(history.runs(failed.key))
    assert known is not None
    watched.restart()
    watched.monitor.state = replace(watched.monitor.state, jobs={failed.key: remembered(known)})
    watched.clock.sleep(600)
    watched.look(region())
    assert len(watched.messages) == 1
    assert [alarm.code.value for alarm in watched.monitor.state.alarms] == ["job-failed"]


def test_next_runs_are_told_before_the_first(watched: WatchedMonitor) -> None:
    """The daemon says them as it turns, now and then; a job that never ran has one, too."""
    backup, verify = (JobKey(kind, RegionName("be")) for kind in (JobKind.BACKUP, JobKind.VERIFY))
    asked: list[datetime] = []

    def times() -> dict[JobKey, datetime | None]:
        asked.append(watched.clock.now())
        return {backup: NOW + HOUR, verify: None}

    for _ in range(30):
        watched.monitor.loop.alive(times)
        watched.clock.sleep(1)
    watched.monitor.process()
    assert len(asked) == 3
    lines = watched.monitor.metrics.text().decode().splitlines()
    (line,) = [line for line in lines if line.startswith("backupd_job_next")]
    assert 'kind="backup"' in line
    assert float(line.split()[-1]) == (NOW + HOUR).timestamp()
    watched.monitor.process([done(JobKind.BACKUP, watched.clock.now())])
    assert "2030-06-01 13:00" in watched.settings.page.read_text()


def test_an_answer_that_is_none_changes_nothing(watched: WatchedMonitor) -> None:
    """A look that crashed leaves the facts as they were, with their age."""
    watched.look(region())
    gone = ErrorAnswer(kind="StoreGone", exit_code=6, message="x", hint="", retryable=True)
    of_another_region = region("ch")
    for answer in (None, FailedAnswer(error=gone), StatusAnswer(regions=(of_another_region,), alarms=())):
        watched.monitor.process([done(JobKind.OBSERVE, NOW, JobOutcome.CRASHED, answer=answer)])
    (facts,) = watched.monitor.state.regions_with_jobs(["be"])
    assert (facts.at, len(facts.stores)) == (NOW, 2)


def test_it_works_beside_the_daemon_and_ends_with_it(watched: WatchedMonitor) -> None:
    """In a thread of its own, which tells what was heard before the end; a taken port is told and stops nothing."""
    watched.settings = replace(watched.settings, listen=f"127.0.0.1:{watched.heard.port}")
    watched.restart()
    watched.monitor.start()
    moved = msgspec.structs.replace(OLD, jobs=())
    watched.monitor.on_event(done(JobKind.OBSERVE, NOW, answer=StatusAnswer(regions=(moved,), alarms=())))
    watched.monitor.close()
    assert len(watched.messages) == 1
    assert watched.log.lines[0]["what"] == "metrics.listen"


def test_a_day_of_reminders(watched: WatchedMonitor) -> None:
    """What stays wrong is said again each day, and only then."""
    for _ in range(4 * 30):
        watched.look(OLD)
        watched.clock.sleep(900)
    assert len(watched.messages) == 2
    assert watched.clock.at - NOW > DAY
    assert "ERROR since" in watched.messages[1]["message"]


def test_a_restart_says_nothing_is_over_before_anybody_looked(watched: WatchedMonitor) -> None:
    """An alarm in force stays so until a look after the start shows otherwise; the page says that nobody looked."""
    watched.look(OLD)
    watched.clock.sleep(60)
    watched.restart()
    watched.monitor.process()
    watched.clock.sleep(60)
    watched.monitor.process([done(JobKind.VERIFY, watched.clock.now())])
    assert [message["type"] for message in watched.messages] == ["failure"]
    assert "Everything is as promised" not in watched.settings.page.read_text()
    watched.look(OLD)
    assert [message["type"] for message in watched.messages] == ["failure"]
    watched.look(region())
    assert [message["type"] for message in watched.messages] == ["failure", "success"]
