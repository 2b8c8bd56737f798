"""Packs' headers and maps, and what of them no key is needed for."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import pytest

from backupd.errors import DamageError, RefusedError
from backupd.model.ids import GenerationId, Pseudonym, RepositoryId, RunId
from backupd.seal import pack
from backupd.seal.pack import (
    CLEAR_START,
    ROW_SIZE,
    PackContext,
    PackHeader,
    PresenceMap,
    SectionRow,
    header_length,
    make_header,
    read_header,
)

CONTEXT = PackContext(RepositoryId("0f" * 16), GenerationId("20300101T000000Z-0a0b0c0d"))
RUNS = [RunId("20300101T000000Z-00000001"), RunId("20300102T000000Z-00000002")]


def row(segment: int, number: int = 1, *, run: int = 0, length: int = 100) -> SectionRow:
    digest = hashlib.sha256(f"{segment} {number}".encode()).digest()
    return SectionRow(Pseudonym(f"{segment:032x}"), RUNS[run], segment, number, length, digest)


ROWS = [row(1), row(1, 2, run=1), row(2, length=3000), *(row(at) for at in range(3, 9))]


def a_header() -> PackHeader:
    return make_header(CONTEXT, ROWS)


def with_table(change: bytes, at: int) -> bytes:
    """The header with other bytes at `at` of its table."""
    raw = a_header().raw
    place = len(raw) - ROW_SIZE * len(ROWS) + at
    return raw[:place] + change + raw[place + len(change) :]


def with_json(old: bytes, new: bytes) -> bytes:
    """The header with other JSON."""
    text = a_header().raw[CLEAR_START:].replace(old, new, 1)
    return pack.MAGIC + len(text).to_bytes(4, "little") + text


def test_a_header_comes_back() -> None:
    """Everything that is said of each section, sorted; the name is the hash of the header's bytes."""
    made = make_header(CONTEXT, reversed(ROWS))
    read = read_header(made.raw + b"what follows", "it")
    assert (read.context, list(read.rows), read.raw) == (CONTEXT, ROWS, made.raw)
    assert read.sha256 == made.sha256 == hashlib.sha256(made.raw).hexdigest()
    assert header_length(made.raw[:CLEAR_START], "it") == len(made.raw)


def test_every_flipped_bit_changes_the_name_or_is_refused() -> None:
    """A header that parses has another SHA-256 than its name says, which every reader compares."""
    made = a_header()
    for at in range(len(made.raw)):
        flipped = bytearray(made.raw)
        flipped[at] ^= 1 << (at % 8)
        with suppress(DamageError, RefusedError):
            assert read_header(bytes(flipped), "the pack").sha256 != made.sha256


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a pack"),
        (b"BKPDPART" + bytes(100), "is not a pack"),
        (pack.MAGIC + b"\1", "is cut short"),
        (pack.MAGIC + b"\xff\xff\xff\xff", "larger than allowed"),
        (pack.MAGIC + (8 * (1 << 20) + 1).to_bytes(4, "little"), "larger than allowed"),
        (a_header().raw[:-1], "is cut short"),
        (pack.MAGIC + b"\2\0\0\0{}", "cannot be read"),
        (with_json(b'"features"', b'"featurez"'), "cannot be read"),
        (with_json(b'"format":2', b'"format": 2'), "cannot be read"),
        (with_json(b"{", b'{"a":1,'), "cannot be read"),
        (with_json(b"0f0f", b"0F0f"), "cannot be read"),
        (with_json(b"\n", b"\n\0"), "cannot be read"),
        (with_table(b"\xff" * 16, 0), "does not list its sections in order"),
        (with_table(bytes.fromhex(ROWS[0].segment), ROW_SIZE * 2), "in order"),
        (with_table(b"\2\0", 16), "an impossible section"),
        (with_table(bytes(4), 22), "an impossible section"),
        (with_table((1).to_bytes(8, "little"), 26), "an impossible section"),
        (with_table((1 << 40).to_bytes(8, "little"), 26), "an impossible section"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_header_is_damage(data: bytes, message: str) -> None:
    """Every rule of the format is checked, and the message names the object."""
    with pytest.raises(DamageError, match="the pack") as caught:
        read_header(data, "the pack")
    assert message in caught.value.message


@pytest.mark.parametrize(
    "data", [with_json(b'"format":2', b'"format":3'), with_json(b'"features":[]', b'"features":["new"]')]
)
def test_another_format_is_refused(data: bytes) -> None:
    """A newer pack is not called damaged."""
    with pytest.raises(RefusedError, match="the pack"):
        read_header(data, "the pack")


@pytest.mark.parametrize("rows", [[], [ROWS[0], row(1, length=50)]], ids=["none", "twice"])
def test_a_header_without_sections_or_with_one_twice_is_not_made(rows: list[SectionRow]) -> None:
    """A writer that lost count is told at once."""
    with pytest.raises(ValueError, match="no section, or one section twice"):
        make_header(CONTEXT, rows)


def test_a_pack_over_its_limit_is_neither_made_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum of what a header promises is checked before anybody allocates by it."""
    raw = a_header().raw
    monkeypatch.setattr(pack, "PACK_LIMIT", 4000)
    with pytest.raises(ValueError, match="too large"):
        make_header(CONTEXT, ROWS)
    with pytest.raises(DamageError, match="promises more"):
        read_header(raw, "it")


def test_sections_move_when_others_are_taken_out() -> None:
    """Places follow from header and map; what is taken out has no size, and the map says so."""
    header = a_header()
    full = PresenceMap.full(header)
    start = len(header.raw) + 2
    assert (len(full.raw), full.there, full.offsets[0]) == (2, list(range(9)), start)
    assert full.pack_size == start + 8 * 100 + 3000
    less = full.without([0, 2])
    assert less.there == [1, 3, 4, 5, 6, 7, 8]
    assert (0 in less, 1 in less, 2 in less) == (False, True, False)
    assert list(less.offsets[:4]) == [start, start, start + 100, start + 100]
    assert less.pack_size == start + 7 * 100
    assert PresenceMap.read(header, less.raw, "it").there == less.there
    assert less.without(range(9)).pack_size == start


@pytest.mark.parametrize("raw", [b"\xff", b"\xff\x01\0", b"\xff\x03", b"\xff\x81"], ids=["cut", "long", "9", "15"])
def test_a_map_that_speaks_of_other_sections_is_damage(raw: bytes) -> None:
    """A bit behind the last section, or another length, is no map of this pack."""
    with pytest.raises(DamageError, match="presence map of 'it'"):
        PresenceMap.read(a_header(), raw, "it")


def test_the_name_does_not_depend_on_what_is_there() -> None:
    """Header and name stay when sections go."""
    header = a_header()
    less = PresenceMap.full(header).without([3])
    data = header.raw + less.raw
    again = read_header(data, "it")
    assert (again.sha256, list(again.rows)) == (header.sha256, list(header.rows))
