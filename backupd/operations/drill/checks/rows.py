"""Check 3: read the restored database back through the same routing, segment by segment, and compare with the
manifests.

Order holds because a restore truncates each table and fills it with `FREEZE` in one transaction (`backupd manual
design`, Order of rows), so the digests of the row streams must be the same. Rows that may be in other partitions now
are in no order, and are compared as sets.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from backupd.errors import SourceError
from backupd.model.inventory import Inventory, Table, TableName
from backupd.model.manifest import Span
from backupd.model.report import Check, CheckName
from backupd.model.tenancy import Tenant
from backupd.operations.drill.checks.row_sets import RowSet, RowSetReader, SetsByTenant
from backupd.operations.drill.types import Findings, RowComparison, RowFault, TableToCompare, expected_rows, undecided
from backupd.planning.mapping.tables import map_tables
from backupd.postgres import settings
from backupd.postgres.client_programs import Client, client, find_programs
from backupd.postgres.connect import Source, connect, resolved
from backupd.postgres.settings import copied
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.source.select import select_rows
from backupd.postgres.target.partition_roots import moving_partitions
from backupd.rows.copytext import NULL, unescape
from backupd.rows.psql import Psql
from backupd.rows.tenant_chunker import Chunker

if TYPE_CHECKING:
    from backupd.operations.drill.types import DrillScene
    from backupd.planning.restore import RestorePlan

_READERS = 2
"""Connections that read tables at once."""
_HELD = 8 << 20
"""Bytes of rows a reader holds."""
_MASK = 1023
"""Rows are passed on about a thousand at a time."""


@dataclass(slots=True)
class _Found:
    """The result of comparing one table."""

    faults: list[RowFault] = field(default_factory=list)
    segments: int = 0
    strangers: set[str] = field(default_factory=set)
    rows: Counter[str | None] = field(default_factory=Counter)
    root: TableName | None = None
    sets: dict[str | None, RowSet] = field(default_factory=dict)
    """The rows of a partition that are compared with others of its root."""


def check_equality(scene: DrillScene) -> tuple[Check, RowComparison | None]:
    """Check that every row stream of every segment equals its manifest, and that there is no other row.

    Tables of classes that are not backed up must be empty. Returns the comparison, too; None when it was impossible.
    """
    findings = Findings(CheckName.EQUALITY, names=scene.names)
    expected = expected_rows(scene.subject, scene.restored.plan)
    with connect(scene.restored.source) as connection:
        # Rules over names mean what they meant at the source.
        inventory = replace(read_inventory(connection), database=scene.subject.database)
        roots = moving_partitions(connection)
    mapping = map_tables(scene.environment.tenancies[scene.subject.record.database], inventory)
    tables = _as_dumped(inventory, scene.restored.plan)
    if mapping.unmapped:
        # Columns or keys that the rules name are gone, or the rules have changed since.
        for one in mapping.unmapped:
            findings.name_it("tables-not-mapped", _named(one.table))
        return undecided(CheckName.EQUALITY, "tables-not-mapped", len(mapping.unmapped)), None
    encoding = (scene.restored.plan.facts.settings or {}).get("client_encoding", "UTF8")
    tasks = [
        TableToCompare(tables[one.table], one, expected.pop(one.table, {}), encoding, roots.get(one.table))
        for one in mapping.tables
    ]
    findings.each("table-missing", map(_named, expected))
    compared = compare(tasks, scene.restored.source, _expected_sets(scene, roots))
    findings.examined = compared.segments
    for fault in compared.faults:
        findings.one(fault.code, fault.what, fault.details)
    _compare_counts(scene, inventory, findings)
    findings.note("view-unfilled", len(scene.restored.unfilled_views))
    for view in scene.restored.unfilled_views:
        findings.name_it("view-unfilled", f"{view.view}: {view.reason}")
    return findings.check(), compared


def _expected_sets(scene: DrillScene, roots: Mapping[TableName, TableName]) -> SetsByTenant:
    """Read the rows of these partitions from the store, and return what must be below each of their roots."""
    plan, choice = scene.restored.plan, scene.subject.choice
    names = [TableName(table.schema, table.name) for table in plan.tables]
    pieces = [piece for bundles in plan.passes for bundle in bundles for piece in bundle if names[piece.table] in roots]
    readers = {piece: RowSetReader(plan.tables[piece.table].columns) for piece in pieces}
    for piece, rows in scene.restored.contents.rows(pieces):
        readers[piece].feed(rows)
    found: defaultdict[TableName, dict[str | None, RowSet]] = defaultdict(dict)
    for piece, reader in readers.items():
        tenant = choice.name_of(choice.segments[piece.segment]).tenant
        found[roots[names[piece.table]]].setdefault(tenant, RowSet()).add(reader.finish())
    return found


def _as_dumped(inventory: Inventory, plan: RestorePlan) -> dict[TableName, Table]:
    """Return the tables by name, with their columns in the order in which their rows were dumped.

    A table that inherits has its parents' columns first once it was loaded; at the source it may have them anywhere.
    """
    orders = {TableName(one.schema, one.name): one.columns for one in plan.tables}
    return {
        name: replace(table, columns=orders[name])
        if name in orders and sorted(orders[name]) == sorted(table.columns)
        else table
        for name, table in inventory.by_name().items()
    }


def compare(tasks: Sequence[TableToCompare], source: Source, sets: SetsByTenant) -> RowComparison:
    """Read the tables back by tenant, and compare their rows with the spans they must have.

    Partitions of one root are compared with its `sets`, and must all be among the tasks, if one is. Raises SourceError,
    and ConfigError without fitting programs.
    """
    with connect(source) as connection:
        version, given = connection.info.server_version, resolved(connection)
    with client(find_programs(source.client_folders, version), given) as started:
        found = list(_in_parallel(tasks, started, version))
    found += _compare_sets(found, sets)
    return RowComparison(
        tasks=tuple(tasks),
        rows=sum((one.rows for one in found), Counter[str | None]()),
        faults=tuple(fault for one in found for fault in one.faults),
        segments=sum(one.segments for one in found),
        strangers=frozenset[str]().union(*(one.strangers for one in found)),
        sets=sets,
    )


def _compare_sets(found: Sequence[_Found], sets: SetsByTenant) -> list[_Found]:
    """Compare what was found below each root with what must be there."""
    there: defaultdict[TableName, dict[str | None, RowSet]] = defaultdict(dict)
    for one in found:
        if one.root is not None:
            below = there[one.root]
            for tenant, rows in one.sets.items():
                below.setdefault(tenant, RowSet()).add(rows)
    results = []
    for root, by_tenant in there.items():
        expected = sets.get(root, {})
        result = _Found()
        for tenant in expected.keys() | by_tenant.keys():
            rows = by_tenant.get(tenant, RowSet())
            wanted = expected.get(tenant, RowSet())
            code = wanted.judge(rows)
            result.segments += 1
            result.faults += [RowFault(tenant, code, root, wanted.rows, rows.rows)] if code else []
            if tenant is not None and tenant not in expected and rows.rows:
                result.strangers.add(tenant)
        results.append(result)
    return results


def _compare_counts(scene: DrillScene, inventory: Inventory, findings: Findings) -> None:
    """Report tables that the snapshot lists with a count of rows and that the database does not have."""
    named = inventory.by_name()
    listed = [TableName(schema, table) for schema, table, _ in scene.restored.plan.facts.tables]
    findings.each("table-missing", [_named(one) for one in listed if one not in named])


def _named(table: TableName) -> str:
    return f"{table.schema}.{table.table}"


def _in_parallel(tasks: Sequence[TableToCompare], started: Client, version: int) -> Iterable[_Found]:
    ordered = sorted(tasks, key=lambda task: -task.table.blocks)
    with ThreadPoolExecutor(_READERS, "comparing") as pool:
        running = [pool.submit(_read_tables, ordered[number::_READERS], started, version) for number in range(_READERS)]
        for future in running:
            yield from future.result()


def _read_tables(tasks: Sequence[TableToCompare], started: Client, version: int) -> list[_Found]:
    preamble = settings.statements(settings.short_wait_settings(version)) + "BEGIN TRANSACTION READ ONLY"
    psql = Psql(started.command("psql"), started.environment, preamble)
    try:
        return [_read_table(task, psql) for task in tasks]
    finally:
        psql.close()


def _read_table(task: TableToCompare, psql: Psql) -> _Found:
    selection = select_rows(task.table, task.mapped.route)
    splitter = Chunker(routed=selection.routed, mask=_MASK, seed=0, limit=_HELD)
    owner = task.mapped.route.tenant if isinstance(task.mapped.route, Tenant) else None
    streams = _Streams(task, owner) if task.root is None else _SetStreams(task, owner)
    for block in psql.copy(copied(selection.sql, task.encoding)):
        for cut in splitter.feed(block):
            streams.take(*cut)
    for cut in splitter.finish():
        streams.take(*cut)
    if splitter.rows != psql.rows:
        raise SourceError("rows of the restored database were lost on the way to their check")
    return streams.judge()


class _Streams:
    """The rows of one table by tenant, each compared with its spans while they pass."""

    def __init__(self, task: TableToCompare, owner: str | None) -> None:
        self._table = task.table.name
        self._expected = task.expected
        self._owner = owner
        self._encoding = task.encoding
        self._by_text: dict[bytes | None, _Stream] = {}
        self._by_tenant = {tenant: _Stream(spans) for tenant, spans in task.expected.items()}

    def take(self, text: bytes | None, data: bytes, rows: int) -> None:
        stream = self._by_text.get(text)
        if stream is None:
            stream = self._by_text[text] = self._by_tenant.setdefault(
                _tenant(text, self._owner, self._encoding), _Stream([])
            )
        stream.feed(data, rows)

    def judge(self) -> _Found:
        found = _Found()
        for tenant, stream in self._by_tenant.items():
            found.segments += 1
            code = stream.judge()
            if code is not None:
                found.faults.append(RowFault(tenant, code, self._table, stream.expected, stream.rows))
            found.rows[tenant] += stream.rows
            if tenant is not None and tenant not in self._expected and stream.rows:
                found.strangers.add(tenant)
        return found


class _SetStreams:
    """The rows of one partition by tenant, to be compared with others of its root."""

    def __init__(self, task: TableToCompare, owner: str | None) -> None:
        self._task = task
        self._owner = owner
        self._by_tenant: dict[str | None, RowSetReader] = {}

    def take(self, text: bytes | None, data: bytes, _: int) -> None:
        tenant = _tenant(text, self._owner, self._task.encoding)
        reader = self._by_tenant.get(tenant)
        if reader is None:
            reader = self._by_tenant[tenant] = RowSetReader(self._task.table.columns)
        reader.feed(data)

    def judge(self) -> _Found:
        sets = {tenant: reader.finish() for tenant, reader in self._by_tenant.items()}
        rows = Counter({tenant: found.rows for tenant, found in sets.items()})
        return _Found(rows=rows, root=self._task.root, sets=sets)


def _tenant(text: bytes | None, owner: str | None, encoding: str) -> str | None:
    return owner if text is None else None if text == NULL else unescape(text, encoding)


class _Stream:
    """The rows of one segment in one table, compared with their spans while they pass."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._place = 0
        self._size = 0
        self._digest = hashlib.sha256()
        self._equal = True
        self.rows = 0

    @property
    def expected(self) -> int:
        """The number of rows that there must be."""
        return sum(rows for rows, _, _ in self._spans)

    def feed(self, piece: bytes, rows: int) -> None:
        self.rows += rows
        view = memoryview(piece)
        while view and self._equal:
            if self._place == len(self._spans):
                self._equal = False
                return
            _, size, sha256 = self._spans[self._place]
            here = view[: size - self._size]
            self._digest.update(here)
            self._size += len(here)
            view = view[len(here) :]
            if self._size == size:
                self._equal = self._digest.digest() == sha256
                self._place, self._size, self._digest = self._place + 1, 0, hashlib.sha256()

    def judge(self) -> str | None:
        if self.rows < self.expected:
            return "rows-lost"
        if self.rows > self.expected:
            return "rows-added"
        whole = all(size == 0 for _, size, _ in self._spans[self._place :]) and not self._size
        return None if self._equal and whole else "rows-changed"
