"""Read a database under an exported snapshot that is held no longer than the reading takes. Before anything is read, it
is checked that the database can be backed up completely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import RefusedError, SourceError
from backupd.model.findings import Finding, Severity, errors_among
from backupd.model.inventory import Inventory
from backupd.model.tenancy import STRUCTURE, ClassPolicy, MappedTable, TenancyMap
from backupd.operations.backup.closing import SegmentClosing, meetings
from backupd.operations.backup.collect import READING, Collector, SpanLog
from backupd.operations.backup.entries import SegmentEntries
from backupd.operations.backup.generation import keyed_tag
from backupd.operations.backup.last_times import read_last_times
from backupd.operations.backup.numbers import numbering_of
from backupd.operations.backup.source_content import Reading
from backupd.operations.backup.stretches import stretches
from backupd.operations.backup.tasks import FileTask, TableTask, in_encoding, plan_tasks
from backupd.operations.backup.unread import Unread, before_export, look_behind
from backupd.planning.incremental.facts import Look, Reason
from backupd.planning.incremental.steady_numbers import Numbering
from backupd.planning.mapping.names import NamePatterns
from backupd.planning.mapping.tables import map_tables, never_read, require_mapped, tenant_columns
from backupd.postgres.client_programs import Client, client, find_programs
from backupd.postgres.connect import Source, connect
from backupd.postgres.failures import translated
from backupd.postgres.schema.dump import dump_globals, dump_schema, large_objects_command
from backupd.postgres.schema.ownership import Ddl
from backupd.postgres.settings import rows_encoding
from backupd.postgres.source.exported import ExportedSnapshot, Holder, connect_beside, hold
from backupd.postgres.source.facts import SourceFacts, divide_facts, read_facts, read_sequences, require_same_labels
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.source.preflight import preflight
from backupd.postgres.source.waiters import giving_way
from backupd.rows.pool import WorkerPool
from backupd.rows.protocol import BytesTask, CommandTask, Setup
from backupd.trace import PhaseDone, PhaseStarted, Warned

if TYPE_CHECKING:
    from backupd.operations.backup.collect import RunTarget
    from backupd.operations.backup.types import BackupJob, Node

PENDING_LIMIT = 52 << 20
"""Bytes of rows that all workers together hold: with this, a backup of 500 tenants takes less than 200 MB in all."""
PACK_SIZE = 8 << 20
"""Bytes of finished sections that make a pack, which so has less than twice as many."""


def read_database(
    job: BackupJob, node: Node, held: HeldSource, spool: Path, onto: RunTarget
) -> tuple[Reading, SegmentClosing]:
    """Read everything, let the exported snapshot go, and end every segment; packs may still be on their way then.

    Raises SourceError and its subclasses, UnmappedError, SpoolFullError, DamageError, and what stopped the uploader.
    """
    source, holder, inventory = held.source, held.holder, held.inventory
    exported = holder.exported
    mapping = map_tables(job.tenancy, inventory)
    require_mapped(mapping)
    names = NamePatterns(job.tenancy, exported.database)
    collector = Collector(onto, node.spool_size, SpanLog(spool / "spans"))
    if names.whole is not None and onto.names.of(STRUCTURE, names.whole) is None:
        raise RefusedError(
            "the database of a tenant that was purged is still there; it was not backed up",
            hint="The application has not purged it. `backupd tenant list` shows who is past the date.",
        )
    programs = find_programs(source.client_folders, exported.version)
    with client(programs, holder.parameters()) as started, ExitStack() as watched:
        waiters = watched.enter_context(giving_way(source, holder, node.lock_timeout, node.clock.monotonic))
        setups = _setups(node, started, exported, spool, onto)
        unread = Unread(job, node, onto, exported.database)
        decisions = unread.prepare(held.look, (source, holder, inventory))
        tables = _tasks(mapping, held, onto, cut=unread.remembers)
        last = read_last_times(node.state, job.label)
        wanted = unread.divide(tables, decisions, collector)
        size = sum(_size(task) for task in wanted)
        numbering = numbering_of(onto, exported.database, "ddl")
        node.trace.emit(PhaseStarted(READING, job.label, size, expected=last.reading if last is not None else None))
        collector.begin(node.trace, job.label, waiters.check)
        collector.listener = unread.take
        with WorkerPool(setups, _worker_environment(node), collector) as pool:
            try:
                files = _read_all(pool, wanted, _Files(started, holder, names, job, mapping, len(tables), numbering))
                pool.run(unread.files(files, decisions, collector))
                ranking = numbering_of(onto, exported.database, "refresh")
                facts = _read_facts(source, holder, names, ranking)
                reading = Reading(
                    exported, mapping, inventory, names, collector, facts, job.tenancy.kind, tables, unread, files
                )
                closing = SegmentClosing(SegmentEntries(reading, onto), collector, onto, setups[0], unread.unchanged)
                pool.run(meetings(closing.unmet(), tables))
            except SourceError:
                waiters.check()  # when we gave way, or the server went away, that error
                holder.check()  # is raised, not the one it caused in a program
                raise
            holder.check()
            pool.release()
            holder.release()
            collector.unlocked()
            watched.close()
            reading.held_seconds = node.clock.monotonic() - held.since
            node.trace.emit(PhaseDone(READING, job.label, reading.held_seconds))
            _check_sums(reading)
            pool.close_segments(closing.closings())
            pool.finish()
    return reading, closing


def _tasks(mapping: TenancyMap, held: HeldSource, onto: RunTarget, *, cut: bool) -> list[TableTask]:
    """Return the tasks that read all rows; `cut` is whether tables are cut into extents."""
    database = held.holder.exported.database
    extent_of = _extent_keeper(onto, database) if cut else None
    tasks = plan_tasks(mapping.tables, held.inventory.by_name(), _mask_keeper(onto, database), extent_of)
    encoding = held.holder.connection.info.parameter_status("server_encoding") or "UTF8"
    return in_encoding(tasks, rows_encoding(encoding))


@dataclass(frozen=True, slots=True)
class _Files:
    client: Client
    holder: Holder
    names: NamePatterns
    job: BackupJob
    mapping: TenancyMap
    first: int
    """The first number of a task that is no table's."""
    numbering: Numbering
    """That of the schema's entries."""


def _read_all(pool: WorkerPool, tables: list[TableTask], wanted: _Files) -> list[FileTask]:
    """Read the rows and return the files; meanwhile pg_dump reads the schema, on a connection of its own."""
    with ThreadPoolExecutor(1, thread_name_prefix="schema") as executor:
        schema = executor.submit(dump_schema, wanted.client, wanted.holder.exported, wanted.names, wanted.numbering)
        try:
            pool.run(stretches(tables))
            globals_ = dump_globals(wanted.client, wanted.holder.connection, wanted.names)
        except BaseException:
            wanted.holder.end_readers()  # pg_dump, too, which would be waited for while others wait for the tables
            raise
        ddl = schema.result()
    return _files(ddl, globals_, wanted)


def _read_facts(
    source: Source, holder: Holder, names: NamePatterns, numbering: Numbering
) -> dict[str | None, SourceFacts]:
    with connect_beside(source, holder) as free:
        sequences = read_sequences(holder.connection, free)
        require_same_labels(holder.connection, free)
    with translated():
        return divide_facts(read_facts(holder.connection), sequences, names, numbering)


def _files(ddl: Ddl, globals_: dict[str | None, str], wanted: _Files) -> list[FileTask]:
    owner, first = wanted.names.whole, wanted.first
    found: list[tuple[str, str | None, bytes]] = [("ddl-head", owner, ddl.head)]
    found += [("ddl", tenant, data) for tenant, data in sorted(ddl.entries.items(), key=lambda pair: pair[0] or "")]
    found += [
        ("globals", owner if tenant is None else tenant, text.encode(errors="surrogateescape"))
        for tenant, text in sorted(globals_.items(), key=lambda pair: pair[0] or "")
    ]
    files = [
        FileTask(name, BytesTask(first + place, STRUCTURE, tenant, data))
        for place, (name, tenant, data) in enumerate(found)
    ]
    command = large_objects_command(wanted.client, wanted.holder.connection, wanted.holder.exported)
    data_class = wanted.job.tenancy.default_class
    if command is not None and wanted.job.tenancy.classes[data_class] is not ClassPolicy.NEVER:
        files.append(FileTask("large-objects", CommandTask(first + len(files), data_class, owner, command)))
    return files


def _setups(node: Node, started: Client, exported: ExportedSnapshot, spool: Path, onto: RunTarget) -> list[Setup]:
    generation, names = onto.generation, onto.names
    known = str(onto.index.path) if onto.index.has_chunks() else None
    return [
        Setup(
            number=number,
            workers=node.workers,
            repository=generation.repository,
            region=names.tags.region,
            generation=generation.id,
            database=names.database,
            chunk_key=generation.chunk_key,
            tenant_key=names.tags.key,
            own_clocks=sorted(names.own_clocks),
            incarnations=dict(names.incarnations),
            last_section=onto.index.last_number(),
            compression_level=node.compression_level,
            spool=str(spool),
            index=known,
            psql=started.command("psql"),
            environment=dict(started.environment),
            preamble=exported.preamble().rstrip().rstrip(";"),
            pending_limit=PENDING_LIMIT // node.workers,
            open_limit=node.spool_size // (2 * node.workers),
            pack_size=PACK_SIZE,
        )
        for number in range(node.workers)
    ]


def _mask_keeper(onto: RunTarget, database: str) -> Callable[[MappedTable, int], int]:
    """Return a function that keeps a table's first mask: chunks must be cut alike throughout a generation."""

    def mask_of(mapped: MappedTable, usual: int) -> int:
        tag = keyed_tag(onto.generation, "table", database, mapped.table.schema, mapped.table.table)
        kept = onto.index.mask(tag)
        if kept is None:
            onto.index.set_mask(tag, usual)
            return usual
        return kept

    return mask_of


def _extent_keeper(onto: RunTarget, database: str) -> Callable[[MappedTable, int], int]:
    """Return a function that keeps the size of a table's extents as long as they do not become too many."""

    def extent_of(mapped: MappedTable, usual: int) -> int:
        tag = keyed_tag(onto.generation, "extents", database, mapped.table.schema, mapped.table.table)
        kept = onto.index.extents.extent_blocks(tag)
        if kept is None or usual > 2 * kept:
            onto.index.extents.set_extent_blocks(tag, usual)
            return usual
        return kept

    return extent_of


def _check_sums(reading: Reading) -> None:
    """Raise SourceError unless every row that PostgreSQL sent is in exactly one segment."""
    for task in reading.tables:
        number = task.copy.task
        tally = reading.collector.tallies.get(number)
        if tally is None or not tally.complete:
            raise SourceError(f"the segments of task {number} do not add up to the rows read")


def _worker_environment(node: Node) -> dict[str, str]:
    kept = ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "TMPDIR")
    # One arena: a worker has three threads, and each arena of its own would keep what the others freed.
    return {**{name: node.environment[name] for name in kept if name in node.environment}, "MALLOC_ARENA_MAX": "1"}


def _size(task: TableTask) -> int:
    return task.blocks * 8192


@dataclass(frozen=True, slots=True)
class HeldSource:
    """A database under an exported snapshot, until its holder releases it."""

    source: Source
    holder: Holder
    inventory: Inventory
    since: float
    """When the export began, by the monotonic clock in seconds."""
    look: Look | Reason | None
    """What the server knows of changed blocks; None where nothing is to be skipped."""


@contextmanager
def held_source(source: Source, job: BackupJob, node: Node) -> Iterator[HeldSource]:
    """Export a snapshot, with its tables locked, of a database whose every row the role may read.

    No other backup of the database begins before the block ends, even after the snapshot was released. Raises
    SourceError naming the first thing that is missing and its cure, RefusedError when the server's clock is not this
    machine's, and what `hold` does.
    """
    pair, columns = before_export(source, job), tenant_columns(job.tenancy)
    since = node.clock.monotonic()
    with ExitStack() as stack:
        before = node.clock.now()
        try:
            holder = stack.enter_context(hold(source, lock_timeout=node.lock_timeout, clock=node.clock))
        except SourceError as error:
            if not error.retryable:
                # Locking needs the very rights that preflight looks for, and PostgreSQL's refusal names no GRANT.
                with connect(source) as connection:
                    inventory = read_inventory(connection, columns)
                    _refuse(preflight(connection, source, inventory, never_read(job.tenancy, inventory)))
            raise
        require_same_time(holder.exported.instant, (before, node.clock.now()), node.clock_tolerance)
        inventory = read_inventory(holder.connection, columns)
        findings = preflight(holder.connection, source, inventory, never_read(job.tenancy, inventory), node.workers)
        _refuse(findings)
        for finding in findings:
            if finding.severity is Severity.WARNING:
                node.trace.emit(Warned(f"{job.label}: {finding.message}", finding.hint, standing=True))
        yield HeldSource(source, holder, inventory, since, look_behind(source, holder, pair, node))


def require_same_time(instant: datetime, between: tuple[datetime, datetime], tolerance: timedelta) -> None:
    """Check that a server's time lies between two of this machine's, or no further away than the tolerance.

    A snapshot's age counts from the server's time: one that is behind would have it expired, and one ahead keeps it
    beyond its date. `backupd manual trust`, row *its clock*. Raises RefusedError.
    """
    off = max(between[0] - instant, instant - between[1])
    if off > tolerance:
        way = "behind" if instant < between[0] else "ahead of"
        raise RefusedError(
            f"the clock of the database's server is {off.total_seconds():.0f} s {way} this machine's",
            hint="Let both follow the same time servers; nothing was backed up, as its age would be wrong.",
        )


def _refuse(findings: Sequence[Finding]) -> None:
    errors = errors_among(findings)
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise SourceError(f"{errors[0].message}{more}", hint=errors[0].hint)
