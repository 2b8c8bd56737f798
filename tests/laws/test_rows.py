"""Laws of the hot loop: whatever the rows and however they arrive, each tenant's come out whole and in order."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.rows import split
from backupd.rows.split import Cut, Splitter, contents, pieces
from backupd.rows.worker import unescape

FIELD = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"").replace(b"\t", b""))
ROWS = st.lists(st.tuples(st.sampled_from([b"1", b"2", b"a\\tb", b"\\N"]), FIELD), max_size=60)
SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=8)


def cut_up(text: bytes, sizes: list[int], *, routed: bool, limit: int = 1 << 20) -> tuple[list[Cut], Splitter]:
    splitter = Splitter(routed=routed, mask=3, seed=7, limit=limit)
    cuts, start, turn = [], 0, 0
    while start < len(text):
        size = sizes[turn % len(sizes)]
        cuts += splitter.feed(text[start : start + size])
        start, turn = start + size, turn + 1
    return cuts + splitter.finish(), splitter


def gathered(cuts: list[Cut]) -> tuple[dict[bytes | None, bytes], int]:
    found: dict[bytes | None, bytes] = defaultdict(bytes)
    rows = 0
    for cut in cuts:
        for piece, count in contents(cut):
            found[cut.tenant] += piece
            rows += count
    return dict(found), rows


@given(ROWS, SIZES, st.sampled_from([64, 1 << 20]))
def test_every_tenant_gets_its_rows_in_order(rows: list[tuple[bytes, bytes]], sizes: list[int], limit: int) -> None:
    """Also when memory is short and lanes are cut early."""
    text = b"".join(tenant + b"\t" + row + b"\n" for tenant, row in rows)
    expected: dict[bytes, bytes] = defaultdict(bytes)
    for tenant, row in rows:
        expected[tenant] += row + b"\n"
    cuts, splitter = cut_up(text, sizes, routed=True, limit=limit)
    found, count = gathered(cuts)
    assert found == expected
    assert count == splitter.rows == len(rows)


@given(st.lists(FIELD, max_size=60), SIZES)
def test_an_unrouted_stream_comes_out_as_it_went_in(rows: list[bytes], sizes: list[int]) -> None:
    """Rows without columns, which are empty lines, included."""
    text = b"".join(row + b"\n" for row in rows)
    cuts, splitter = cut_up(text, sizes, routed=False)
    found, count = gathered(cuts)
    assert found.get(None, b"") == text
    assert count == splitter.rows == len(rows)


@given(ROWS, SIZES, SIZES)
def test_cuts_do_not_depend_on_how_the_stream_arrived(
    rows: list[tuple[bytes, bytes]], one: list[int], other: list[int]
) -> None:
    """Or nothing would be shared between snapshots."""
    text = b"".join(tenant + b"\t" + row + b"\n" for tenant, row in rows)
    by_tenant = []
    for sizes in (one, other):
        chunks = defaultdict(list)
        for cut in cut_up(text, sizes, routed=True)[0]:
            chunks[cut.tenant].append(cut.rows)
        by_tenant.append(dict(chunks))
    assert by_tenant[0] == by_tenant[1]


@pytest.mark.parametrize("routed", [True, False])
def test_a_long_row_is_handed_on_in_pieces(monkeypatch: pytest.MonkeyPatch, routed: bool) -> None:
    """It stays with its tenant, between the rows around it, and counts once."""
    monkeypatch.setattr(split, "LONG_ROW", 100)
    prefix = b"9\t" if routed else b""
    rows = [b"before", b"x" * 1000, b"after", b"y" * 300]
    text = b"".join(prefix + row + b"\n" for row in rows)
    cuts, splitter = cut_up(text, [30], routed=routed)
    found, count = gathered(cuts)
    assert found == {b"9" if routed else None: b"".join(row + b"\n" for row in rows)}
    assert count == splitter.rows == 4
    assert max(len(cut.rows[0]) for cut in cuts if not cut.whole) < 200


def test_equal_rows_make_neither_tiny_nor_endless_chunks() -> None:
    """Their checksums are all the same, so that all of them cut, or none."""
    for row in (bytes([n]) * 20 for n in range(65, 91)):
        cuts, _ = cut_up((row + b"\n") * 1000, [997], routed=False)
        sizes = [len(cut.rows) for cut in cuts[:-1]]
        assert min(sizes) >= split.SHORTEST_CHUNK
        assert max(sizes) <= split.LONGEST_CHUNK * 4


def test_no_chunk_is_larger_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 100 kB in a table PostgreSQL knows nothing of made blocks no reader would take."""
    monkeypatch.setattr(split, "LARGEST_CHUNK", 1000)
    rows = [bytes([65 + n]) * 700 for n in range(5)]
    given = list(contents(Cut(None, list(rows), whole=True)))
    assert max(len(piece) for piece, _ in given) == 1000
    assert b"".join(piece for piece, _ in given) == b"".join(row + b"\n" for row in rows)
    assert sum(count for _, count in given) == 5


def test_a_stream_cut_inside_a_row_is_noticed() -> None:
    splitter = Splitter(routed=False, mask=3, seed=7, limit=1000)
    splitter.feed(b"whole\nhalf")
    with pytest.raises(ValueError, match="inside a row"):
        splitter.finish()


@given(st.lists(st.binary(max_size=30), max_size=10), st.integers(1, 20))
def test_pieces_are_the_stream(blocks: list[bytes], size: int) -> None:
    cut = list(pieces(blocks, size))
    assert b"".join(cut) == b"".join(blocks)
    assert all(len(piece) == size for piece in cut[:-1])


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
def test_unescape_gives_back_what_copy_wrote(value: str) -> None:
    """COPY's own table of escapes (PostgreSQL documentation, COPY, Text Format)."""
    table = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    written = "".join(table.get(character, character) for character in value)
    assert unescape(written.encode()) == value
