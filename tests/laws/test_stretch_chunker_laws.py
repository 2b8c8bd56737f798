"""Cutting a stretch: each of its extents has the cuts that it has by itself, however the stream arrives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.rows import tenant_chunker as chunker
from backupd.rows.stretch_chunker import RowsOutOfOrderError, StretchChunker
from backupd.rows.tenant_chunker import Chunker, Cut

TENANTS = st.sampled_from([b"a", b"bb", b"\\N", b""])
ROW = st.one_of(
    st.binary(max_size=40).map(lambda row: row.replace(b"\n", b"\\n")),
    st.sampled_from([b"", b"1\t2\t3", b"x" * 900, b"x" * 1100, b"x" * 3000]),
)
"""The mark counts for whether a row is a long one, too: one of just that length may be cut otherwise."""
EXTENTS = st.lists(st.lists(st.tuples(TENANTS, ROW), max_size=6), min_size=1, max_size=12)
SIZES = st.lists(st.integers(5, 3000), min_size=1, max_size=4)
Extent = Sequence[tuple[bytes, bytes]]


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    with patch.multiple(chunker, LONG_ROW=1000, LARGEST_CHUNK=700, STRETCH=900):
        yield


def _lines(extent: Extent, mark: bytes = b"") -> bytes:
    return b"".join(mark + tenant + b"\t" + row + b"\n" for tenant, row in extent)


def _blocks(stream: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    number = 0
    while stream:
        size = sizes[number % len(sizes)]
        yield stream[:size]
        stream, number = stream[size:], number + 1


def _cuts(row_chunker: Chunker, stream: bytes, sizes: Sequence[int]) -> dict[int, list[Cut]]:
    """Return the cuts by the extent that they were made in; a chunker without borders has one."""
    found: dict[int, list[Cut]] = {}
    extent = 0
    for block in _blocks(stream, sizes):
        cuts, start = row_chunker.feed(block), 0
        for border in row_chunker.borders if isinstance(row_chunker, StretchChunker) else []:
            found.setdefault(extent, []).extend(cuts[start : border.cuts])
            extent, start = border.extent, border.cuts
        found.setdefault(extent, []).extend(cuts[start:])
    found.setdefault(extent, []).extend(row_chunker.finish())
    return found


@settings(max_examples=60, deadline=None)
@given(EXTENTS, st.sampled_from([0, 3, (1 << 20) - 1]), SIZES)
def test_each_extent_has_the_cuts_that_it_has_alone(extents: list[Extent], mask: int, sizes: list[int]) -> None:
    """Or what one backup reads in a stretch would be new to the next one, which reads it alone."""
    stream = b"".join(_lines(extent, b"%d\t" % number) for number, extent in enumerate(extents))
    row_chunker = StretchChunker(mask=mask, seed=7, limit=1 << 30)
    found = _cuts(row_chunker, stream, sizes)
    for number, extent in enumerate(extents):
        alone = Chunker(routed=True, mask=mask, seed=7, limit=1 << 30)
        assert found.get(number, []) == _cuts(alone, _lines(extent), sizes)[0]
    assert row_chunker.rows == sum(map(len, extents))
    assert row_chunker._held == 0


def test_rows_that_come_in_another_order_are_not_taken_for_another_extent_s() -> None:
    """A hash table that does not fit into the server's memory gives them so; a long one, too."""
    for late in (b"x", b"x" * 3000):
        row_chunker = StretchChunker(mask=3, seed=7, limit=1 << 30)
        row_chunker.feed(b"9\ta\tfirst\n10\ta\tsecond\n")
        with pytest.raises(RowsOutOfOrderError):
            row_chunker.feed(b"9\ta\t" + late + b"\n")
