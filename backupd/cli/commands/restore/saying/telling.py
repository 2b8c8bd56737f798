"""What a restore says, beforehand and afterwards."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from backupd.cli import output

if TYPE_CHECKING:
    from backupd.operations.restore import RestoreReport
    from backupd.operations.restore.paper.previewing import Preview


def tell_plan(region: str, planned: Preview, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"region": region, "plan": planned})
        return
    size = output.human_bytes
    expected = "unknown: no restore of it was measured here yet"
    if planned.expected is not None:
        expected = f"about {output.human_duration(timedelta(seconds=planned.expected))}"
    output.print_facts(
        {
            "snapshot": planned.snapshot,
            "exported": planned.exported,
            "segments": planned.segments,
            "left out": f"{planned.purged} purged, {planned.aged} expired, {planned.unselected} not asked for",
            "tables": planned.tables,
            "rows": planned.rows,
            "written": size(planned.bytes),
            "fetched": f"{planned.objects} objects, {size(planned.fetched)}",
            "ledger": f"obeyed up to entry {planned.ledger}",
            "time": expected,
        }
    )


def told(report: RestoreReport, name: str) -> list[str]:
    """What was done; `name` is what it was restored as."""
    phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in report.phases)
    lines = [
        f"restored {report.label} of {report.exported} as {name}",
        f"  {report.tables} tables with rows, {report.rows} rows, {output.human_bytes(report.bytes)}",
        f"  {report.verified} digests compared, all equal",
    ]
    if report.purged or report.aged:
        lines.append(f"  left out: {report.purged} segments that were purged, {report.aged} parts that expired")
    if report.unselected or report.foreign_keys:
        lines.append(f"  not asked for: {report.unselected} segments; {report.foreign_keys} foreign keys left out")
    if report.broken_keys:
        lines.append(f"  {len(report.broken_keys)} foreign keys cannot hold, because rows they refer to are left out:")
        lines += [
            f"    {key.table}.{key.constraint}: {'holds for new rows only' if key.kept else 'left out'}"
            for key in report.broken_keys
        ]
    if not report.exact:
        lines.append("  the number of rows was not compared: the record counts more than was to be restored")
    lines.append(f"  {report.seconds:.1f} s in all: {phases}")
    lines.append(
        "  the ledger was told" if report.noted else "  the ledger was not told: this machine does not write it"
    )
    return lines
