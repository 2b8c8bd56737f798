"""The daemon reports to its service manager and its log, and takes care of its memory and its locks."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from doubles.node.fake_jobs import key
from doubles.node.service_manager import service_manager
from fix_clock import TickingClock

from backupd.cli.service import Demand, run_service
from backupd.errors import BackupdError, BusyError, ConfigError, InterruptedRunError, SpoolFullError
from backupd.model.answers import (
    BackupAnswer,
    BackupReport,
    DatabaseBackup,
    ErrorAnswer,
    FailedAnswer,
    PlannedPurges,
    PurgeAnswer,
    RegionPurge,
    StatusAnswer,
)
from backupd.model.ids import SnapshotName
from backupd.model.status import DatabaseFacts, RegionFacts, StoreFacts, StoreFault
from backupd.operations.service import systemd
from backupd.operations.service.agenda import last_done
from backupd.operations.service.history import JobHistory
from backupd.operations.service.jobs import (
    DaemonReady,
    Failure,
    JobDone,
    JobKind,
    JobOutcome,
    Reloaded,
    Stopped,
    Stopping,
)
from backupd.operations.service.log import Lines
from backupd.operations.service.run import cause, failures_in, outcome
from backupd.operations.service.serve import Fanout
from backupd.operations.service.systemd import Locks, Notifier
from backupd.planning.schedule import Cause
from backupd.wiring import context

AT = datetime(2030, 1, 1, tzinfo=UTC)


def error(kind: str = "StoreGone") -> ErrorAnswer:
    said = {"message": "it did not work", "hint": "Mend it.", "retryable": kind == "StoreGone"}
    return ErrorAnswer(kind=kind, exit_code=6, **said)


REPORT = BackupReport(
    snapshot=SnapshotName("20300101T000000Z-" + "ab" * 32),
    label="app",
    exported="2030-01-01T00:00:00.000000Z",
    generation="20300101T000000Z-00000001",
    tables=1,
    segments=2,
    rows=300,
    left_out=0,
    read=18192,
    new=5,
    sent=7,
    objects=2,
    held_seconds=1.0,
    seconds=2.0,
)
BACKUPS = BackupAnswer(
    backups=(
        *(DatabaseBackup(region="be", store=store, database="app", report=REPORT) for store in ("a", "b")),
        DatabaseBackup(region="be", store="c", database="app", error=error()),
    )
)


def done(kind: str = "backup", ended: JobOutcome = JobOutcome.DONE, **more) -> JobDone:
    facts_of = {"started": AT, "ended": AT + timedelta(seconds=5), "seconds": 5.0, "attempt": 1, "exit_status": 0}
    return JobDone(key=key(kind), outcome=ended, **(facts_of | more))


def logged(event, environ=None, as_json=True) -> str:
    out = io.StringIO()
    Lines(out, environ or {}, as_json=as_json).on_event(event)
    return out.getvalue()


def test_a_run_is_one_line_with_its_figures():
    """Kind, region, outcome, seconds and what the answer says of it."""
    line = json.loads(logged(done(answer=BACKUPS)))

    assert line == {
        "event": "job",
        "level": "info",
        "kind": "backup",
        "region": "be",
        "outcome": "done",
        "seconds": 5.0,
        "rows": 600,
        "read": 36384,
        "new": 10,
        "sent": 14,
        "objects": 4,
    }


def test_a_failure_says_what_to_do_and_when_it_is_tried_again():
    """The first error with where it was, and how many there are."""
    failures = (Failure("StoreGone", "the store is away", "Wait.", True, "a/app"), Failure("Store", "x", "", False))
    line = json.loads(logged(done(ended=JobOutcome.FAILED, exit_status=6, failures=failures, retry_at=AT, next_at=AT)))

    told = {name: line[name] for name in ("level", "where", "error", "hint", "failures", "status", "retry")}
    assert told == {
        "level": "error",
        "where": "a/app",
        "error": "the store is away",
        "hint": "Wait.",
        "failures": 2,
        "status": 6,
        "retry": "2030-01-01T00:00:00.000000Z",
    }


def test_journald_is_given_the_priority_and_people_the_level():
    """`<3>` in front where journald reads the stream itself; one line whatever the text holds."""
    reading, writing = os.pipe()
    status = os.fstat(writing)
    with os.fdopen(reading) as read, os.fdopen(writing, "w") as out:
        lines = Lines(out, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}, as_json=False)
        lines.on_event(Reloaded(AT, ("line 3: a: unknown key", "line\n4")))
        out.flush()
        out.close()
        (line,) = read.read().splitlines()

    assert line.startswith("<3>")
    assert 'event=not-reloaded faults="line 3: a: unknown key; line\\n4"' in line
    assert "level=error" in logged(Reloaded(AT, ("x",)), as_json=False)


def test_events_keep_their_names_in_the_log():
    """Filters of journals rely on them, whatever the classes are called."""
    events = [DaemonReady(AT, ()), Reloaded(AT, ()), Stopping(AT, "SIGTERM"), Stopped(AT, 1.0)]

    assert [json.loads(logged(event))["event"] for event in events] == ["ready", "reloaded", "stopping", "stopped"]


def test_a_log_that_takes_nothing_stops_no_daemon():
    """A full disk, or a pipe whose reader is gone; what can be written again is."""

    class Log(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, "no room")
            return super().write(text)

    log = Log()
    lines = Lines(log, {}, as_json=False)
    lines.write("info", event="lost")
    log.full = False
    lines.write("info", event="kept")
    assert "event=kept" in log.getvalue()


def test_a_reload_that_is_asked_for_while_it_starts_ends_nothing(monkeypatch):
    """The signal waits for the main loop; until then it was one that a terminal sends when it is closed."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.getsignal(number) for number in numbers}

    def ended(*_):
        raise InterruptedRunError("stopped by SIGHUP")

    def read(_):
        os.kill(os.getpid(), signal.SIGHUP)
        raise ConfigError("it was read")

    monkeypatch.setattr(Demand, "read", read)
    try:
        signal.signal(signal.SIGHUP, ended)
        with pytest.raises(ConfigError, match="it was read"):
            run_service(Demand(Path(), (), (), once=False), as_json=False)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def test_what_an_exit_status_means():
    """Damage is a finding, refused keys are final, a signal is a crash; the cause decides on trying again."""
    gone, auth = (failures_in(FailedAnswer(error=error(kind))) for kind in ("StoreGone", "StoreAuth"))
    nothing = PurgeAnswer(regions=())
    cases = [
        (0, nothing, (), JobOutcome.DONE, None),
        (7, nothing, (), JobOutcome.FOUND, None),
        (10, nothing, (), JobOutcome.FOUND, None),
        (6, nothing, gone, JobOutcome.FAILED, Cause.PASSING),
        (6, nothing, auth, JobOutcome.REFUSED, Cause.FINAL),
        (6, nothing, gone + auth, JobOutcome.REFUSED, Cause.FINAL),
        (3, nothing, (), JobOutcome.REFUSED, Cause.FINAL),
        (8, nothing, (), JobOutcome.REFUSED, Cause.FINAL),
        (1, None, (), JobOutcome.CRASHED, Cause.BROKEN),
        (-9, None, (), JobOutcome.CRASHED, Cause.BROKEN),
    ]
    for status, answer, failures, expected, stands in cases:
        assert outcome(status, answer, failures) is expected, (status, failures)
        assert cause(expected, failures) is stands


def test_every_error_of_an_answer_becomes_a_failure_once():
    """With its place: a store with a database, a store, or nothing for the whole command."""
    gone = DatabaseBackup(region="be", store="a", database="app", error=error())
    purged = RegionPurge(region="be", plan=PlannedPurges(due=(), unfinished=(), late=()), errors={"b": error()})
    answers = [BackupAnswer(backups=(gone, gone)), PurgeAnswer(regions=(purged,)), FailedAnswer(error=error()), None]

    assert [[one.where for one in failures_in(answer)] for answer in answers] == [["a/app"], ["b"], [""], []]


def test_what_stores_say_was_done_last():
    """The oldest of all stores and databases counts; one without any makes it unknown; who is away says nothing."""
    first, second = (
        StoreFacts(store=name, databases=(DatabaseFacts(label="app", published=at),))
        for name, at in (("a", AT - timedelta(days=1)), ("b", AT))
    )
    away = StoreFacts(store="c", error=StoreFault("StoreGone", "the store is away"))
    answer = StatusAnswer(regions=(RegionFacts(region="be", at=AT, stores=(first, second, away)),), alarms=())

    assert last_done(answer, ["app"]) == {JobKind.BACKUP: AT - timedelta(days=1)}
    assert last_done(answer, ["app", "second"]) == {}


def test_history_remembers_what_did_its_work(tmp_path):
    """A failure is no such run; every run is listed, oldest first, and only so many are kept."""
    history = JobHistory(tmp_path / "be" / "history.sqlite")
    history.on_event(done())
    history.on_event(done(ended=JobOutcome.FAILED, started=AT + timedelta(hours=1)))

    assert history.last_done(key("backup")) == AT
    assert history.last_done(key("verify")) is None
    assert [one.outcome for one in history.runs(key("backup"))] == [JobOutcome.DONE, JobOutcome.FAILED]


@pytest.mark.parametrize("damage", ["gone", "text", "other"])
def test_a_history_can_be_deleted_or_broken_at_any_time(tmp_path, damage):
    """What is not there is not remembered; nothing fails."""
    path = tmp_path / "history.sqlite"
    history = JobHistory(path)
    history.on_event(done())
    path.unlink()
    if damage == "text":
        path.write_bytes(b"no database" * 1000)
    if damage == "other":
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE run (x)")
        database.close()

    assert history.last_done(key("backup")) is None
    history.on_event(done())
    assert history.last_done(key("backup")) == AT


def test_a_folder_that_cannot_be_written_stops_nothing():
    """Nothing is remembered."""
    history = JobHistory(Path("/proc/nowhere/history.sqlite"))
    history.on_event(done())

    assert history.last_done(key("backup")) is None


def test_one_daemon_for_each_job(tmp_path):
    """Another process is refused what is held, keeps what it had, and may look; what is given up is free."""
    first, second = Locks(tmp_path), Locks(tmp_path)
    first.hold([key("backup"), key("observe")])
    second.hold([key("verify"), key("observe")])
    with pytest.raises(BusyError, match='already runs "backup be"'):
        second.hold([key("purge"), key("backup"), key("verify")])
    first.hold([key("purge")])
    second.hold([key("backup")])
    first.hold([key("purge"), key("verify")])
    first.close()
    second.close()


def test_a_state_folder_that_cannot_be_written_is_told():
    """Before anything else begins."""
    with pytest.raises(ConfigError, match="state folder cannot be used"):
        Locks(Path("/proc/nowhere")).hold([key("backup")])


def test_the_manager_is_told_by_its_protocol():
    """READY, STATUS when it changes, RELOADING with the clock's microseconds, the watchdog thrice in its time."""
    clock = TickingClock()
    with service_manager() as manager:
        notifier = Notifier(manager.environment(watchdog=30), clock)
        notifier.status("one\nline")
        notifier.status("one line")
        for _ in range(25):
            clock.elapsed += 1
            notifier.alive()
        notifier.reloading()
        notifier.ready()
        manager.wait_for("READY=1")
        heard = [message for _, message in manager.heard]

    assert heard == ["STATUS=one line", *["WATCHDOG=1"] * 3, "RELOADING=1\nMONOTONIC_USEC=25000000", "READY=1"]


def test_without_a_manager_nobody_is_told():
    """As on a terminal; a socket that is gone is no fault either."""
    for environ in ({}, {"NOTIFY_SOCKET": "/nowhere/notify"}, {"NOTIFY_SOCKET": "@nobody-is-there"}):
        Notifier(environ, TickingClock()).ready()


def test_a_listener_that_fails_keeps_it_from_nobody():
    """The others hear all the same, and its fault is told by type only."""
    heard, faults = [], []

    class Broken:
        def on_event(self, _event):
            raise RuntimeError("the row is hunter2")

    class Sound:
        def on_event(self, event):
            heard.append(event)

    Fanout((Broken(), Sound()), lambda _listener, error: faults.append(type(error))).on_event(Reloaded(AT))

    assert (heard, faults) == ([Reloaded(AT)], [RuntimeError])


@pytest.mark.parametrize(
    ("number", "family", "said"),
    [
        (errno.ENOSPC, SpoolFullError, "no room"),
        (errno.EDQUOT, SpoolFullError, "no room"),
        (errno.EROFS, BackupdError, "read-only file system"),
        (errno.EIO, BackupdError, "input/output error"),
        (errno.EACCES, ConfigError, "Permission denied"),
    ],
)
def test_a_state_folder_whose_disk_is_at_fault_blames_no_owner(monkeypatch, tmp_path, number, family, said):
    """A disk may be well again when a daemon tries the next time; what the configuration names wrongly will not."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(systemd.os, "open", refuse)
    with pytest.raises(BackupdError, match=said) as failed:
        Locks(tmp_path).hold([key("backup")])
    assert type(failed.value) is family
    assert ("owner" in failed.value.hint) is (family is ConfigError)


def test_a_state_folder_that_is_mounted_read_only_blames_no_owner(monkeypatch, tmp_path):
    """The kernel's answer to whether it can be written does not say why not."""
    machine = SimpleNamespace(config=SimpleNamespace(node=SimpleNamespace(state_dir=tmp_path)))
    monkeypatch.setattr(context.os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="belongs to"):
        context.region_folder(machine, "be")
    monkeypatch.setattr(context.os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(BackupdError, match="read-only file system") as failed:
        context.region_folder(machine, "be")
    assert not isinstance(failed.value, ConfigError)
