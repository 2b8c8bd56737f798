"""Cutting rows: whatever they are and however they arrive, the cuts joined are the rows, and the same each time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.rows import tenant_chunker as chunker
from backupd.rows.tenant_chunker import Chunker, Cut, pieces

TENANTS = st.sampled_from([b"a", b"b", b"cc", b"\\N", b"", b"\\\\", b"t\\tx", b"\xf0\x9f\x82\xa1"])
ROW = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"same", b"\\.", b"\\N"]),
    st.integers(0, 3000).map(lambda size: b"x" * size),
).map(lambda row: row.replace(b"\n", b"\\n"))
ROWS = st.lists(st.tuples(TENANTS, ROW, st.integers(1, 40)), max_size=60).map(
    lambda runs: [(tenant, row) for tenant, row, times in runs for _ in range(times)]
)
MASKS = st.sampled_from([0, 1, 7, 63, (1 << 20) - 1])
SIZES = st.lists(st.integers(1, 5000), min_size=1, max_size=8)


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    """Small enough that a few kilobytes meet every limit."""
    with patch.multiple(chunker, LONG_ROW=2000, LARGEST_CHUNK=700, STRETCH=1000):
        yield


def stream_of(rows: list[tuple[bytes, bytes]], *, routed: bool) -> bytes:
    return b"".join((tenant + b"\t" if routed else b"") + row + b"\n" for tenant, row in rows)


def blocks(stream: bytes, sizes: list[int]) -> Iterator[bytes]:
    place = start = 0
    while start < len(stream):
        size = sizes[place % len(sizes)]
        yield stream[start : start + size]
        start, place = start + size, place + 1


def cuts_of(stream: bytes, sizes: list[int], *, routed: bool, mask: int, limit: int = 1 << 30) -> list[Cut]:
    row_chunker = Chunker(routed=routed, mask=mask, seed=7, limit=limit)
    cuts = [cut for block in blocks(stream, sizes) for cut in row_chunker.feed(block)] + row_chunker.finish()
    assert row_chunker.rows == stream.count(b"\n")
    return cuts


def by_tenant(cuts: list[Cut]) -> dict[bytes | None, list[tuple[bytes, int]]]:
    found: dict[bytes | None, list[tuple[bytes, int]]] = {}
    for cut in cuts:
        found.setdefault(cut.tenant, []).append((cut.data, cut.rows))
    return found


@settings(max_examples=150, deadline=None)
@given(ROWS, MASKS, SIZES, st.sampled_from([200, 3000, 1 << 30]), st.booleans())
def test_the_cuts_are_the_rows(
    rows: list[tuple[bytes, bytes]], mask: int, sizes: list[int], limit: int, routed: bool
) -> None:
    """Per tenant and in order, each row counted where it ends, no piece larger than a chunk may be."""
    found = by_tenant(cuts_of(stream_of(rows, routed=routed), sizes, routed=routed, mask=mask, limit=limit))
    wanted: dict[bytes | None, bytes] = {}
    for tenant, row in rows:
        key = tenant if routed else None
        wanted[key] = wanted.get(key, b"") + row + b"\n"
    assert {tenant: b"".join(data for data, _ in parts) for tenant, parts in found.items()} == wanted
    assert all(0 < len(data) <= chunker.LARGEST_CHUNK for parts in found.values() for data, _ in parts)
    assert all(data.count(b"\n") == count for parts in found.values() for data, count in parts)


@settings(max_examples=150, deadline=None)
@given(ROWS, MASKS, SIZES, SIZES, st.sampled_from([200, 3000, 1 << 30]), st.booleans())
def test_how_a_stream_arrives_makes_no_difference(
    rows: list[tuple[bytes, bytes]], mask: int, one: list[int], other: list[int], limit: int, routed: bool
) -> None:
    """Also where memory is short and rows are long: an unchanged table makes the same chunks, whatever the pipe did."""
    stream = stream_of(rows, routed=routed)
    first = by_tenant(cuts_of(stream, one, routed=routed, mask=mask, limit=limit))
    assert by_tenant(cuts_of(stream, other, routed=routed, mask=mask, limit=limit)) == first


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=3, max_size=12), min_size=200, max_size=400), st.integers(0, 199), SIZES)
def test_a_new_row_changes_the_chunks_around_it_only(rows: list[bytes], place: int, sizes: list[int]) -> None:
    """Boundaries are told by content: what follows the next one is cut as before."""
    rows = [b"%d %s" % (number, row.hex().encode()) for number, row in enumerate(rows)]
    before = by_tenant(cuts_of(b"\n".join(rows) + b"\n", sizes, routed=False, mask=7))[None]
    rows.insert(place, b"new")
    after = by_tenant(cuts_of(b"\n".join(rows) + b"\n", sizes, routed=False, mask=7))[None]
    assert len(set(after) - set(before)) <= 3


@settings(max_examples=60, deadline=None)
@given(ROWS, SIZES, st.integers(2000, 9000))
def test_what_is_held_is_bounded(rows: list[tuple[bytes, bytes]], sizes: list[int], limit: int) -> None:
    """After any block, no more than the limit, a stretch and the row under way."""
    row_chunker = Chunker(routed=True, mask=(1 << 20) - 1, seed=7, limit=limit)
    for block in blocks(stream_of(rows, routed=True), sizes):
        row_chunker.feed(block)
        held = sum(len(row) for buffer in row_chunker._buffers.values() for row in buffer.rows)
        assert held <= limit + chunker.STRETCH + chunker.LONG_ROW + len(block)
        assert len(row_chunker._carry) + len(row_chunker._tail) <= chunker.LONG_ROW + len(block) + chunker.LARGEST_CHUNK


@settings(max_examples=60, deadline=None)
@given(ROWS, MASKS, SIZES, st.integers(200, 9000), st.booleans(), st.booleans())
def test_the_count_of_what_is_held_is_exact(
    rows: list[tuple[bytes, bytes]], mask: int, sizes: list[int], limit: int, routed: bool, bare: bool
) -> None:
    """Whatever was cut, also of long rows and of tables without other columns: it does not drift as a table goes on."""
    stream = stream_of(rows, routed=routed) if not bare else b"".join(tenant + b"\n" for tenant, _ in rows)
    row_chunker = Chunker(routed=routed, mask=mask, seed=7, limit=limit)
    for block in blocks(stream, sizes):
        row_chunker.feed(block)
        before = 0 if bare or not routed else 1
        held = sum(
            len(row) + chunker.ROW_SIZE + (len(buffer.tenant) + before if buffer.tenant is not None else 0)
            for buffer in row_chunker._all_buffers()
            for row in buffer.rows
        )
        assert row_chunker._held == held
    row_chunker.finish()
    assert row_chunker._held == 0


def test_short_rows_count_with_what_they_take() -> None:
    """Of rows of a few bytes, Python's share of the memory is ten times theirs."""
    row_chunker, limit = Chunker(routed=True, mask=(1 << 20) - 1, seed=7, limit=50_000), 50_000
    for number in range(20_000):
        row_chunker.feed(b"%d\tx\n" % (number % 500))
        rows = sum(len(buffer.rows) for buffer in row_chunker._buffers.values())
        assert rows * sys.getsizeof(b"x") <= limit + chunker.STRETCH * sys.getsizeof(b"x")


def test_rows_without_columns_are_rows() -> None:
    """A table may have none: its rows are empty lines, and those of a routed one the tenant alone."""
    (parts,) = by_tenant(cuts_of(b"\n" * 5, [2], routed=False, mask=63)).values()
    assert b"".join(data for data, _ in parts) == b"\n" * 5
    assert by_tenant(cuts_of(b"a\nb\na\n", [4], routed=True, mask=0)) == {b"a": [(b"\n\n", 2)], b"b": [(b"\n", 1)]}


def test_equal_rows_make_chunks_of_sensible_size() -> None:
    """Not one each when their checksum ends a chunk, and not one of all when it never does."""
    ending = by_tenant(cuts_of(b"x\n" * 1000, [999], routed=False, mask=0))[None]
    assert {count for _, count in ending} == {2}
    longest = []
    for row in (b"%d\n" % number for number in range(20)):
        parts = by_tenant(cuts_of(row * 1000, [999], routed=False, mask=3))[None]
        longest.append(max(count for _, count in parts))
    assert set(longest) == {2, 4 * chunker.LONGEST_CHUNK}


def test_a_stream_cut_inside_a_row_is_refused() -> None:
    """Half a row must not become a whole one."""
    for stream in (b"whole\nhal", b"x" * 5000):
        row_chunker = Chunker(routed=False, mask=1, seed=7, limit=1 << 20)
        row_chunker.feed(stream)
        with pytest.raises(ValueError, match="inside a row"):
            row_chunker.finish()


@given(st.lists(st.binary(max_size=50)), st.integers(1, 64))
def test_pieces_join_to_the_stream(parts: list[bytes], size: int) -> None:
    """All of the size asked for, but the last."""
    found = list(pieces(parts, size))
    assert b"".join(found) == b"".join(parts)
    assert all(len(piece) == size for piece in found[:-1])
    assert all(found)
