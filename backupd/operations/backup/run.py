"""Back up one database: the numbered story of DESIGN's flow, from the exported snapshot to the published record.

1. Take the node's lock; look at the repository; continue the generation or start one.
2. Export a snapshot; check the role; take stock; map every table or refuse.
3. Read everything under it: rows, schema, globals, large objects, sequences, facts. Packs ship meanwhile.
4. Let the snapshot go. Finish and ship the packs.
5. Check that every container referred to is on the store; then publish keyrings, parts, and last the record.

A crash at any point leaves the store valid: what was published is remembered and referred to by the next run.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from backupd.catalog.layout import SEGMENTS, keyrings_folder, place_of, record_name, segment_folder
from backupd.catalog.memory.index import Index
from backupd.catalog.repository import signed_record
from backupd.catalog.sending.marks import run_marked
from backupd.catalog.sending.shipping import Shipper
from backupd.catalog.sending.spool import run_folder
from backupd.errors import BusyError, DamageError
from backupd.model.ids import ObjectName, RunId
from backupd.model.instants import stamp
from backupd.model.stored.documents import Record, Totals
from backupd.operations.backup.contents import Contents
from backupd.operations.backup.generation import (
    Segments,
    current_generation,
    digest,
    new_id,
    publish_keyrings,
    settle_keyrings,
)
from backupd.operations.backup.intake import Onto
from backupd.operations.backup.parts import PartBuilder, Placed
from backupd.operations.backup.reading import Reading, read_database
from backupd.operations.backup.source import held_source
from backupd.operations.backup.standing import Standing, read_standing
from backupd.operations.backup.values import BackupReport, Job, Node
from backupd.postgres.connect import elsewhere
from backupd.rows.spill import BySegment
from backupd.seal.containers.frame import Compressor
from backupd.trace import PhaseDone, PhaseStarted, Warned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.catalog.memory.index import Generation
    from backupd.catalog.repository import Repository
    from backupd.model.ids import GenerationId, ObjectHash, SnapshotName
    from backupd.store.base import ObjectInfo

PARTS_IN_FLIGHT = 8 << 20
"""Bytes of parts in memory, sealed and not yet published."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What all steps share."""

    job: Job
    node: Node
    repository: Repository
    index: Index
    generation: Generation
    run: RunId
    shipper: Shipper
    standing: Standing


def backup(job: Job, repository: Repository, node: Node, database: str | None = None) -> BackupReport:
    """Back up one database onto one store; returns when the snapshot is published.

    `database` is the real name of one of several under the job's label (tenancy by database). Raises what its parts do;
    whatever is raised, no record was published.
    """
    started = node.clock.monotonic()
    source = job.source if database is None else elsewhere(job.source, database)
    with ExitStack() as stack:
        index = stack.enter_context(Index.locked(node.state, node.trace))
        generation = current_generation(index, repository, node)
        run = RunId(new_id(node.clock.now(), node.random))
        spool = stack.enter_context(run_folder(node.spool, run))
        stack.enter_context(run_marked(repository.store, generation.id, run, node.clock))
        standing = read_standing(repository, node, job.region)
        shipper = stack.enter_context(Shipper(repository.store, node.shippers))
        context = _Run(job, node, repository, index, generation, run, shipper, standing)
        _forget_removed(context)
        segments = Segments(index, generation, standing, node)
        listing = stack.enter_context(_Listing(context))
        # The right to be the only backup stays until the record is out: who comes next sees that the work is done.
        held = stack.enter_context(held_source(source, job, node))
        reading = read_database(job, node, held, spool, Onto(generation, index, segments, shipper))
        shipper.drain()
        return _publish(context, reading, listing, started)


def _forget_removed(context: _Run) -> None:
    """Bring the index up to what a keeper removed since the last run, so that nothing of it is referred to."""
    index, standing, generation = context.index, context.standing, context.generation.id
    seen = index.settled()
    if standing.removals_since(seen):
        places = (place_of(found.name) for found in context.repository.store.list(keyrings_folder(generation)))
        keyrings = {place.run for place in places if place.run}
        if not index.published_keyrings() <= keyrings:
            index.abandon()
            raise BusyError(f"generation {generation} was expired as a whole", hint="The next run begins a new one.")
        settle_keyrings(index, keyrings, standing, generation)
        index.forget_segments(standing.purged(generation))
        there = {place_of(found.name).sha256 for found in _containers(context.repository, generation)}
        index.forget([one.number for one in index.all_containers() if one.sha256 not in there])
    index.settle(standing.head.seq)


def _containers(repository: Repository, generation: GenerationId) -> Iterator[ObjectInfo]:
    return repository.store.list(ObjectName(f"{SEGMENTS}/{generation}"))


def _publish(context: _Run, reading: Reading, listing: _Listing, started: float) -> BackupReport:
    node, phase = context.node, "publishing"
    left_out = sum(reading.intake.left_out.values())
    if left_out:
        node.trace.emit(
            Warned(
                f"{left_out} rows of tenants that were purged are still in the database; they were not backed up",
                hint="The application has not purged them. `backupd tenant list` shows who is past the date.",
            )
        )
    node.trace.emit(PhaseStarted(phase, context.job.label, len(reading.intake.gathered), "objects"))
    begun = node.clock.monotonic()
    # Before the keyrings: a segment that has nothing but an empty table gets its key here.
    contents = Contents(reading)
    publish_keyrings(context.index, context.repository, context.generation, node.signer)
    placed = _place_parts(context, reading, contents)
    context.shipper.drain()
    listing.check(context, placed)
    record = _record(context, reading, placed)
    snapshot = _publish_record(context, record)
    node.trace.emit(PhaseDone(phase, context.job.label, node.clock.monotonic() - begun))
    return BackupReport(
        snapshot=snapshot,
        label=context.job.label,
        exported=record.exported,
        generation=context.generation.id,
        tables=record.totals.tables,
        segments=len(placed),
        rows=record.totals.rows,
        left_out=left_out,
        read=reading.intake.read,
        new=reading.intake.new,
        sent=context.shipper.sent,
        objects=context.shipper.objects,
        held_seconds=reading.held_seconds,
        seconds=node.clock.monotonic() - started,
    )


def _place_parts(context: _Run, reading: Reading, contents: Contents) -> list[Placed]:
    compressor = Compressor(context.node.compression_level)
    builder = PartBuilder(context.generation, context.index, compressor, reading.intake)
    spilled = BySegment(reading.intake.spills)
    placed = []
    for pseudonym, keyed in sorted(reading.intake.gathered.items()):
        entries = contents.entries(keyed, reading.intake.spans.of(pseudonym))
        if not entries:
            continue
        one = builder.place(keyed, entries, spilled.of(pseudonym))
        placed.append(replace(one, parcel=None))  # what is shipped leaves memory
        if one.parcel is not None:
            context.shipper.ship(one.parcel)
            while context.shipper.spooled > PARTS_IN_FLIGHT:
                context.shipper.check()
                context.node.clock.sleep(0.005)
    return placed


def _record(context: _Run, reading: Reading, placed: list[Placed]) -> Record:
    needed = frozenset().union(*(one.needs for one in placed)) | {one.part.number for one in placed}
    stored = sum(container.size for container in context.index.containers(sorted(needed)).values())
    exported = reading.exported
    return Record(
        repository=context.generation.repository,
        region=context.job.region,
        generation=context.generation.id,
        run=context.run,
        database=context.job.label,
        member=reading.member(lambda name: digest(context.generation.chunk_key, name.encode()).hex()[:16]),
        exported=stamp(exported.instant),
        published=stamp(context.node.clock.now()),
        server=exported.version,
        previous=_previous(context),
        ledger=context.standing.head,
        parts=[(one.part.pseudonym, one.part.sha256, one.part.size) for one in placed],
        totals=Totals(
            tables=reading.table_count,
            rows=sum(map(reading.intake.kept, reading.intake.rows)),
            bytes=reading.copied,
            stored=stored,
            added=context.shipper.sent,
        ),
    )


def _publish_record(context: _Run, record: Record) -> SnapshotName:
    """From then on the snapshot exists. Its name is remembered first, so that the chain has no gap after a crash."""
    snapshot, data = signed_record(record, context.node.signer)
    context.index.begin_record(snapshot, record.generation)
    context.repository.put_record(record, data)
    context.index.record_published(snapshot)
    return snapshot


def _previous(context: _Run) -> SnapshotName | None:
    """The record this node wrote last, also when it never learnt that it had."""
    for snapshot, generation, published in context.index.last_records():
        if published or context.repository.store.stat(record_name(generation, snapshot)) is not None:
            return snapshot
    return None


class _Listing:
    """Lists the generation's objects while rows are read, so that a record never refers to what somebody removed.

    An object found missing is forgotten by the index, so that the next run sends its content again.
    """

    def __init__(self, context: _Run) -> None:
        self._context = context
        self._known = context.index.last_number()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="listing")
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._future = self._pool.submit(self._list)
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def check(self, context: _Run, placed: list[Placed]) -> None:
        """Raise DamageError when a container from earlier runs, needed now, is not on the store whole."""
        numbers = sorted({n for one in placed for n in (*one.needs, one.part.number) if n <= self._known})
        found = self._future.result()
        lost = [one for one in context.index.containers(numbers).values() if found.get(one.sha256) != one.size]
        if not lost:
            return
        context.index.forget(one.number for one in lost)
        raise DamageError(
            f"{len(lost)} object(s) of earlier runs are no longer on the store, the first is "
            f"'{segment_folder(context.generation.id, lost[0].pseudonym)}/{lost[0].sha256}'",
            hint="Run `backupd verify` to see which snapshots this damages; the next backup sends the content again.",
        )

    def _list(self) -> dict[ObjectHash, int]:
        if not self._known:
            return {}
        found: dict[ObjectHash, int] = {}
        for listed in _containers(self._context.repository, self._context.generation.id):
            sha256 = place_of(listed.name).sha256
            if sha256 is not None:
                found[sha256] = listed.size
            if self._stop.is_set():
                break
        return found
