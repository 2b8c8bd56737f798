"""Packs, keyrings and records as they lie on stores, read from their bytes, and remembered as long as these stay."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from doubles.stores.memory_store import Objects
from doubles.stores.snapshots import check_spans, chunks_of, run_content

from backupd.model.ids import GenerationId, ObjectName, Pseudonym, RunId
from backupd.model.manifest import RowsEntry
from backupd.model.ranges import from_ranges
from backupd.repository import layout
from backupd.repository.manifests import read_entries
from backupd.seal.keyring import Keyring, OpenedKeyring, parse_keyring
from backupd.seal.pack import PackHeader, PresenceMap, SectionRow, read_header
from backupd.seal.section_format import SectionContext
from backupd.seal.section_reader import SectionReader

T = TypeVar("T")
ENTRY = 52
"""Bytes of an entry in a keyring's index."""


class StoredPack(NamedTuple):
    """A pack, every section of which was compared with its hash."""

    header: PackHeader
    there: PresenceMap
    data: bytes

    def section(self, at: int) -> bytes:
        return self.data[self.there.offsets[at] : self.there.offsets[at + 1]]


class NamedSection(NamedTuple):
    """A section that a record names."""

    pack: str
    """The pack's object."""
    at: int
    row: SectionRow
    is_manifest: bool

    @property
    def place(self) -> tuple[str, int]:
        return self.pack, self.at


class KnownKeyring(NamedTuple):
    """A keyring, and its keys."""

    keyring: Keyring
    opened: OpenedKeyring


class _ByBytes(Generic[T]):
    """What was read of bytes, by the very bytes."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[bytes, T]] = {}

    def get(self, data: bytes) -> T | None:
        kept, found = self._found.get(id(data), (None, None))
        return found if kept is data else None

    def put(self, data: bytes, found: T) -> T:
        self._found[id(data)] = data, found
        return found


class StoredBytes:
    """The reading of objects, whatever store they are on."""

    def __init__(self, identity_secret: bytes, signer: str) -> None:
        self._secret, self._signer = identity_secret, signer
        self._packs = _ByBytes[StoredPack]()
        self._residues = _ByBytes[set[Pseudonym]]()
        self._opened = _ByBytes[KnownKeyring]()
        self._headers: dict[str, PackHeader] = {}
        self._sound: set[tuple[bytes, bytes]] = set()

    def pack(self, name: str, data: bytes) -> StoredPack:
        """A pack, read whole: it is what its name, its header and its map say."""
        known = self._packs.get(data)
        if known is not None:
            return known
        header = read_header(data, name)
        assert hashlib.sha256(header.raw).hexdigest() == layout.place_of(ObjectName(name)).sha256
        end = len(header.raw) + header.map_size
        there = PresenceMap.read(header, data[len(header.raw) : end], name)
        assert there.pack_size == len(data), f"{name} is not as long as its map says"
        pack = StoredPack(header, there, data)
        for at in there.there:
            assert hashlib.sha256(pack.section(at)).digest() == header.rows[at].sha256, (
                f"a section of {name} is damaged"
            )
        self._headers[name] = header
        return self._packs.put(data, pack)

    def named(self, record: Mapping[str, Any], objects: Objects) -> list[NamedSection]:
        """The sections that a record names, whether or not their packs are still there; they were, some time."""
        found = []
        for sha256, manifests, others in record["packs"]:
            name = f"packs/{record['generation']}/{sha256}.pack"
            if name in objects:
                self.pack(name, objects[name][0])
            rows = self._headers[name].rows
            for ranges, is_manifest in ((manifests, True), (others, False)):
                found += [NamedSection(name, at, rows[at], is_manifest) for at in from_ranges(ranges, len(rows))]
        return found

    def residues(self, name: str, data: bytes) -> set[Pseudonym]:
        """Whose bytes an object holds, whatever it is called: a pack's sections, the keys in a keyring."""
        known = self._residues.get(data)
        return self._residues.put(data, set(_residues(name, data))) if known is None else known

    def has(self, objects: Objects, section: NamedSection) -> bool:
        found = objects.get(section.pack)
        return found is not None and section.at in self.pack(section.pack, found[0]).there

    def keys(self, objects: Objects, generation: GenerationId) -> dict[RunId, KnownKeyring]:
        """Every keyring of a generation."""
        found = {}
        for name, (data, _) in objects.items():
            if name.startswith(f"keyrings/{generation}/"):
                known = self._opened.get(data)
                if known is None:
                    keyring = parse_keyring(data, [self._signer], name)
                    known = self._opened.put(data, KnownKeyring(keyring, keyring.open(self._secret)))
                found[known.keyring.ids.run] = known
        return found

    def check_segment(
        self, objects: Objects, sections: Iterable[NamedSection], keys: Mapping[RunId, KnownKeyring]
    ) -> None:
        """Every section is there and opens, and every row is what the manifest says."""
        listed = list(sections)
        for section in listed:
            assert section.pack in objects, "a pack that a record needs is missing"
            assert self.has(objects, section), "a section that a record needs is missing"
        chosen = [section for section in listed if section.is_manifest]
        assert len(chosen) == 1, "a segment has not one manifest"
        secrets = {section.row.number: _key(section.row, keys) for section in listed}
        mark = chosen[0].row.sha256, b"".join(secrets[number] for number in sorted(secrets))
        if mark in self._sound:
            return
        self._sound.add(mark)
        readers = {
            section.row.number: self._reader(objects, section, secrets[section.row.number]) for section in listed
        }
        chunks = {number: chunks_of(reader) for number, reader in readers.items()}
        for entry in read_entries(readers[chosen[0].row.number]):
            if isinstance(entry, RowsEntry):
                check_spans(entry, run_content(entry.runs, chunks))

    def _reader(self, objects: Objects, section: NamedSection, key: bytes) -> SectionReader:
        pack = self.pack(section.pack, objects[section.pack][0])
        data, header = pack.section(section.at), pack.header.context
        context = SectionContext(header.repository, header.generation, section.row.segment, section.row.number)
        return SectionReader(
            lambda at, length: data[at : at + length], len(data), key=key, context=context, where=section.pack
        )


def _key(row: SectionRow, keys: Mapping[RunId, KnownKeyring]) -> bytes:
    assert row.keyring in keys, "a keyring that a record needs is missing"
    known = keys[row.keyring]
    assert known.keyring.index[row.place][0] == row.segment, "a pack names another segment's key"
    assert row.place in known.keyring.sealed, "a key that a record needs is missing"
    return known.opened.key(row.place).key


def _residues(name: str, data: bytes) -> Iterator[Pseudonym]:
    if data.startswith(b"BKPDPACK"):
        header = read_header(data, name)
        there = PresenceMap.read(header, data[len(header.raw) : len(header.raw) + header.map_size], name)
        yield from (header.rows[at].segment for at in there.there)
    elif b'"kind":"keyring"' in data[: data.find(b"\n")]:
        lines = data.split(b"\n")
        index = base64.b64decode(json.loads(lines[0])["entries"])
        for line in lines[3:-1]:
            place = ENTRY * json.loads(line)[0]
            yield Pseudonym(index[place : place + 16].hex())


def kept_lines(before: bytes, after: bytes) -> tuple[set[Pseudonym], bool]:
    """The segments whose lines are gone from a keyring; and whether all else is as it was."""
    old, new = before.split(b"\n"), after.split(b"\n")
    kept = set(new)
    gone = set(_residues("", before)) - set(_residues("", after))
    return gone, old[:3] == new[:3] and new == [line for line in old if line in kept]
