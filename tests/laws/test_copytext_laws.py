"""Rows out of the ordinary: long ones, wide ones PostgreSQL knows nothing of, and tenants with odd names."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.rows import tenant_chunker as chunker
from backupd.rows.copytext import unescape
from backupd.rows.tenant_chunker import Chunker, Cut


def cut_up(text: bytes, sizes: list[int], *, routed: bool, limit: int = 1 << 20) -> tuple[list[Cut], Chunker]:
    row_chunker = Chunker(routed=routed, mask=3, seed=7, limit=limit)
    cuts, start, turn = [], 0, 0
    while start < len(text):
        size = sizes[turn % len(sizes)]
        cuts += row_chunker.feed(text[start : start + size])
        start, turn = start + size, turn + 1
    return cuts + row_chunker.finish(), row_chunker


def gathered(cuts: list[Cut]) -> tuple[dict[bytes | None, bytes], int]:
    found: dict[bytes | None, bytes] = defaultdict(bytes)
    rows = 0
    for cut in cuts:
        found[cut.tenant] += cut.data
        rows += cut.rows
    return dict(found), rows


@pytest.mark.parametrize("routed", [True, False])
def test_a_long_row_is_handed_on_in_pieces(monkeypatch: pytest.MonkeyPatch, routed: bool) -> None:
    """It stays with its tenant, between the rows around it, and counts once."""
    monkeypatch.setattr(chunker, "LONG_ROW", 100)
    monkeypatch.setattr(chunker, "LARGEST_CHUNK", 150)
    prefix = b"9\t" if routed else b""
    rows = [b"before", b"x" * 1000, b"after", b"y" * 300]
    text = b"".join(prefix + row + b"\n" for row in rows)
    cuts, row_chunker = cut_up(text, [30], routed=routed)
    found, count = gathered(cuts)
    assert found == {b"9" if routed else None: b"".join(row + b"\n" for row in rows)}
    assert count == row_chunker.rows == 4
    assert max(len(cut.data) for cut in cuts) == 150


def test_no_chunk_is_larger_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 100 kB in a table PostgreSQL knows nothing of made blocks no reader would take."""
    monkeypatch.setattr(chunker, "LARGEST_CHUNK", 1000)
    rows = [bytes([65 + n]) * 700 for n in range(5)]
    text = b"".join(row + b"\n" for row in rows)
    cuts, _ = cut_up(text, [len(text)], routed=False)
    assert max(len(cut.data) for cut in cuts) == 1000
    assert gathered(cuts) == ({None: text}, 5)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
def test_unescape_gives_back_what_copy_wrote(value: str) -> None:
    """COPY's own table of escapes (PostgreSQL documentation, COPY, Text Format)."""
    table = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    written = "".join(table.get(character, character) for character in value)
    assert unescape(written.encode()) == value


@pytest.mark.parametrize(
    ("written", "encoding", "value"),
    [
        (b"caf\xe9\\t", "LATIN1", "caf\u00e9\t"),
        (b"caf\xc3\xa9", "UTF8", "caf\u00e9"),
        (b"\xa4", "LATIN9", "\u20ac"),
        (b"\\\\plain", "EUC_TW", "\\plain"),  # Python has no such codec
    ],
)
def test_text_is_read_in_the_encoding_that_the_server_names(written: bytes, encoding: str, value: str) -> None:
    """By PostgreSQL's names; of an encoding that Python does not have, what is ASCII."""
    assert unescape(written, encoding) == value


@pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII", "EUC_TW"])
def test_bytes_that_are_no_text_are_refused(encoding: str) -> None:
    """Whoever asked has to have an answer for it."""
    with pytest.raises(ValueError, match="can't decode"):
        unescape(b"\xff", encoding)
