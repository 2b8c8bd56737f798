"""Manifests: what is refused, and that a refusal quotes nothing."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from doubles.stores.segments import HandmadeKeys, HandmadeSegment, sha256
from doubles.stores.snapshots import open_section

from backupd.errors import DamageError
from backupd.model.manifest import LINE_LIMIT, Entry, FactsEntry, FileEntry, RowsEntry, SequencesEntry, TableEntry
from backupd.repository.manifests import encode_entries, read_entries
from backupd.store.directory import DirectoryStore

SECRET = "hidden-marker"
DIGEST = base64.b64encode(sha256(b"1\n"))
TABLE = b'["table",3,"hidden-marker","hidden-marker",["hidden-marker"]]\n'
ROWS = b'["rows",3,[[1,2,"' + DIGEST + b'"]],%s]\n'


@pytest.fixture
def segment(directory_store: DirectoryStore) -> HandmadeSegment:
    return HandmadeSegment(directory_store)


@pytest.fixture
def entries_of(segment: HandmadeSegment) -> Callable[[bytes], list[Entry]]:
    """The entries of a section whose manifest is these bytes."""

    def read(manifest: bytes) -> list[Entry]:
        section = segment.raw_manifest(manifest)
        return list(read_entries(open_section(segment.store, section, HandmadeKeys.of_segments(segment))))

    return read


def test_every_kind_of_entry_is_read(entries_of: Callable[[bytes], list[Entry]]) -> None:
    """Each line becomes its entry; unknown fields do no harm; continued runs belong to the entry before."""
    lines = [
        TABLE,
        ROWS % b"[1,0,1]",
        b'["more",[1,1,2]]\n',
        b'["file","ddl",1,"%s",[1,0,1],"a new member"]\n' % DIGEST,
        b'["sequences",[["s","q",-9223372036854775808,true]]]\n',
        b'["facts",{"server_version":170010,"refresh":[]}]\n',
    ]
    table, rows, file, sequences, facts = entries_of(b"".join(lines))
    assert table == TableEntry(3, SECRET, SECRET, [SECRET])
    assert rows == RowsEntry(3, [(1, 2, sha256(b"1\n"))], [1, 0, 1, 1, 1, 2])
    assert isinstance(rows, RowsEntry)
    assert (rows.rows, rows.bytes) == (1, 2)
    assert file == FileEntry("ddl", 1, sha256(b"1\n"), [1, 0, 1])
    assert sequences == SequencesEntry([("s", "q", -(2**63), True)])
    assert facts == FactsEntry({"server_version": 170010, "refresh": []})


def test_a_section_without_a_manifest_has_no_entry(segment: HandmadeSegment) -> None:
    """Chunks are no entries."""
    section = segment.section(blocks=[[b"rows\n"]])
    assert list(read_entries(open_section(segment.store, section, HandmadeKeys.of_segments(segment)))) == []


@pytest.mark.parametrize(
    "lines",
    [
        b"\n",
        TABLE[:-1],
        TABLE + b'["hidden-marker"]\n',
        TABLE + b'{"hidden-marker":1}\n',
        TABLE + b"hidden-marker\n",
        TABLE + b"\xff\n",
        TABLE + b"\n",
        TABLE + b'["more",[1,0,1]]\n',
        b'["more",[1,0,1]]\n',
        b'["facts",{}]\n["more",[1,0,1]]\n',
        TABLE.replace(b"3", b"-3"),
        TABLE.replace(b"3", b'"hidden-marker"'),
        TABLE.replace(b',["hidden-marker"]', b""),
        ROWS % b"[1,0]",
        ROWS % b"[1,0,0]",
        ROWS % b"[0,0,1]",
        ROWS % b"[1,4294967295,2]",
        ROWS % b"[1,0,-1]",
        ROWS.replace(b"[1,2,", b"[-1,2,") % b"[1,0,1]",
        ROWS.replace(DIGEST, DIGEST[4:]) % b"[1,0,1]",
        ROWS.replace(DIGEST, sha256(b"1\n").hex().encode()) % b"[1,0,1]",
        b'["file","hidden-marker",1,"hidden-marker",[]]\n',
        b'["sequences",[["hidden-marker","q",1]]]\n',
        b'["facts",{"a":"\xff"}]\n',
        b'["facts",{"a":"' + b"a" * LINE_LIMIT + b'"}]\n',
        b'["facts",{"a":"' + b"a" * (2 * LINE_LIMIT),
    ],
    ids=lambda lines: str(len(lines)),
)
def test_a_wrong_manifest_is_damage(
    segment: HandmadeSegment, entries_of: Callable[[bytes], list[Entry]], lines: bytes
) -> None:
    """A manifest that breaks a rule or limit is refused by a message that names the section and quotes nothing."""
    with pytest.raises(DamageError) as caught:
        entries_of(lines)
    assert segment.sections[segment.segment, 1].where in caught.value.message
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"


def test_a_line_that_cannot_be_cut_is_refused_when_written() -> None:
    """A writer that puts too much on one line is told at once, not by the next reader."""
    long = TableEntry(1, "s", "t", ["c" * 100] * 12_000)
    with pytest.raises(ValueError, match="over the limit"):
        list(encode_entries([long]))


def test_facts_over_a_line_are_divided(entries_of: Callable[[bytes], list[Entry]]) -> None:
    """A list of thousands of names goes on in further lines, each below the limit; what is short stays together."""
    facts = {"server_version": 170010, "refresh": [f"view_{number:0400}" for number in range(5_000)], "few": [1, 2]}
    lines = list(encode_entries([FactsEntry(facts)]))
    assert len(lines) == 4
    assert all(len(line) < LINE_LIMIT for line in lines)
    first, *more = [entry.facts for entry in entries_of(b"".join(lines)) if isinstance(entry, FactsEntry)]
    assert first == {**facts, "refresh": []}
    assert [name for part in more for name in part["refresh"]] == facts["refresh"]


def test_runs_over_a_line_are_divided(entries_of: Callable[[bytes], list[Entry]]) -> None:
    """The runs of a table in millions of chunks go on in further lines, and come back as one entry."""
    runs = [1, 0, 1] * 20_000
    rows = RowsEntry(3, [(1, 2, sha256(b"1\n"))], runs)
    lines = list(encode_entries([rows]))
    assert [line[:7] for line in lines] == [b'["rows"', b'["more"', b'["more"']
    assert all(len(line) < LINE_LIMIT for line in lines)
    assert entries_of(TABLE + b"".join(lines))[1:] == [rows]
