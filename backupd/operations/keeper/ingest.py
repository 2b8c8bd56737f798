"""Ingest one store: move into the repository what nodes handed in. It can be interrupted anywhere and repeated.

1. List what nodes handed in, and what stands in its place.
2. Keyrings, packs, then records (FORMAT.md §2): read each, check it, copy it without what was purged meanwhile, remove
   it from the inbox.
3. Remove what runs that ended long ago left.

Objects are copied and never renamed: a node that opened an object before can write to that file, and not to the copy.
Names of objects to remove hold no folder that a node could have replaced by a link. A store's first document, handed in
by a node that made the repository, is adopted by `found`.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO, cast

from backupd.errors import BackupdError, DamageError, ObjectExistsError, ObjectMissingError, RefusedError, StoreError
from backupd.model.documents import RepositoryInfo, decode_body
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym, RegionName, RepositoryId
from backupd.model.text import counted
from backupd.operations.expiry.examined_store import find_missed
from backupd.operations.keeper.guards import check_clock
from backupd.operations.keeper.ingest_checks import (
    LARGEST,
    TAKEN,
    Ingested,
    IngestGround,
    NotYet,
    PlacedKeyrings,
    check,
    opened_pack,
)
from backupd.operations.keeper.types import Keeper
from backupd.operations.phases import Phases
from backupd.parallel import in_parallel
from backupd.planning.expiry import grace_before
from backupd.planning.ledger_facts import explain_absences
from backupd.repository import help_files, layout
from backupd.repository.incoming import IncomingObject, incoming_objects
from backupd.repository.marks import LONGEST_RUN
from backupd.repository.moved_objects import begins_as_ours
from backupd.repository.repository import Repository
from backupd.seal.documents import LIMITS, read_document
from backupd.seal.keyring import without_lines
from backupd.store.base import Store

_PIECE = 4 << 20
_UNFIT = (DamageError, RefusedError, ObjectExistsError)


def ingest(keeper: Keeper, store: str) -> Ingested:
    """Take what nodes handed in on a store; when this is interrupted, every object taken so far is in its place.

    Raises RefusedError for a clock that cannot be trusted, and the store's errors. Unfit objects are returned as
    refused, and stop nothing else.
    """
    return _Ingest(keeper, store).run()


@dataclass(slots=True)
class _Ingest:
    """The state of one ingest: what was taken, refused, or waits, and the sizes of what stands in its place."""

    keeper: Keeper
    store: str
    now: datetime = field(default=datetime.min.replace(tzinfo=UTC))
    """The time that was compared with the store's."""
    taken: Counter[str] = field(default_factory=Counter)
    size: int = 0
    dropped: int = 0
    waiting: dict[ObjectName, str] = field(default_factory=dict)
    refused: dict[ObjectName, str] = field(default_factory=dict)
    doubtful: list[IncomingObject] = field(default_factory=list)
    """Objects to be removed that may be what is missing elsewhere: who may rename there can move anything here."""
    sizes: dict[ObjectName, int] = field(default_factory=dict)

    def run(self) -> Ingested:
        keeper = self.keeper
        found = sorted(incoming_objects(keeper.stores[self.store].store), key=lambda one: one.name)
        if found:
            self.now = check_clock(keeper, self.store)
            with Phases(keeper.clock, keeper.trace, keeper.region).phase("ingesting", len(found), "objects"):
                self._list({one.place.generation for one in found if one.place.generation})
                for kind in TAKEN:
                    self._take_all([one for one in found if one.place.kind is kind])
                self._tidy(one for one in found if one.place.kind not in TAKEN)
                self._remove_doubtful()
        return Ingested(self.store, dict(self.taken), self.size, self.dropped, self.waiting, self.refused)

    def _list(self, generations: Iterable[GenerationId]) -> None:
        store = self.keeper.stores[self.store].store
        for generation in sorted(generations):
            for folder in (layout.PACKS, layout.KEYRINGS, layout.RECORDS):
                listed = store.list(ObjectName(f"{folder}/{generation}"))
                self.sizes |= {info.name: info.size for info in listed}

    def _take_all(self, found: list[IncomingObject]) -> None:
        """Take objects of one kind, of which none refers to another."""
        ground = self._ground()
        for one, result in in_parallel(lambda one: self._take(one, ground), found, self.keeper.threads):
            try:
                self._count(one, taken=result.result())
            except NotYet as reason:
                self._let_wait(one, str(reason))
            except ObjectMissingError:
                continue  # the node took it back, or another keeper took it
            except _UNFIT as error:
                self._refuse(one, error.message)

    def _take(self, one: IncomingObject, ground: IngestGround) -> bool:
        """Take one object; returns False when it is not needed, because it stands there already."""
        if self._settled(one):
            return False
        if one.size > LARGEST[one.place.kind]:
            raise DamageError(f"'{one.target}' is larger than allowed")
        folder = self.keeper.cache_path(self.store).parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            file: IO[bytes] = stack.enter_context(_spooled(folder))
            digest = self._fetch(one, file)
            doomed = check(one, file, ground)
            if doomed:
                smaller = stack.enter_context(_spooled(folder))
                digest = _leave_out(one, file, doomed, smaller, ground)
                file = smaller
            size = file.seek(0, io.SEEK_END)
            self.keeper.stores[self.store].store.put_new(one.target, cast("BinaryIO", file), size, digest)
        self.sizes[one.target] = size
        self._remove(one)
        return True

    def _count(self, one: IncomingObject, *, taken: bool) -> None:
        if taken:
            self.taken[one.place.kind.value] += 1
            self.size += one.size
        else:
            self._drop(one)

    def _settled(self, one: IncomingObject) -> bool:
        """Check whether the object stands in its place already; raises DamageError when something else does."""
        there = self.sizes.get(one.target)
        if there is None or one.place.kind is not layout.ObjectKind.RECORD:
            # The keyring or pack there may have been put anew since, without what was purged.
            return there is not None
        if there != one.size:
            raise DamageError(f"'{one.target}' stands there already, with another size")
        return True

    def _fetch(self, one: IncomingObject, file: IO[bytes]) -> ObjectHash:
        """Copy the object into `file` and return its hash.

        A node may write meanwhile, so only these bytes are checked and used.
        """
        store, digest, read = self.keeper.stores[self.store].store, hashlib.sha256(), 0
        while piece := store.get(one.name, read, _PIECE):
            read += len(piece)
            if read > one.size:
                break
            digest.update(piece)
            file.write(piece)
            if read == one.size:
                break
        if read != one.size:
            raise DamageError(f"'{one.target}' changed while it was read")
        return ObjectHash(digest.hexdigest())

    def _tidy(self, found: Iterator[IncomingObject]) -> None:
        founded = {layout.ObjectKind.REPOSITORY, layout.ObjectKind.HELP}
        for one in found:
            if one.place.kind in founded:
                self._drop(one)
            elif not one.at_work:
                self._refuse(one, "is nothing that a node may add")
            elif self._old(one):
                self._drop(one)

    def _let_wait(self, one: IncomingObject, missing: str) -> None:
        if self._old(one):
            self._refuse(one, f"waited in vain for {missing}")
        else:
            self.waiting[one.name] = missing

    def _refuse(self, one: IncomingObject, why: str) -> None:
        """Report a refused object, so that somebody looks at it.

        Two days later it is removed, for it may hold purged data.
        """
        self.refused[one.name] = why
        if self._old(one) and one.target != one.name:
            self._drop(one, counts=False)

    def _drop(self, one: IncomingObject, *, counts: bool = True) -> None:
        """Remove an object, at once or when all is taken and it is known whether something is missing."""
        try:
            start = self.keeper.stores[self.store].store.get(one.name, 0, _PIECE)
        except ObjectMissingError:
            return  # the node took it back
        founding = one.place.kind is layout.ObjectKind.REPOSITORY and b'"kind":"repository"' in start
        if begins_as_ours(start) and not founding:
            self.doubtful.append(one)
            return
        self._remove(one)
        self.dropped += counts

    def _remove_doubtful(self) -> None:
        missed = find_missed(self.keeper, self.store, {one.name for one in self.doubtful}) if self.doubtful else {}
        for one in self.doubtful:
            if one.name in missed:
                self.refused[one.name] = f"stays, as it may be what is missing: {missed[one.name]}"
                continue
            self._remove(one)
            self.dropped += one.name not in self.refused

    def _remove(self, one: IncomingObject) -> None:
        try:
            self.keeper.stores[self.store].store.remove(one.name)
        except StoreError as error:
            if type(error) is not StoreError:
                raise
            raise StoreError(
                f"'{one.name}' may not be removed by the keeper's account",
                hint="The keeper's account owns the folder of each node below `incoming`; see `backupd manual stores`.",
            ) from error

    def _old(self, one: IncomingObject) -> bool:
        """Check whether it is older than a run lasts.

        A date in the future counts as old, too: a node can set any date.
        """
        now = self.now
        return not grace_before(now, LONGEST_RUN) <= one.modified <= now + self.keeper.rules.clock_tolerance

    def _ground(self) -> IngestGround:
        keeper, repository = self.keeper, self.keeper.stores[self.store]
        return IngestGround(
            repository=repository,
            tags=keeper.tags,
            chain=keeper.book.chain,
            explained=explain_absences(keeper.book.chain.entries(), self.store),
            sizes=self.sizes,
            keyrings=PlacedKeyrings(repository, keeper.tags),
            now=self.now,
            tolerance=keeper.rules.clock_tolerance,
            max_age=keeper.rules.retention.max_age,
        )


def _spooled(folder: Path) -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=_PIECE, dir=str(folder))


def _leave_out(
    one: IncomingObject, file: IO[bytes], doomed: Collection[Pseudonym], out: IO[bytes], ground: IngestGround
) -> ObjectHash:
    """Copy a keyring or a pack that was checked without what it has of these segments; return the copy's hash."""
    digest = hashlib.sha256()

    def write(piece: bytes) -> None:
        digest.update(piece)
        out.write(piece)

    if one.place.kind is layout.ObjectKind.KEYRING:
        file.seek(0)
        data = file.read()
        write(without_lines(data, ground.repository.checked_keyring(data, one.target), doomed))
        return ObjectHash(digest.hexdigest())
    pack = opened_pack(one, file, ground.repository)
    left = pack.there.without([at for at, row in enumerate(pack.header.rows) if row.segment in doomed])
    write(pack.header.raw + left.raw)
    for at in left.there:
        file.seek(pack.there.offsets[at])
        for start in range(0, pack.header.rows[at].length, _PIECE):
            write(file.read(min(_PIECE, pack.header.rows[at].length - start)))
    return ObjectHash(digest.hexdigest())


def troubles(done: Ingested) -> BackupdError | None:
    """Return the error with which a run that refused something ends; None for others."""
    if not done.refused:
        return None
    return RefusedError(
        f"refused what nodes handed in on store '{done.store}': {counted(len(done.refused), 'object')}",
        hint="No honest node hands in such things: find out which node did, and whether somebody broke into it "
        "(`backupd manual incidents`).",
    )


def found(region: RegionName, store: Store, trusted: Collection[str], known: RepositoryId | None) -> bool:
    """Adopt the repository's document that a node handed in, when the store has none yet; returns whether it did.

    `known` is the region's repository on its other stores. The help files are this program's own, not the node's: they
    are run by somebody who has lost everything else. Raises RefusedError and DamageError for a document that is not
    believed.
    """
    repository = Repository(store, trusted)
    if repository.exists():
        return False
    one = next((one for one in incoming_objects(store) if one.place.kind is layout.ObjectKind.REPOSITORY), None)
    if one is None:
        return False
    if not trusted:
        raise RefusedError(
            "a node handed a repository in, and no signer is trusted here",
            hint="Write the node's signer under [trust] on the keeper, too: a repository cannot vouch for itself.",
        )
    data = store.get(one.name, 0, LIMITS["repository"] + 1)
    info = decode_body(read_document(data, "repository", trusted, one.target), RepositoryInfo, one.target)
    if info.region != region or known not in (None, info.repository):
        raise DamageError(f"'{one.name}' is of another repository")
    if info.help not in ({}, help_files.own_hashes()):
        raise RefusedError(
            f"'{one.name}' names the hash of another `{layout.SCRIPT}` than this keeper's",
            hint="Have the same version of backupd on the node and here, and run `backupd init` on the node again.",
        )
    for name, own in help_files.own_files().items():
        repository.put_document(name, own)
    repository.put_document(layout.REPOSITORY, data)
    return True
