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
class Telling:
    """A teller with all its ways, to somebody who listens on loopback."""

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
def telling(tmp_path: Path) -> Iterator[Telling]:
    with http_listener() as heard:
        yield Telling(tmp_path, heard)


def test_people_hear_what_is_wrong_and_when_it_is_over(telling: Telling) -> None:
    """One message for both, with what to do; and none while nothing changes, also not after a restart."""
    telling.look(OLD)
    (message,) = telling.messages
    assert message["type"] == "failure"
    assert message["title"] == "backupd on node-1: be: backup-old"
    assert "30 h old" in message["message"] or "1 d 6 h old" in message["message"]
    assert "backupd backup" in message["message"]
    for _ in range(3):
        telling.clock.sleep(600)
        telling.look(OLD)
        telling.restart()
    telling.look(OLD)
    assert len(telling.messages) == 1
    telling.look(region())
    assert [message["type"] for message in telling.messages] == ["failure", "success"]
    assert "no longer true" in telling.messages[1]["message"]


def test_no_secret_and_no_tenant_is_told(telling: Telling) -> None:
    """Not in messages, on the page, in metrics, in the log or on disk; not when a target fails either."""
    telling.settings = replace(telling.settings, regions={"ch": HOUR})
    telling.restart()
    telling.heard.status = 500
    facts = msgspec.structs.replace(bad(), at=NOW)
    event = done(JobKind.OBSERVE, NOW, answer=StatusAnswer(regions=(facts,), alarms=()))
    telling.monitor.process([replace(event, key=JobKey(JobKind.OBSERVE, RegionName("ch")))])
    everything = "".join(path.read_text() for path in telling.folder.iterdir()) + repr(telling.log.lines)
    everything += telling.monitor.metrics.text().decode() + repr(telling.settings) + repr(telling.messages)
    assert telling.messages
    assert SECRET not in everything
    assert "5eed" not in everything


def test_a_target_that_fails_is_told_and_tried_again(telling: Telling) -> None:
    """In the log, on the page and in the metrics; what was not taken is sent the next time."""
    telling.heard.status = 500
    telling.look(OLD)
    assert telling.log.lines[-1]["trouble"] == "was refused"
    assert "notify.urls[0]:1: was refused" in telling.settings.page.read_text()
    assert b"backupd_message_targets_failing 1.0" in telling.monitor.metrics.text()
    telling.heard.status = 200
    telling.look(OLD)
    assert len(telling.messages) == 2
    assert "was refused" not in telling.settings.page.read_text()
    assert b'backupd_messages_total{result="failed"} 1.0' in telling.monitor.metrics.text()


def test_a_target_that_hangs_holds_nothing_up(telling: Telling) -> None:
    """Hearing of an event takes no time; the work behind it takes what a target may, and the rest is told."""
    telling.heard.delay = 3.0
    telling.settings = replace(telling.settings, timeout=0.3)
    telling.restart()
    began = time.monotonic()
    telling.monitor.on_event(done(JobKind.BACKUP, NOW))
    assert time.monotonic() - began < 0.2
    telling.look(OLD)
    assert time.monotonic() - began < 2.5
    assert telling.log.lines[-1]["trouble"] == "did not answer in time"
    assert telling.settings.page.exists()


def test_the_heart_beats_only_after_a_good_round(telling: Telling) -> None:
    """Once for each look that found nothing grave; not for being alive, for other jobs, or with something wrong."""
    telling.monitor.process()
    telling.monitor.process([done(JobKind.BACKUP, NOW)])
    telling.look(region(), JobOutcome.FAILED)
    telling.look(OLD)
    assert telling.beats == 0
    telling.look(region())
    assert telling.beats == 1
    telling.clock.sleep(120)
    telling.monitor.process()
    assert telling.beats == 1
    telling.look(region(stores=(store(ledger_entries=39),)))
    assert telling.beats == 2
    telling.settings = replace(telling.settings, regions={"be": HOUR, "ch": HOUR})
    telling.monitor.process([Reloaded(telling.clock.now())])
    telling.clock.sleep(120)
    telling.look(region())
    assert telling.beats == 2
    assert b"backupd_heartbeat_timestamp_seconds" in telling.monitor.metrics.text()


def test_silence_is_told(telling: Telling) -> None:
    """When nobody looks any more, or never did, that is wrong; a job's failure is, with its words."""
    telling.clock.sleep(7200)
    telling.monitor.process()
    assert [message["title"] for message in telling.messages] == ["backupd on node-1: be: not-observed"]
    failure = Failure("StoreAuth", "the store refuses this key", "Check the key.", retryable=False)
    telling.monitor.process([done(JobKind.BACKUP, telling.clock.now(), JobOutcome.REFUSED, failures=(failure,))])
    assert "the store refuses this key. Check the key." in telling.messages[1]["message"]
    assert [line["code"] for line in telling.log.lines if line["event"] == "alarm"] == ["not-observed", "job-failed"]


def test_the_page_and_the_textfile_are_whole_files(telling: Telling) -> None:
    """Readable by who must read them; one that cannot be written is told, and stops nothing."""
    telling.look(region())
    assert stat.S_IMODE(telling.settings.textfile.stat().st_mode) == 0o644
    assert stat.S_IMODE(telling.settings.page.stat().st_mode) == 0o640
    assert "Everything is as promised." in telling.settings.page.read_text()
    assert (
        b'backupd_job_runs_total{kind="observe",outcome="done",region="be"} 1.0'
        in telling.settings.textfile.read_bytes()
    )
    assert sorted(path.name for path in telling.folder.iterdir()) == ["backupd.prom", "status.html"]
    telling.settings = replace(telling.settings, page=telling.folder / "none" / "status.html")
    telling.restart()
    telling.look(OLD)
    assert any(line.get("what") == "status.page" for line in telling.log.lines)
    assert len(telling.messages) == 1


def test_a_store_that_goes_away_makes_nothing_well(telling: Telling) -> None:
    """What was wrong there stays wrong, also when no store answers: only a look says that something is over."""
    telling.look(msgspec.structs.replace(OLD, next_deadline=NOW + 3 * DAY, endangered=NOW - 4 * DAY))
    gone = StoreFault("StoreGone", "the connection broke", retryable=True)
    away = (StoreFacts(store="zurich", error=gone),)
    nothing = RegionFacts(region="be", at=NOW, stores=away, promises=OLD.promises)
    for facts in (region(stores=away, next_deadline=NOW + 3 * DAY, endangered=NOW - 4 * DAY), nothing):
        telling.clock.sleep(60)
        telling.look(facts, JobOutcome.FAILED)
        assert len(telling.messages) == 1
        codes = {alarm.code.value for alarm in telling.monitor.state.alarms}
        assert codes == {"backup-old", "deadline-near", "store-unreachable"}
    telling.look(region())
    assert [message["type"] for message in telling.messages] == ["failure", "success"]


def test_a_restart_neither_repeats_a_failure_nor_ends_it(telling: Telling) -> None:
    """The history of the machine remembers what failed, and how."""
    failure = Failure("StoreAuth", "the store refuses this key", "Check the key.", retryable=False)
    failed = done(JobKind.BACKUP, NOW, JobOutcome.REFUSED, failures=(failure,))
    history = JobHistory(telling.folder / "history.sqlite")
    history.on_event(failed)
    telling.monitor.process([failed])
    known = of_runs(history.runs(failed.key))
    assert known is not None
    telling.restart()
    telling.monitor.state = replace(telling.monitor.state, jobs={failed.key: remembered(known)})
    telling.clock.sleep(600)
    telling.look(region())
    assert len(telling.messages) == 1
    assert [alarm.code.value for alarm in telling.monitor.state.alarms] == ["job-failed"]


def test_next_runs_are_told_before_the_first(telling: Telling) -> None:
    """The daemon says them as it turns, now and then; a job that never ran has one, too."""
    backup, verify = (JobKey(kind, RegionName("be")) for kind in (JobKind.BACKUP, JobKind.VERIFY))
    asked: list[datetime] = []

    def times() -> dict[JobKey, datetime | None]:
        asked.append(telling.clock.now())
        return {backup: NOW + HOUR, verify: None}

    for _ in range(30):
        telling.monitor.loop.alive(times)
        telling.clock.sleep(1)
    telling.monitor.process()
    assert len(asked) == 3
    lines = telling.monitor.metrics.text().decode().splitlines()
    (line,) = [line for line in lines if line.startswith("backupd_job_next")]
    assert 'kind="backup"' in line
    assert float(line.split()[-1]) == (NOW + HOUR).timestamp()
    telling.monitor.process([done(JobKind.BACKUP, telling.clock.now())])
    assert "2030-06-01 13:00" in telling.settings.page.read_text()


def test_an_answer_that_is_none_changes_nothing(telling: Telling) -> None:
    """A look that crashed leaves the facts as they were, with their age."""
    telling.look(region())
    gone = ErrorAnswer(kind="StoreGone", exit_code=6, message="x", hint="", retryable=True)
    of_another_region = region("ch")
    for answer in (None, FailedAnswer(error=gone), StatusAnswer(regions=(of_another_region,), alarms=())):
        telling.monitor.process([done(JobKind.OBSERVE, NOW, JobOutcome.CRASHED, answer=answer)])
    (facts,) = telling.monitor.state.regions_with_jobs(["be"])
    assert (facts.at, len(facts.stores)) == (NOW, 2)


def test_it_works_beside_the_daemon_and_ends_with_it(telling: Telling) -> None:
    """In a thread of its own, which tells what was heard before the end; a taken port is told and stops nothing."""
    telling.settings = replace(telling.settings, listen=f"127.0.0.1:{telling.heard.port}")
    telling.restart()
    telling.monitor.start()
    moved = msgspec.structs.replace(OLD, jobs=())
    telling.monitor.on_event(done(JobKind.OBSERVE, NOW, answer=StatusAnswer(regions=(moved,), alarms=())))
    telling.monitor.close()
    assert len(telling.messages) == 1
    assert telling.log.lines[0]["what"] == "metrics.listen"


def test_a_day_of_reminders(telling: Telling) -> None:
    """What stays wrong is said again each day, and only then."""
    for _ in range(4 * 30):
        telling.look(OLD)
        telling.clock.sleep(900)
    assert len(telling.messages) == 2
    assert telling.clock.at - NOW > DAY
    assert "ERROR since" in telling.messages[1]["message"]
