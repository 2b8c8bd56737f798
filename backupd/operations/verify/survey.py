"""Compare the packs of one generation, by their headers and maps, with what records and keyrings say.

Headers are read several at once and taken in one after another: memory holds the rows of one pack, and of the others
what is wrong with them.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from backupd.errors import UNSOUND, ObjectMissingError
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym, RunId, SnapshotName
from backupd.model.ranges import from_ranges
from backupd.operations.verify.absences import Absence
from backupd.parallel import in_parallel
from backupd.planning.verify import Mismatch
from backupd.repository import layout
from backupd.repository.packs import OpenPack, fetch_head, parse_pack, reopened
from backupd.seal.pack import PackContext, SectionRow

if TYPE_CHECKING:
    from backupd.operations.verify.documents import Documents
    from backupd.repository.keys import SecretKeys
    from backupd.repository.repository import Repository


@dataclass(slots=True)
class PackSurvey:
    """The result of comparing a generation's packs with its documents."""

    findings: list[Mismatch] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    """What records need and is not there; whether that is damage, the ledger decides at the end."""
    sound: dict[ObjectHash, int] = field(default_factory=dict)
    """Packs that records need, and whose size is right, in bytes."""
    sections: int = 0
    """Sections that records need and that are there."""
    orphans: dict[ObjectName, int] = field(default_factory=dict)
    """Packs that no record names, with their bytes."""
    purged: set[Pseudonym] = field(default_factory=set)
    """Segments that records name, and that a purge lists."""
    unpurged: set[Pseudonym] = field(default_factory=set)
    """Segments that a purge lists, and of which a section is there."""
    alive: set[SnapshotName] = field(default_factory=set)
    """Records of which a section is there that no purge lists."""
    unfit: set[SnapshotName] = field(default_factory=set)
    """Records that need something that is damaged."""


@dataclass(slots=True)
class _Named:
    """Hashes of what one record names, in a fraction of the memory: what they show is looked at again."""

    sections: array[int] = field(default_factory=lambda: array("q"))
    manifests: array[int] = field(default_factory=lambda: array("q"))
    """Of the segments of sections with manifests."""
    segments: array[int] = field(default_factory=lambda: array("q"))
    """Of the segments of all sections."""

    def add(self, rows: Sequence[SectionRow], manifests: Sequence[int], others: Sequence[int]) -> None:
        """Add the sections that the record names of one pack, by their places in the header."""
        self.manifests.extend(hash(rows[at].segment) for at in manifests)
        for at in (*manifests, *others):
            self.sections.append(hash((rows[at].segment, rows[at].number)))
            owner = hash(rows[at].segment)
            if not self.segments or self.segments[-1] != owner:
                self.segments.append(owner)

    def seems_wrong(self) -> bool:
        """Check whether two sections or manifests, or none of a segment, may be named."""
        manifests = set(self.manifests)
        twins = len(set(self.sections)) < len(self.sections) or len(manifests) < len(self.manifests)
        return twins or not manifests.issuperset(self.segments)


class Surveyor:
    """Surveys one generation's packs, once. For one thread; it uses several."""

    def __init__(
        self,
        repository: Repository,
        generation: GenerationId,
        documents: Documents,
        gone: frozenset[Pseudonym],
        keys: SecretKeys | None,
    ) -> None:
        """`gone` are the segments that purges list; `keys`, where there are any, must open what records need."""
        self._repository = repository
        self._context = PackContext(repository.info().repository, generation)
        self._documents = documents
        self._users = documents.users()
        self._gone = gone
        self._keys = keys
        self._required: set[RunId] = set()
        self._lost: dict[RunId, set[SnapshotName]] = {}
        """Keyrings that are missing, with the records that need them."""
        self._keyless: dict[tuple[str, Pseudonym], set[SnapshotName]] = {}
        """Keyrings that lack the key of a segment, with the records that need it."""
        self._named = {name: _Named() for name in documents.claims}
        self.seen = PackSurvey()

    def run(self, listed: dict[ObjectHash, int], threads: int) -> PackSurvey:
        """Read the header of every pack listed (with its size in bytes) or named by a record.

        Raises KeyRefusedError when the identity may not open what a record needs, and the store's errors.
        """
        for sha256 in sorted(self._users.keys() - listed.keys()):
            self._miss(sha256)
        fetch = partial(fetch_head, self._repository.store)
        names = {layout.pack_name(self._context.generation, sha256): sha256 for sha256 in sorted(listed)}
        for name, result in in_parallel(fetch, names, threads):
            sha256 = names[name]
            try:
                pack = parse_pack(result.result(), self._context, sha256)
                message = self._wrong_size(pack, listed[sha256])
            except ObjectMissingError:
                self._miss(sha256)
                continue
            except UNSOUND as error:
                self._damaged(sha256, error.message)
                continue
            if message is not None:
                self._damaged(sha256, message)
            else:
                self._take(pack)
        for run, users in sorted(self._lost.items()):
            where = layout.keyring_name(self._context.generation, run)
            self.seen.absences.append(Absence(Mismatch(where, "is missing, and packs name it"), tuple(sorted(users))))
        for (listed_in, segment), users in sorted(self._keyless.items()):
            message = "lacks the key of a segment, and no ledger says it was purged"
            self.seen.absences.append(Absence(Mismatch(listed_in, message, segment), tuple(sorted(users)), segment))
        self._look_again()
        return self.seen

    def _miss(self, sha256: ObjectHash) -> None:
        if users := self._users.get(sha256):
            by = layout.record_name(self._context.generation, users[0])
            where = layout.pack_name(self._context.generation, sha256)
            self.seen.absences.append(Absence(Mismatch(where, f"is missing, and '{by}' needs it"), tuple(users)))

    def _damaged(self, sha256: ObjectHash, message: str) -> None:
        self.seen.findings.append(Mismatch(layout.pack_name(self._context.generation, sha256), message))
        self.seen.unfit.update(self._users.get(sha256, ()))

    def _wrong_size(self, pack: OpenPack, size: int) -> str | None:
        """Say whether a pack has another size than its header and map say, now that both are read."""
        if pack.there.pack_size == size:
            return None
        found = self._repository.store.stat(pack.name)
        if found is None:
            raise ObjectMissingError(f"'{pack.name}' is missing")
        # A keeper may have taken sections out since the listing, and the header may be of before or after.
        sizes = {pack.there.pack_size, reopened(self._repository.store, pack).there.pack_size}
        return None if found.size in sizes else f"has {found.size} bytes where its header and map say {max(sizes)}"

    def _take(self, pack: OpenPack) -> None:
        seen, users = self.seen, self._users.get(pack.header.sha256, [])
        named = {name: mask for name in users if (mask := self._named_by(name, pack)) is not None}
        needed = alive = 0
        for mask in named.values():
            needed |= mask
        self._look_at_keyrings(pack, users)
        flags = needed.to_bytes(len(pack.header.rows) // 8 + 1, "little")
        for at, row in enumerate(pack.header.rows):
            is_needed, is_there = bool(flags[at >> 3] >> (at & 7) & 1), at in pack.there
            wrong = self._wrong_listing(row)
            if wrong is not None:
                seen.findings.append(Mismatch(pack.name, wrong, row.segment))
                seen.unfit.update(name for name, mask in named.items() if mask >> at & 1)
            if row.segment in self._gone:
                seen.unpurged.update([row.segment] if is_there else ())
                seen.purged.update([row.segment] if is_needed else ())
            elif is_needed:
                seen.sections += is_there
                alive |= is_there << at
                if wrong is None:
                    self._need(pack, at, is_there=is_there, named=named)
        seen.alive.update(name for name, mask in named.items() if mask & alive)
        if users:
            seen.sound[pack.header.sha256] = pack.there.pack_size
        else:
            seen.orphans[pack.name] = pack.there.pack_size

    def _named_by(self, name: SnapshotName, pack: OpenPack) -> int | None:
        """Return the sections that a record names, as the bits of a number; None when the pack does not list them."""
        ranges = self._documents.claims[name].packs[pack.header.sha256]
        rows, mask = pack.header.rows, 0
        try:
            numbers = [from_ranges(part, len(rows)) for part in ranges]
        except ValueError:
            where = layout.record_name(self._context.generation, name)
            self.seen.findings.append(Mismatch(where, f"names sections that '{pack.name}' does not list"))
            self.seen.unfit.add(name)
            return None
        for part in ranges:
            for first, count in zip(part[::2], part[1::2], strict=True):
                mask |= ((1 << count) - 1) << first
        self._named[name].add(rows, *numbers)
        return mask

    def _look_at_keyrings(self, pack: OpenPack, users: Sequence[SnapshotName]) -> None:
        known = self._documents.listings.keys() | self._documents.unreadable
        for run in {row.keyring for row in pack.header.rows} - known if users else ():
            self._lost.setdefault(run, set()).update(users)

    def _wrong_listing(self, row: SectionRow) -> str | None:
        listing = self._documents.listings.get(row.keyring)
        return None if listing is None else listing.fault_of(row)

    def _need(self, pack: OpenPack, at: int, *, is_there: bool, named: dict[SnapshotName, int]) -> None:
        """Look whether a section that records need is there, and its key."""
        row = pack.header.rows[at]
        listing = self._documents.listings.get(row.keyring)
        if is_there and self._keys is not None and row.keyring not in self._required:
            self._keys.require(row)
            self._required.add(row.keyring)
        if is_there and (listing is None or row.place not in listing.shredded):
            return
        users = tuple(name for name, mask in named.items() if mask >> at & 1)
        if is_there and listing is not None:
            self._keyless.setdefault((listing.where, row.segment), set()).update(users)
            return
        by = layout.record_name(self._context.generation, users[0])
        finding = Mismatch(pack.name, f"lacks section {at}, and '{by}' needs it", row.segment)
        data_class = None if listing is None else listing.class_of(row.place)
        self.seen.absences.append(Absence(finding, users, row.segment, data_class))

    def _look_again(self) -> None:
        """Look again at records that seem to name what only one reader would understand as another does."""
        for name, named in self._named.items():
            if name in self.seen.unfit or not named.seems_wrong():
                continue  # of a pack that is damaged, nobody knows what the record names there
            try:
                self._repository.sections(self._repository.record(name, self._context.generation))
            except ObjectMissingError:
                continue
            except UNSOUND as error:
                where = layout.record_name(self._context.generation, name)
                self.seen.findings.append(Mismatch(where, error.message))
                self.seen.unfit.add(name)
