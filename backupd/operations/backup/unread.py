"""Take extents over unread, by the server's WAL summaries and what the index remembers; or read and compare (an audit).

The order is: a checkpoint before the snapshot is exported, so that the next run's window begins close to it; the
export; a checkpoint behind it, and a look at the summaries; the decision for each extent; the reading of the others;
and, after the record is published, the memory for the next run. Anything that is missing on the way makes the run read.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from backupd.errors import RefusedError
from backupd.model.answers import UnreadAnswer
from backupd.model.inventory import Inventory, Table, TableName
from backupd.model.text import counted
from backupd.operations.backup.collect import TaskTally
from backupd.operations.backup.generation import keyed_tag
from backupd.operations.backup.ways import Ways
from backupd.planning.incremental.extents import form, identity, why_led_elsewhere, why_never, why_read
from backupd.planning.incremental.facts import OBSTACLES, Base, BlockChanges, Look, Reason, TableFacts, WalPair
from backupd.planning.incremental.waypoints import WayChange, Waypoint, is_worth_a_look, waypoints
from backupd.planning.incremental.window import find_window, next_base
from backupd.postgres.connect import connect
from backupd.postgres.failures import translated
from backupd.postgres.schema.dump import has_large_objects
from backupd.postgres.settings import TEXT
from backupd.postgres.source.exported import Holder, connect_beside
from backupd.postgres.source.wal_summaries import (
    LookLimit,
    find_obstacle,
    look_at,
    note_checkpoint,
    read_changes,
    read_table_facts,
)
from backupd.postgres.source.waypoints import Seeds
from backupd.repository.state.extents import AuditState, LastUnread, RememberedExtent, RememberedSnapshot
from backupd.rows.protocol import BytesTask, TaskDone, unpack_span
from backupd.trace import Warned

if TYPE_CHECKING:
    from backupd.operations.backup.collect import Collector, RunTarget
    from backupd.operations.backup.needed import SectionsNeeded
    from backupd.operations.backup.tasks import FileTask, TableTask
    from backupd.operations.backup.types import BackupJob, Node
    from backupd.postgres.connect import Source
    from backupd.rows.protocol import Task
    from backupd.rows.segment_names import SegmentNames

_FORM = 1
"""Version of what is remembered of an extent: one of another version is not found."""
_TOGETHER = b"2"
"""Version of what is remembered of all extents together."""
_PLACE = 16
"""Bytes of an extent's identity in the index."""
BLOCK = 8192
"""Bytes of a heap block."""
_NAMED = 3
"""Differences that a warning names."""


_AFTER_DIFFERENCE = (
    "Report it, with the server's version; `backupd backup --audit` ends this when it finds no difference."
)


class ExtentDifference(NamedTuple):
    """An extent that an audit found to differ from what skipping would have given."""

    oid: int
    block: int


def before_export(source: Source, job: BackupJob) -> WalPair | Reason | None:
    """Force a checkpoint, so that few changes are looked for by the next run; return its pair, or why there is none.

    None where nothing is to be skipped. Raises RefusedError where the job requires what the server cannot do.
    """
    if job.incremental == "off":
        return None
    with connect(source) as connection:
        pair = find_obstacle(connection) or note_checkpoint(connection)
    if isinstance(pair, Reason) and job.incremental == "require":
        raise RefusedError(
            f'nothing can be skipped, as incremental = "require" asks for: {pair.value}',
            hint="`backupd config check --connect` names the statements that help.",
        )
    return pair


def look_behind(source: Source, holder: Holder, before: WalPair | Reason | None, node: Node) -> Look | Reason | None:
    """Look at the server behind the exported snapshot; see `before_export`."""
    if not isinstance(before, WalPair):
        return before
    with connect_beside(source, holder) as beside:
        return look_at(holder.connection, beside, [before], LookLimit(node.lock_timeout, node.clock))


class Unread:
    """The extents of one run: those taken over, and those read to be remembered. For one thread."""

    def __init__(self, job: BackupJob, node: Node, onto: RunTarget, database: str) -> None:
        self._job, self._node, self._onto = job, node, onto
        self._memory = onto.index.extents
        self._database = keyed_tag(onto.generation, "database", job.label, database)
        self._routing = self._place([job.label, *_routing(onto.names)]).hex()
        self._places: dict[int, bytes] = {}
        """The identity of each extent that is read and may be remembered, by its task."""
        self._all: dict[int, bytes] = {}
        """The same of every extent, by its task; without those that are read always."""
        self._compared: dict[int, tuple[bytes, ExtentDifference]] = {}
        """The extents that an audit compares, by their tasks."""
        self._always = False
        """Whether something is read however little has changed."""
        self._next: Base | None = None
        self._reasons: Counter[Reason] = Counter()
        self._taken = self._blocks = 0
        self._differences: list[ExtentDifference] = []
        self._audit: AuditState = self._memory.audit(job.label)
        self._reason: Reason | None = None
        self._told = False
        self._rows_alone = False
        """Whether the database has nothing but rows and structure: then what its rows need may be remembered as one."""
        self.unchanged: RememberedSnapshot | None = None
        """What the last snapshot needs of everything but structure, where all extents are as they were."""

    @property
    def remembers(self) -> bool:
        """True when what is read is worth remembering, so that tables are to be cut into extents."""
        return self._next is not None

    def prepare(self, look: Look | Reason | None, held: tuple[Source, Holder, Inventory]) -> Decisions | None:
        """Return the means to decide about extents; None where everything is read and nothing remembered."""
        self._memory.begin(self._database)
        if not isinstance(look, Look):
            self._reason = look
            self._memory.forget(self._database)
            return None
        source, holder, inventory = held
        base = _decoded(self._memory.base(self._database))
        following = next_base(base, look)
        if isinstance(following, Reason):
            self._reason = following
            self._memory.forget(self._database)
            return None
        self._next = following
        window = find_window(base, look)
        changes: BlockChanges | Reason = window if isinstance(window, Reason) else BlockChanges()
        if not isinstance(window, Reason):
            with connect_beside(source, holder) as beside:
                changes = read_changes(beside, window, look.server)
        by_oid = {table.oid: table.name for table in inventory.tables}
        with translated():
            found = read_table_facts(holder.connection, by_oid)
            self._rows_alone = not has_large_objects(holder.connection)
        mode = self._mode()
        self._reason = changes if isinstance(changes, Reason) else mode
        if mode is Reason.DISTRUSTED:
            self._node.trace.emit(Warned(f"{self._job.label}: everything is read: {mode.value}", _AFTER_DIFFERENCE))
        facts = {by_oid[oid]: one for oid, one in found.items()}
        ways = Ways(holder.connection, self._memory, self._database, self._seeds())
        return Decisions(facts, changes, mode, inventory.by_name(), ways)

    def _mode(self) -> Reason | None:
        """Return why extents are read that could be skipped."""
        age = self._node.clock.now().timestamp() - self._audit.audited
        due = bool(self._audit.audited) and not 0 <= age < self._job.audit_every.total_seconds()
        if self._job.audit_now or (due and not self._audit.distrusted):
            return Reason.AUDIT
        return Reason.DISTRUSTED if self._audit.distrusted else None

    def divide(self, tasks: Iterable[TableTask], decisions: Decisions | None, collector: Collector) -> list[TableTask]:
        """Return the tasks whose rows have to be read; the others are taken over into the collector."""
        if decisions is None:
            return list(tasks)
        left = []
        extents = [self._extent(task, decisions) for task in tasks]
        led = self._led(extents, decisions)
        if self._as_before(extents, led, decisions, collector):
            return []
        with self._onto.index.transaction():
            for extent in extents:
                reason = self._why(extent, decisions, led, collector)
                if reason is not None:
                    self._reasons[reason] += 1
                    left.append(extent.task)
        return left

    def _extent(self, task: TableTask, decisions: Decisions) -> _Extent:
        """Return what speaks for reading an extent, apart from the rows that lead to its tenants."""
        table, mapped, facts, changes = task.table, task.mapped, decisions.facts, decisions.changes
        never = why_never(table, mapped, facts)
        if never is not None:
            self._always = True
            return _Extent(task, None, never)
        # Whatever is read this time may be taken over the next time.
        place = self._place(identity(self._reading(task), mapped, table, facts))
        self._places[task.copy.task] = self._all[task.copy.task] = place
        if isinstance(changes, Reason):
            return _Extent(task, place, changes)
        remembered = self._memory.has(place)
        return _Extent(task, place, why_read(task.extent, facts[table.name], changes, remembered=remembered))

    def _as_before(
        self, extents: Sequence[_Extent], led: Mapping[Waypoint, WayChange], decisions: Decisions, collector: Collector
    ) -> bool:
        """Take all extents over at once, where none is to be read: no segment is looked into, however many there are.

        Returns whether that was possible.
        """
        if not self._rows_alone or decisions.mode is not None or any(extent.reason is not None for extent in extents):
            return False
        for extent in extents:
            changes = [led.get(waypoint, WayChange.UNKNOWN) for waypoint in waypoints(extent.task.mapped.route)]
            if why_led_elsewhere(changes, homeless=True) is not None:
                return False
        found, order = self._memory.snapshot(self._database), self._order()
        if found is None or found.places != self._digest(order):
            return False
        self.unchanged = found
        collector.as_before({task: TaskTally(*tally) for task, tally in zip(order, found.tallies, strict=True)})
        self._taken, self._blocks = len(extents), sum(extent.task.blocks for extent in extents)
        return True

    def _order(self) -> list[int]:
        """Return the tasks of all extents in the order of their identities."""
        return sorted(self._all, key=self._all.__getitem__)

    def _digest(self, order: Sequence[int]) -> bytes:
        return hashlib.sha256(_TOGETHER + b"".join(self._all[task] for task in order)).digest()

    def _led(self, extents: Sequence[_Extent], decisions: Decisions) -> dict[Waypoint, WayChange]:
        """Return what became of the rows that lead others to their tenants."""
        blocks: Counter[Waypoint] = Counter()
        for extent in extents:
            # What is read for another reason than its own rows may be left unread the next time, if the sums are known.
            if extent.place is not None and extent.reason is not Reason.CHANGED:
                blocks.update(dict.fromkeys(waypoints(extent.task.mapped.route), extent.task.blocks))
        found = {}
        for waypoint, unread in blocks.items():
            table, facts = decisions.tables[waypoint.table], decisions.facts[waypoint.table]
            if is_worth_a_look(unread, table.blocks, facts.file, decisions.changes):
                place = self._place([_FORM, self._routing, "way", *waypoint, form(facts)])
                found[waypoint] = decisions.ways.look(waypoint, place, table, facts.file, decisions.changes)
        return found

    def _why(
        self, extent: _Extent, decisions: Decisions, led: Mapping[Waypoint, WayChange], collector: Collector
    ) -> Reason | None:
        task = extent.task
        if extent.reason is not None or extent.place is None:
            return extent.reason
        # One after the other, and only now: of a terabyte, all together would not fit into memory.
        found = self._memory.find(extent.place)
        if found is None:
            return Reason.NOTHING_REMEMBERED
        changes = [led.get(waypoint, WayChange.UNKNOWN) for waypoint in waypoints(task.mapped.route)]
        homeless = WayChange.MORE in changes and self._has_homeless(task.mapped.data_class, found)
        reason = why_led_elsewhere(changes, homeless=homeless)
        if reason is not None:
            return reason
        if decisions.mode is not None:
            if decisions.mode is Reason.AUDIT:
                self._compared[task.copy.task] = extent.place, ExtentDifference(task.table.oid, task.extent.start)
            return decisions.mode
        self._take_over(task, extent.place, found, collector)
        return None

    def _has_homeless(self, data_class: str, found: RememberedExtent) -> bool:
        """Check whether rows of a remembered extent had no tenant."""
        nobody = self._onto.names.of(data_class, None)
        return nobody is None or any(pseudonym == nobody.pseudonym for pseudonym, _ in found.spans)

    def _take_over(self, task: TableTask, place: bytes, found: RememberedExtent, collector: Collector) -> None:
        del self._places[task.copy.task]
        self._memory.keep(self._database, place)
        collector.taken_over(TaskDone(task.copy.task, found.rows, found.spans, 0))
        self._taken += 1
        self._blocks += task.blocks

    def files(self, files: Sequence[FileTask], decisions: Decisions | None, collector: Collector) -> list[Task]:
        """Return the tasks of files that have to be stored; those that a backup has stored before are taken over."""
        left: list[Task] = []
        for file in files:
            task = file.task
            if decisions is not None and isinstance(task, BytesTask):
                content = hashlib.sha256(task.data).hexdigest()
                place = self._place([_FORM, self._routing, "file", file.name, task.data_class, task.tenant, content])
                found = self._memory.find(place) if decisions.mode is None else None
                if found is not None:
                    self._memory.keep(self._database, place)
                    collector.taken_over(TaskDone(task.task, 0, found.spans, 0))
                    continue
                self._places[task.task] = place
            left.append(task)
        return left

    def take(self, done: TaskDone) -> None:
        """Note what a worker has read, and compare it where this run is an audit."""
        place = self._places.pop(done.task, None)
        if place is None:
            return
        compared = self._compared.get(done.task)
        if compared is not None:
            before = self._memory.find(compared[0])
            if before is None or _content(before.spans) != _content(done.spans):
                self._differences.append(compared[1])
        self._memory.note(self._database, place, done.rows, done.spans)

    def published(self, tallies: Mapping[int, TaskTally], needed: SectionsNeeded) -> None:
        """Remember what this run has read and taken over; its record is published.

        `needed` is what it needs of everything but structure.
        """
        self._note_last()
        if self._next is None:
            return
        base = msgspec.msgpack.encode(self._next)
        if self.unchanged is not None:
            self._memory.remember_all(self._database, base, replace(self.unchanged, base=base))
        else:
            self._memory.remember(self._database, base, self._snapshot(base, tallies, needed))
        now = self._node.clock.now().timestamp()
        if self._differences:
            self._memory.set_audit(self._job.label, AuditState(now, distrusted=True))
            self._warn()
        elif self._compared or not self._audit.audited:
            # Comparing without a difference ends a distrust only where a person asked for it.
            distrusted = self._audit.distrusted and not (self._job.audit_now and self._compared)
            self._memory.set_audit(self._job.label, AuditState(now, distrusted))

    def _snapshot(
        self, base: bytes, tallies: Mapping[int, TaskTally], needed: SectionsNeeded
    ) -> RememberedSnapshot | None:
        """Return what the next run takes over if nothing changes; None where something is read always."""
        if not self._rows_alone or self._always:
            return None
        order = self._order()
        some = [astuple(tallies[task]) for task in order]
        return RememberedSnapshot(base, self._digest(order), some, needed.segments, needed.by_pack(), needed.size)

    def _note_last(self) -> None:
        """Note what `status` says, and whether people know of an obstacle already."""
        if self._job.incremental == "off":
            self._memory.set_last(self._job.label, None)
            return
        reason = "" if self._reason is None else self._reason.value
        last = self._memory.last(self._job.label)
        self._told = self._reason in OBSTACLES and last is not None and last.reason == reason
        self._memory.set_last(self._job.label, LastUnread(self._blocks * BLOCK, reason))

    def answer(self) -> UnreadAnswer:
        """Return what was taken over, and why no more."""
        return UnreadAnswer(
            extents=self._taken,
            bytes=self._blocks * BLOCK,
            reason="" if self._reason is None else self._reason.value,
            told=self._told,
            read={reason.value: count for reason, count in sorted(self._reasons.items())},
            compared=len(self._compared),
            differences=[(one.oid, one.block) for one in self._differences],
        )

    def _warn(self) -> None:
        named = ", ".join(f"oid {oid} from block {block}" for oid, block in self._differences[:_NAMED])
        many = counted(len(self._differences), "extent")
        self._node.trace.emit(
            Warned(
                f"{self._job.label}: other than what would have been skipped: {many} ({named}"
                f"{', …' if len(self._differences) > _NAMED else ''}); nothing is skipped any more",
                hint="Snapshots since the last audit may lack changes; this one was read as a whole. "
                + _AFTER_DIFFERENCE,
            )
        )

    def _reading(self, task: TableTask) -> list[object]:
        copy = task.copy
        how = [copy.sql, copy.data_class, copy.routed, copy.tenant, copy.null_to_shared, copy.mask, copy.hash_join]
        return [_FORM, self._routing, *how, copy.encoding]

    def _seeds(self) -> Seeds:
        secret = hmac.digest(self._onto.generation.chunk_key, b"sums of ways", "sha256")
        return Seeds(*struct.unpack_from("<qq", secret))

    def _place(self, value: list[object]) -> bytes:
        return hmac.digest(self._onto.generation.chunk_key, msgspec.json.encode(value), "sha256")[:_PLACE]


def _routing(names: SegmentNames) -> list[object]:
    """Return what the names of segments follow from, besides data class and tenant, and how text is written."""
    incarnations = sorted((key, list(incarnation)) for key, incarnation in names.incarnations.items())
    own = [names.database, names.tags.region, names.tags.key.hex(), sorted(names.own_clocks)]
    return [*own, incarnations, sorted(TEXT.items())]


@dataclass(frozen=True, slots=True)
class Decisions:
    """The means to decide about extents: facts, changes, and why even unchanged ones are read."""

    facts: Mapping[TableName, TableFacts]
    changes: BlockChanges | Reason
    mode: Reason | None
    tables: Mapping[TableName, Table]
    ways: Ways


class _Extent(NamedTuple):
    """An extent, with what is known of it."""

    task: TableTask
    place: bytes | None
    """Its identity in the index; None where it is always read."""
    reason: Reason | None
    """Why it is read, apart from what became of the rows that lead to its tenants."""


def _decoded(base: bytes | None) -> Base | None:
    try:
        return None if base is None else msgspec.msgpack.decode(base, type=Base)
    except msgspec.MsgspecError:
        return None


def _content(spans: Sequence[tuple[str, bytes]]) -> dict[str, tuple[int, int, bytes]]:
    """Return rows, bytes and digest by segment; where the chunks lie does not matter."""
    found = {}
    for pseudonym, packed in spans:
        span = unpack_span(packed)
        found[pseudonym] = span.rows, span.size, span.sha256
    return found
