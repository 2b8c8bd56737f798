"""With an identity, verify reads as a restore does: what hashes and signatures cover, and is wrong all the same."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from doubles.stores import small_repository
from doubles.stores.checker import ACME, SHARED, Checker, rows
from doubles.stores.faulty_store import FaultyStore
from doubles.stores.segments import SealedSection, publish_pack, seal_section, sha256
from doubles.stores.small_repository import Content, SmallRepository

from backupd.errors import KeyRefusedError, StoreGoneError
from backupd.operations.verify.packs import PackReader, ReadPacks
from backupd.repository.packs import OpenPack
from backupd.seal import suite
from backupd.seal.pack import PackContext
from backupd.seal.section_format import SectionContext

STRUCTURE = replace(SHARED, data_class="structure")


@pytest.fixture
def checker(tmp_path: Path) -> Checker:
    return Checker(tmp_path)


def test_a_wrong_identity_is_refused_before_anything_is_read(checker: Checker) -> None:
    """It is named as wrong, and is not damage."""
    checker.small.identity = suite.generate()
    with pytest.raises(KeyRefusedError, match="does not open"):
        checker.run(opened=True)


def test_a_record_that_miscounts_is_named(checker: Checker) -> None:
    """A writer's mistake that every hash and signature covers is still found by whoever can open."""
    small = checker.small
    record = small.repository.record(small.snapshot({ACME: Content((rows(9, "acme"),))}))
    totals = msgspec.structs.replace(record.totals, rows=10)
    wrong = msgspec.structs.replace(record, totals=totals, exported="2030-01-02T00:00:00.000000Z")
    small.publish(wrong)
    assert checker.run(opened=False).clean
    (finding,) = checker.run(opened=True).findings
    assert "does not have as many rows" in finding.message


def test_a_manifest_that_does_not_fit_its_rows_is_named(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are compared with the rows themselves, not only with each other."""
    monkeypatch.setattr(small_repository, "_spans", lambda rows: [(len(rows), sum(map(len, rows)), sha256(b"other"))])
    checker.small.snapshot({ACME: Content((rows(9, "acme"),))})
    assert checker.run(opened=False).clean
    (finding,) = checker.run(opened=True).findings
    assert finding.segment == checker.small.pseudonym(ACME)
    assert "differs from" in finding.message


def added(checker: Checker, blocks: list[list[bytes]], pieces: list[bytes], flip: int | None = None) -> OpenPack:
    """A pack with one section more for ACME, under its real key; flipped before it was hashed. A record names it."""
    small = checker.small
    keyring = small.repository.keyrings(small.generation)[-1]
    place = [segment for segment, _ in keyring.index].index(small.pseudonym(ACME))
    key = keyring.open(small.identity.secret).key(place)
    context = SectionContext(small.info.repository, small.generation, small.pseudonym(ACME), 77)
    section = seal_section(context, key, (keyring.ids.run, place), blocks, pieces)
    if flip is not None:
        at = flip % len(section.data)
        data = section.data[:at] + bytes([section.data[at] ^ 1]) + section.data[at + 1 :]
        section = SealedSection(section.row._replace(sha256=sha256(data)), data)
    pack = publish_pack(small.store, PackContext(small.info.repository, small.generation), [section])
    record = checker.records()[-1]
    packs = sorted([*record.packs, (pack.header.sha256, [], [0, 1])])
    small.publish(msgspec.structs.replace(record, packs=packs, previous=small.previous))
    return pack


def test_a_manifest_that_cannot_be_read_is_named(checker: Checker) -> None:
    """Also that of a section whose manifest no snapshot uses: a later one might."""
    pack = added(checker, [], [b'["rows",1]\n'])
    assert checker.run().clean
    (finding,) = checker.run(opened=True).findings
    assert (finding.object, "cannot be read" in finding.message) == (pack.name, True)


@pytest.mark.parametrize("flip", [0, 40, -1, -30])
def test_a_block_that_was_sealed_wrongly_is_named(checker: Checker, flip: int) -> None:
    """Every block of every section that is read, and the trailer, whether or not a manifest refers to it."""
    pack = added(checker, [[b"some data"], [b"other data" * 10]], [], flip)
    assert checker.run().clean
    (finding,) = checker.run(opened=True).findings
    assert (finding.object, finding.segment) == (pack.name, checker.small.pseudonym(ACME))


def test_rows_of_a_table_that_nobody_defines_are_named(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their columns would be anybody's guess."""
    monkeypatch.setattr(
        SmallRepository, "_with_definitions", lambda _, segments, __: {**segments, STRUCTURE: Content()}
    )
    checker.small.snapshot({ACME: Content((rows(9, "acme"),))})
    assert checker.run(opened=False).clean
    (finding,) = checker.run(opened=True).findings
    assert finding.segment == checker.small.pseudonym(ACME)
    assert "does not define" in finding.message


def test_one_wrong_segment_hides_no_other(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that is wrong is named, each that is right counts, in one run."""
    names = [replace(ACME, tenant=f"t{number}") for number in range(20)]
    wrong = {b"%d\t3\n" % at for at in range(9)}
    spans = small_repository._spans

    def some(rows: tuple[bytes, ...]) -> object:
        return [(1, 2, sha256(b""))] if wrong & set(rows) else spans(rows)

    monkeypatch.setattr(small_repository, "_spans", some)
    checker.small.start_generation()
    checker.small.snapshot({name: Content((rows(9, str(at % 7)),)) for at, name in enumerate(names)})
    result = checker.run(opened=True)
    assert {one.segment for one in result.findings} == {checker.small.pseudonym(names[at]) for at in (3, 10, 17)}
    assert result.opened == 6 + 21 - 3
    assert checker.small.previous not in result.proven


def test_a_section_that_nobody_read_before_is_told_from_its_neighbours(
    checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbours are fetched together, and still only the one that is wrong is named."""
    monkeypatch.setattr(PackReader, "read", lambda *_: ReadPacks())
    newest = checker.records()[-1].generation
    for pack in (pack for pack in checker.packs() if f"/{newest}/" in pack.name):
        path = checker.root / pack.name
        whole = path.read_bytes()
        for at, row in enumerate(pack.header.rows):
            place = pack.there.offsets[at] + 3
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            (finding,) = checker.run(opened=True).findings
            assert finding.segment == row.segment
        path.write_bytes(whole)


def test_a_share_of_the_content_is_compared_in_turn(checker: Checker) -> None:
    """Least recently compared first, so that in the end everything was."""
    whole = checker.run(opened=True).opened
    with_one = checker.run(opened=True, share=Fraction(1, 1000)).opened
    assert 0 < with_one < whole
    assert checker.run(opened=True, share=Fraction(0)).opened == 0


def test_an_unreachable_store_is_no_verdict(checker: Checker) -> None:
    """A connection that breaks is an error, neither clean nor damage, at whichever call it breaks."""
    counting = FaultyStore(checker.small.store)
    checker.reading = counting
    checker.run(opened=True)
    calls = len(counting.calls)
    for at in range(1, calls + 1, 7):
        checker.reading = FaultyStore(counting.inner, at)
        with pytest.raises(StoreGoneError):
            checker.run(opened=True)
