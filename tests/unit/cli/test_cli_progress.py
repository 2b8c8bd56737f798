"""Progress lines and bars."""

import io
import re
import sys
from contextlib import suppress

import pytest

from backupd.cli.consent import show_and_ask
from backupd.cli.output import print_lines
from backupd.cli.progress import PlainProgress, TerminalProgress, watched
from backupd.errors import StoreGoneError
from backupd.operations.phases import Phases
from backupd.trace import PhaseDone, PhaseFailed, PhaseStarted, Progress, Warned


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def plain(out, ticking_clock):
    return PlainProgress(out, ticking_clock)


def test_a_phase_is_told_when_it_starts_and_when_it_ends(plain, out):
    """What was read, how fast, what was new of it, and what is on the store by then."""
    plain.emit(PhaseStarted("reading", "be/app", 742_000_000))
    plain.emit(Progress("reading", "be/app", bytes_in=740_000_000, new=37_000_000, sent=9_000_000))
    plain.emit(PhaseDone("reading", "be/app", 4.0))

    assert out.getvalue().splitlines() == [
        "reading be/app: started",
        "reading be/app: done in 4.0 s, 740 MB, 185 MB/s, 37.0 MB new, 9.0 MB sent",
    ]


def test_between_there_is_a_line_every_few_seconds_with_the_rest_of_the_time(plain, out, ticking_clock):
    """A log does not fill up, and says how long it will still take."""
    plain.emit(PhaseStarted("reading", "be/app", 1_000_000_000))
    for second in range(1, 13):
        ticking_clock.elapsed = float(second)
        plain.emit(Progress("reading", "be/app", bytes_in=second * 50_000_000, new=second * 5_000_000))

    assert out.getvalue().splitlines()[1:] == [
        "reading be/app: 25 % of 1.0 GB, 50.0 MB/s, 25.0 MB new, 15 s left",
        "reading be/app: 50 % of 1.0 GB, 50.0 MB/s, 50.0 MB new, 10 s left",
    ]


def test_a_better_estimate_replaces_the_first_and_stays(plain, out, ticking_clock):
    """An estimate that comes later counts, also for later events without one."""
    plain.emit(PhaseStarted("reading", "be/app"))
    plain.emit(Progress("reading", "be/app", bytes_in=1, total_estimate=200))
    ticking_clock.elapsed = 5.0
    plain.emit(Progress("reading", "be/app", bytes_in=50))

    assert out.getvalue().splitlines()[-1] == "reading be/app: 25 % of 200 B, 10 B/s, 15 s left"


def test_things_are_counted_as_things(plain, out, ticking_clock):
    """A phase over objects shows no bytes."""
    plain.emit(PhaseStarted("publishing", "be/app", 40, "objects"))
    ticking_clock.elapsed = 6.0
    plain.emit(Progress("publishing", "be/app", bytes_in=10))

    assert out.getvalue().splitlines()[-1] == "publishing be/app: 25 % of 40 objects, 18 s left"


def test_an_estimate_that_was_too_small_never_shows_more_than_all(plain, out, ticking_clock):
    """Statistics may be old."""
    plain.emit(PhaseStarted("reading", "be/app", 100))
    ticking_clock.elapsed = 6.0
    plain.emit(Progress("reading", "be/app", bytes_in=600))

    assert out.getvalue().splitlines()[-1] == "reading be/app: 99 % of 100 B, 100 B/s"


def test_a_phase_nobody_announced_is_shown_all_the_same(plain, out, ticking_clock):
    """A lost event loses nothing else."""
    plain.emit(Progress("reading", "be/app", bytes_in=1))
    ticking_clock.elapsed = 6.0
    plain.emit(Progress("reading", "be/app", bytes_in=600))
    plain.emit(PhaseDone("shipping", "be/app", 1.0))

    assert out.getvalue().splitlines() == ["reading be/app: 600 B, 100 B/s", "shipping be/app: done in 1.0 s"]


def test_warnings_are_told_even_when_quiet(out, ticking_clock):
    """With --json only warnings appear beside the object, on standard error."""
    quiet = PlainProgress(out, ticking_clock, quiet=True)
    quiet.emit(PhaseStarted("reading", "be/app"))
    quiet.emit(Warned("the store has little room", "Look at it."))

    assert out.getvalue() == "warning: the store has little room\n  Look at it.\n"


def test_a_phase_that_is_over_stays_over(ticking_clock):
    """What another thread tells late of it begins no phase anew, which would wait for ever."""
    terminal = Terminal()
    with watched(ticking_clock, quiet=False, out=terminal) as trace:
        for elapsed in (20.0, 60.0):  # to one store, then to the next
            trace.emit(PhaseStarted("reading", "app"))
            trace.emit(Progress("reading", "app", bytes_in=5))
            ticking_clock.elapsed = elapsed
            trace.redraw()
            trace.emit(PhaseDone("reading", "app", 2.0))
            trace.emit(Progress("reading", "app", bytes_in=5))
        ticking_clock.elapsed = 110.0
        trace.redraw()

    shown = terminal.getvalue()
    assert "nothing for 20.0 s" in shown
    assert "nothing for 40.0 s" in shown
    assert "nothing for 50.0 s" not in shown


def test_a_terminal_shows_that_work_goes_on_between_phases(ticking_clock):
    """Where nothing was heard for long and no phase is under way; a phase takes the place of that line."""
    terminal = Terminal()
    with watched(ticking_clock, quiet=False, out=terminal) as trace:
        ticking_clock.elapsed = 1.0
        trace.redraw()
        assert "at work" not in terminal.getvalue()
        ticking_clock.elapsed = 12.0
        trace.redraw()
        assert re.search("at work .*for 12.0 s", terminal.getvalue())
        trace.emit(PhaseStarted("loading", "be/app", 1000))
        trace.redraw()
        seen = len(terminal.getvalue())
        ticking_clock.elapsed = 30.0
        trace.redraw()
        assert "at work" not in terminal.getvalue()[seen:]
        assert "loading" in terminal.getvalue()[seen:]


def test_progress_belongs_to_the_phase_that_is_under_way(plain, out, ticking_clock):
    """What a run works on stands in each of its lines: it is no other phase, that nobody announced and nobody ends."""
    phases = Phases(ticking_clock, plain, "be")
    with phases.phase("reading", 40, "records"):
        ticking_clock.elapsed = 6.0
        phases.emit(Progress("reading", bytes_in=10))

    assert out.getvalue().splitlines()[:2] == ["reading be: started", "reading be: 25 % of 40 records, 18 s left"]


@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_true_for_every_store_is_said_once(ticking_clock, terminal):
    """A region with two stores reads its database twice; a wait that repeats is told each time."""
    out = Terminal() if terminal else io.StringIO()
    trace = TerminalProgress(out, ticking_clock) if terminal else PlainProgress(out, ticking_clock)
    for _store in range(2):
        trace.emit(Warned("app: the role is a superuser", "Connect as another.", standing=True))
        trace.emit(Warned("app: try 1 of 10 was in vain"))

    assert out.getvalue().count("is a superuser") == out.getvalue().count("Connect as another.") == 1
    assert out.getvalue().count("in vain") == 2


def test_what_is_printed_cannot_steer_the_terminal(plain, out):
    """A label with control characters is spelt out."""
    plain.emit(PhaseStarted("reading", "be/\x1b[2J"))

    assert out.getvalue() == "reading be/\\x1b[2J: started\n"


def test_a_terminal_gets_bars(ticking_clock):
    """On a terminal the phases are bars, redrawn in place, and warnings stand above them."""
    terminal = Terminal()
    with watched(ticking_clock, quiet=False, out=terminal) as trace:
        trace.emit(PhaseStarted("reading", "be/app", 200))
        ticking_clock.elapsed = 1.0
        trace.emit(Progress("reading", "be/app", bytes_in=100))
        trace.emit(Warned("look", "Here."))
        trace.emit(PhaseDone("reading", "be/app", 2.0))

    shown = terminal.getvalue()
    assert isinstance(trace, TerminalProgress)
    assert "50 % of 200 B, 100 B/s, 1 s left" in shown
    assert "warning: look" in shown


def test_no_terminal_and_quiet_get_lines(ticking_clock):
    """Bars are for terminals, and never for --json."""
    for out, quiet in ((io.StringIO(), False), (Terminal(), True)):
        with watched(ticking_clock, quiet=quiet, out=out) as trace:
            assert isinstance(trace, PlainProgress)


def test_what_goes_to_a_file_goes_there_while_bars_are_drawn(ticking_clock, monkeypatch):
    """`restore runbook … > runbook.txt` at a terminal: the bars are the terminal's, the facts the file's."""
    file, terminal = io.StringIO(), Terminal()
    monkeypatch.setattr("sys.stdout", file)

    with TerminalProgress(terminal, ticking_clock).shown():
        print_lines(["step 1"])

    assert file.getvalue() == "step 1\n"
    assert "step 1" not in terminal.getvalue()


def test_a_phase_that_counts_nothing_shows_how_long_it_takes(plain, out, ticking_clock):
    """No amount and no rate of nothing; no word about what is new while nothing is known to be."""
    plain.emit(PhaseStarted("planning", "be/app"))
    ticking_clock.elapsed = 6.0
    plain.emit(Progress("planning", "be/app"))
    plain.emit(PhaseStarted("publishing", "be/app", 40, "objects"))
    ticking_clock.elapsed = 12.0
    plain.emit(Progress("publishing", "be/app"))
    plain.emit(Progress("reading", "be/app", bytes_in=0, new=0, sent=0))
    ticking_clock.elapsed = 18.0
    plain.emit(Progress("reading", "be/app", bytes_in=600, new=0, sent=0))

    assert [line for line in out.getvalue().splitlines() if not line.endswith("started")] == [
        "planning be/app: for 6.0 s",
        "publishing be/app: 0 % of 40 objects",
        "reading be/app: 600 B, 100 B/s",
    ]


def test_the_rate_is_that_of_the_last_seconds(plain, out, ticking_clock):
    """A minute at 1 MB/s says nothing of the seconds at 100 MB/s after it; the end gives the whole."""
    plain.emit(PhaseStarted("reading", "be/app"))
    done = 0
    for second in range(1, 81):
        ticking_clock.elapsed = float(second)
        done += 1_000_000 if second <= 60 else 100_000_000
        plain.emit(Progress("reading", "be/app", bytes_in=done))
    plain.emit(PhaseDone("reading", "be/app", 80.0))

    lines = out.getvalue().splitlines()
    assert "reading be/app: 60.0 MB, 1.0 MB/s" in lines
    assert lines[-2] == "reading be/app: 2.1 GB, 100 MB/s"
    assert lines[-1] == "reading be/app: done in 1 min 20 s, 2.1 GB, 25.8 MB/s"


def test_the_rest_of_the_time_is_that_of_the_last_run(plain, out, ticking_clock):
    """While nothing was slower than then; a run that takes longer is measured by itself."""
    plain.emit(PhaseStarted("reading", "be/app", 1000, expected=20.0))
    for second in range(1, 41):
        ticking_clock.elapsed = float(second)
        plain.emit(Progress("reading", "be/app", bytes_in=second * 20))

    lines = out.getvalue().splitlines()
    assert lines[1] == "reading be/app: 10 % of 1.0 kB, 20 B/s, 18 s left"
    assert lines[-1] == "reading be/app: 80 % of 1.0 kB, 20 B/s, 10 s left"


def test_a_phase_that_gets_no_further_says_so(ticking_clock):
    """On a terminal, also while nothing is reported: for how long nothing came."""
    terminal = Terminal()
    with watched(ticking_clock, quiet=False, out=terminal) as trace:
        trace.emit(PhaseStarted("loading", "be/app", 1000))
        ticking_clock.elapsed = 2.0
        trace.emit(Progress("loading", "be/app", bytes_in=100))
        ticking_clock.elapsed = 25.0
        trace.redraw()

    assert "nothing for 23.0 s" in terminal.getvalue()


def test_a_question_stands_alone_on_the_terminal(ticking_clock, monkeypatch):
    """While somebody is asked nothing is drawn, and what is asked is not held back until its line ends."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with watched(ticking_clock, quiet=False) as trace:
        trace.emit(PhaseStarted("planning"))
        show_and_ask(["this would go"], "Remove it?", trace)
        trace.emit(PhaseDone("planning", "", 2.0))

    before, _, after = terminal.getvalue().partition("this would go\nRemove it? [y/N] ")
    assert "planning" in before
    assert "for 0.0 s" in after


def test_a_quiet_phase_is_seen_on_a_terminal_while_it_lasts(ticking_clock, plain, out):
    """It stands in no log, and no bar of it stays."""
    terminal = Terminal()
    with watched(ticking_clock, quiet=False, out=terminal) as trace:
        trace.emit(PhaseStarted("asking", "zurich", quiet=True))
        ticking_clock.elapsed = 12.0
        trace.redraw()
        trace.emit(PhaseDone("asking", "zurich", 12.0))
    plain.emit(PhaseStarted("asking", "zurich", quiet=True))
    plain.emit(PhaseDone("asking", "zurich", 12.0))

    shown = terminal.getvalue()
    assert "asking zurich" in shown
    assert "for 12.0 s" in shown
    assert "asking" not in shown.rpartition("for 12.0 s")[2]
    assert out.getvalue() == ""


def test_a_phase_that_failed_is_counted_no_further(ticking_clock, plain, out):
    """While the command goes on, with another store: a quiet one is gone, another says when it stopped."""
    terminal = Terminal()
    with watched(ticking_clock, quiet=False, out=terminal) as trace:
        zurich, far = (Phases(ticking_clock, trace, name) for name in ("zurich", "far"))
        with suppress(StoreGoneError), far.phase("shipping"), far.phase("asking", quiet=True):
            ticking_clock.elapsed = 12.0
            raise StoreGoneError("away")
        failed = len(terminal.getvalue())
        with zurich.phase("shipping"):
            ticking_clock.elapsed = 60.0
            trace.redraw()

    after = terminal.getvalue()[failed:]
    assert "for 48.0 s" in after
    assert "for 60.0 s" not in after
    assert "stopped after 12.0 s" in after
    assert "asking" not in after
    plain.emit(PhaseStarted("shipping", "far"))
    plain.emit(PhaseFailed("shipping", "far", 12.0))
    assert out.getvalue() == "shipping far: started\n"  # the error says why


@pytest.mark.parametrize("subject", ["be/app", "a-region-somewhere/database-1"])
def test_no_line_is_wider_than_the_terminal(ticking_clock, subject, monkeypatch):
    """What matters least is left out: first what was sent and new, then the rate."""
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    with watched(ticking_clock, quiet=False, out=terminal) as trace:
        trace.emit(PhaseStarted("reading", subject, 742_000_000_000))
        ticking_clock.elapsed = 10.0
        trace.emit(Progress("reading", subject, bytes_in=123_000_000_000, new=12_300_000_000, sent=4_000_000_000))

    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split("[\n\r]", terminal.getvalue())]
    assert any("50 s left" in line for line in lines)
    assert max(map(len, lines)) <= 80
