"""Copy one generation's snapshots: packs, keyrings, parts, and records last, in the order in which a run adds them. The
ledger is read again meanwhile, and what a purge took too late to be left out is removed from the target.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from backupd.errors import UNSOUND, DamageError
from backupd.model.documents import Record
from backupd.model.ids import GenerationId, ObjectName, Pseudonym, RunId, SnapshotName
from backupd.model.text import parse_stamp
from backupd.operations.backup.generation import new_id
from backupd.operations.keeper.purge import check_shrunk, clear, shred
from backupd.operations.replication.objects import Keyrings
from backupd.parallel import in_parallel
from backupd.planning.ledger_facts import Copies, Explained, explain_absences, explain_copies
from backupd.planning.verify import ContainerKey, Stored
from backupd.repository import layout
from backupd.repository.container_check import ContainerChecker
from backupd.repository.marks import LONGEST_RUN, run_marked
from backupd.repository.repository import Repository
from backupd.repository.state.keyring_cache import KeyringCache

if TYPE_CHECKING:
    from backupd.operations.replication.objects import Copier, Copying, Replication


@dataclass(slots=True)
class _Needs:
    """The containers that records of one generation need, and who needs each."""

    records: dict[SnapshotName, Record] = field(default_factory=dict)
    parts: dict[ContainerKey, set[SnapshotName]] = field(default_factory=dict)
    containers: dict[ContainerKey, set[ContainerKey]] = field(default_factory=dict)
    """Packs and parts that parts name, each with these parts."""

    def drop(self, key: ContainerKey) -> set[SnapshotName]:
        """Forget the records that need a container; returns their names."""
        parts = {key, *self.containers.get(key, ())}
        dropped = {name for part in parts for name in self.parts.get(part, ())}
        for name in dropped:
            self.records.pop(name, None)
        return dropped

    def forget(self, segments: Iterable[Pseudonym]) -> None:
        """Forget these segments: nobody needs them any more."""
        gone = frozenset(segments)
        self.parts = {key: names for key, names in self.parts.items() if key.segment not in gone}
        self.containers = {key: parts for key, parts in self.containers.items() if key.segment not in gone}


class GenerationCopy:
    """The copy of one generation, for one thread.

    As a context manager it marks the target's generation as being added to.
    """

    def __init__(self, copying: Copying, generation: GenerationId, copier: Copier, done: Replication) -> None:
        self._copying = copying
        self._generation = generation
        self._copier = copier
        self._done = done
        self._needs = _Needs()
        self._missing: dict[ContainerKey, str] = {}
        """Containers that the origin does not have whole, and why; the ledger may say that nobody needs them any
        more."""
        self._lost: dict[SnapshotName, str] = {}
        self._marks = ExitStack()
        self._mark_old = 0.0

    def __enter__(self) -> Self:
        if not self._copying.dry_run:
            self._mark()
        return self

    def __exit__(self, *_: object) -> None:
        self._marks.close()

    def run(self, names: Iterable[SnapshotName], there: Iterable[SnapshotName]) -> None:
        """Copy these records with all they need; `there` are records the target has.

        Damage at the origin is noted, and keeps back the records that need it. Raises the stores' errors.
        """
        copying = self._copying
        here = self._explained(copying.origin)
        # 1. What is needed, and what of it is missing at the target.
        listed, sent = self._listed(copying.source), self._listed(copying.sink)
        keyrings = Keyrings(copying, self._generation)
        self._read_records(names, here, keyrings, listed)
        self._read_headers(listed)
        purges = Purges(copying, self._generation)
        self._judge(purges.read())
        wanted = {key: listed[key] for key in self._wanted() if sent.get(key) != listed[key]}
        if copying.dry_run:
            self._report_dry_run(wanted.values())
            return
        # 2. The ledger first: it has to explain what will be missing there, too.
        previous = {name: record.previous for name, record in self._needs.records.items()}
        copies = Copies(self._generation, previous, frozenset(there))
        events = explain_copies(copying.target, copies, here, self._explained(copying.target))
        copying.keeper.book.append(lambda _: events)
        copying.keeper.book.give(copying.target)
        # 3. Packs, keyrings, parts.
        self._copy((key, one) for key, one in wanted.items() if one.kind == "pack")
        for size in keyrings.copy({key.segment for key in self._needs.parts}, purges.read()):
            self._copier.counted(size)
        self._copy((key, one) for key, one in wanted.items() if one.kind == "part")
        for key in sorted({key for key in self._needs.parts if key.segment not in keyrings.keyed}):
            self._lose_key(key, f"no keyring has the key of segment {key.segment}")
        # 4. What a purge or an expiry took meanwhile, on any store, does not stay.
        self._judge(purges.catch_up())
        # 5. Records, after a look that all they need is there.
        self._publish()
        purges.catch_up()

    def _explained(self, store: str) -> Explained:
        return explain_absences(self._copying.keeper.book.chain.entries(), store)

    def _read_records(
        self, names: Iterable[SnapshotName], here: Explained, keyrings: Keyrings, listed: dict[ContainerKey, Stored]
    ) -> None:
        purged = here.purged_in(self._generation)
        classes = keyrings.classes() if here.aged else {}
        for name in names:
            try:
                record = self._copying.source.record(name, self._generation)
            except UNSOUND as error:
                self._lose(name, error.message)
                continue
            exported = parse_stamp(record.exported)
            keys = [
                (ContainerKey(segment, sha256), size)
                for segment, sha256, size in record.parts
                if segment not in purged and not here.is_aged(self._generation, classes.get(segment), exported)
            ]
            self._needs.records[name] = record
            for key, size in keys:
                self._needs.parts.setdefault(key, set()).add(name)
                if key not in listed or listed[key].size != size:
                    self._lose_key(key, f"part '{key.sha256}' of segment {key.segment} is missing, or not whole")

    def _read_headers(self, listed: dict[ContainerKey, Stored]) -> None:
        """Read which containers parts name; a part that cannot be believed counts as missing."""
        copying = self._copying
        reader = ContainerChecker(copying.source.store, copying.keeper.repository, self._generation)
        parts = [(key, listed[key]) for key in sorted(self._needs.parts.keys() - self._missing.keys())]
        for (key, _), result in in_parallel(lambda pair: reader.header(*pair), parts, copying.threads):
            try:
                header, _whole = result.result()
            except UNSOUND as error:
                self._lose_key(key, error.message)
                continue
            for sha256, size in header.packs:
                needed = ContainerKey(key.segment, sha256)
                self._needs.containers.setdefault(needed, set()).add(key)
                if needed not in listed or listed[needed].size != size:
                    self._lose_key(needed, f"'{sha256}' of segment {key.segment} is missing, or not whole")

    def _wanted(self) -> set[ContainerKey]:
        """Return the containers that records still to be copied need."""
        needs = self._needs
        parts = {key for key, names in needs.parts.items() if names & needs.records.keys()}
        return parts | {key for key, named in needs.containers.items() if named & parts}

    def _copy(self, wanted: Iterable[tuple[ContainerKey, Stored]]) -> None:
        """Copy containers; the mark is renewed before it grows old."""
        for key, why in self._copier.containers(self._marked(wanted)).items():
            self._lose_key(key, why)

    def _marked(self, wanted: Iterable[tuple[ContainerKey, Stored]]) -> Iterator[tuple[ContainerKey, Stored]]:
        for one in wanted:
            if self._copying.keeper.clock.monotonic() > self._mark_old:
                self._mark()
            yield one

    def _mark(self) -> None:
        keeper, fresh = self._copying.keeper, ExitStack()
        run = RunId(new_id(keeper.clock.now(), keeper.random))
        fresh.enter_context(run_marked(self._copying.sink.store, self._generation, run, keeper.clock))
        self._marks.close()  # not before: at every instant one of them is there
        self._marks = fresh
        self._mark_old = keeper.clock.monotonic() + LONGEST_RUN.total_seconds() / 4

    def _judge(self, purged: frozenset[Pseudonym]) -> None:
        """Keep back the records that need something missing that the ledger does not explain by now."""
        expired = self._explained(self._copying.origin).expired
        for name in expired & self._needs.records.keys():
            del self._needs.records[name]
            self._done.left_out += 1
        self._needs.forget(purged)
        for key, why in self._missing.items():
            if key.segment not in purged:
                for name in self._needs.drop(key):
                    self._lose(name, why)
        for name in expired & self._lost.keys():
            del self._lost[name]

    def _publish(self) -> None:
        """Publish the records, oldest first.

        Raises DamageError, before any, when something that was copied is not there.
        """
        copying, there = self._copying, self._listed(self._copying.sink)
        missing = [key for key in self._wanted() if key not in there]
        if missing:
            raise DamageError(
                f"'{missing[0].sha256}' of segment {missing[0].segment} was copied, and is not on '{copying.target}'",
                hint="Somebody removes there; run it again.",
            )
        for name in sorted(self._needs.records):
            where = layout.record_name(self._generation, name)
            data = copying.source.read(where, "snapshot")
            copying.sink.put_document(where, data)
            self._copier.counted(len(data))
            self._done.snapshots.append(name)
        self._done.generations += bool(self._needs.records)
        self._report_lost()

    def _report_dry_run(self, wanted: Iterable[Stored]) -> None:
        self._report_lost()
        self._done.snapshots += sorted(self._needs.records)
        self._done.generations += bool(self._needs.records)
        for one in wanted:
            self._copier.counted(one.size)

    def _report_lost(self) -> None:
        self._done.damage += (f"snapshot '{name}' is not copied: {why}" for name, why in sorted(self._lost.items()))

    def _lose(self, name: SnapshotName, why: str) -> None:
        self._lost.setdefault(name, why)

    def _lose_key(self, key: ContainerKey, why: str) -> None:
        self._missing.setdefault(key, why)

    def _listed(self, repository: Repository) -> dict[ContainerKey, Stored]:
        found: dict[ContainerKey, Stored] = {}
        folder = ObjectName(f"{layout.SEGMENTS}/{self._generation}")
        for info in repository.store.list(folder):
            place = layout.place_of(info.name)
            if place.segment and place.sha256:
                found[ContainerKey(place.segment, place.sha256)] = Stored(info.name, place.kind.value, info.size)
        return found


class Purges:
    """The purges of one generation's segments, on every store. For one thread."""

    def __init__(self, copying: Copying, generation: GenerationId) -> None:
        self._copying = copying
        self._generation = generation
        self._before: frozenset[Pseudonym] = self._purged()
        """Segments purged before this run, of which it copies nothing."""

    def read(self) -> frozenset[Pseudonym]:
        """Return every segment whose purge has begun, by the ledger as it is now on all stores that can be reached."""
        self._copying.keeper.book.sync()
        return self._purged()

    def catch_up(self) -> frozenset[Pseudonym]:
        """Return the same as `read`, after removing from the target what was purged since the beginning."""
        purged = self.read()
        if late := purged - self._before:
            keeper, target = self._copying.keeper, self._copying.target
            refs = [(self._generation, segment) for segment in late]
            with KeyringCache.opened(keeper.cache_path(target), keeper.repository) as cache:
                check_shrunk(keeper.book, target, cache, self._copying.sink)
                shred(keeper, target, cache, refs)
            clear(self._copying.sink, refs)
            keeper.book.give(target)
        return purged

    def _purged(self) -> frozenset[Pseudonym]:
        entries = self._copying.keeper.book.chain.entries()
        return explain_absences(entries, None).purged_in(self._generation)
