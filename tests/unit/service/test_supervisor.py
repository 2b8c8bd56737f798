"""The supervisor with a clock and children of its own: order, bounds, limits, retries, independence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from doubles.node.fake_jobs import FakeDaemon, failed, key, published

from backupd.model.answers import BackupAnswer
from backupd.operations.service.jobs import Bounds, JobDone, JobOutcome, Stopping

START = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def begun(*regions: str, **more) -> FakeDaemon:
    """A daemon that has just started and looked at its regions; nothing was ever done."""
    daemon = FakeDaemon(*regions, **more)
    daemon.begin()
    daemon.step()
    for region in daemon.regions:
        daemon.look(region)
    return daemon


def test_what_never_ran_waits_for_a_look_and_runs_in_order():
    """At the first start the region is looked at; then its jobs run one after the other, backups first."""
    daemon = FakeDaemon(backup="daily 01:30", verify="daily 05:00", purge="daily 03:00")
    daemon.begin()
    daemon.step()
    assert daemon.running() == ["observe be"]
    daemon.look()
    for kind in ("backup", "purge", "verify"):
        assert daemon.running() == [f"{kind} be"]
        daemon.process(kind).end(0)
        daemon.step()

    assert daemon.running() == []
    assert [daemon.started(kind)[0].missed for kind in ("backup", "purge", "verify")] == [True, True, True]
    assert daemon.done("verify")[0].next_at == START + 5 * HOUR


def test_what_the_stores_say_was_done_is_not_done_again():
    """No history here, but a snapshot since the last slot: the next run is on the timetable."""
    daemon = FakeDaemon(backup="daily 23:30")
    daemon.begin()
    daemon.step()
    daemon.look(said=published("2029-12-31T23:30:05+00:00"))
    daemon.step(hours=23)
    assert daemon.running() == []
    daemon.step(minutes=31)
    assert daemon.running() == ["observe be"]
    daemon.look()

    assert daemon.running() == ["backup be"]


def test_a_drill_is_given_what_it_was_due_for():
    """A signed report says what started the drill; a missed one is caught up, the next one is on its timetable."""
    daemon = begun(drill="daily 06:00")
    assert daemon.running() == ["drill be --due 2030-01-01T00:00:00.000000Z --caught-up"]
    daemon.process("drill").end(0)
    daemon.step()
    daemon.step(hours=6)
    daemon.look()

    assert daemon.running() == ["drill be --due 2030-01-01T06:00:00.000000Z"]


def test_what_another_node_does_meanwhile_is_not_done_twice():
    """When its time has come the stores are looked at first: another node has just published a snapshot."""
    daemon = FakeDaemon(backup="daily 23:30")
    daemon.begin()
    daemon.step()
    daemon.look(said=published("2029-12-31T23:30:05+00:00"))
    daemon.step(hours=23, minutes=31)
    daemon.look(said=published("2030-01-01T23:30:20+00:00"))

    assert daemon.running() == []
    assert not daemon.started("backup")
    assert daemon.supervisor.next_at(key("backup")) == START + timedelta(hours=47, minutes=30)


def test_a_look_that_fails_keeps_nothing_from_running():
    """A store that is down is no reason not to try: perhaps another one is up."""
    daemon = FakeDaemon(backup="daily 23:30")
    daemon.begin()
    daemon.step()
    daemon.look(status=6, said=failed("StoreGone", retryable=True))

    assert daemon.running() == ["backup be"]


def test_nothing_overlaps_with_itself():
    """A job that takes longer than its interval runs once at a time, and what it missed meanwhile once more."""
    daemon = begun(backup="every 1h")
    daemon.step(minutes=90)
    daemon.process("backup").events = [{"phase": "reading", "bytes_in": 1}]
    daemon.step()
    assert len(daemon.started("backup")) == 1
    daemon.process("backup").end(0)
    daemon.step()
    daemon.look()

    assert len(daemon.started("backup")) == 2
    daemon.process("backup").end(0)
    daemon.step()
    assert len(daemon.started("backup")) == 2


def test_heavy_jobs_are_bounded_and_light_ones_are_not():
    """One in a region, two on the machine; looking and reading dates wait for nobody."""
    daemon = begun("a", "b", "c", backup="every 1h", verify="every 1h", sync="every 1h", bounds=Bounds(2, 1))

    assert sorted(daemon.running()) == ["backup a", "backup b", "sync a", "sync b", "sync c"]
    daemon.process("backup", "a").end(0)
    daemon.step()
    assert sorted(daemon.running()) == ["backup b", "backup c", "sync a", "sync b", "sync c"]


def test_who_is_due_longest_comes_first():
    """A job that is always due again does not keep the others waiting for ever."""
    daemon = begun(backup="every 1m", verify="every 1m", drill="every 1m")
    while len(daemon.done("backup")) < 4:
        for running in daemon.running():
            daemon.process(running.split()[0]).end(0)
        daemon.step(minutes=2)

    counts = [len(daemon.done(kind)) for kind in ("backup", "verify", "drill")]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("kind", "retryable", "outcome", "first"),
    [
        ("StoreGone", True, JobOutcome.FAILED, 60),
        ("SourceBusy", True, JobOutcome.FAILED, 60),
        ("StoreFull", False, JobOutcome.FAILED, 600),
        ("Store", False, JobOutcome.FAILED, 600),
        ("internal", False, JobOutcome.FAILED, 300),
        ("StoreAuth", False, JobOutcome.REFUSED, None),
        ("SourceAuth", False, JobOutcome.REFUSED, None),
        ("Unmapped", False, JobOutcome.FAILED, None),
    ],
)
def test_what_failed_is_tried_again_as_its_cause_allows(kind, retryable, outcome, first):
    """Soon for what passes, later for what somebody has to mend, never for what was refused; later each time."""
    daemon = begun(backup="daily 23:30")
    daemon.process("backup").end(6, failed(kind, retryable=retryable))
    daemon.step()
    done = daemon.done("backup")[0]

    assert (done.outcome, done.failures[0].kind, done.attempt) == (outcome, kind, 1)
    assert done.next_at == (done.retry_at or START + timedelta(hours=23, minutes=30))
    if first is None:
        assert done.retry_at is None
        return
    waited = (done.retry_at - done.ended).total_seconds()
    assert first <= waited <= first * 1.2
    daemon.step(seconds=waited)
    daemon.process("backup").end(6, failed(kind, retryable=retryable))
    daemon.step()
    again = daemon.done("backup")[1]
    assert again.attempt == 2
    assert again.retry_at - again.ended >= timedelta(seconds=min(2 * first, 3600))


def test_one_refusal_among_several_failures_is_final():
    """A key that one store refused is not shown to it again because another store was away."""
    daemon = begun(backup="daily 23:30")
    stores = [
        failed("StoreGone", retryable=True) | {"region": "be", "store": "a", "database": "app"},
        failed("StoreAuth", retryable=False) | {"region": "be", "store": "b", "database": "app"},
    ]
    daemon.process("backup").end(6, {"backups": stores})
    daemon.step()
    done = daemon.done("backup")[0]

    assert (done.outcome, done.retry_at) == (JobOutcome.REFUSED, None)
    assert [(one.kind, one.where) for one in done.failures] == [("StoreGone", "a/app"), ("StoreAuth", "b/app")]


def test_a_retry_that_succeeds_ends_the_trouble():
    """The next run is on the timetable, as a first try."""
    daemon = begun(backup="daily 23:30")
    daemon.process("backup").end(6, failed("StoreGone", retryable=True))
    daemon.step()
    daemon.step(minutes=2)
    daemon.process("backup").end(0)
    daemon.step()
    done = daemon.done("backup")[1]

    assert (done.outcome, done.attempt, done.retry_at) == (JobOutcome.DONE, 2, None)
    assert done.next_at == START + timedelta(hours=23, minutes=30)


def test_who_found_another_at_work_looks_before_trying_again():
    """Two nodes at once: the one that came late finds on the store that the work is done, and leaves it."""
    daemon = begun(backup="daily 23:30")
    daemon.process("backup").end(11, failed("Busy", retryable=True))
    daemon.step()
    assert daemon.done("backup")[0].outcome is JobOutcome.BUSY
    daemon.step(minutes=2)
    assert daemon.running() == ["observe be"]
    daemon.look(said=published("2030-01-01T00:00:30+00:00"))

    assert daemon.running() == []
    assert daemon.supervisor.next_at(key("backup")) == START + timedelta(hours=23, minutes=30)


def test_a_job_that_hangs_is_asked_then_killed_then_told():
    """No progress and no computing for `stall`: SIGTERM, after the grace SIGKILL, and it is tried again, later."""
    daemon = begun(backup="daily 23:30")
    process = daemon.process("backup")
    process.deaf = True
    daemon.step(minutes=6)
    daemon.step(minutes=5)
    assert (process.asked, process.killed) == (True, False)
    daemon.step(seconds=31)
    daemon.step()
    done = daemon.done("backup")[0]

    assert (process.killed, process.closed, done.outcome, done.exit_status) == (True, True, JobOutcome.HUNG, None)
    assert done.retry_at >= done.ended + timedelta(minutes=5)


def test_progress_keeps_a_job_alive_and_repeating_oneself_does_not():
    """Each new event is a sign of life, computing too; the same event again is none."""
    daemon = begun(backup="daily 23:30")
    process = daemon.process("backup")
    for number in range(8):
        process.events = [{"event": "Progress", "bytes_in": number}]
        daemon.step(minutes=3)
    for number in range(10):
        process.seconds += 10 + number
        daemon.step(minutes=2)
    assert not process.asked
    for _ in range(8):
        process.events = [{"event": "Progress", "bytes_in": 7}]
        daemon.step(minutes=3)

    assert [one.outcome for one in daemon.done("backup")] == [JobOutcome.HUNG]


def test_a_job_past_its_deadline_is_ended():
    """However busy it is."""
    daemon = begun(backup="daily 23:30")
    process = daemon.process("backup")
    for number in range(125):
        process.events = [{"event": "Progress", "bytes_in": number}]
        daemon.step(minutes=1)

    assert daemon.done("backup")[0].outcome is JobOutcome.LATE


def test_what_a_killed_job_leaves_is_killed_too_and_nobody_is_fed_who_cannot_be_killed():
    """Its children get a while to go by themselves; a process that cannot be killed withholds the watchdog."""
    daemon = begun("be", "ch", backup="daily 23:30")
    leaving, deathless = daemon.process("backup", "be"), daemon.process("backup", "ch")
    leaving.deaf = deathless.deaf = True
    leaving.leaves = deathless.deathless = True
    daemon.step(minutes=6)
    daemon.step(minutes=5)
    daemon.step(seconds=31)
    assert (leaving.killed, leaving.killed_remains, daemon.supervisor.can_end_jobs()) == (True, False, True)
    daemon.step(seconds=16)
    assert (leaving.killed_remains, len(daemon.done("backup", "be"))) == (True, 1)
    daemon.step(seconds=20)

    assert not daemon.supervisor.can_end_jobs()
    assert "backup ch" in daemon.running()


def test_one_job_failing_stops_no_other():
    """Whatever happens to one, the others run in their time; a job that cannot even be started is told as crashed."""
    daemon = begun(backup="daily 23:30", verify="daily 23:30", sync="every 1h")
    daemon.process("backup").end(-11)
    daemon.broken = OSError(12, "Cannot allocate memory")
    daemon.step(minutes=61)
    assert [done.outcome for done in daemon.done("verify")][:1] == [JobOutcome.CRASHED]
    daemon.broken = None
    daemon.step(minutes=61)

    assert daemon.done("backup")[0].outcome is JobOutcome.CRASHED
    assert {"sync be"} < set(daemon.running())


def test_asked_to_stop_it_starts_nothing_and_ends_everything():
    """What runs is asked at once, killed in time, told as stopped, and due again at the next start."""
    daemon = begun("be", "ch", backup="daily 23:30", verify="daily 23:30")
    daemon.process("backup", "ch").deaf = True
    daemon.supervisor.stop("SIGTERM")
    daemon.step(seconds=44)
    assert daemon.running() == ["backup ch"]
    daemon.step(seconds=2)
    daemon.step()
    ends = {
        (str(one.key), one.outcome) for one in daemon.heard if isinstance(one, JobDone) and one.key.kind == "backup"
    }

    assert not daemon.supervisor.runs
    assert ends == {("backup be", JobOutcome.STOPPED), ("backup ch", JobOutcome.STOPPED)}
    assert not daemon.started("verify")
    assert len([one for one in daemon.heard if isinstance(one, Stopping)]) == 1


@pytest.mark.parametrize("jump", [-400, -1, 1, 400])
def test_a_clock_that_is_set_stops_nothing(jump):
    """Set by days forward or back: at most one run more, and then the timetable again, every day."""
    daemon = begun(backup="daily 23:30")
    daemon.process("backup").end(0)
    daemon.step()
    daemon.clock.moved += timedelta(days=jump)
    ran = len(daemon.started("backup"))
    for _ in range(5 * 48):
        daemon.step(minutes=30)
        for process in daemon.processes:
            process.end(0)
        daemon.step()

    assert 5 <= len(daemon.started("backup")) - ran <= 6


def test_a_history_from_the_future_stops_nothing():
    """What was noted while the clock was wrong counts as done just before the start."""
    daemon = FakeDaemon(backup="daily 23:30")
    daemon.remembered[key("backup")] = START + timedelta(days=400)
    daemon.begin()
    daemon.step(hours=23)
    assert daemon.running() == []
    daemon.step(minutes=31)
    daemon.look()

    assert daemon.running() == ["backup be"]


def test_a_new_plan_keeps_what_runs_and_what_is_known():
    """Jobs that stay keep their standing, new ones are caught up with, those that go end when they end."""
    daemon = begun(backup="daily 23:30", verify="daily 23:30")
    daemon.process("backup").end(0)
    daemon.step()
    assert daemon.running() == ["verify be"]
    daemon.supervisor.apply_plan(daemon.planned(backup="daily 12:00", purge="daily 23:30"))
    daemon.step()
    assert daemon.running() == ["verify be"]
    daemon.process("verify").end(0)
    daemon.step()

    assert daemon.running() == ["purge be"]
    assert len(daemon.done("verify")) == 1
    assert daemon.supervisor.next_at(key("backup")) == START + 12 * HOUR


def test_a_listener_hears_warnings_and_the_answer():
    """What a job warned of and what it printed arrive with its end."""
    daemon = begun(backup="daily 23:30")
    daemon.process("backup").events = [{"event": "Warned", "message": "look at this", "hint": "Do that."}] * 2
    daemon.process("backup").end(0, {"backups": []})
    daemon.step()
    done = daemon.done("backup")[0]

    assert (done.warnings, done.answer) == ((("look at this", "Do that."),), BackupAnswer(backups=()))


@pytest.mark.parametrize(("status", "outcome"), [(0, JobOutcome.DONE), (6, JobOutcome.CRASHED)])
def test_an_answer_of_another_shape_is_never_taken_for_a_good_one(status, outcome):
    """A renamed key is reported with its place, by a warning where the exit status says that all is done."""
    daemon = begun(backup="daily 23:30")
    renamed = failed("StoreGone", retryable=True) | {"region": "be", "shop": "a", "database": "app"}
    daemon.process("backup").end(status, {"backups": [renamed]})
    daemon.step()
    done = daemon.done("backup")[0]
    said = [one.message for one in done.failures] or [message for message, _ in done.warnings]

    assert done.outcome is outcome
    assert len(said) == 1
    assert said[0].startswith("the job's answer is not the one that this daemon knows: ")
    assert said[0].endswith("missing required field `store` - at `$.backups[0]`")
