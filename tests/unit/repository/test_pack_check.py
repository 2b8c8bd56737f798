"""Packs are read piece by piece: whatever the pieces, each section is hashed, opened and left as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from doubles.stores.segments import CONTEXT, HandmadeSegment, seal_section, take_out
from doubles.stores.small_repository import TENANT_KEY

from backupd.errors import DamageError
from backupd.model.ids import ClassTag, DatabaseTag, RegionName, RepositoryId, RunId, SegmentTags, TenantTag
from backupd.model.tenancy import SegmentName
from backupd.repository import pack_check
from backupd.repository.pack_check import KeyringListing, check_sections, section_pieces
from backupd.repository.packs import OpenPack, open_pack
from backupd.seal import suite
from backupd.seal.documents import Signer
from backupd.seal.keyring import KeyringIds, KeyringWriter, parse_keyring, without_lines
from backupd.seal.pack import SectionRow
from backupd.seal.section_format import SectionContext
from backupd.seal.tags import TenantTags

GENERATION = CONTEXT.generation


@pytest.fixture
def segment(directory_store) -> HandmadeSegment:
    return HandmadeSegment(directory_store)


def pack_of(segment: HandmadeSegment) -> OpenPack:
    """Five sections, of a few hundred bytes to a few thousand."""
    sealed = []
    for at in range(5):
        context = SectionContext(CONTEXT.repository, CONTEXT.generation, segment.segment, at + 1)
        blocks, manifest = [[os.urandom(100 << at)]], [b'["sequences",[]]\n']
        sealed.append(seal_section(context, segment.key, segment.place, blocks, manifest))
    return segment.publish(*sealed).pack


@pytest.mark.parametrize("piece", [1, 7, 400, 1 << 20])
@pytest.mark.parametrize("gone", [(), (0,), (1, 3), (4,), (0, 1, 2, 3, 4)])
def test_pieces_are_the_sections_that_are_there(segment, monkeypatch, piece: int, gone: tuple[int, ...]) -> None:
    """In order, to the last byte, with one verdict each."""
    monkeypatch.setattr(pack_check, "_PIECE", piece)
    pack = pack_of(segment)
    whole = segment.store.get(pack.name)
    if gone:
        take_out(segment.store, pack, gone)
    now = open_pack(segment.store, CONTEXT.repository, GENERATION, pack.header.sha256)
    read: dict[int, bytes] = {}
    verdicts = []
    for one in section_pieces(lambda at, size: segment.store.get(pack.name, at, size), now.there, pack.name):
        read[one.at] = read.get(one.at, b"") + bytes(one.data)
        verdicts += [] if one.right is None else [(one.at, one.right)]
    assert verdicts == [(at, True) for at in range(5) if at not in gone]
    offsets = pack.there.offsets
    assert read == {at: whole[offsets[at] : offsets[at + 1]] for at in range(5) if at not in gone}


@pytest.mark.parametrize("left", [1, 50, 3000])
def test_a_pack_that_ends_too_early_is_damage(segment, left: int) -> None:
    """Wherever it ends."""
    pack = pack_of(segment)
    whole = segment.store.get(pack.name)[:-left]
    with pytest.raises(DamageError, match="cut short"):
        list(section_pieces(lambda at, size: whole[at : at + size], pack.there, pack.name))


@pytest.mark.parametrize("piece", [16, 1 << 20])
def test_sections_larger_than_memory_should_hold_are_opened_from_a_file(
    segment, monkeypatch, tmp_path: Path, piece: int
) -> None:
    """And nothing of them is left there."""
    monkeypatch.setattr(pack_check, "_PIECE", piece)
    pack = pack_of(segment)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert check_sections(segment.store, pack, lambda _: segment.key, scratch) == []
    other = HandmadeSegment(segment.store, segment=segment.segment).key
    faults = check_sections(segment.store, pack, lambda row: other if row.number == 3 else segment.key, scratch)
    assert [fault.at for fault in faults] == [2]
    assert list(scratch.iterdir()) == []


def test_a_listing_says_what_its_keyring_does() -> None:
    """Each place's segment, class and key; a pseudonym beside other tags is forged to who has the tenant key."""
    tags, signer = TenantTags(TENANT_KEY, RegionName("be")), Signer(bytes(range(32)))
    ids = KeyringIds(RepositoryId("ab" * 16), RegionName("be"), GENERATION, RunId(GENERATION))
    writer, name = KeyringWriter(ids, [suite.generate().public]), SegmentName("a", "b", None)
    owners = [
        SegmentTags(TenantTag(f"{at:032x}"), ClassTag(f"{at % 2:016x}"), DatabaseTag("d" * 16)) for at in range(4)
    ]
    segments = [tags.pseudonym(GENERATION, own) for own in owners]
    listed = [owners[0], owners[3], owners[2], owners[3]]  # the second beside the tags of the fourth
    for segment, own in zip(segments, listed, strict=True):
        writer.add(segment, bytes(32), name, own)
    data = writer.render("2030-01-01T00:00:00.000000Z", signer)
    data = without_lines(data, parse_keyring(data, {signer.public}, "here"), {segments[2]})
    keyring = parse_keyring(data, {signer.public}, "here")
    seen = KeyringListing.of(keyring, tags)
    assert [seen.segment(at) for at in range(4)] == segments
    assert [seen.class_of(at) for at in range(4)] == [own.data_class for own in listed]
    assert (seen.shredded, list(seen.forgeries())) == ({2}, [segments[1]])
    rows = {
        (at, segment): seen.fault_of(SectionRow(segment, ids.run, at, 1, 100, bytes(32)))
        for at in (0, 1, 2, 3, 4, 1 << 31)
        for segment in segments
    }
    assert {place for place, fault in rows.items() if fault is None} == {(at, segments[at]) for at in (0, 2, 3)}
    assert "not that of its tags" in str(rows[1, segments[1]])
    assert "under a place" in str(rows[1, segments[0]])
    assert list(KeyringListing.of(keyring, None).forgeries()) == []
