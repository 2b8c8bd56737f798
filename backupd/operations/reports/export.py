"""Export a period's drills as files to hand on: the signed reports, pages, and how to verify them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from backupd.errors import RefusedError, UsageError
from backupd.model.text import stamp
from backupd.operations.reports.read import Part, counts, newest_proof, occasions
from backupd.pages import Drill, PeriodPage, RegionPart, render_period, render_report
from backupd.planning.drill_reports import Occasion, Period
from backupd.repository import layout

_NOTE: Final = """Restore drills from {since} until before {until}, as of {made}.

index.html           every drill of the period: passed, failed, without a verdict, and missed
population.json      the same, for programs
REGION/*.html        one page for each report
REGION/reports/      the signed reports themselves; everything else here is made from them

Pages prove nothing; the reports do. To verify them, on any machine with backupd, without a configuration or a network:

    backupd report verify --folder THIS-FOLDER{keepers}

Compare each key with the one you were given in another way. This checks every signature, and that each report names
the one before it by its SHA-256. It cannot tell whether there are others: for that, put a copy of the region's ledger
(the folder "ledger" on a store, from its first entry on) beside "reports" in the region's folder, and verify again.

{left}"""
_HISTORY: Final = 60
"""Drills in the charts of one report's page."""


@dataclass(frozen=True, slots=True)
class ReportExport:
    """The folder that was written, and what is in it."""

    folder: Path
    reports: int
    regions: tuple[str, ...]


def export_reports(parts: Sequence[Part], period: Period, out: Path, now: datetime) -> ReportExport:
    """Write the new folder `out`, whole or not at all.

    Reports that cannot be believed are left out, and the pages say so. Raises RefusedError when the folder exists and
    is not empty, UsageError when it cannot be written.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise RefusedError(f"'{out}' exists", hint="Nothing is overwritten; name a new folder.")
    beside = out.with_name(f".{out.name}.new")
    found = [(part, occasions(part, period, now)) for part in parts]
    try:
        beside.mkdir()
    except OSError as error:
        raise UsageError(f"'{out}' cannot be written: {error.strerror}") from error
    try:
        number = sum(_write_reports(beside, part, drills) for part, drills in found)
        _write_period(beside, found, period, now)
        beside.replace(out)
    except OSError as error:
        raise UsageError(f"'{out}' cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            shutil.rmtree(beside)
    return ReportExport(out, number, tuple(part.gathered.region for part in parts))


def _write_reports(folder: Path, part: Part, drills: Sequence[Occasion]) -> int:
    filed = [one.filed for one in drills if one.filed is not None]
    for one in filed:
        region = folder / one.report.region
        _write(region / layout.report_name(one.drill), part.gathered.documents[one.drill])
        history = [before.report for before in part.gathered.until(one.drill)[-_HISTORY:]]
        _write(region / f"{one.drill}.html", render_report(one.report, one.sha256, history).encode())
    return len(filed)


def _write_period(
    folder: Path, found: Sequence[tuple[Part, Sequence[Occasion]]], period: Period, now: datetime
) -> None:
    regions = [_region(part, drills, period, now) for part, drills in found]
    page = PeriodPage(period.since, period.until, now, regions)
    _write(folder / "index.html", render_period(page).encode())
    facts = {
        "from": stamp(period.since),
        "until": stamp(period.until),
        "made": stamp(now),
        "regions": [as_object(part, drills) for part, drills in found],
    }
    _write(folder / "population.json", msgspec.json.format(msgspec.json.encode(facts), indent=1) + b"\n")
    performers = {one.filed.report.performer for _, drills in found for one in drills if one.filed}
    left = [f"{part.gathered.region}: not checked here: {line}." for part, _ in found for line in _unchecked(part)]
    note = _NOTE.format(
        since=stamp(period.since),
        until=stamp(period.until),
        made=stamp(now),
        keepers="".join(f" --keeper {key}" for key in sorted(performers)),
        left="\n".join(left) + "\n" if left else "",
    )
    _write(folder / "VERIFY.txt", note.encode())


def as_object(part: Part, drills: Sequence[Occasion]) -> dict[str, Any]:
    """Return a region's population for programs, as JSON values."""
    return {
        "region": part.gathered.region,
        "counts": counts(drills),
        "drills": [
            {
                "at": stamp(one.at),
                "outcome": one.outcome,
                "drill": one.filed.drill if one.filed else None,
                "sha256": one.filed.sha256 if one.filed else None,
            }
            for one in drills
        ],
        "faults": [fault.sentence for fault in part.gathered.faults],
        "not_checked": list(part.gathered.not_checked),
    }


def _drill(one: Occasion) -> Drill:
    if one.filed is None:
        return Drill(one.at, one.outcome)
    link = f"{one.filed.report.region}/{one.filed.drill}.html"
    return Drill(one.at, one.outcome, one.filed.report, one.filed.sha256, link)


def _region(part: Part, drills: Sequence[Occasion], period: Period, now: datetime) -> RegionPart:
    return RegionPart(
        region=part.gathered.region,
        drills=[_drill(one) for one in drills],
        proven=newest_proof(part, min(period.until, now)),
        every=part.every,
        faults=[fault.sentence for fault in part.gathered.faults],
        not_checked=list(_unchecked(part)),
    )


def _unchecked(part: Part) -> list[str]:
    return [*part.gathered.not_checked, *(f"store {name}, out of reach" for name in part.gathered.unreached)]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
