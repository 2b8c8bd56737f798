"""What `drill` asks for: what started it is the daemon's to say, and nobody else's; and what its text says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from doubles.samples.reports import sample

from backupd.cli.commands.drill import DrillOptions, _Done, _lines
from backupd.errors import UsageError
from backupd.operations.drill import DrillOutcome

DUE = "2030-01-01T06:00:00.000000Z"


@pytest.mark.parametrize(("caught_up", "trigger"), [(False, "timetable"), (True, "catch-up")])
def test_a_drill_of_the_daemon_is_its_timetables(caught_up: bool, trigger: str) -> None:
    """The report names the instant that it was due for."""
    request = DrillOptions(due=DUE, caught_up=caught_up).request(by_daemon=True)

    assert (request.trigger, request.scheduled) == (trigger, datetime(2030, 1, 1, 6, tzinfo=UTC))


def test_a_drill_by_hand_is_a_persons() -> None:
    """Nothing was due."""
    request = DrillOptions().request(by_daemon=False)

    assert (request.trigger, request.scheduled) == ("command", None)


@pytest.mark.parametrize(("due", "by_daemon"), [(DUE, False), ("tomorrow", True)])
def test_nobody_else_calls_a_drill_due(due: str, by_daemon: bool) -> None:
    """A person cannot sign a drill as the timetable's, and the daemon's instants are written in one way."""
    with pytest.raises(UsageError, match="--due"):
        DrillOptions(due=due).request(by_daemon=by_daemon)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (DrillOptions(explain=True, damage=True), "--explain"),
        (DrillOptions(explain=True, due=DUE), "--explain"),
        (DrillOptions(identity=Path("ops.identity")), "its own identity"),
    ],
)
def test_names_are_for_a_person_who_asks(options: DrillOptions, said: str) -> None:
    """No timetable's drill shows them, and an identity is asked for nothing else."""
    with pytest.raises(UsageError, match=said):
        options.request(by_daemon=True)


def test_names_need_an_identity() -> None:
    """Without one nothing is named; whoever does not ask for names needs none."""
    with pytest.raises(UsageError, match="needs an identity"):
        DrillOptions(explain=True).reader()

    assert DrillOptions().reader() is None


def test_checks_that_prove_nothing_are_counted() -> None:
    """On the terminal as on the page: those that were not made, and those that passed with nothing to look at."""
    report = sample()
    idle = [msgspec.structs.replace(one, examined=0) if one.verdict == "pass" else one for one in report.checks]
    report = msgspec.structs.replace(report, checks=idle)
    text = list(_lines(_Done(DrillOutcome(report, None, ()), None)))
    skipped = [one.verdict for one in idle].count("skip")
    assert f"  not made, and proving nothing: {skipped} of {len(idle)} checks" in text
    passed = [one.verdict for one in idle].count("pass")
    assert f"  passed with nothing to look at, proving as little: {passed}" in text
    assert any(line.split() == ["check", "looked", "at"] for line in text)
