"""The chain of a region's drill reports, FORMAT.md §14: its faults, and the drills of a period. Pure.

A fault is a report that is missing, altered, duplicated or out of its place. A period lists every drill, including
drills that were due and never ran.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from backupd.model.ids import DrillId, ObjectHash
from backupd.model.ledger import Drilled, LedgerEntry
from backupd.model.report import CheckName, Report, verdict_of
from backupd.model.text import parse_stamp


@dataclass(frozen=True, slots=True)
class FiledReport:
    """A report that was read and whose signature is good."""

    report: Report
    sha256: ObjectHash
    """SHA-256 of the report's document."""

    @property
    def drill(self) -> DrillId:
        return self.report.drill


@dataclass(frozen=True, slots=True)
class ChainFault:
    """One fault of the chain, or of a report in it."""

    drill: str
    """The drill whose report is at fault; empty when it is the chain."""
    message: str


def drill_events(entries: Iterable[LedgerEntry]) -> list[Drilled]:
    """Return the ledger's events about reports, in the order of the chain."""
    return [event for entry in entries for event in entry.events if isinstance(event, Drilled)]


def in_order(filed: Iterable[FiledReport]) -> list[FiledReport]:
    """Sort reports as they follow each other; a report without its predecessor stands at the time of its drill."""
    waiting = sorted(filed, key=lambda one: one.drill)
    followers = defaultdict[DrillId | None, list[FiledReport]](list)
    there = {one.drill for one in waiting}
    for one in waiting:
        before = one.report.previous.drill if one.report.previous else None
        followers[before if before in there else None].append(one)
    done: dict[DrillId, FiledReport] = {}
    pending = followers[None][::-1]
    while pending:
        one = pending.pop()
        done[one.drill] = one
        pending += followers[one.drill][::-1]
    # Reports that name each other in a ring: hashes rule them out, but a signer can still write one.
    return [*done.values(), *(one for one in waiting if one.drill not in done)]


def chain_faults(filed: Collection[FiledReport], *, whole: bool) -> Iterator[ChainFault]:
    """Yield the faults between reports; `whole` when the region's first report must be among them."""
    by_drill = {one.drill: one for one in filed}
    named: dict[DrillId, DrillId] = {}
    beginnings = 0
    for one in in_order(filed):
        previous = one.report.previous
        before = by_drill.get(previous.drill) if previous else None
        if previous is None or before is None:
            beginnings += 1
            if previous is not None and (whole or beginnings > 1):
                yield ChainFault(previous.drill, f"is missing, and report {one.drill} says that it was the one before")
            elif beginnings > 1:
                yield ChainFault(one.drill, "says that it is the first report, and is not")
            continue
        if previous.drill in named:
            yield ChainFault(one.drill, f"names the same report before it as {named[previous.drill]} does")
        named.setdefault(previous.drill, one.drill)
        if before.sha256 != previous.sha256:
            yield ChainFault(before.drill, f"is not the one that report {one.drill} saw before it")
    if len({(one.report.repository, one.report.region) for one in filed}) > 1:
        yield ChainFault("", "reports of more than one repository lie here")


def ledger_faults(filed: Sequence[FiledReport], known: Sequence[Drilled], *, whole: bool) -> Iterator[ChainFault]:
    """Yield the differences between reports, given in order, and the ledger's events about them.

    Without `whole`, the reports are a part of the chain: events before its first and behind its last report are
    ignored.
    """
    by_drill = {one.drill: one for one in filed}
    events = {event.drill: event for event in known}
    places = [place for place, event in enumerate(known) if event.drill in by_drill]
    expected = known if whole else known[places[0] : places[-1] + 1] if places else ()
    for event in expected:
        if event.drill not in by_drill:
            yield ChainFault(event.drill, "is missing, and the ledger tells of it")
    for one in filed:
        recorded = events.get(one.drill)
        if recorded is None:
            yield ChainFault(one.drill, "is unknown to the ledger")
        elif recorded.report != one.sha256:
            yield ChainFault(one.drill, "is not the one the ledger tells of")
        elif (recorded.verdict, recorded.snapshot) != _outcome(one.report):
            yield ChainFault(one.drill, "says something else than the ledger")
    order = [event.drill for event in known if event.drill in by_drill]
    if order != [one.drill for one in filed if one.drill in events]:
        yield ChainFault("", "reports do not follow each other as the ledger tells")


def own_faults(report: Report) -> Iterator[str]:
    """Yield the contradictions within a report. Stamps are compared as texts."""
    if not report.started <= report.finished:
        yield "it ended before it began"
    if [(check.number, check.name) for check in report.checks] != [(name.number, name) for name in CheckName]:
        yield "it does not tell of every check, once and in order"
    elif report.verdict != verdict_of(report.checks, report.type):
        yield "its verdict does not follow from its checks"
    if _beyond(report) and not any(c.name is CheckName.OBJECTIVES and c.verdict == "fail" for c in report.checks):
        yield "it is beyond an objective, and the check of objectives did not fail"


def _beyond(report: Report) -> bool:
    pairs = (
        (report.measured.rpo, report.objectives.rpo),
        (report.measured.rto, report.objectives.rto),
    )
    return any(measured is not None and most is not None and measured > most for measured, most in pairs)


def _outcome(report: Report) -> tuple[str, str | None]:
    return report.verdict, report.selection.snapshot if report.selection else None


GRACE: Final = 4
"""A drill is missed when it is late by more than a fourth of the time between two drills."""


@dataclass(frozen=True, slots=True)
class Period:
    """A period of time from `since` on, and before `until`."""

    since: datetime
    until: datetime

    def holds(self, instant: datetime) -> bool:
        """Check whether the instant is within the period."""
        return self.since <= instant < self.until


@dataclass(frozen=True, slots=True)
class Occasion:
    """A drill that took place, or one that was due and did not."""

    at: datetime
    """When the drill began, or for a missed one, when it was due."""
    outcome: Literal["pass", "fail", "error", "missed"]
    filed: FiledReport | None = None


@dataclass(frozen=True, slots=True)
class DrillTimetable:
    """The times at which drills were due."""

    begins: datetime | None
    """When the repository was made, from which on drills are due. None: unknown; the first drill then begins the
    timetable."""
    every: timedelta | None
    """The configured time between two drills; None: what the newest report says."""


def population(
    filed: Sequence[FiledReport], timetable: DrillTimetable, period: Period, now: datetime
) -> list[Occasion]:
    """Return every drill that began in the period, and every one that was due in it and missed; oldest first.

    A drill is due `drill_every` after the one before it began, as the report of the next drill says; before the first
    and behind the last, as the timetable says. Any drill of a whole snapshot counts, also one that somebody asked for.
    A drill of a single tenant proves nothing for the others, and does not count.
    """
    held = sorted((parse_stamp(one.report.started), index) for index, one in enumerate(filed))
    found = [Occasion(at, filed[index].report.verdict, filed[index]) for at, index in held]
    counting = [one for one in found if one.filed and one.filed.report.whole]
    missed = [Occasion(at, "missed") for at in _missed(counting, timetable, period, now)]
    return sorted((one for one in [*found, *missed] if period.holds(one.at)), key=lambda one: one.at)


def _missed(held: Sequence[Occasion], timetable: DrillTimetable, period: Period, now: datetime) -> Iterator[datetime]:
    before, every = timetable.begins, timetable.every
    for one in held:
        said = one.filed.report.objectives.drill_every if one.filed else None
        if before is not None and said:
            yield from _due(before, one.at, timedelta(seconds=said), period)
        before = one.at
        every = timetable.every or (timedelta(seconds=said) if said else None)
    if before is not None and every:
        yield from _due(before, now, every, period)


def _due(after: datetime, came: datetime, every: timedelta, period: Period) -> Iterator[datetime]:
    due = after + every * max(1, (period.since - after) // every)
    while due + every / GRACE < came and due < period.until:
        yield due
        due += every
