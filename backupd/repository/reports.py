"""The reports of restore drills as they lie in a region's folder, FORMAT.md §14. No secret is needed.

`backupd manual trust`, row *reports, attestations*, says who can write this, and what is checked.
"""

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
    """The reports of one region's folder."""

    filed: tuple[FiledReport, ...] = ()
    """Reports that can be believed, in the order in which they follow each other."""
    documents: Mapping[DrillId, bytes] = field(default_factory=dict)
    """The documents of these reports, as they stand on the store."""
    faults: tuple[ChainFault, ...] = ()
    """Reports that cannot be believed, each with the reason."""


def reports_on(store: StoreView) -> set[DrillId]:
    """Return the ids of the drills whose reports lie in the folder."""
    places = (layout.place_of(info.name) for info in store.list(layout.REPORTS))
    return {place.drill for place in places if place.drill is not None}


def read_report_shelf(store: StoreView, trusted: Collection[str] | None) -> ReportShelf:
    """Read every report in the folder, and check each by itself.

    Reports are believed that a trusted keeper signed (public keys, 64 hex each); with None, each report's own performer
    is trusted. Raises the store's errors.
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
    """Return a report's document as it stands, cut one byte after the largest allowed size.

    Raises ObjectMissingError.
    """
    return store.get(layout.report_name(drill), 0, LIMITS[KIND] + 1)


def read_report(document: bytes, trusted: Collection[str] | None, drill: DrillId | None = None) -> FiledReport:
    """Decode a report that its performer signed, if the performer is trusted; `drill` is the id in its name.

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
