"""Laws of chains of reports, whatever is taken out of them, and of the drills that were missed."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import msgspec
from doubles.samples.reports import START, WEEK, chained, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.model.ledger import Drilled
from backupd.model.report import CheckName, decode_report, encode_report, every_check, verdict_of
from backupd.model.text import stamp
from backupd.planning.drill_reports import (
    GRACE,
    DrillTimetable,
    FiledReport,
    Period,
    chain_faults,
    in_order,
    ledger_faults,
    population,
)

CHAIN = chained(*(sample(number) for number in range(8)))
TOLD = [
    Drilled(drill=one.drill, report=one.sha256, verdict=one.report.verdict, snapshot=one.report.selection.snapshot)
    for one in CHAIN
]
places = st.sets(st.integers(0, 7))


def faults(found: list[FiledReport], *, whole: bool) -> bool:
    return any(True for _ in chain_faults(found, whole=whole))


@given(places, st.randoms())
def test_what_is_taken_out_is_missed(taken: set[int], random: object) -> None:
    """With the ledger always; by the chain alone unless it is an end, whatever order reports are read in."""
    left = [one for place, one in enumerate(CHAIN) if place not in taken]
    random.shuffle(left)
    ordered = in_order(left)
    assert [one.drill for one in ordered] == sorted(one.drill for one in left)
    assert any(True for _ in ledger_faults(ordered, TOLD, whole=True)) == bool(taken)
    kept = sorted(set(range(8)) - taken)
    gap = bool(kept) and kept != list(range(kept[0], kept[-1] + 1))
    assert faults(ordered, whole=False) == gap
    assert faults(ordered, whole=True) == (gap or (bool(kept) and kept[0] != 0))


@given(st.integers(0, 6), st.sampled_from(["machine", "trigger", "finished"]))
def test_what_is_changed_is_noticed_by_what_follows(place: int, name: str) -> None:
    """Any field of any report but the newest, whoever signs it anew."""
    value = {"machine": "another", "trigger": "another", "finished": stamp(START + 90 * WEEK)}[name]
    changed = chained(msgspec.structs.replace(CHAIN[place].report, **{name: value}))[0]
    report = msgspec.structs.replace(changed.report, previous=CHAIN[place].report.previous)
    found = [*CHAIN[:place], FiledReport(report, changed.sha256), *CHAIN[place + 1 :]]
    assert faults(found, whole=True)
    assert any(True for _ in ledger_faults(in_order(found), TOLD, whole=True))


@given(st.dictionaries(st.sampled_from(CheckName), st.sampled_from(["pass", "fail", "error", "skip"])))
def test_no_verdict_passes_by_what_was_not_done(said: dict[CheckName, str]) -> None:
    """More checks skipped or in error never make a better verdict; a report comes back as it went."""
    rank = {"fail": 0, "error": 1, "pass": 2}
    report = sample(0)
    checks = [msgspec.structs.replace(check, verdict=said.get(check.name, check.verdict)) for check in report.checks]
    verdict = verdict_of(checks, "automatic")
    fewer = every_check(check for check in checks if check.verdict in ("fail", "error"))
    assert rank[verdict_of(fewer, "automatic")] <= rank[verdict]
    assert (verdict == "fail") == ("fail" in {check.verdict for check in checks})
    written = msgspec.structs.replace(report, checks=checks, verdict=verdict)
    assert decode_report(encode_report(written), "it") == written


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), max_size=12), st.integers(1, 60), st.integers(0, 500))
def test_between_two_drills_what_was_due_was_missed(gaps: list[int], every: int, rest: int) -> None:
    """Nowhere is there a longer silence than one interval and its grace that is not told of; all else is as held."""
    span = timedelta(days=every)
    at, reports = START, []
    for number, gap in enumerate(gaps):
        at += timedelta(days=gap)
        aims = msgspec.structs.replace(sample(0).objectives, drill_every=every * 86400)
        reports.append(sample(number, started=stamp(at), finished=stamp(at), objectives=aims))
    now = at + timedelta(days=rest)
    found = population(chained(*reports), DrillTimetable(START, span), Period(START, now + WEEK), now)
    assert sum(one.outcome != "missed" for one in found) == len(gaps)
    instants = [START, *(one.at for one in found), now]
    assert all(after - before <= span + span / GRACE for before, after in pairwise(instants))
    held = [START, *(one.at for one in found if one.filed)]
    assert all(any(timedelta(0) < one.at - before for before in held) for one in found if one.filed is None)
    if all(timedelta(days=gap) <= span for gap in [*gaps, rest]):
        assert all(one.outcome != "missed" for one in found)
