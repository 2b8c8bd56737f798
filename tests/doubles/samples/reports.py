"""Reports of drills that never took place, one a week, and shelves to put them on."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from backupd.model.documents import LedgerHead, RepositoryInfo, encode_body
from backupd.model.ids import DrillId, ObjectHash, RegionName, RepositoryId
from backupd.model.ledger import Drilled
from backupd.model.report import (
    KIND,
    Canary,
    Check,
    CheckFinding,
    CheckName,
    Deletion,
    Disposal,
    Disposed,
    DrillSelection,
    Measured,
    Objectives,
    Phase,
    Population,
    PreviousReport,
    Report,
    Sizes,
    Versions,
    encode_report,
    every_check,
    verdict_of,
)
from backupd.model.text import compact, stamp
from backupd.planning.drill_reports import FiledReport
from backupd.repository import layout
from backupd.repository.ledger import Chain, next_document, put_entry
from backupd.repository.reports import read_report
from backupd.seal.documents import Signer
from backupd.store.base import Store

START = datetime(2030, 1, 7, 3, tzinfo=UTC)
WEEK = timedelta(days=7)
REPOSITORY = RepositoryId("0123456789abcdef" * 2)
BE = RegionName("be")
SKIPPED = (CheckName.ASSERTIONS, CheckName.ESCROW, CheckName.DAMAGE)


def drill_id(number: int) -> DrillId:
    return DrillId(f"{compact(START + number * WEEK)}-{number:08x}")


def checks(failed: tuple[CheckName, ...] = (), erred: tuple[CheckName, ...] = ()) -> list[Check]:
    """All of them, most passed."""
    made = [
        Check.of(name, "fail", 40, [CheckFinding("row-differs", 2)])
        if name in failed
        else Check.of(name, "error", 0, [CheckFinding("timed-out")])
        if name in erred
        else Check.of(name, "pass", 40 + name.number)
        for name in CheckName
        if name not in SKIPPED or name in failed or name in erred
    ]
    return every_check(made, "not-configured")


def sample(number: int = 0, **changes: Any) -> Report:
    """The report of the week of this number, passed; its verdict follows from the checks that are given."""
    started = START + number * WEEK
    said: dict[str, Any] = {
        "repository": REPOSITORY,
        "region": BE,
        "drill": drill_id(number),
        "type": "automatic",
        "trigger": "timetable",
        "scheduled": stamp(started),
        "started": stamp(started),
        "finished": stamp(started + timedelta(minutes=5)),
        "machine": "keeper-1",
        "location": "brussels",
        "versions": Versions(backupd="0.1.0", server="17.10", client="17.10"),
        "selection": selection(started),
        "objectives": Objectives(rpo=93600, rto=14400, drill_every=604800, approval="ISMS-2030-014"),
        "phases": [
            Phase(name, ms)
            for name, ms in (
                ("queue", 120),
                ("fetch", 41_300 + 900 * (number % 7)),
                ("keys", 230),
                ("restore", 148_000 + 2_000 * (number % 5)),
                ("ledger", 610),
                ("verify", 66_400),
                ("disposal", 1_900),
            )
        ],
        "measured": Measured(rpo=10_800 + 600 * (number % 9), rto=258 + 7 * (number % 11)),
        "checks": checks(),
        "sizes": Sizes(
            rows=2_800_000 + 9_100 * number,
            bytes=742_000_000 + 2_400_000 * number,
            segments=1_012,
            objects=1_530,
            fetched=221_000_000,
        ),
        "deletion": Deletion(
            ledger=LedgerHead(seq=41 + number, head="ef" * 32),
            purged=12,
            absent=12,
            attempted=24,
            refused=24,
            canary=Canary(resurrected=True, removed=True),
        ),
        "disposal": Disposal(
            destroyed=[Disposed("scratch-server", "process-gone"), Disposed("data-folder", "listed-absent")]
        ),
    }
    said |= changes
    return Report(**{"verdict": verdict_of(said["checks"], said["type"]), **said})


def selection(started: datetime, **changes: Any) -> DrillSelection:
    said: dict[str, Any] = {
        "snapshot": f"{compact(started - timedelta(hours=3))}-{'ab' * 32}",
        "store": "zurich",
        "database": "app",
        "exported": stamp(started - timedelta(hours=3)),
        "generation": f"20300101T000000Z-{'0a' * 4}",
        "rule": "random",
        "seed": "5eed" * 8,
        "population": Population(number=31, oldest=stamp(START - 4 * WEEK), newest=stamp(started)),
    }
    return DrillSelection(**{**said, **changes})


def filed(report: Report) -> FiledReport:
    """As if it had been read; nobody signed it."""
    return FiledReport(report, ObjectHash(hashlib.sha256(encode_report(report)).hexdigest()))


def chained(*reports: Report) -> list[FiledReport]:
    """Each after the one before it."""
    done: list[FiledReport] = []
    for report in reports:
        previous = PreviousReport(done[-1].drill, done[-1].sha256) if done else None
        done.append(filed(msgspec.structs.replace(report, previous=previous)))
    return done


@dataclass
class Archive:
    """A region's folder with signed reports in a chain, and the ledger that tells of them."""

    store: Store
    signer: Signer = field(default_factory=lambda: Signer(os.urandom(32)))
    chain: Chain = field(default_factory=lambda: Chain(BE, REPOSITORY))
    filed: list[FiledReport] = field(default_factory=list)

    @property
    def trusted(self) -> frozenset[str]:
        return frozenset({self.signer.public})

    def file(self, report: Report, *, told: bool = True) -> bytes:
        """Sign a report as the newest and put it there."""
        last = self.filed[-1] if self.filed else None
        signed = msgspec.structs.replace(
            report, previous=PreviousReport(last.drill, last.sha256) if last else None, performer=self.signer.public
        )
        document = self.signer.sign(encode_report(signed), KIND)
        self.filed.append(read_report(document, self.trusted, report.drill))
        self.put(report.drill, document)
        if told:
            self.tell(report, document)
        return document

    def found(self) -> None:
        """Make the folder a whole region's."""
        info = RepositoryInfo(
            repository=REPOSITORY, region=BE, created=stamp(START), signers=[self.signer.public], keepers=[]
        )
        document = self.signer.sign(encode_body(info), "repository")
        sha256 = ObjectHash(hashlib.sha256(document).hexdigest())
        self.store.put_new(layout.REPOSITORY, io.BytesIO(document), len(document), sha256)

    def tell(self, report: Report, document: bytes) -> None:
        event = Drilled(
            drill=report.drill,
            report=hashlib.sha256(document).hexdigest(),
            verdict=report.verdict,
            snapshot=report.selection.snapshot if report.selection else None,
        )
        entry = next_document(self.chain, report.finished, [event], self.signer)
        self.chain = self.chain.extended(entry, self.trusted)
        put_entry(self.store, len(self.chain.links), entry)

    def put(self, drill: DrillId, document: bytes) -> None:
        sha256 = ObjectHash(hashlib.sha256(document).hexdigest())
        self.store.put_new(layout.report_name(drill), io.BytesIO(document), len(document), sha256)

    def get(self, number: int) -> bytes:
        return self.store.get(layout.report_name(drill_id(number)))

    def replace_document(self, number: int, document: bytes) -> None:
        """In the place of what lies there."""
        self.store.remove(layout.report_name(drill_id(number)))
        self.put(drill_id(number), document)


Break = Callable[[Archive], None]


def _remove(archive: Archive) -> None:
    archive.store.remove(layout.report_name(drill_id(1)))


def _alter(archive: Archive) -> None:
    archive.replace_document(1, archive.get(1).replace(b'"verdict":"pass"', b'"verdict":"fail"', 1))


def _swap(archive: Archive) -> None:
    one, two = archive.get(1), archive.get(2)
    archive.replace_document(1, two)
    archive.replace_document(2, one)


def _cut(archive: Archive) -> None:
    for number in (2, 3):
        archive.store.remove(layout.report_name(drill_id(number)))


def _behead(archive: Archive) -> None:
    archive.store.remove(layout.report_name(drill_id(0)))


def _rewrite(archive: Archive) -> None:
    """By the keeper's own key: only its followers and the ledger can tell."""
    body = msgspec.structs.replace(archive.filed[1].report, machine="another")
    archive.replace_document(1, archive.signer.sign(encode_report(body), KIND))


def _rewrite_newest(archive: Archive) -> None:
    body = msgspec.structs.replace(archive.filed[3].report, machine="another")
    archive.replace_document(3, archive.signer.sign(encode_report(body), KIND))


def _fork(archive: Archive) -> None:
    """A second report after the first, that the ledger never heard of."""
    archive.filed = archive.filed[:1]
    archive.file(sample(9), told=False)


def _resign(archive: Archive) -> None:
    """By somebody nobody trusts."""
    other = Signer(os.urandom(32))
    body = msgspec.structs.replace(archive.filed[1].report, performer=other.public)
    archive.replace_document(1, other.sign(encode_report(body), KIND))


def _empty(archive: Archive) -> None:
    for number in range(4):
        archive.store.remove(layout.report_name(drill_id(number)))


BREAKS: dict[str, Break] = {
    "removed": _remove,
    "altered": _alter,
    "swapped": _swap,
    "cut": _cut,
    "beheaded": _behead,
    "rewritten": _rewrite,
    "newest-rewritten": _rewrite_newest,
    "forked": _fork,
    "signed-by-another": _resign,
    "emptied": _empty,
}
