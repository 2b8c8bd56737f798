"""The packs and keyrings that one generation's records need, and what of them a store lacks unexplained."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from backupd.errors import UNSOUND
from backupd.model.documents import Record
from backupd.model.ids import GenerationId, ObjectHash, Pseudonym, RunId, SnapshotName
from backupd.model.ranges import from_ranges
from backupd.model.text import parse_stamp
from backupd.parallel import in_parallel
from backupd.planning.ledger_facts import Explained
from backupd.repository import layout
from backupd.repository.pack_check import KeyringListing
from backupd.repository.packs import OpenPack, fetch_head, parse_pack
from backupd.repository.repository import Repository
from backupd.seal.pack import PackContext


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that a store lacks, and that records need."""

    names: frozenset[SnapshotName]
    why: str
    segment: Pseudonym | None = None
    """The segment whose it is: a purge of it explains the loss. None where that is unknown, or explains nothing."""
    section: tuple[ObjectHash, int] | None = None
    """Pack and place of a section that is not in its pack, where that is what is lacking."""
    refused: bool = False
    """Whether nothing is damaged: the target did not let it be put there."""


@dataclass(slots=True)
class PackNeeds:
    """The packs that records of one generation need, and the keyrings that these name."""

    records: dict[SnapshotName, Record] = field(default_factory=dict)
    keyrings: dict[ObjectHash, frozenset[RunId]] = field(default_factory=dict)
    """For each pack that was read, the keyrings its header names."""

    def users(self) -> dict[ObjectHash, set[SnapshotName]]:
        """Return every pack that is needed, with the records that name it."""
        found: dict[ObjectHash, set[SnapshotName]] = {}
        for name, record in self.records.items():
            for sha256, _, _ in record.packs:
                found.setdefault(sha256, set()).add(name)
        return found

    def runs(self) -> set[RunId]:
        """Return the keyrings that must be there before the packs."""
        return {run for sha256 in self.users() for run in self.keyrings.get(sha256, ())}


@dataclass(frozen=True, slots=True)
class NeedsSurvey:
    """One store, with what its keyrings list and what the ledger says is gone from it."""

    repository: Repository
    generation: GenerationId
    listings: Mapping[RunId, KeyringListing]
    explained: Explained
    threads: int

    def losses(self, needs: PackNeeds, packs: Collection[ObjectHash]) -> Iterable[Loss]:
        """Read the headers of these packs, note their keyrings, and yield what of them the store lacks unexplained.

        A section is needed by a record that names it, unless a purge lists its segment or its class was too old for
        that record. Memory holds the rows of one pack. Raises the store's errors.
        """
        users = needs.users()
        context = PackContext(self.repository.info().repository, self.generation)
        names = {layout.pack_name(self.generation, sha256): sha256 for sha256 in sorted(packs)}
        for name, result in in_parallel(partial(fetch_head, self.repository.store), names, self.threads):
            sha256 = names[name]
            try:
                pack = parse_pack(result.result(), context, sha256)
            except UNSOUND as error:
                yield Loss(frozenset(users[sha256]), error.message)
                continue
            needs.keyrings[sha256] = frozenset(row.keyring for row in pack.header.rows)
            for run in sorted(needs.keyrings[sha256] - self.listings.keys()):
                yield Loss(frozenset(users[sha256]), f"keyring '{run}' is missing, or cannot be believed")
            for user in sorted(users[sha256]):
                yield from self._of_record(user, needs.records[user], pack)

    def _of_record(self, name: SnapshotName, record: Record, pack: OpenPack) -> Iterable[Loss]:
        exported, user = parse_stamp(record.exported), frozenset((name,))
        numbers: list[int] = []
        for sha256, manifests, others in record.packs:
            if sha256 == pack.header.sha256:
                try:
                    numbers += from_ranges(manifests, len(pack.header.rows))
                    numbers += from_ranges(others, len(pack.header.rows))
                except ValueError:
                    yield Loss(user, f"it names sections that '{pack.name}' does not list")
        for at in numbers:
            row = pack.header.rows[at]
            listing = self.listings.get(row.keyring)
            if listing is None or self.explained.is_purged(self.generation, row.segment):
                continue
            if (fault := listing.fault_of(row)) is not None:
                yield Loss(user, f"'{pack.name}' {fault}", row.segment)
            elif self.explained.is_aged(self.generation, listing.class_of(row.place), exported):
                continue
            elif at not in pack.there:
                section = pack.header.sha256, at
                yield Loss(user, f"'{pack.section(at).where}' is missing", row.segment, section)
            elif row.place in listing.shredded:
                yield Loss(user, f"no keyring has the key of segment {row.segment}", row.segment)
