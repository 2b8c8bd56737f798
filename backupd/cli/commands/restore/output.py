"""What several `restore` commands print. Members of a label are shown by their marks: their names are tenants'."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backupd.cli import output
from backupd.planning.selection import time_of

if TYPE_CHECKING:
    from backupd.operations.restore import RestoreReport
    from backupd.operations.restore.region import DatabaseOutcome, FoundDatabase, RegionContents

SHORT = len("20300101T000000Z-") + 8
"""Characters of a snapshot's name that are shown where it is to be typed again."""


def restored_lines(report: RestoreReport, name: str) -> list[str]:
    """What was done; `name` is what it was restored as."""
    phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in report.phases)
    return [
        f"restored {report.label} of {report.exported} as {name}",
        f"  {report.tables} tables with rows, {report.rows} rows, {output.human_bytes(report.bytes)}",
        f"  {report.verified} digests compared, all equal",
        *_left_out(report),
        f"  {report.seconds:.1f} s in all: {phases}",
        "  the ledger was told" if report.noted else "  the ledger was not told: this machine does not write it",
    ]


def _left_out(report: RestoreReport) -> Iterator[str]:
    if report.purged or report.aged:
        yield f"  left out: {report.purged} segments that were purged, {report.aged} parts that expired"
    if report.unselected or report.foreign_keys:
        yield f"  not asked for: {report.unselected} segments; {report.foreign_keys} foreign keys left out"
    if report.broken_keys:
        yield f"  {len(report.broken_keys)} foreign keys cannot hold, because rows they refer to are left out:"
    for key in report.broken_keys:
        yield f"    {key.table}.{key.constraint}: {'holds for new rows only' if key.kept else 'left out'}"
    if not report.exact:
        yield "  the number of rows was not compared: the record counts more than was to be restored"


def region_object(finding: RegionContents, outcomes: Sequence[DatabaseOutcome[Any]], key: str) -> dict[str, Any]:
    """For programs: each database with what came of it, and what there is none of."""
    return {
        "databases": [_one(outcome, key) for outcome in outcomes],
        "missing": list(finding.missing),
        "purged": finding.purged,
        "unreadable": [{"snapshot": name, "error": output.as_object(error)} for name, error in finding.faults],
        "again": same_time(finding),
    }


def print_outcomes(
    region: str, finding: RegionContents, outcomes: Sequence[DatabaseOutcome[RestoreReport]], suffix: str
) -> None:
    """Each database in turn, failures on standard error, and how many there were."""
    for outcome in outcomes:
        found = outcome.found
        name = database_name(region, found)
        if outcome.error is not None:
            output.print_failure(outcome.error, name)
        elif outcome.result is None:
            output.print_lines([f"{name} of {found.exported}: restored by an earlier run, left as it is"])
        else:
            restored = f"a database ({found.member})" if found.member is not None else f'"{found.name}{suffix}"'
            output.print_lines(restored_lines(outcome.result, restored))
    output.print_lines(absent_lines(region, finding), sys.stderr)
    done = sum(outcome.error is None for outcome in outcomes)
    lines = [f"{done} of {len(outcomes) + len(finding.missing)} databases of {region} are restored"]
    if done < len(outcomes):
        lines.append(f"  to go on with the same snapshots: the same command with --snapshot {same_time(finding)}")
    output.print_lines(lines)


def absent_lines(region: str, finding: RegionContents) -> Iterator[str]:
    """The databases that there is no snapshot of, records that cannot be believed, and how many were purged."""
    yield from (f"{region}/{label}: there is no snapshot of it at that time" for label in finding.missing)
    yield from (f"{name[:SHORT]} cannot be believed: {error.message}" for name, error in finding.faults)
    if finding.purged:
        yield f"{finding.purged} databases were purged: left out"


def database_name(region: str, found: FoundDatabase) -> str:
    """`region/label`, with a member's mark; without a region where `region` is empty."""
    name = found.label if found.member is None else f"{found.label} ({found.member})"
    return f"{region}/{name}" if region else name


def same_time(finding: RegionContents) -> str | None:
    """The time that means the same snapshots; None where there are none."""
    names = [found.snapshot for found in finding.databases]
    return f"{time_of(max(names)):%Y-%m-%dT%H:%M:%S}" if names else None


def expected_time(seconds: float | None, unknown: str) -> str:
    """How long a restore should take; `unknown` is what is said where none was measured."""
    return unknown if seconds is None else f"about {output.human_duration(timedelta(seconds=seconds))}"


def _one(outcome: DatabaseOutcome[Any], key: str) -> dict[str, Any]:
    found = outcome.found
    facts: dict[str, Any] = {
        "database": found.label,
        "member": found.member,
        "snapshot": found.snapshot,
        "exported": found.exported,
    }
    if outcome.error is not None:
        return {**facts, "error": output.as_object(outcome.error)}
    return {**facts, "done_before": True} if outcome.result is None else {**facts, key: outcome.result}
