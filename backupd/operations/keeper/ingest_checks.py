"""Check whether an object that a node handed in may be taken: by its bytes, by what the store has, and by the ledger.

A node is not believed, because an intruder may hand in anything. What passes is what an honest node could have added
itself, and no more: no object of a keeper, none that expired or was purged, none that lacks what it refers to.

`backupd manual trust`, row *what a node hands in (`incoming/`)*, says who can write this, and what is checked.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO

from backupd.errors import UNSOUND, DamageError, ObjectMissingError, RefusedError
from backupd.model.documents import REDUCED, Record
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym, RunId
from backupd.model.text import parse_stamp
from backupd.planning.ledger_facts import Explained
from backupd.repository import layout
from backupd.repository.incoming import IncomingObject
from backupd.repository.ledger import Chain
from backupd.repository.marks import LONGEST_RUN
from backupd.repository.pack_check import KeyringListing, section_pieces
from backupd.repository.packs import OpenPack, Section, list_sections, open_packs, parse_pack, read_head
from backupd.repository.repository import Repository
from backupd.seal.documents import LIMITS
from backupd.seal.pack import PACK_LIMIT, PackContext, PresenceMap, SectionRow
from backupd.seal.tags import TenantTags


class NotYet(Exception):  # noqa: N818 - no error: the rest of it is on its way
    """An object refers to something that is not on the store yet; the message names it."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """The result of one ingest of one store."""

    store: str
    taken: Mapping[str, int]
    """How many objects were taken, by kind."""
    bytes: int
    """Bytes of the objects that were taken."""
    dropped: int
    """Objects removed: handed in twice, or left by runs that ended long ago."""
    waiting: Mapping[ObjectName, str]
    """Objects that are left for the next time, and what each waits for."""
    refused: Mapping[ObjectName, str]
    """Objects that no honest node hands in, and why; each is removed after two days."""


LARGEST: Mapping[layout.ObjectKind, int] = {
    layout.ObjectKind.KEYRING: LIMITS["keyring"],
    layout.ObjectKind.PACK: PACK_LIMIT,
    layout.ObjectKind.RECORD: LIMITS["snapshot"],
}
"""The kinds that a node may hand in, in the order in which they are taken (FORMAT.md §2), with the most bytes of
one."""
TAKEN = tuple(LARGEST)


class PlacedKeyrings:
    """The listings of the keyrings that stand in their place; each is read once. For several threads at once."""

    def __init__(self, repository: Repository, tags: TenantTags) -> None:
        self._repository = repository
        self._tags = tags
        self._lock = threading.Lock()
        self._known: dict[tuple[GenerationId, RunId], KeyringListing] = {}

    def of(self, generation: GenerationId, run: RunId) -> KeyringListing:
        """Return what a keyring lists. Raises NotYet when it is not there, or cannot be believed."""
        with self._lock:
            known = self._known.get((generation, run))
        if known is None:
            try:
                keyring = self._repository.keyring(layout.keyring_name(generation, run))
            except ObjectMissingError:
                raise NotYet(f"keyring '{run}'") from None
            except UNSOUND as error:
                raise NotYet(f"keyring '{run}', which cannot be believed: {error.message}") from error
            known = KeyringListing.of(keyring, self._tags)
            with self._lock:
                self._known[generation, run] = known
        return known


@dataclass(frozen=True, slots=True)
class IngestGround:
    """The facts that an object is checked against."""

    repository: Repository
    tags: TenantTags
    chain: Chain
    explained: Explained
    """What the ledger says is gone from this store."""
    sizes: Mapping[ObjectName, int]
    """Bytes of every object that stands in its place."""
    keyrings: PlacedKeyrings
    now: datetime
    tolerance: timedelta
    max_age: timedelta
    """The greatest age that any snapshot may have."""


def check(one: IncomingObject, file: IO[bytes], ground: IngestGround) -> frozenset[Pseudonym]:
    """Check an object: raises DamageError or RefusedError when it must not be taken, NotYet when it must wait.

    Returns the segments of which it must be taken without what it has: a purge lists them. `file` is the whole object.
    """
    file.seek(0)
    match one.place.kind:
        case layout.ObjectKind.PACK:
            return _check_pack(one, opened_pack(one, file, ground.repository), file, ground)
        case layout.ObjectKind.KEYRING:
            return _check_keyring(one, file.read(), ground)
        case _:
            _check_record(one, file.read(), ground)
            return frozenset()


def opened_pack(one: IncomingObject, file: IO[bytes], repository: Repository) -> OpenPack:
    """Parse the header and map of a pack that was handed in. Raises DamageError and RefusedError."""
    generation, sha256 = one.place.generation, one.place.sha256
    if generation is None or sha256 is None:
        raise DamageError(f"'{one.target}' is no pack's name")

    def read(length: int) -> bytes:
        file.seek(0)
        return file.read(length)

    return parse_pack(read_head(read, one.target), PackContext(repository.info().repository, generation), sha256)


def _check_pack(one: IncomingObject, pack: OpenPack, file: IO[bytes], ground: IngestGround) -> frozenset[Pseudonym]:
    where, there = one.target, pack.there
    if there.raw != PresenceMap.full(pack.header).raw:
        raise DamageError(f"'{where}' lacks sections, and a run makes whole packs")
    if there.pack_size != one.size:
        raise DamageError(f"'{where}' has {one.size} bytes where its header says {there.pack_size}")
    generation = pack.header.context.generation
    for row in pack.header.rows:
        _check_row(where, generation, row, ground)

    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    for piece in section_pieces(read, there, where):
        if piece.right is False:
            raise DamageError(f"section {piece.at} of '{where}' does not have the hash its header says")
    return ground.explained.purged_in(generation) & {row.segment for row in pack.header.rows}


def _check_row(where: ObjectName, generation: GenerationId, row: SectionRow, ground: IngestGround) -> None:
    """Check that a section's key is listed where its pack says, under tags that are the segment's own."""
    listing = ground.keyrings.of(generation, row.keyring)
    if (fault := listing.fault_of(row)) is not None:
        raise DamageError(f"'{where}' {fault}")
    if row.place in listing.shredded and not ground.explained.is_purged(generation, row.segment):
        raise DamageError(f"'{where}' needs a key that '{listing.where}' lacks, and nobody purged it")


def _check_keyring(one: IncomingObject, data: bytes, ground: IngestGround) -> frozenset[Pseudonym]:
    keyring = ground.repository.checked_keyring(data, one.target)
    if any(KeyringListing.of(keyring, ground.tags).forgeries()):
        raise DamageError(f"'{one.target}' lists a pseudonym that is not that of the tags beside it")
    purged = ground.explained.purged_in(keyring.ids.generation)
    if keyring.shredded - purged:
        raise DamageError(f"'{one.target}' lacks keys, and nobody purged them")
    return purged & (keyring.segments - keyring.shredded)


def _check_record(one: IncomingObject, data: bytes, ground: IngestGround) -> None:
    generation, snapshot = one.place.generation, one.place.snapshot
    if generation is None or snapshot is None:
        raise DamageError(f"'{one.target}' is no record's name")
    record = ground.repository.checked_record(data, snapshot, generation)
    _check_story(one, record, ground)
    if snapshot in ground.explained.expired:
        raise RefusedError(f"'{one.target}' expired, and does not come back")
    for sha256, _, _ in record.packs:
        if layout.pack_name(generation, sha256) not in ground.sizes:
            raise NotYet(f"pack '{sha256}'")
    listed = list_sections(record, _packs_of(record, ground))
    for section in listed.sections.values():
        _check_section(one, section, record, ground)


def _packs_of(record: Record, ground: IngestGround) -> dict[ObjectHash, OpenPack]:
    found: dict[ObjectHash, OpenPack] = {}
    names = [sha256 for sha256, _, _ in record.packs]
    for sha256, pack in open_packs(ground.repository.store, record.repository, record.generation, names):
        if not isinstance(pack, OpenPack):
            raise NotYet(f"pack '{sha256}', which cannot be believed: {pack.message}")
        found[sha256] = pack
    return found


def _check_section(one: IncomingObject, section: Section, record: Record, ground: IngestGround) -> None:
    """Check that a section that a record needs is there, with its key, as far as the ledger does not say it is gone."""
    row, generation = section.row, record.generation
    _check_row(one.target, generation, row, ground)
    if section.is_there or ground.explained.is_purged(generation, row.segment):
        return
    data_class = ground.keyrings.of(generation, row.keyring).class_of(row.place)
    if not ground.explained.is_aged(generation, data_class, parse_stamp(record.exported)):
        raise RefusedError(f"'{one.target}' needs '{section.where}', which is gone")


def _check_story(one: IncomingObject, record: Record, ground: IngestGround) -> None:
    """Check the record's dates and its ledger head: a wrong date would let it outlive others or drive them out."""
    exported = parse_stamp(record.exported)
    if max(exported, parse_stamp(record.published)) > ground.now + ground.tolerance:
        raise RefusedError(f"'{one.target}' is of the future")
    if one.modified - exported > LONGEST_RUN + ground.tolerance:
        raise RefusedError(f"'{one.target}' was handed in later than any run would")
    if not record.packs:
        raise RefusedError(f"'{one.target}' names nothing")
    if exported < ground.now - ground.max_age:
        raise RefusedError(f"'{one.target}' is older than any snapshot may be")
    if REDUCED in record.extra:
        raise RefusedError(f"'{one.target}' is what only a keeper writes")
    ground.chain.require(record.ledger, one.target)
