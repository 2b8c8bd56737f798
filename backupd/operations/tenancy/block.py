"""Write what is left to decide about a database's tables as a block of its configuration. Pure.

Lines that take effect are those about which rows and keys agree: of several ways, one that leads each row where the
others lead it. What takes a person to say is a comment, one line for each way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from backupd.model.tenancy import Gap, TableRule
from backupd.model.text import counted
from backupd.operations.tenancy.types import TenancyLine, TenancyReport, TenancyWay
from backupd.planning.mapping.toml_rules import further_lines, pattern_of, proposal, quoted, tables_lines


def toml_block(region: str, report: TenancyReport) -> list[str]:
    """Return the lines of the block, none of which has a line's end in it; none when nothing is left to decide.

    Without rules it is the value of `tables`; with rules it is more entries, to be put behind the others.
    """
    left = [line for line in report.lines if not line.mapped and not line.hint]
    place = f"regions.{region}.databases.{report.database}"
    entries = [*_agreed(left), *_shared(left)]
    remarks = [*_doubtful(left), *_waiting(left), *_without(report.lines)]
    if not entries and not remarks:
        return []
    if report.ruled:
        return [f"# Put these behind the other tables of [{place}].", *further_lines(place, entries, remarks)]
    head = f"# In [{place}], below its tenancy. A comment is a way that takes a person to choose."
    return [head, *tables_lines(entries, remarks)]


def _agreed(lines: Sequence[TenancyLine]) -> Iterator[TableRule]:
    """Yield a rule for all tables that it fits; the rule that fits most tables comes first."""
    open_ = {line.table: {way.rule: way for way in line.ways if not way.remark} for line in lines if _agree(line)}
    open_ = {table: ways for table, ways in open_.items() if ways}
    while open_:
        fitting = Counter(rule for ways in open_.values() for rule in ways)
        rule = min(fitting, key=lambda one: (-fitting[one], one))
        tables = sorted(table for table, ways in open_.items() if rule in ways)
        yield _rule(tables, open_[tables[0]][rule])
        open_ = {table: ways for table, ways in open_.items() if table not in tables}


def _rule(tables: Iterable[str], way: TenancyWay) -> TableRule:
    return TableRule(tuple(map(pattern_of, tables)), column=way.column, path=way.path)


def _agree(line: TenancyLine) -> bool:
    """Check whether any of several ways will do, as far as rows show."""
    if line.gap is Gap.REFERRED:
        meant = [way for way in line.ways if not way.remark]
        return len(meant) == 1 and bool(line.counted) and meant[0].named == line.counted and not line.apart
    if sum(way.column is not None for way in line.ways) > 1:
        return False  # two tenants in one row, as issuer and acceptor: an empty table says nothing about them
    full = all(way.named in (None, line.counted) for way in line.ways if not way.remark)
    return line.gap is Gap.SEVERAL and not line.apart and full


def _shared(lines: Sequence[TenancyLine]) -> Iterator[TableRule]:
    tables = sorted(line.table for line in lines if line.gap is Gap.NO_WAY)
    if tables:
        yield TableRule(tuple(map(pattern_of, tables)), shared=True)


def _doubtful(lines: Sequence[TenancyLine]) -> Iterator[str]:
    for line in lines:
        if line.gap is Gap.RULE or (line.gap in (Gap.SEVERAL, Gap.REFERRED, Gap.DOUBTFUL) and not _agree(line)):
            yield f"{quoted(line.table)[1:-1]}: {line.route}{_disagreement(line)}"
            yield from (f"{proposal(_rule([line.table], way))}{_count(line, way)}" for way in line.ways)


def _disagreement(line: TenancyLine) -> str:
    if not line.apart:
        return ""
    return f"; to another tenant by another way: {line.apart} of {_rows(line)}{' sampled' if line.sampled else ''}"


def _count(line: TenancyLine, way: TenancyWay) -> str:
    count = "" if way.named is None else f"{way.named} of {_rows(line)}"
    said = "; ".join(filter(None, (way.remark, count)))
    return f"  # {said}" if said else ""


def _rows(line: TenancyLine) -> str:
    return counted(line.counted or 0, "row")


def _waiting(lines: Iterable[TenancyLine]) -> Iterator[str]:
    count = sum(line.gap is Gap.WAITING for line in lines)
    if count:
        yield f"{count} more {'table follows' if count == 1 else 'tables follow'} one of these."


def _without(lines: Iterable[TenancyLine]) -> Iterator[str]:
    """Yield what a backup would stop at: rows without a tenant. Whether they are shared is for a person to say."""
    found = [line for line in lines if line.mapped and line.refuses and line.without]
    for line in found:
        many = f"{line.without} of {_rows(line)}"
        yield f"{quoted(line.table)[1:-1]}: without a tenant, so that a backup stops: {many}"
    if found:
        yield 'If all such rows belong to nobody, add null_tenant = "shared" to the tenancy.'
