"""What is read off a record, and the head of a ledger as people keep it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from backupd.model.documents import HANDED, MARK, MOST_HANDED, REDUCED, LedgerHead, Record, Totals, parse_head

NAMES = [f"20300101T0000{number:02d}Z-{number:064x}" for number in range(40)]


def record(**changes: Any) -> Record:
    said = {
        "repository": "ab" * 16,
        "region": "be",
        "generation": "20260102T030405Z-0a0b0c0d",
        "run": "20260102T030405Z-0a0b0c0d",
        "database": "app",
        "exported": "2026-01-02T03:04:05.000000Z",
        "published": "2026-01-02T03:04:06.000000Z",
        "server": 170000,
        "ledger": LedgerHead(seq=0),
        "packs": [("0" * 64, [0, 2, 5, 1], [2, 3]), ("1" * 64, [1, 1], [])],
        "totals": Totals(tables=0, rows=0, bytes=0, stored=0, added=0),
    }
    return Record(**{**said, **changes})


def test_a_head_is_read_as_it_was_written() -> None:
    """And nothing else is: a ledger without an entry has no head that could be kept."""
    head = LedgerHead(seq=41, head="5e" * 32)
    assert parse_head(str(head)) == head
    for text in (str(LedgerHead(seq=0)), "0:" + "5e" * 32, "41", "41:" + "5E" * 32, f" {head}", f"{head}\n", "x"):
        with pytest.raises(ValueError, match="not the head of a ledger"):
            parse_head(text)


def test_sections_and_segments_are_counted_by_ranges() -> None:
    """Each segment has one manifest."""
    assert (record().segments, record().range_numbers) == (4, 8)


def test_a_lean_record_says_the_same_without_what_nobody_here_knows() -> None:
    """A thief of a node makes unknown fields as large as they may be."""
    known = {HANDED: NAMES[:1], MARK: "a secret", REDUCED: NAMES[1]}
    lean = record(extra={**known, "new": "x" * 1000}).lean
    assert lean.extra == known
    assert [(name, list(own), list(others)) for name, own, others in lean.packs] == record().packs


def test_a_record_follows_what_was_handed_in_before_it_newest_first() -> None:
    """A thief may write anything there: what is no name counts for nothing, and what is too much not at all."""
    assert record().follows == ()
    assert record(previous=NAMES[0]).follows == (NAMES[0],)
    handed = [*NAMES[1:3], 5, "no name"]
    assert record(previous=NAMES[0], extra={HANDED: handed}).follows == (NAMES[2], NAMES[1], NAMES[0])
    assert record(extra={HANDED: "no list"}).follows == ()
    many = [f"20300101T000000Z-{number:064x}" for number in range(MOST_HANDED + 1)]
    assert record(extra={HANDED: many}).follows == tuple(reversed(many[1:]))


def test_a_record_says_whose_mark_is_over() -> None:
    """By the text of which the mark holds the hash; without it, none is."""
    assert record().ended_mark is None
    assert record(extra={MARK: 5}).ended_mark is None
    assert record(extra={MARK: "secret"}).ended_mark == hashlib.sha256(b"secret").hexdigest()
