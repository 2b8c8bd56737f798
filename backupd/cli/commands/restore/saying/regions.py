"""What a restore of a region says. Members of a label are told by their marks: their names are tenants'."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backupd.cli import failures, output
from backupd.cli.commands.restore.saying.runbook import SHORT, fetching, told_before
from backupd.cli.commands.restore.saying.telling import told
from backupd.planning.restoring.choosing import time_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backupd.model.ids import RegionName
    from backupd.operations.restore import RestoreReport
    from backupd.operations.restore.paper.previewing import Preview
    from backupd.operations.restore.region import Finding, Found, Outcome
    from backupd.wiring import Wiring


def as_object(finding: Finding, outcomes: Sequence[Outcome[Any]], key: str) -> dict[str, Any]:
    """For programs: each database with what came of it, and what there is none of."""
    return {
        "databases": [_one(outcome, key) for outcome in outcomes],
        "missing": list(finding.missing),
        "purged": finding.purged,
        "unreadable": [{"snapshot": name, "error": failures.as_object(error)} for name, error in finding.faults],
        "again": _again(finding),
    }


def print_outcomes(region: str, finding: Finding, outcomes: Sequence[Outcome[RestoreReport]], ending: str) -> None:
    """Each database in turn, failures on standard error, and how many there were."""
    for outcome in outcomes:
        found = outcome.found
        if outcome.error is not None:
            failures.print_failure(outcome.error, _named(region, found))
        elif outcome.result is None:
            output.print_lines(
                [f"{_named(region, found)} of {found.exported}: restored by an earlier run, left as it is"]
            )
        else:
            name = f"a database ({found.member})" if found.member is not None else f'"{found.name}{ending}"'
            output.print_lines(told(outcome.result, name))
    _print_absent(region, finding)
    done = sum(outcome.error is None for outcome in outcomes)
    lines = [f"{done} of {len(outcomes) + len(finding.missing)} databases of {region} are restored"]
    if done < len(outcomes):
        lines.append(f"  to go on with the same snapshots: the same command with --snapshot {_again(finding)}")
    output.print_lines(lines)


def print_plan(region: str, finding: Finding, planned: Sequence[Outcome[Preview]], where: str) -> None:
    """A line for each database, and the sums."""
    size = output.human_bytes
    headings = ("database", "exported", "tables", "rows", "written", "objects", "fetched", "time")
    rows = [
        (
            _named("", one.found),
            plan.exported.partition(".")[0],
            plan.tables,
            plan.rows,
            size(plan.bytes),
            plan.objects,
            size(plan.fetched),
            _time(plan.expected),
        )
        for one in planned
        if (plan := one.result) is not None
    ]
    output.print_table(output.Table(headings, rows))
    for outcome in planned:
        if outcome.error is not None:
            failures.print_failure(outcome.error, _named(region, outcome.found))
    _print_absent(region, finding)
    plans = [one.result for one in planned if one.result is not None]
    written, fetched = sum(plan.bytes for plan in plans), sum(plan.fetched for plan in plans)
    output.print_lines(
        [
            f"{len(plans)} databases to {where}: {size(written)} written, {size(fetched)} fetched",
            f"the ledger is obeyed up to entry {len(finding.history.chain.links)}",
        ]
    )


def runbook(
    wiring: Wiring, region: RegionName, store: str, finding: Finding, planned: Sequence[Outcome[Preview]]
) -> Iterator[str]:
    """The lines. They name no tenant, and no secret but where it is kept."""
    size, time = output.human_bytes, _again(finding)
    identity = "--identity FILE.identity"
    command = f"backupd restore {region} --snapshot {time}"
    yield f"RUNBOOK: all databases of region {region}"
    yield f"  made on {wiring.clock.now():%Y-%m-%d %H:%M} UTC, for the snapshots at {time}, from {store}"
    for outcome in planned:
        plan = outcome.result
        what = "cannot be restored" if plan is None else f"{plan.rows} rows, {size(plan.bytes)}, {_time(plan.expected)}"
        yield f"  {_named('', outcome.found)}: snapshot {outcome.found.snapshot[:SHORT]}: {what}"
    yield from (f"  {label}: no snapshot" for label in finding.missing)
    yield ""
    yield from told_before()
    steps = (
        ("Does the identity open the backups? (seconds)", f"backupd key check {region} {identity}"),
        ("Is the store whole? (reads no rows)", f"backupd verify {region}"),
        ("What will be done?", f"{command} --plan {identity}"),
        (
            "Restore. What fails is told, the others are restored; the same command goes on.",
            f'{command} --globals --analyze --suffix "" --target "host=SERVER user=postgres" {identity}',
        ),
    )
    for number, (what, line) in enumerate(steps, start=1):
        yield ""
        yield f"{number}. {what}"
        yield f"     {line}"
    yield ""
    yield "IF BACKUPD CANNOT BE INSTALLED: fetch the region's folder, and use the script that lies in it."
    yield f"     {fetching(wiring, region, store)}"
    yield "     python3 -m venv env && env/bin/pip install 'cryptography>=50' zstandard"
    yield "     env/bin/python store/recover store --identity FILE.identity --out recovered"


def _one(outcome: Outcome[Any], key: str) -> dict[str, Any]:
    found = outcome.found
    facts: dict[str, Any] = {
        "database": found.label,
        "member": found.member,
        "snapshot": found.snapshot,
        "exported": found.exported,
    }
    if outcome.error is not None:
        return {**facts, "error": failures.as_object(outcome.error)}
    return {**facts, "done_before": True} if outcome.result is None else {**facts, key: outcome.result}


def _print_absent(region: str, finding: Finding) -> None:
    lines = [f"{region}/{label}: there is no snapshot of it at that time" for label in finding.missing]
    lines += [f"{name[:SHORT]} cannot be believed: {error.message}" for name, error in finding.faults]
    if finding.purged:
        lines.append(f"{finding.purged} databases were purged: left out")
    output.print_lines(lines, sys.stderr)


def _named(region: str, found: Found) -> str:
    name = found.label if found.member is None else f"{found.label} ({found.member})"
    return f"{region}/{name}" if region else name


def _again(finding: Finding) -> str | None:
    """The time that means the same snapshots."""
    names = [found.snapshot for found in finding.databases]
    return f"{time_of(max(names)):%Y-%m-%dT%H:%M:%S}" if names else None


def _time(expected: float | None) -> str:
    return "not measured" if expected is None else f"about {output.human_duration(timedelta(seconds=expected))}"
