"""Publish the report of a drill: first its hash in the ledger, then the report on every store.

The ledger decides which report follows which, so two drills that end at once cannot name the same one before them. When
a crash or an unreachable store interrupts it, the next drill finishes it: a body waits on this machine until a store
has it, and signing it again gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from backupd.errors import (
    OUT_OF_REACH,
    BackupdError,
    DamageError,
    ObjectExistsError,
    ObjectMissingError,
    RefusedError,
    StoreError,
)
from backupd.model.ids import DrillId, ObjectHash, ObjectName
from backupd.model.ledger import Drilled, Event
from backupd.model.report import KIND, PreviousReport, Report, decode_report, encode_report
from backupd.operations.ledger import Book
from backupd.planning.drill_reports import drill_events, own_faults
from backupd.repository import layout
from backupd.repository.reports import fetch_report, reports_on
from backupd.repository.repository import Repository
from backupd.seal.documents import Signer
from backupd.store.base import Store, put_document


@dataclass(frozen=True, slots=True)
class ReportDesk:
    """The ledger, the stores and the key with which reports are published."""

    book: Book
    stores: Mapping[str, Repository]
    """The region's repositories by their stores' configured names."""
    signer: Signer
    """The key of the ledger's entries, too: one of the region's keepers."""
    waiting: Store
    """A folder of this machine, for reports no store has yet."""


@dataclass(frozen=True, slots=True)
class Published:
    """A report that is in the ledger and on a store."""

    report: Report
    sha256: ObjectHash
    document: bytes
    stores: tuple[str, ...]
    """Stores that have the report. Others get it with the next one."""


def publish_report(desk: ReportDesk, report: Report) -> Published:
    """Sign a report as the newest of its region; `previous` and `performer` are filled in here.

    The report waits on this machine from the first moment, and `publish_waiting` finishes what was interrupted. Raises
    BackupdError when the report contradicts itself, StoreGoneError when no store can be reached, and what `Book.append`
    raises.
    """
    chain = desk.book.chain
    if (report.repository, report.region) != (chain.repository, chain.region):
        raise BackupdError(f"the report of drill {report.drill} is of another repository")
    for fault in own_faults(report):
        raise BackupdError(f"the report of drill {report.drill} contradicts itself: {fault}")
    body = encode_report(report)
    put_document(desk.waiting, _waiting(report.drill), body)
    for one in publish_waiting(desk):
        if one.report.drill == report.drill:
            return one
    raise RefusedError(f"the report of drill {report.drill} is dated ahead", hint="Set the clock, and drill again.")


def publish_waiting(desk: ReportDesk) -> list[Published]:
    """Publish the waiting reports, oldest first, and give every store the reports it lacks. Raises as `publish_report`.

    A report that is dated ahead, because this machine's clock was then, is dropped with a warning.
    """
    desk.book.sync()
    waiting = [decode_report(desk.waiting.get(name), name) for name in _names(desk.waiting)]
    done = [_published(desk, report) for report in waiting if not _dropped(desk, report)]
    _equalise(desk)
    return done


def _dropped(desk: ReportDesk, report: Report) -> bool:
    # A report in the ledger must be published, even with a wrong date.
    if not desk.book.is_ahead(report.finished) or _in_ledger(desk, report):
        return False
    desk.book.require_clock()
    desk.waiting.remove(_waiting(report.drill))
    desk.book.warn(
        f"the report of drill {report.drill} is dated ahead of the clock, and was dropped",
        "This machine's clock was wrong when it drilled; what it measured cannot be believed. Drill again.",
    )
    return True


def _in_ledger(desk: ReportDesk, report: Report) -> bool:
    return any(event.drill == report.drill for event in drill_events(desk.book.chain.entries()))


def _names(waiting: Store) -> list[ObjectName]:
    return sorted(info.name for info in waiting.list(ObjectName("")) if info.name.endswith(".json"))


def _waiting(drill: DrillId) -> ObjectName:
    return ObjectName(f"{drill}.json")


def _published(desk: ReportDesk, report: Report) -> Published:
    try:
        if not _in_ledger(desk, report):
            desk.book.append(lambda _: [_event(*_signed(desk, report, drill_events(desk.book.chain.entries())))])
    except StoreError:
        # Where a store has the entry, what failed is this machine's own folder: what waits there may be gone, too.
        if _in_ledger(desk, report):
            _put_everywhere(desk, report)
        raise
    return _put_everywhere(desk, report)


def _put_everywhere(desk: ReportDesk, report: Report) -> Published:
    """Put a report, whose entry the ledger has, on every store that can be reached."""
    witnessed = drill_events(desk.book.chain.entries())
    place = next(place for place, event in enumerate(witnessed) if event.drill == report.drill)
    signed, document = _signed(desk, report, witnessed[:place])
    sha256 = ObjectHash(hashlib.sha256(document).hexdigest())
    if witnessed[place].report != sha256:
        # It can never be published; left waiting, it would stand in the way of every report behind it.
        desk.waiting.remove(_waiting(report.drill))
        raise DamageError(
            f"the ledger tells of another report of drill {report.drill}",
            hint="Another key signed it, or two drills have one id. Look at both; the ledger's is the one that counts.",
        )
    reached = tuple(_put(desk, report.drill, document))
    if not reached:
        raise next(
            iter(desk.book.unreached.values()), DamageError(f"another report of drill {report.drill} lies there")
        )
    desk.waiting.remove(_waiting(report.drill))
    return Published(signed, sha256, document, reached)


def _signed(desk: ReportDesk, report: Report, before: list[Drilled]) -> tuple[Report, bytes]:
    previous = PreviousReport(before[-1].drill, ObjectHash(before[-1].report)) if before else None
    signed = msgspec.structs.replace(report, previous=previous, performer=desk.signer.public)
    return signed, desk.signer.sign(encode_report(signed), KIND)


def _event(report: Report, document: bytes) -> Event:
    return Drilled(
        drill=report.drill,
        report=hashlib.sha256(document).hexdigest(),
        verdict=report.verdict,
        snapshot=report.selection.snapshot if report.selection else None,
    )


def _put(desk: ReportDesk, drill: DrillId, document: bytes) -> Iterator[str]:
    for name, repository in desk.stores.items():
        if name in desk.book.unreached:
            continue
        try:
            repository.put_document(layout.report_name(drill), document)
            yield name
        except ObjectExistsError:
            continue  # `verify` reports that another report than the ledger's is there
        except OUT_OF_REACH as error:
            desk.book.unreached[name] = error


def _equalise(desk: ReportDesk) -> None:
    """Copy to each store the reports that it lacks and another has, if they are those in the ledger."""
    there: dict[str, set[DrillId]] = {}
    for name in desk.stores.keys() - desk.book.unreached.keys():
        try:
            there[name] = reports_on(desk.stores[name].store)
        except OUT_OF_REACH as error:
            desk.book.unreached[name] = error
    for event in drill_events(desk.book.chain.entries()):
        having = sorted(name for name, drills in there.items() if event.drill in drills)
        if 0 < len(having) < len(there):
            document = _believed(desk, event, having)
            if document:
                list(_put(desk, event.drill, document))


def _believed(desk: ReportDesk, event: Drilled, stores: list[str]) -> bytes:
    for name in stores:
        try:
            document = fetch_report(desk.stores[name].store, event.drill)
        except ObjectMissingError:
            continue
        if hashlib.sha256(document).hexdigest() == event.report:
            return document
    return b""
