"""The digest of a task's reading of one segment is that of all its bytes, although a first small chunk waits for it."""

from __future__ import annotations

import hashlib

import pytest

from backupd.model.ids import ClassTag, DatabaseTag, Pseudonym, SegmentTags, TenantTag
from backupd.rows.dedup import SMALL_CHUNK, OpenSpan, Segment
from backupd.rows.protocol import unpack_span
from backupd.rows.segment_names import NamedSegment

NAMES = NamedSegment(Pseudonym("0" * 32), SegmentTags(TenantTag("1" * 32), ClassTag("2" * 16), DatabaseTag("3" * 16)))
SMALL, LARGE = b"a" * SMALL_CHUNK, b"b" * (SMALL_CHUNK + 1)


@pytest.mark.parametrize(
    "chunks",
    [[], [b""], [SMALL], [LARGE], [SMALL, SMALL], [SMALL, LARGE], [LARGE, SMALL], [b"", SMALL, b"", SMALL]],
    ids=lambda chunks: "-".join(str(len(chunk)) for chunk in chunks) or "none",
)
def test_a_span_has_the_size_and_the_digest_of_its_chunks(chunks: list[bytes]) -> None:
    span = OpenSpan(Segment("uploaded", None, NAMES))
    for chunk in chunks:
        span.add(chunk)
    said = unpack_span(span.close()[1])
    assert (said.size, said.sha256) == (len(b"".join(chunks)), hashlib.sha256(b"".join(chunks)).digest())
