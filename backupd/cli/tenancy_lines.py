"""The lines that `backupd tenancy` prints about one database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from backupd.cli import output
from backupd.model.text import counted

if TYPE_CHECKING:
    from backupd.model.findings import Finding
    from backupd.operations.tenancy.types import TenancyLine, TenancyReport


def tenancy_lines(
    region: str, report: TenancyReport, lacking: Iterable[Finding] = ()
) -> Iterator[str | output.TextTable]:
    """Yield the table of all tables, then what is left to decide, table by table, and the sums.

    `lacking` is why unchanged parts of the tables are read.
    """
    several = f", {counted(report.databases, 'database')}" if report.databases != 1 else ""
    yield f"{region}/{report.database}{several}"
    headings = ("table", "mapped by", "class", "backup", "rows about")
    yield output.TextTable(headings, [_row(line) for line in report.lines])
    unmapped = [line for line in report.lines if not line.mapped]
    for line in unmapped:
        yield from _unmapped(line)
    for line in report.lines:
        if line.mapped:
            yield from _doubts(line)
    if any(not line.hint for line in unmapped):
        yield "`backupd tenancy --toml` prints what is left to decide as a block of the configuration"
    yield f"{sum(line.mapped for line in report.lines)} mapped, {len(unmapped)} unmapped"
    for one in lacking:
        yield from (one.message, f"  {one.hint}")
    yield ""


def _row(line: TenancyLine) -> tuple[output.Cell, ...]:
    name = line.table if line.tables == 1 else f"{line.table} ({counted(line.tables, 'table')})"
    return name, line.route, line.data_class, line.policy, line.rows


def _unmapped(line: TenancyLine) -> Iterator[str]:
    yield f"unmapped: {line.table}"
    if line.ways or line.hint:
        yield f"  {line.route}"
    for way in line.ways:
        count = None if way.named is None else f"leads {_of(way.named, line)} to a tenant"
        said = "; ".join(filter(None, (way.remark, count)))
        yield f"  {way.rule}{f'  ({said})' if said else ''}"
    if line.apart:
        yield f"  {_of(line.apart, line)} {'goes' if line.apart == 1 else 'go'} to another tenant by another way"
    if line.hint:
        yield f"  {line.hint}"


def _doubts(line: TenancyLine) -> Iterator[str]:
    if line.without and line.refuses:
        yield f"without a tenant: {line.table}: {_of(line.without, line)}; a backup stops at them"
        yield '  Give them a tenant, or set null_tenant = "shared": in a rule for the table, or in tenancy for all.'
    elif line.without:
        yield f"without a tenant: {line.table}: {_of(line.without, line)}, which are shared"
    ways = ", ".join(way.rule for way in line.ways)
    if line.apart:
        yield f"in doubt: {line.table}: {_of(line.apart, line)} would be another tenant's by {ways}"
    if line.missed:
        yield f"in doubt: {line.table}: {_of(line.missed, line)} without a tenant would be one's by {ways}"
    if line.apart or line.missed:
        yield "  A rule for the table says which is meant."


def _of(number: int, line: TenancyLine) -> str:
    return f"{number} of {counted(line.counted or 0, 'row')}{' of a sample' if line.sampled else ''}"
