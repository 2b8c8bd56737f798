"""Packs on a store: opened, read while others take sections out, and compared with the records that name them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from doubles.stores.segments import GENERATION, REPOSITORY, HandmadeSegment, take_out
from doubles.stores.small_repository import SmallRepository, notes
from doubles.stores.snapshots import look

from backupd.errors import BackupdError, DamageError, ObjectMissingError
from backupd.model.documents import Record
from backupd.model.ids import GenerationId, ObjectHash, RepositoryId
from backupd.model.tenancy import SegmentName
from backupd.repository import layout
from backupd.repository.packs import OpenPack, fetch_section, list_sections, open_pack, open_packs, read_sections
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore

SHARED, ACME = SegmentName("app", "uploaded", None), SegmentName("app", "uploaded", "acme")


@pytest.fixture
def segment(directory_store: DirectoryStore) -> HandmadeSegment:
    return HandmadeSegment(directory_store)


@pytest.fixture
def pack(segment: HandmadeSegment) -> OpenPack:
    """A pack of three sections."""
    return segment.publish(*(segment.sealed([[f"rows {number}\n".encode() * 30]]) for number in range(3))).pack


def sha256_of(pack: OpenPack) -> ObjectHash:
    return pack.header.sha256


def reopened(store: Store, pack: OpenPack) -> OpenPack:
    return open_pack(store, REPOSITORY, GENERATION, sha256_of(pack))


def test_a_pack_is_opened_by_its_name(segment: HandmadeSegment, pack: OpenPack) -> None:
    """Every section is listed, has a place, and is what its row says."""
    assert (pack.name, len(pack.header.rows)) == (layout.pack_name(GENERATION, sha256_of(pack)), 3)
    for section in pack.sections():
        data = fetch_section(segment.store, section)
        assert hashlib.sha256(data).digest() == section.row.sha256
        assert section.context.number == section.row.number == section.at + 1
        assert pack.name in section.where


def test_a_long_header_is_read_whole(segment: HandmadeSegment) -> None:
    """A header longer than what is read first, and a map behind it."""
    sealed = [segment.sealed([[b"x"]]) for _ in range(1200)]
    made = segment.publish(*sealed).pack
    opened = reopened(segment.store, made)
    assert len(opened.header.raw) > 64 << 10
    assert opened.there.there == list(range(1200))
    assert fetch_section(segment.store, opened.section(1199)) == sealed[-1].data


def test_a_section_is_read_although_another_was_taken_out(segment: HandmadeSegment, pack: OpenPack) -> None:
    """The map is read again, once; the section is the same bytes at another place."""
    before = fetch_section(segment.store, pack.section(2))
    take_out(segment.store, pack, [0])
    assert fetch_section(segment.store, pack.section(2)) == before
    with pytest.raises(ObjectMissingError, match=f"{pack.name}, section 0"):
        fetch_section(segment.store, pack.section(0))
    take_out(segment.store, reopened(segment.store, pack), [1, 2])
    with pytest.raises(ObjectMissingError, match="section 2"):
        fetch_section(segment.store, pack.section(2))
    empty = reopened(segment.store, pack)
    assert (empty.there.there, list(empty.sections())) == ([], [])


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:5],
        lambda data: data[:200],
        lambda _: b"",
        lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    ],
    ids=["cut in its length", "cut in its header", "empty", "flipped"],
)
def test_a_header_that_is_not_its_names_is_damage(
    segment: HandmadeSegment, pack: OpenPack, root_of: Callable[..., Path], change: Callable[[bytes], bytes]
) -> None:
    """The message names the pack."""
    path = root_of(segment.store) / pack.name
    path.chmod(0o600)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DamageError) as caught:
        reopened(segment.store, pack)
    assert pack.name in caught.value.message


@pytest.mark.parametrize("at", [1, 40, 44, 48, 50, 66], ids=["sha256", "length", "number", "key", "keyring", "segment"])
def test_a_row_of_a_header_is_held_by_the_packs_name(
    segment: HandmadeSegment, pack: OpenPack, root_of: Callable[..., Path], at: int
) -> None:
    """Also where the header can be read, and says something else of its last section than when it was named."""
    path = root_of(segment.store) / pack.name
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(pack.header.raw) - at] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DamageError, match=r"header of '.*' does not have the hash its name says"):
        reopened(segment.store, pack)


def test_a_map_of_other_sections_is_damage(
    segment: HandmadeSegment, pack: OpenPack, root_of: Callable[..., Path]
) -> None:
    """A map with a bit behind the last section is no map."""
    path = root_of(segment.store) / pack.name
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(pack.header.raw)] |= 8
    path.write_bytes(bytes(data))
    with pytest.raises(DamageError, match="presence map"):
        reopened(segment.store, pack)


def test_a_section_with_other_bytes_is_damage(
    segment: HandmadeSegment, pack: OpenPack, root_of: Callable[..., Path]
) -> None:
    """What its header says of a section holds for every byte of it."""
    path = root_of(segment.store) / pack.name
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[pack.section(1).offset + 3] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(DamageError, match="section 1' does not have the hash"):
        fetch_section(segment.store, pack.section(1))
    assert fetch_section(segment.store, pack.section(0))


@pytest.mark.parametrize(
    ("repository", "generation"),
    [(RepositoryId("cd" * 16), GENERATION), (REPOSITORY, GenerationId("20260102T030405Z-ffffffff"))],
    ids=["repository", "generation"],
)
def test_a_pack_of_another_place_is_damage(
    segment: HandmadeSegment, pack: OpenPack, repository: RepositoryId, generation: GenerationId
) -> None:
    """A pack cannot be carried over from where it was made."""
    data = segment.store.get(pack.name)
    name = layout.pack_name(generation, sha256_of(pack))
    if generation != GENERATION:
        segment.store.put_new(name, io.BytesIO(data), len(data), ObjectHash(hashlib.sha256(data).hexdigest()))
    with pytest.raises(DamageError, match="belongs to another generation or repository"):
        open_pack(segment.store, repository, generation, sha256_of(pack))


def test_packs_are_opened_in_order_each_with_its_own_error(segment: HandmadeSegment) -> None:
    """A missing one does not keep the others from being read."""
    names = [sha256_of(segment.section(blocks=[[b"x"]]).pack) for _ in range(12)]
    wanted = [*names[:6], ObjectHash("ab" * 32), *names[6:]]
    found = dict(open_packs(segment.store, REPOSITORY, GENERATION, wanted))
    assert list(found) == wanted
    assert isinstance(found[ObjectHash("ab" * 32)], ObjectMissingError)
    assert all(isinstance(found[name], OpenPack) for name in names)


@pytest.fixture
def small(directory_store: DirectoryStore) -> SmallRepository:
    return SmallRepository(directory_store)


def test_a_snapshots_sections_are_those_its_record_names(small: SmallRepository) -> None:
    """One manifest for each segment, and what the manifests refer to, over the packs of several runs."""
    small.snapshot({SHARED: notes("shared"), ACME: notes("old")})
    record = small.repository.record(small.snapshot({SHARED: notes("shared"), ACME: notes("new")}))
    listed = read_sections(small.store, record)
    segments = {small.pseudonym(name) for name in (SHARED, ACME, SegmentName("app", "structure", None))}
    assert listed.manifests.keys() == segments
    assert {segment for segment, _ in listed.sections} == segments
    assert len({section.pack.name for section in listed.sections.values()}) == 4
    assert listed.size == record.totals.stored
    seen = look(small.repository, small.repository.snapshots()[-1], small.identity.secret)
    assert seen.rows("public.note")["acme"][0] == "0\tnew"


def wrong_records() -> dict[str, Callable[[Record], Record]]:
    def with_packs(change: Callable[[list], list]) -> Callable[[Record], Record]:
        return lambda record: msgspec.structs.replace(record, packs=change(record.packs))

    return {
        "beyond the header": with_packs(lambda packs: [(packs[0][0], [0, 99], []), *packs[1:]]),
        "not in order": with_packs(lambda packs: [(packs[0][0], [1, 1, 0, 1], []), *packs[1:]]),
        "twice in one pack": with_packs(lambda packs: [(name, [0, 1], [0, 1]) for name, _, _ in packs]),
        "two manifests of a segment": with_packs(
            lambda packs: [(name, to_all(one, two), []) for name, one, two in packs]
        ),
        "no manifest of a segment": with_packs(
            lambda packs: [(name, [], to_all(one, two)) for name, one, two in packs]
        ),
    }


def to_all(manifests: list[int], others: list[int]) -> list[int]:
    """All of a pack's sections as manifests."""
    return manifests or others


@pytest.mark.parametrize("how", wrong_records())
def test_a_record_that_names_what_no_pack_lists_is_damage(small: SmallRepository, how: str) -> None:
    """Sections beyond a header, ranges that are none, and a section or a segment's manifest named twice."""
    record = small.repository.record(small.snapshot({SHARED: notes("shared"), ACME: notes("acme")}))
    packs = {name: small.repository.pack(small.generation, name) for name, _, _ in record.packs}
    list_sections(record, packs)
    with pytest.raises(DamageError, match="a record names"):
        list_sections(wrong_records()[how](record), packs)


def test_a_missing_pack_is_named(small: SmallRepository) -> None:
    """A snapshot whose pack is gone cannot be listed."""
    record = small.repository.record(small.snapshot({SHARED: notes("shared")}))
    name = layout.pack_name(small.generation, record.packs[0][0])
    small.store.remove(name)
    with pytest.raises(BackupdError, match=record.packs[0][0]):
        read_sections(small.store, record)
