"""The texts that several `restore` commands print. Members of a label are shown by their marks: their names are
tenants' names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backupd.cli import output
from backupd.cli.run import Reply
from backupd.errors import SourceError, UsageError
from backupd.model.ids import SHORT_NAME
from backupd.model.text import counted
from backupd.planning.selection import time_of

if TYPE_CHECKING:
    from backupd.operations.restore import RestoreReport
    from backupd.operations.restore.region import DatabaseOutcome, FoundDatabase, RegionContents


def restored_lines(report: RestoreReport, name: str) -> list[str]:
    """Return the lines that describe a restore; `name` is the name that the database got."""
    phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in report.phases)
    tables, rows = counted(report.tables, "table"), counted(report.rows, "row")
    return [
        f"restored {report.label} of {report.exported} as {name}",
        f"  {tables} with rows, {rows}, {output.human_bytes(report.bytes)}",
        f"  {report.verified} digests compared, all equal",
        *_left_out(report),
        f"  {report.seconds:.1f} s in all: {phases}",
        "  recorded in the ledger" if report.noted else "  not recorded in the ledger: this machine does not write it",
    ]


def restored_status(report: RestoreReport) -> int:
    """Return the exit status of a restore that ended: PostgreSQL's refusals count where it was to keep going."""
    return SourceError.exit_code if report.left_out else 0


def _left_out(report: RestoreReport) -> Iterator[str]:
    gone = ((report.purged, "purged segment"), (report.aged, "expired segment"))
    if any(number for number, _ in gone):
        yield "  left out: " + ", ".join(counted(number, noun) for number, noun in gone if number)
    unwanted = ((report.unselected, "segment"), (report.foreign_keys, "foreign key"))
    if any(number for number, _ in unwanted):
        yield "  not asked for: " + ", ".join(counted(number, noun) for number, noun in unwanted if number)
    if report.broken_keys:
        broken = counted(len(report.broken_keys), "foreign key")
        yield f"  {broken} cannot hold, because rows they refer to are left out:"
    for key in report.broken_keys:
        yield f"    {key.table}.{key.constraint}: {'holds for new rows only' if key.kept else 'left out'}"
    if report.left_out:
        yield f"  NOT RESTORED, because PostgreSQL refused it: {counted(len(report.left_out), 'object')}"
    for one in report.left_out:
        yield f"    {one.kind} {one.name}: {one.reason}".replace(" : ", ": ")
    if report.unfilled_views:
        unfilled = counted(len(report.unfilled_views), "materialized view")
        yield f"  {unfilled} left without rows, as its query fails here (foreign servers, functions by search_path):"
    for view in report.unfilled_views:
        yield f"    {view.view}: {view.reason}"
    if not report.exact:
        yield "  the sum of rows was not compared: the record has that of the whole snapshot only"


def region_object(finding: RegionContents, outcomes: Sequence[DatabaseOutcome[Any]], key: str) -> dict[str, Any]:
    """Return the object for programs: each database with its result under `key`, and the missing ones."""
    return {
        "databases": [_one(outcome, key) for outcome in outcomes],
        "missing": list(finding.missing),
        "purged": finding.purged,
        "unreadable": [{"snapshot": name, "error": output.as_object(error)} for name, error in finding.faults],
        "again": same_time(finding),
    }


def region_reply(
    region: str, finding: RegionContents, outcomes: Sequence[DatabaseOutcome[RestoreReport]], suffix: str
) -> Reply:
    """Return the reply to the restore of a region: each database, the failures, and how many databases were restored.

    Its exit status is that of the first failure, of a record that cannot be read, or of a database that is missing.
    """
    remarks = [
        line
        for outcome in outcomes
        if outcome.error is not None
        for line in output.failure_lines(outcome.error, database_name(region, outcome.found))
    ]
    return Reply(
        {"region": region, **region_object(finding, outcomes, "report")},
        list(_outcome_lines(region, finding, outcomes, suffix)),
        [*remarks, *absent_lines(region, finding)],
        region_status(finding, outcomes),
    )


def _outcome_lines(
    region: str, finding: RegionContents, outcomes: Sequence[DatabaseOutcome[RestoreReport]], suffix: str
) -> Iterator[str]:
    for outcome in outcomes:
        found = outcome.found
        if outcome.result is not None:
            restored = f"a database ({found.member})" if found.member is not None else f'"{found.name}{suffix}"'
            yield from restored_lines(outcome.result, restored)
        elif outcome.error is None:
            yield f"{database_name(region, found)} of {found.exported}: restored by an earlier run, left as it is"
    done = sum(outcome.error is None for outcome in outcomes)
    yield f"{done} of {counted(len(outcomes) + len(finding.missing), 'database')} of {region} are restored"
    if done < len(outcomes):
        yield f"  to go on with the same snapshots: the same command with --snapshot {same_time(finding)}"


def region_status(finding: RegionContents, outcomes: Sequence[DatabaseOutcome[Any]]) -> int:
    """Return the exit status of the first failure, of a record that cannot be read, or of a missing database."""
    failures = [outcome.error for outcome in outcomes if outcome.error is not None]
    failures += [error for _, error in finding.faults]
    if failures:
        return failures[0].exit_code
    if finding.missing:
        return UsageError.exit_code
    return SourceError.exit_code if any(getattr(outcome.result, "left_out", ()) for outcome in outcomes) else 0


def absent_lines(region: str, finding: RegionContents) -> Iterator[str]:
    """Yield the databases without a snapshot, the records that cannot be believed, and how many were purged."""
    yield from (f"{region}/{label}: there is no snapshot of it at that time" for label in finding.missing)
    yield from (f"{name[:SHORT_NAME]} cannot be believed: {error.message}" for name, error in finding.faults)
    if finding.purged:
        yield f"left out, as purged: {counted(finding.purged, 'database')}"


def database_name(region: str, found: FoundDatabase) -> str:
    """Return `region/label`, with a member's mark, or the label alone where `region` is empty."""
    name = found.label if found.member is None else f"{found.label} ({found.member})"
    return f"{region}/{name}" if region else name


def same_time(finding: RegionContents) -> str | None:
    """Return the time that means the same snapshots; None where there are none."""
    names = [found.snapshot for found in finding.databases]
    return f"{time_of(max(names)):%Y-%m-%dT%H:%M:%S}" if names else None


def expected_time(seconds: float | None, unknown: str) -> str:
    """Return the time that a restore should take, as text; `unknown` where none was measured."""
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
