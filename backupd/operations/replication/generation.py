"""Copy one generation's snapshots: keyrings, packs, and records last, in the order in which a run adds them.

The ledger is read again meanwhile, and what a purge took too late to be left out is removed from the target.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from backupd.errors import OUT_OF_REACH, UNSOUND, BusyError, DamageError, StoreError, StoreFullError
from backupd.model.ids import GenerationId, ObjectHash, Pseudonym, RunId, SnapshotName
from backupd.operations.backup.generation import new_id
from backupd.operations.keeper.purge import check_shrunk
from backupd.operations.keeper.removal import clear, shred
from backupd.operations.replication.needs import Loss, NeedsSurvey, PackNeeds
from backupd.operations.replication.objects import Keyrings, WantedPack
from backupd.planning.ledger_facts import Copies, Explained, explain_absences, explain_copies
from backupd.repository import layout
from backupd.repository.marks import LONGEST_RUN, RunMark, run_marked
from backupd.repository.state.keyring_cache import KeyringCache

if TYPE_CHECKING:
    from backupd.operations.replication.objects import Copier, Copying, Replication
    from backupd.store.base import ObjectInfo


class GenerationCopy:
    """The copy of one generation, for one thread.

    As a context manager it marks the target's generation as being added to.
    """

    def __init__(self, copying: Copying, generation: GenerationId, copier: Copier, done: Replication) -> None:
        self._copying = copying
        self._generation = generation
        self._copier = copier
        self._done = done
        self._needs = PackNeeds()
        self._losses: list[Loss] = []
        """What the stores lack; the ledger may say that nobody needs it any more."""
        self._lost: dict[SnapshotName, Loss] = {}
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

        Damage at the origin is noted, and keeps back the records that need it; so is a target that refuses to have
        sections put back into its packs. Raises the stores' errors.
        """
        copying = self._copying
        here = self._explained(copying.origin)
        keyrings = Keyrings(copying, self._generation)
        # 1. What is needed, and what of it is missing at the origin.
        self._read_records(names)
        listed, sent = copying.source.list_packs(self._generation), copying.sink.list_packs(self._generation)
        origin = NeedsSurvey(copying.source, self._generation, keyrings.listings(copying.source), here, copying.threads)
        self._survey(origin, listed)
        purges = Purges(copying, self._generation)
        self._judge(purges.read())
        if copying.dry_run:
            self._report_dry_run(listed[sha256].size for sha256 in self._needs.users() if sha256 not in sent)
            return
        # 2. The ledger first: it has to explain what will be missing there, too.
        previous = {name: record.previous for name, record in self._needs.records.items()}
        copies = Copies(self._generation, previous, frozenset(there))
        events = explain_copies(copying.target, copies, here, self._explained(copying.target))
        copying.keeper.book.append(lambda _: events)
        copying.keeper.book.give(copying.target)
        # 3. Keyrings, packs, and a look at all of them: some stood there before.
        for size in keyrings.copy(self._needs.runs(), purges.read()):
            self._copier.counted(size)
        purged = purges.read()
        self._copy(
            WantedPack(one, listed[one].size, purged) for one in sorted(self._needs.users().keys() - sent.keys())
        )
        target = NeedsSurvey(
            copying.sink,
            self._generation,
            keyrings.listings(copying.sink),
            self._explained(copying.target),
            copying.threads,
        )
        self._losses += self._put_back(target.losses(self._needs, self._needs.users()))
        # 4. What a purge or an expiry took meanwhile, on any store, does not stay.
        self._judge(purges.catch_up())
        # 5. Records, after a look that all they need is there.
        self._publish()
        purges.catch_up()

    def _explained(self, store: str) -> Explained:
        return explain_absences(self._copying.keeper.book.chain.entries(), store)

    def _read_records(self, names: Iterable[SnapshotName]) -> None:
        for name in names:
            try:
                self._needs.records[name] = self._copying.source.record(name, self._generation)
            except UNSOUND as error:
                self._lost.setdefault(name, Loss(frozenset((name,)), error.message))

    def _survey(self, origin: NeedsSurvey, listed: Mapping[ObjectHash, ObjectInfo]) -> None:
        """Look for what records need and the origin lacks."""
        users = self._needs.users()
        for sha256 in sorted(users.keys() - listed.keys()):
            where = layout.pack_name(self._generation, sha256)
            self._losses.append(Loss(frozenset(users[sha256]), f"'{where}' is missing"))
        self._losses += origin.losses(self._needs, users.keys() & listed.keys())

    def _copy(self, wanted: Iterable[WantedPack]) -> None:
        """Copy packs; the mark is renewed before it grows old."""
        users = self._needs.users()
        for sha256, why in self._copier.packs(self._generation, self._marked(wanted)).items():
            self._losses.append(Loss(frozenset(users[sha256]), why))

    def _put_back(self, losses: Iterable[Loss]) -> list[Loss]:
        """Put back what the target's packs lack of the origin's: an expiry there took it before this was needed.

        Returns what is lacking still.
        """
        left: list[Loss] = []
        lacking: dict[ObjectHash, list[Loss]] = {}
        for loss in losses:
            if loss.section is None:
                left.append(loss)
            else:
                lacking.setdefault(loss.section[0], []).append(loss)
        for sha256, theirs in lacking.items():
            self._keep_marked()
            try:
                places = {loss.section[1] for loss in theirs if loss.section is not None}
                absent = self._copier.put_back(self._generation, sha256, places)
                left += [
                    replace(loss, why=f"{loss.why} on both stores, or damaged on the origin")
                    for loss in theirs
                    if loss.section is not None and loss.section[1] in absent
                ]
            except UNSOUND as error:
                left += [replace(loss, why=error.message) for loss in theirs]
            except (StoreError, BusyError) as error:
                if isinstance(error, (*OUT_OF_REACH, StoreFullError)):
                    raise  # the next object would not fare better
                left += [replace(loss, why=error.message, refused=True) for loss in theirs]
        return left

    def _marked(self, wanted: Iterable[WantedPack]) -> Iterator[WantedPack]:
        for one in wanted:
            self._keep_marked()
            yield one

    def _keep_marked(self) -> None:
        if self._copying.keeper.clock.monotonic() > self._mark_old:
            self._mark()

    def _mark(self) -> None:
        keeper, fresh = self._copying.keeper, ExitStack()
        run = RunMark.drawn(RunId(new_id(keeper.clock.now(), keeper.random)), keeper.random)
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
        for loss in self._losses:
            if loss.segment is None or loss.segment not in purged:
                for name in loss.names & self._needs.records.keys():
                    del self._needs.records[name]
                    self._lost.setdefault(name, loss)
        for name in expired & self._lost.keys():
            del self._lost[name]

    def _publish(self) -> None:
        """Publish the records, oldest first.

        Raises DamageError, before any, when something that was copied is not there.
        """
        copying, there = self._copying, self._copying.sink.list_packs(self._generation)
        missing = sorted(self._needs.users().keys() - there.keys())
        if missing:
            where = layout.pack_name(self._generation, missing[0])
            raise DamageError(
                f"'{where}' was copied, and is not on '{copying.target}'", hint="Somebody removes there; run it again."
            )
        for name in sorted(self._needs.records):
            where = layout.record_name(self._generation, name)
            data = copying.source.read(where, "snapshot")
            copying.sink.put_document(where, data)
            self._copier.counted(len(data))
            self._done.snapshots.append(name)
        self._done.generations += bool(self._needs.records)
        self._report_lost()

    def _report_dry_run(self, sizes: Iterable[int]) -> None:
        self._report_lost()
        self._done.snapshots += sorted(self._needs.records)
        self._done.generations += bool(self._needs.records)
        for size in sizes:
            self._copier.counted(size)

    def _report_lost(self) -> None:
        for name, loss in sorted(self._lost.items()):
            told = self._done.refused if loss.refused else self._done.damage
            told.append(f"snapshot '{name}' is not copied: {loss.why}")


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
            with KeyringCache.opened(keeper.cache_path(target), keeper.repository, keeper.tags) as cache:
                check_shrunk(keeper, target, cache, self._copying.sink)
                shred(keeper, target, cache, refs).require()
                clear(keeper, target, cache, refs).require()
            keeper.book.give(target)
        return purged

    def _purged(self) -> frozenset[Pseudonym]:
        entries = self._copying.keeper.book.chain.entries()
        return explain_absences(entries, None).purged_in(self._generation)
