"""A run under a daemon: what it tells of its progress, and what happens when the daemon goes away."""

from __future__ import annotations

import json
import os
import signal
import sys

from doubles.node.processes import eventually
from doubles.paths import ROOT
from fix_clock import TickingClock

from backupd.cli import main, supervised
from backupd.cli.progress import watched
from backupd.cli.supervised import VARIABLE, PipeTrace, progress_pipe
from backupd.errors import InterruptedRunError
from backupd.operations.service.process import VARIABLE as OTHER_SIDE
from backupd.operations.service.process import Child
from backupd.trace import PhaseStarted, Progress, Warned


def test_events_arrive_as_lines_as_they_are():
    """One JSON object a line, with the event's name; progress not more often than five times a second."""
    reading, writing = os.pipe()
    clock = TickingClock()
    trace = PipeTrace(writing, clock)
    trace.emit(PhaseStarted("reading", "app", 100))
    for number in range(10):
        trace.emit(Progress("reading", "app", bytes_in=number))
        clock.elapsed += 0.0625
    trace.emit(Warned("look at this", "Do that."))
    os.close(writing)
    with os.fdopen(reading) as lines:
        events = [json.loads(line) for line in lines]

    assert events[0] == {
        "event": "PhaseStarted",
        "phase": "reading",
        "subject": "app",
        "total_estimate": 100,
        "unit": "bytes",
        "quiet": False,
        "expected": None,
    }
    assert [event["bytes_in"] for event in events if event["event"] == "Progress"] == [0, 4, 8]
    assert events[-1] == {"event": "Warned", "message": "look at this", "hint": "Do that.", "standing": False}


def test_a_full_pipe_and_a_daemon_that_is_gone_hold_nobody_up():
    """Events are left out rather than waited for."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    trace = PipeTrace(writing, TickingClock())
    for _ in range(5000):
        trace.emit(Warned("x" * 100))
    os.close(reading)
    trace.emit(Warned("nobody hears this"))
    os.close(writing)


def test_a_number_that_is_no_pipe_is_passed_over(monkeypatch, tmp_path):
    """A variable left over in an environment changes nothing."""
    with (tmp_path / "file").open("w") as file:
        for text in ("", "x", "-1", "99999", str(10**30), str(file.fileno())):
            assert progress_pipe({VARIABLE: text}) is None
    monkeypatch.setenv(VARIABLE, "99999")
    with watched(TickingClock(), quiet=True) as trace:
        assert not isinstance(trace, PipeTrace)


def test_both_sides_mean_the_same_variable():
    """The floors keep them from sharing it."""
    assert VARIABLE == OTHER_SIDE


CHILD = """
import os, signal, subprocess, sys, time
from backupd.cli.supervised import die_with_the_daemon
die_with_the_daemon(os.environ)
print("[1]", flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
{more}
time.sleep(60)
"""


def start(more: str = "") -> Child:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return Child([sys.executable, "-c", CHILD.format(more=more)], environment)


def test_an_orphan_ends():
    """The daemon's end of the pipe closes, whatever closed it: SIGTERM."""
    child = start()
    eventually(lambda: child.read_progress() == [] and child.answer() == [1])
    os.close(child._progress)
    eventually(lambda: child._process.poll() is not None)

    assert child._process.returncode == -signal.SIGTERM
    child._process.stdout.close()
    child._remains = []
    os.killpg(child.pid, signal.SIGKILL)


def test_a_killed_job_takes_its_group_along_and_the_rest_is_known():
    """What it started in its group dies with it; what went into a session of its own is found, and can be killed."""
    elsewhere = 'subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)'
    child = start(f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {elsewhere}; print('[2]', flush=True)")
    eventually(lambda: len(child.read_progress()) == 0 and child._answer.count(b"[2]"))
    child.ask_to_end()
    assert child.status() is None
    child.kill()
    eventually(lambda: child.status() == -signal.SIGKILL)
    eventually(lambda: len(child._remains) == 1 or not child.remains())
    assert child.remains()
    child.kill_remains()
    eventually(lambda: not child.remains())
    child.close()


def test_a_job_reads_nothing_and_has_only_what_it_was_given():
    """Its standard input is empty; a descriptor of ours that is inheritable by mistake stays ours."""
    kept = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(kept, True)
    code = f"import os, sys; print([len(sys.stdin.read()), os.path.exists('/proc/self/fd/{kept}')].__repr__().lower())"
    child = Child([sys.executable, "-c", code], {"PATH": os.environ["PATH"]})
    eventually(lambda: child.status() is not None)
    os.close(kept)

    assert (child.status(), child.answer()) == (0, [0, False])
    child.close()


def test_a_daemon_that_is_gone_before_its_job_began_leaves_no_traceback(monkeypatch, capsys):
    """The signal may come as soon as the pipe is watched: an exit status and an error, as at any other moment."""

    def gone(_environ):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(supervised, "die_with_the_daemon", gone)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        status = main.main(["status", "--json"])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    assert status == InterruptedRunError.exit_code
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "stopped by SIGTERM"
