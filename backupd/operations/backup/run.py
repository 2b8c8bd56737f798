"""Back up one database, from the exported snapshot to the published record:

1. Take the node's lock; compare what earlier runs left with the store; continue the generation or start one.
2. Export a snapshot; check the role; read the catalog; map every table or refuse.
3. Read everything under it: rows, schema, globals, large objects, sequences, facts. Keyrings and packs ship meanwhile.
4. Let the snapshot go. End every segment with its manifest; ship the last packs.
5. Check that all that is referred to is on the store; publish the record last.

A crash at any point leaves the store valid: what was published is remembered and referred to by the next run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from backupd.model.answers import BackupReport
from backupd.model.documents import HANDED, MARK, MOST_HANDED, Record, Totals
from backupd.model.ids import RegionName, RunId, SnapshotName
from backupd.model.text import counted, stamp
from backupd.operations.backup.closing import SegmentClosing
from backupd.operations.backup.collect import RunTarget
from backupd.operations.backup.generation import (
    LedgerStanding,
    current_generation,
    digest,
    keyed_tag,
    new_generation,
    new_id,
    read_standing,
)
from backupd.operations.backup.keyrings import RunKeyrings
from backupd.operations.backup.last_times import LastTimes, keep_last_times, read_last_times
from backupd.operations.backup.needed import SectionsNeeded
from backupd.operations.backup.read import held_source, read_database
from backupd.operations.backup.source_content import Reading
from backupd.operations.backup.stored_objects import Ground, HoldingsWatch, settle
from backupd.operations.backup.types import BackupJob, Node
from backupd.operations.phases import Phases
from backupd.operations.tenant_key import check_tenant_key
from backupd.postgres.connect import other_database
from backupd.repository.layout import RECORDS, place_of
from backupd.repository.marks import RunMark, run_marked
from backupd.repository.repository import Repository, signed_record
from backupd.repository.state.index import Index
from backupd.repository.uploader import Uploader, run_folder
from backupd.store.base import StoreView
from backupd.store.handoff import HandoffStore
from backupd.trace import Progress, Warned

PUBLISHING = "publishing"


@dataclass(frozen=True, slots=True)
class _Run:
    """Values that all steps of one run share."""

    job: BackupJob
    ground: Ground
    mark: RunMark
    uploader: Uploader
    standing: LedgerStanding
    missing: int
    """Objects of earlier runs that were no longer on the store."""
    still_marked: Callable[[], None]
    """Raises BusyError when keepers will soon count the run as killed."""


def backup(job: BackupJob, repository: Repository, node: Node, database: str | None = None) -> BackupReport:
    """Back up one database onto one store; returns when the snapshot is published.

    `database` is the real name of one of several under the job's label (tenancy by database). Raises the errors of the
    source, the store and the spool; no record was published then.
    """
    started = node.clock.monotonic()
    source = job.source if database is None else other_database(job.source, database)
    with ExitStack() as stack:
        index = stack.enter_context(Index.locked(node.state, node.trace))
        run = RunId(new_id(node.clock.now(), node.random))
        spool = stack.enter_context(run_folder(node.spool, run))
        ground = Ground(index, repository, current_generation(index, repository, node), node)
        mark = RunMark.drawn(run, node.random)
        ground, standing, missing, still_marked = begin_run(ground, job.region, mark, stack)
        uploader = stack.enter_context(Uploader(repository.store, node.uploaders))
        context = _Run(job, ground, mark, uploader, standing, missing, still_marked)
        watch = stack.enter_context(HoldingsWatch(ground, standing))
        # No other backup of the database begins before the record is out: the next one sees that the work is done.
        held = stack.enter_context(held_source(source, job, node))
        reading, closing = read_database(job, node, held, spool, _target(context, held.holder.exported.database))
        return _publish(context, reading, closing, watch, started)


def _target(context: _Run, database: str) -> RunTarget:
    ground, standing = context.ground, context.standing
    keyrings = RunKeyrings(ground.repository, ground.generation, standing.region, database, ground.node)
    names = standing.names(ground.generation.id, database)
    return RunTarget(ground.generation, ground.index, names, keyrings, context.uploader, context.still_marked)


def begin_run(
    ground: Ground, region: RegionName, mark: RunMark, stack: ExitStack
) -> tuple[Ground, LedgerStanding, int, Callable[[], None]]:
    """Mark a generation as being added to by this run, with an index that relies on nothing the store does not hold.

    Returns also the ledger's standing, how many objects were missing (when any were, the generation is a new one), and
    the mark's check, to be called as long as the run relies on anything.
    Marks stay until `stack` unwinds. Raises what the store does, DamageError when the ledger there is not the one this
    node knows.
    """
    index, repository, node = ground.index, ground.repository, ground.node
    still_marked = stack.enter_context(run_marked(repository.store, ground.generation.id, mark, node.clock))
    _compare_tenant_key(ground)
    standing, ended = settle(ground, read_standing(repository, node, region))
    if ended is not None:
        ground = replace(ground, generation=new_generation(index, repository, node))
        still_marked = stack.enter_context(run_marked(repository.store, ground.generation.id, mark, node.clock))
    index.runs.set_ledger_seq(standing.head.seq)
    if ended:
        node.trace.emit(
            Warned(
                f"the store lacks {ended} of generation {ended.generation}, whole or in part, and no ledger says why; "
                f"the first is '{ended.first}'",
                "This backup is a full copy that needs none of it. `backupd verify` says which older snapshots do; ask "
                "the store's operator what happened to it.",
            )
        )
    return ground, standing, len(ended or ()), still_marked


def _compare_tenant_key(ground: Ground) -> None:
    """Refuse another tenant key than the repository's; once it was compared, the index knows it."""
    runs, tags = ground.index.runs, ground.node.tags
    tag = keyed_tag(ground.generation, "tenant key", tags.key.hex())
    if not runs.knows_tenant_key(tag):
        check_tenant_key(ground.repository, tags)
        runs.note_tenant_key(tag)


def _publish(
    context: _Run, reading: Reading, closing: SegmentClosing, watch: HoldingsWatch, started: float
) -> BackupReport:
    node = context.ground.node
    left_out = sum(tally.left_out for tally in reading.collector.tallies.values())
    if left_out:
        node.trace.emit(
            Warned(
                f"{context.job.label}: {counted(left_out, 'row')} of purged tenants in the database, not backed up",
                hint="The application has not deleted them. `backupd tenant list` shows who is past the date.",
                standing=True,
            )
        )
    last = read_last_times(node.state, context.job.label)
    expected, waiting = last.publishing if last is not None else None, context.uploader.spooled
    phases = Phases(node.clock, node.trace, context.job.label)
    with phases.phase(PUBLISHING, waiting or None, expected=expected):
        context.uploader.drain(lambda: _say_what_is_left(context, phases, waiting))
        rows, structure = closing.needed()
        needed = rows.with_those(structure)
        context.still_marked()
        watch.check(needed.packs_needed())
        record = _record(context, reading, needed)
        snapshot = _publish_record(context, record)
        reading.unread.published(reading.collector.tallies, rows)
    keep_last_times(node.state, context.job.label, LastTimes(reading.held_seconds, phases.seconds()))
    return BackupReport(
        snapshot=snapshot,
        label=context.job.label,
        exported=record.exported,
        generation=context.ground.generation.id,
        tables=record.totals.tables,
        segments=needed.segments,
        rows=record.totals.rows,
        left_out=left_out,
        read=reading.collector.read,
        new=reading.collector.new,
        sent=context.uploader.sent,
        objects=context.uploader.objects,
        held_seconds=reading.held_seconds,
        seconds=node.clock.monotonic() - started,
        missing=context.missing,
        unread=reading.unread.answer(),
    )


def _say_what_is_left(context: _Run, phases: Phases, waiting: int) -> None:
    done = max(0, waiting - context.uploader.spooled)
    phases.emit(Progress(PUBLISHING, bytes_in=done, objects=context.uploader.objects))


def _record(context: _Run, reading: Reading, needed: SectionsNeeded) -> Record:
    exported, generation = reading.exported, context.ground.generation
    previous, handed = _previous(context)
    return Record(
        repository=generation.repository,
        region=context.job.region,
        generation=generation.id,
        run=context.mark.run,
        database=context.job.label,
        member=reading.member(lambda name: digest(generation.chunk_key, name.encode()).hex()[:16]),
        exported=stamp(exported.instant),
        published=stamp(context.ground.node.clock.now()),
        server=exported.version,
        previous=previous,
        ledger=context.standing.head,
        packs=needed.packs(context.ground.index),
        totals=Totals(
            tables=reading.table_count,
            rows=sum(tally.kept for tally in reading.collector.tallies.values()),
            bytes=reading.copied,
            stored=needed.size,
            added=context.uploader.sent,
        ),
        extra={MARK: context.mark.secret, **({HANDED: handed} if handed else {})},
    )


def _publish_record(context: _Run, record: Record) -> SnapshotName:
    """Publish the record, with which the snapshot exists.

    Its name is noted first, so that a crash leaves no gap in the chain.
    """
    snapshot, data = signed_record(record, context.ground.node.signer)
    context.ground.index.runs.begin_record(snapshot, record.generation)
    context.ground.repository.put_record(record, data)
    context.ground.index.runs.record_published(snapshot)
    return snapshot


def _previous(context: _Run) -> tuple[SnapshotName | None, list[SnapshotName]]:
    """Return the record that this node wrote last, even if a crash kept it from learning that it had.

    On a store where nodes only hand in, it is the newest record that was ingested: another may never be, and would be
    missing for good. Those that were handed in since come with it, oldest first.
    """
    index, store = context.ground.index, context.ground.repository.store
    if isinstance(store, HandoffStore):
        taken, names = _recorded(store.vault), index.runs.record_names()
        newest = next((at for at, snapshot in enumerate(names) if snapshot in taken), len(names))
        return next(iter(names[newest:]), None), names[: min(newest, MOST_HANDED)][::-1]
    last = index.runs.last_records()
    if last and last[0][2]:
        return last[0][0], []
    # Each run that was cut off at its record left a name: one listing, however many there are.
    there = _recorded(store) if last else set()
    return next((snapshot for snapshot, _, published in last if published or snapshot in there), None), []


def _recorded(view: StoreView) -> set[SnapshotName | None]:
    """Return the names of all records that the store shows."""
    return {place_of(found.name).snapshot for found in view.list(RECORDS)}
