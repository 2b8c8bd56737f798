"""The reports of restore drills as they lie in a region's folder, FORMAT.md §14. Needs no secret."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from backupd.errors import UNSOUND, DamageError
from backupd.model.ids import DrillId, ObjectHash
from backupd.model.known_keys import is_known_signer
from backupd.model.report import KIND, decode_report
from backupd.planning.drill_reports import ChainFault, FiledReport, in_order
from backupd.repository import layout
from backupd.seal.documents import LIMITS, read_document, two_lines
from backupd.store.base import StoreView


@dataclass(frozen=True, slots=True)
class ReportShelf:
    """The reports of one folder."""

    filed: tuple[FiledReport, ...] = ()
    """Those that can be believed, as they follow each other."""
    documents: Mapping[DrillId, bytes] = field(default_factory=dict)
    """Those, as they stand."""
    faults: tuple[ChainFault, ...] = ()
    """Those that cannot."""


def reports_on(store: StoreView) -> set[DrillId]:
    """Whose reports lie there."""
    places = (layout.place_of(info.name) for info in store.list(layout.REPORTS))
    return {place.drill for place in places if place.drill is not None}


def read_report_shelf(store: StoreView, trusted: Collection[str] | None) -> ReportShelf:
    """Every report that lies there, each checked alone.

    Believed are reports signed by a trusted keeper, 64 hex each; with None, whoever each report says that signed it.
    Raises the store's errors.
    """
    filed: list[FiledReport] = []
    documents: dict[DrillId, bytes] = {}
    faults: list[ChainFault] = []
    for drill in sorted(reports_on(store)):
        try:
            document = fetch_report(store, drill)
            filed.append(read_report(document, trusted, drill))
            documents[drill] = document
        except UNSOUND as error:
            faults.append(ChainFault(drill, error.message))
    return ReportShelf(tuple(in_order(filed)), documents, tuple(faults))


def fetch_report(store: StoreView, drill: DrillId) -> bytes:
    """A report's document as it stands, one byte larger at most than one may be.

    Raises ObjectMissingError.
    """
    return store.get(layout.report_name(drill), 0, LIMITS[KIND] + 1)


def read_report(document: bytes, trusted: Collection[str] | None, drill: DrillId | None = None) -> FiledReport:
    """A report that its performer signed, who is trusted; `drill` is whose it is by its name.

    Raises DamageError, and RefusedError for a format or feature this program does not know.
    """
    where = layout.report_name(drill) if drill is not None else "report"
    claimed = decode_report(two_lines(document, where)[0], where).performer if trusted is None else None
    if claimed is not None and is_known_signer(claimed):
        raise DamageError(f"'{where}' is signed by a key that anybody can sign with")
    believed = {claimed} if claimed is not None else set(trusted or ())
    report = decode_report(read_document(document, KIND, believed, where), where)
    read_document(document, KIND, {report.performer} & believed, where)
    if drill is not None and report.drill != drill:
        raise DamageError(f"'{where}' is the report of another drill")
    return FiledReport(report, ObjectHash(hashlib.sha256(document).hexdigest()))
