"""Read a region's reports from its stores, or from a folder where nothing is configured, and see its drills as a
population, for people, programs and pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from backupd.errors import OUT_OF_REACH, UNSOUND, BackupdError, UsageError
from backupd.model.documents import RepositoryInfo
from backupd.model.ids import DrillId
from backupd.model.ledger import Drilled
from backupd.model.report import Report
from backupd.model.text import counted, parse_stamp
from backupd.operations.ledger import Book
from backupd.planning.drill_reports import (
    ChainFault,
    DrillTimetable,
    FiledReport,
    Occasion,
    Period,
    chain_faults,
    drill_events,
    in_order,
    ledger_faults,
    own_faults,
    population,
)
from backupd.repository import layout
from backupd.repository.ledger import Chain, read_chain
from backupd.repository.reports import ReportShelf, read_report_shelf
from backupd.repository.repository import Repository
from backupd.store.directory import DirectoryStore

BEGINNING = "what came before the first report here"
LEDGER = "the ledger, so nothing tells whether there are newer reports"
KEYS = "whose keys signed them: nobody was named as trusted"


@dataclass(frozen=True, slots=True)
class ReportFault:
    """A fault of a report in one place."""

    place: str
    """Name of the store, or path of the folder."""
    drill: str
    message: str

    @property
    def sentence(self) -> str:
        subject = f"report {self.drill} " if self.drill else ""
        return f"{self.place}: {subject}{self.message}"


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that is known of a region's reports."""

    region: str
    filed: tuple[FiledReport, ...] = ()
    """Reports in the order of the chain."""
    documents: Mapping[DrillId, bytes] = field(default_factory=dict)
    faults: tuple[ReportFault, ...] = ()
    unreached: Mapping[str, BackupdError] = field(default_factory=dict)
    not_checked: tuple[str, ...] = ()
    begins: datetime | None = None
    """When the repository was made, where that is known."""

    def newest(self) -> FiledReport | None:
        return self.filed[-1] if self.filed else None

    def until(self, drill: str) -> list[FiledReport]:
        """Return the chain up to a report, which is named by the beginning of its drill's id.

        Raises UsageError when there is none, or when several begin like that.
        """
        found = [place for place, one in enumerate(self.filed) if one.drill.startswith(drill)]
        if len(found) > 1:
            raise UsageError("several drills begin like that", hint="Give more of the drill's id.")
        if found:
            return list(self.filed[: found[0] + 1])
        raise UsageError(f"region '{self.region}' has no report of drill '{drill}'", hint="`backupd report list`.")


def gather(book: Book, stores: Mapping[str, Repository]) -> Gathered:
    """Return the reports of a region on all its stores, compared with its ledger, which must have been read.

    A store that cannot be reached is noted. Raises its error when none can.
    """
    witnessed = drill_events(book.chain.entries())
    shelves: dict[str, ReportShelf] = {}
    unreached: dict[str, BackupdError] = dict(book.unreached)
    begins: list[datetime] = []
    for name, repository in stores.items():
        if name in unreached:
            continue
        try:
            shelves[name] = read_report_shelf(repository.store, repository.keepers)
            begins.append(parse_stamp(repository.info().created))
        except OUT_OF_REACH as error:
            unreached[name] = error
    if not shelves and unreached:
        raise next(iter(unreached.values()))
    faults = [fault for name, shelf in shelves.items() for fault in _faults(name, shelf, witnessed, whole=True)]
    best = [(one, shelf.documents[one.drill]) for shelf in shelves.values() for one in _best(shelf, witnessed)]
    filed = {one.drill: one for one, _ in best}
    return Gathered(
        region=book.chain.region,
        filed=tuple(in_order(filed.values())),
        documents={one.drill: document for one, document in best},
        faults=tuple(faults),
        unreached=unreached,
        begins=min(begins, default=None),
    )


def gather_folder(folder: Path, trusted: Collection[str] | None) -> list[Gathered]:
    """Return the reports in a copy of a region's folder, in an export, or in a folder that holds some of these.

    Without `trusted` keepers, each report's own performer is believed, and `not_checked` says so. A ledger beside the
    reports is used when it can be believed. Raises UsageError when there is no report.
    """
    roots = [folder, *sorted(child for child in folder.iterdir() if child.is_dir())] if folder.is_dir() else []
    marks = (layout.REPORTS, layout.REPOSITORY)
    found = [_of_folder(root, trusted) for root in roots if any((root / mark).exists() for mark in marks)]
    if not found:
        raise UsageError(
            f"'{folder}' holds no reports", hint="Name a copy of a region's folder on a store, or what `export` wrote."
        )
    return found


def _of_folder(root: Path, trusted: Collection[str] | None) -> Gathered:
    store, place = DirectoryStore(root), str(root)
    shelf, info = read_report_shelf(store, trusted), _info(store, trusted)
    witnessed: list[Drilled] | None = None
    faults: list[ReportFault] = []
    first = shelf.filed[0].report if shelf.filed else info
    try:
        if first is not None and trusted is not None and any(True for _ in store.list(layout.LEDGER)):
            chain, _ = read_chain(store, Chain(first.region, first.repository), trusted)
            witnessed = drill_events(chain.entries())
    except UNSOUND as error:
        faults.append(ReportFault(place, "", error.message))
    whole = store.stat(layout.REPOSITORY) is not None
    left = [*_left(witnessed, trusted), *([] if whole else _beside(shelf, witnessed))]
    return Gathered(
        region=first.region if first is not None else root.name,
        filed=shelf.filed,
        documents=shelf.documents,
        faults=(*faults, *_faults(place, shelf, witnessed, whole=whole)),
        not_checked=tuple(left),
        begins=parse_stamp(info.created) if info is not None else None,
    )


def _info(store: DirectoryStore, trusted: Collection[str] | None) -> RepositoryInfo | None:
    """Return the repository's document by any signer: reports and ledger are checked by the keepers' keys."""
    try:
        return Repository(store, None, trusted).info()
    except UNSOUND:
        return None


def _left(witnessed: list[Drilled] | None, trusted: Collection[str] | None) -> Iterator[str]:
    if witnessed is None:
        yield LEDGER
    if trusted is None:
        yield KEYS


def _beside(shelf: ReportShelf, witnessed: list[Drilled] | None) -> Iterator[str]:
    """Yield what there is besides a part of a chain."""
    if witnessed is None:
        if shelf.filed and shelf.filed[0].report.previous is not None:
            yield BEGINNING
        return
    here = [place for place, event in enumerate(witnessed) if event.drill in shelf.documents]
    before, after = (here[0], len(witnessed) - here[-1] - 1) if here else (len(witnessed), 0)
    if before or after:
        yield f"{counted(before, 'report')} before those here and {after} after them, which the ledger tells of"


def _best(shelf: ReportShelf, witnessed: Collection[Drilled]) -> Iterator[FiledReport]:
    """Yield the reports that agree with the ledger, where stores disagree."""
    known = {event.drill: event.report for event in witnessed}
    for one in shelf.filed:
        if known.get(one.drill, one.sha256) == one.sha256:
            yield one


def _faults(place: str, shelf: ReportShelf, witnessed: list[Drilled] | None, *, whole: bool) -> Iterator[ReportFault]:
    unreadable = {fault.drill for fault in shelf.faults}
    yield from _store_faults(place, shelf.faults)
    beside = [*chain_faults(shelf.filed, whole=whole)]
    if witnessed is not None:
        beside += ledger_faults(shelf.filed, witnessed, whole=whole)
    # A report that cannot be believed is a fault already; that it is missing between others is no new one.
    yield from _store_faults(place, dict.fromkeys(fault for fault in beside if fault.drill not in unreadable))
    for one in shelf.filed:
        yield from (ReportFault(place, one.drill, f"contradicts itself: {fault}") for fault in own_faults(one.report))


def _store_faults(place: str, faults: Collection[ChainFault]) -> Iterator[ReportFault]:
    return (ReportFault(place, fault.drill, fault.message) for fault in faults)


Standing = Literal["pass", "fail", "error", "missed", "none", "damaged"]


@dataclass(frozen=True, slots=True)
class Part:
    """The reports of one region, and when drills are due there."""

    gathered: Gathered
    timetable: DrillTimetable

    @property
    def every(self) -> timedelta | None:
        """The longest time between two drills, as configured, or otherwise as the newest report says."""
        said = self.gathered.filed[-1].report.objectives.drill_every if self.gathered.filed else None
        return self.timetable.every or (timedelta(seconds=said) if said else None)


def occasions(part: Part, period: Period, now: datetime) -> list[Occasion]:
    """Return every drill of the period, missed ones too, oldest first."""
    return population(part.gathered.filed, part.timetable, period, now)


def counts(found: Sequence[Occasion]) -> dict[str, int]:
    """Count the drills of each outcome; every outcome is there, also with 0."""
    counted = Counter(one.outcome for one in found)
    return {outcome: counted[outcome] for outcome in ("pass", "fail", "error", "missed")}


def standing(part: Part, now: datetime) -> Standing:
    """Return how the region stands: whether its chain is sound, then how the newest drill ended, missed or not.

    A passed drill of one tenant proves nothing about the others and is left out; a failed one counts as any failure.
    """
    if part.gathered.faults:
        return "damaged"
    ever = Period(datetime.min.replace(tzinfo=now.tzinfo), now)
    every = occasions(part, ever, now)
    found = [one for one in every if one.outcome != "pass" or (one.filed and _proves(one.filed.report))]
    return found[-1].outcome if found else "none"


def _proves(report: Report) -> bool:
    return report.verdict == "pass" and report.whole


def newest_proof(part: Part, before: datetime) -> datetime | None:
    """Return when the newest passed drill began, of those that began before an instant."""
    passed = (parse_stamp(one.report.started) for one in part.gathered.filed if _proves(one.report))
    return max((at for at in passed if at < before), default=None)
