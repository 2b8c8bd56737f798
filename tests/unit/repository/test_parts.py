"""Manifests of parts: what is refused, and that a refusal quotes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from doubles.stores.segments import HandmadeSegment, sha256

from backupd.errors import DamageError
from backupd.model.manifest import LINE_LIMIT, Entry, FactsEntry, FileEntry, SegmentEntry, SequencesEntry, TableEntry
from backupd.repository.containers import ContainerCache
from backupd.repository.parts import encode_entries, read_entries
from backupd.store.directory import DirectoryStore

SECRET = "hidden-marker"
SEGMENT = b'{"entry":"segment","database":"hidden-marker","class":"uploaded","tenant":"hidden-marker"}\n'
TABLE = (
    b'{"entry":"table","schema":"hidden-marker","table":"hidden-marker","columns":["hidden-marker"],"rows":%d,"bytes":%d,'
    b'"spans":[[1,2,"' + sha256(b"1\n").encode() + b'"]],"runs":%s}\n'
)


@pytest.fixture
def segment(directory_store: DirectoryStore) -> HandmadeSegment:
    return HandmadeSegment(directory_store)


@pytest.fixture
def entries_of(segment: HandmadeSegment) -> Callable[[bytes], list[Entry]]:
    """The entries of a part whose manifest is these bytes."""

    def read(manifest: bytes) -> list[Entry]:
        containers = ContainerCache(segment.store, lambda _: segment.pair.secret)
        return list(read_entries(containers.open(segment.raw_part(manifest)).reader))

    return read


def test_every_kind_of_entry_is_read(entries_of: Callable[[bytes], list[Entry]]) -> None:
    """Each line becomes its entry; unknown fields do no harm; continued runs belong to the entry before."""
    lines = [
        SEGMENT,
        TABLE % (1, 2, b"[0,0,1]"),
        b'{"entry":"more","runs":[0,1,2]}\n',
        b'{"entry":"file","name":"ddl","bytes":1,"sha256":"%s","runs":[0,0,1],"new":1}\n' % (b"0" * 64),
        b'{"entry":"sequences","values":[["s","q",-9223372036854775808,true]]}\n',
        b'{"entry":"facts","server_version":170010,"refresh":[]}\n',
    ]
    segment, table, file, sequences, facts = entries_of(b"".join(lines))
    assert segment == SegmentEntry(SECRET, "uploaded", SECRET)
    assert isinstance(table, TableEntry)
    assert table.runs == [0, 0, 1, 0, 1, 2]
    assert file == FileEntry("ddl", 1, "0" * 64, [0, 0, 1])
    assert sequences == SequencesEntry([("s", "q", -(2**63), True)])
    assert facts == FactsEntry({"server_version": 170010, "refresh": []})


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        TABLE % (1, 2, b"[]"),
        SEGMENT + SEGMENT,
        SEGMENT[:-1],
        SEGMENT + b'{"entry":"hidden-marker"}\n',
        SEGMENT + b"hidden-marker\n",
        SEGMENT + b"\xff\n",
        SEGMENT + b"\n",
        SEGMENT + b'{"entry":"more","runs":[0,0,1]}\n',
        SEGMENT + TABLE % (1, 2, b"[0,0]"),
        SEGMENT + TABLE % (1, 2, b"[0,0,0]"),
        SEGMENT + TABLE % (1, 2, b"[1,0,1]"),
        SEGMENT + TABLE % (1, 2, b"[0,4294967295,2]"),
        SEGMENT + TABLE % (1, 2, b"[0,0,-1]"),
        SEGMENT + TABLE % (2, 2, b"[0,0,1]"),
        SEGMENT + TABLE % (1, 3, b"[0,0,1]"),
        SEGMENT + TABLE % (-1, 2, b"[0,0,1]"),
        SEGMENT + b'{"entry":"file","name":"hidden-marker","bytes":1,"sha256":"hidden-marker","runs":[]}\n',
        SEGMENT + b'{"entry":"sequences","values":[["hidden-marker","q",1]]}\n',
        SEGMENT + b'{"entry":"facts","a":"\xff"}\n',
        SEGMENT + b'{"entry":"facts","a":"' + b"a" * LINE_LIMIT + b'"}\n',
        SEGMENT + b'{"entry":"facts","a":"' + b"a" * (2 * LINE_LIMIT),
    ],
    ids=lambda lines: str(len(lines)),
)
def test_a_wrong_manifest_is_damage(
    segment: HandmadeSegment, entries_of: Callable[[bytes], list[Entry]], lines: bytes
) -> None:
    """A manifest that breaks a rule or limit is refused by a message that names the part and quotes nothing of it."""
    with pytest.raises(DamageError) as caught:
        entries_of(lines or b"\n")
    assert segment.context.segment in caught.value.message
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"


def test_a_line_that_cannot_be_cut_is_refused_when_written() -> None:
    """A writer that puts too much on one line is told at once, not by the next reader."""
    long = TableEntry("s", "t", ["c" * 100] * 12_000, 0, 0, [], [])
    with pytest.raises(ValueError, match="over the limit"):
        list(encode_entries([long]))
