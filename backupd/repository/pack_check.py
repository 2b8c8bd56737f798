"""Checks of packs: headers against keyrings, every byte against the headers' hashes; with a key, every block.

`backupd manual trust`, row *keyrings*, says who can write this, and what is checked.
"""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Self

from backupd.errors import DamageError
from backupd.model.ids import ClassTag, GenerationId, Pseudonym, RunId
from backupd.repository.manifests import read_entries
from backupd.repository.packs import OpenPack, Section, reopened
from backupd.seal.keyring import Keyring, SegmentKey
from backupd.seal.pack import PresenceMap, SectionRow
from backupd.seal.section_reader import SectionReader
from backupd.seal.tags import TenantTags
from backupd.store.base import StoreView

_PIECE = 2 << 20
"""Bytes read at once: what an SSH channel has in flight at most."""
_LOOKS = 3
"""Times that a pack is read at most when its map has changed each time: a keeper may be at work."""
_PSEUDONYM = 16
"""Bytes of a pseudonym in `KeyringListing.segments`."""


@dataclass(frozen=True, slots=True)
class KeyringListing:
    """The listing of a keyring, in a tenth of the memory that the keyring takes.

    A generation has a line for every segment of every run.
    """

    where: str
    generation: GenerationId
    run: RunId
    segments: bytes
    """The pseudonyms in their places, 16 bytes each."""
    classes: array[int]
    """For each place, where in `class_tags` the tag of the segment's class stands."""
    class_tags: tuple[ClassTag, ...]
    shredded: frozenset[int]
    """The places whose keys were removed."""
    forged: frozenset[int]
    """The places whose pseudonym is not that of the tags beside it; empty when nobody compared them."""

    @classmethod
    def of(cls, keyring: Keyring, tags: TenantTags | None) -> Self:
        """Take a keyring's listing; with the tenant key's `tags`, compare each pseudonym with the tags beside it."""
        generation, numbers = keyring.ids.generation, dict[ClassTag, int]()
        places = array("H", (numbers.setdefault(own.data_class, len(numbers)) for _, own in keyring.index))
        forged = (
            place
            for place, (segment, own) in enumerate(keyring.index)
            if tags is not None and tags.pseudonym(generation, own) != segment
        )
        return cls(
            where=keyring.where,
            generation=generation,
            run=keyring.ids.run,
            segments=bytes.fromhex("".join(segment for segment, _ in keyring.index)),
            classes=places,
            class_tags=tuple(numbers),
            shredded=frozenset(range(len(keyring.index))) - keyring.sealed.keys(),
            forged=frozenset(forged),
        )

    def segment(self, place: int) -> Pseudonym:
        """Return the segment listed in a place."""
        return Pseudonym(self.segments[place * _PSEUDONYM : (place + 1) * _PSEUDONYM].hex())

    def fault_of(self, row: SectionRow) -> str | None:
        """Say what is wrong with a pack's row that names this keyring; None when the listing is what the row says."""
        if self.segments[row.place * _PSEUDONYM : (row.place + 1) * _PSEUDONYM] != bytes.fromhex(row.segment):
            return f"lists a section under a place in '{self.where}' that is not its segment's"
        if row.place in self.forged:
            return f"lists a section whose pseudonym is not that of its tags in '{self.where}'"
        return None

    def class_of(self, place: int) -> ClassTag:
        """Return the tag of the data class of the segment in a place."""
        return self.class_tags[self.classes[place]]

    def forgeries(self) -> Iterator[Pseudonym]:
        """Yield the pseudonyms that are not those of the tags beside them."""
        return (self.segment(place) for place in sorted(self.forged))


class SectionPiece(NamedTuple):
    """The next bytes of a pack's sections."""

    at: int
    """The section's place in the header."""
    data: memoryview
    right: bool | None
    """With a section's last piece, whether all of it has the SHA-256 in the header; None before."""


def section_pieces(read: Callable[[int, int], bytes], there: PresenceMap, where: str) -> Iterator[SectionPiece]:
    """Read the sections of a pack that are there, one after another.

    `read` is given an offset in the pack, and a length. Memory holds one piece of 2 MiB. Raises DamageError for a pack
    that ends too early.
    """
    offset, size, data = there.offsets[0], there.pack_size, memoryview(b"")
    for index in there.there:
        row, digest = there.header.rows[index], hashlib.sha256()
        left = row.length
        while left:
            if not data:
                data = memoryview(read(offset, min(_PIECE, size - offset)))
                offset += len(data)
            if not data:
                raise DamageError(f"'{where}' is cut short")
            piece, data = data[:left], data[left:]
            digest.update(piece)
            left -= len(piece)
            yield SectionPiece(index, piece, None if left else digest.digest() == row.sha256)


class SectionFault(NamedTuple):
    """Something wrong with one section of a pack."""

    at: int
    """The section's place in the header."""
    message: str


KeyOf = Callable[[SectionRow], SegmentKey | None]
"""Returns the key of a section that is to be opened, None for one whose bytes are only hashed."""


def check_sections(store: StoreView, pack: OpenPack, key_of: KeyOf, scratch: Path) -> list[SectionFault]:
    """Compare every section that is there with its hash in the header, and open those that have a key.

    To open a section is to decrypt and decompress each of its blocks, and to parse its manifest. Larger ones are kept
    in `scratch` meanwhile. Returns what is wrong. A keeper that took sections out while they were read is no damage.
    Raises ObjectMissingError, DamageError for a pack that ends too early, and what `key_of` raises.
    """
    for attempt in range(_LOOKS):
        fault, found = None, list[SectionFault]()
        try:
            found = list(_faults(store, pack, key_of, scratch))
        except DamageError as error:
            fault = error
        if not (found or fault):
            break
        fresh = reopened(store, pack)
        if fresh.there.raw == pack.there.raw or attempt == _LOOKS - 1:
            break
        pack = fresh
    if fault is not None:
        raise fault
    return found


def _faults(store: StoreView, pack: OpenPack, key_of: KeyOf, scratch: Path) -> Iterator[SectionFault]:
    def read(offset: int, length: int) -> bytes:
        return store.get(pack.name, offset, length)

    with ExitStack() as stack:
        key: SegmentKey | None = None
        spool: IO[bytes] | None = None
        for index, data, right in section_pieces(read, pack.there, pack.name):
            if spool is None and (key := key_of(pack.header.rows[index])) is not None:
                spool = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_PIECE, dir=str(scratch)))
            if spool is not None:
                spool.write(data)
            if right is None:
                continue
            section = pack.section(index)
            if not right:
                yield SectionFault(index, f"'{section.where}' does not have the hash its header says")
            elif spool is not None and key is not None and (fault := open_section(spool, section, key)) is not None:
                yield SectionFault(index, fault)
            stack.close()
            spool = None


def open_section(file: IO[bytes], section: Section, key: SegmentKey) -> str | None:
    """Open every block of a section, whose bytes are those of `file`, and parse its manifest; return what is wrong."""

    def read_at(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    try:
        reader = SectionReader(read_at, section.row.length, key=key.key, context=section.context, where=section.where)
        for index in range(len(reader.blocks)):
            reader.open_block(index)
        for _ in read_entries(reader):
            pass
    except DamageError as error:
        return error.message
    return None
