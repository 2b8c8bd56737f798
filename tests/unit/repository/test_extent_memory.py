"""What the index remembers of extents: one snapshot's, replaced as a whole, and gone with anything it relies on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.model.ids import GenerationId, ObjectHash, Pseudonym, RepositoryId, RunId
from backupd.repository.state.extents import (
    AuditState,
    ExtentMemory,
    LastUnread,
    RememberedExtent,
    RememberedSnapshot,
    unread_states,
)
from backupd.repository.state.index import Generation, Index, NewSection

APP, OTHER = b"app", b"other"
SEGMENT = Pseudonym("a" * 32)
SPANS = [(SEGMENT, b"span" * 20)]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    found = Index(tmp_path / "index.sqlite")
    found.begin(Generation(GenerationId("g"), RepositoryId("r"), b"k", "", frozenset()))
    section = NewSection(SEGMENT, 1, 10, b"c" * 16, b"")
    found.add_pack(ObjectHash("b" * 64), 10, [RunId("run")], [section])
    yield found
    found.close()


@pytest.fixture
def memory(index: Index) -> ExtentMemory:
    """Of two databases, one with three extents."""
    for place in (b"1", b"2", b"3"):
        index.extents.note(APP, place, 7, SPANS)
    index.extents.remember(APP, b"base")
    index.extents.note(OTHER, b"4", 7, SPANS)
    index.extents.remember(OTHER, b"another")
    return index.extents


def remembered(memory: ExtentMemory) -> set[bytes]:
    return {place for place in (b"1", b"2", b"3", b"4", b"5") if memory.find(place) is not None}


def test_exactly_what_a_published_run_kept_and_read_is_remembered(memory: ExtentMemory) -> None:
    """What it neither took over nor read is gone; another database's extents stay."""
    memory.begin(APP)
    memory.keep(APP, b"1")
    memory.note(APP, b"3", 8, [])
    memory.note(APP, b"5", 9, SPANS)
    assert remembered(memory) == {b"1", b"2", b"3", b"4"}
    assert memory.find(b"3") == RememberedExtent(7, SPANS)
    memory.remember(APP, b"next")
    assert remembered(memory) == {b"1", b"3", b"4", b"5"}
    assert (memory.find(b"1"), memory.find(b"3")) == (RememberedExtent(7, SPANS), RememberedExtent(8, []))
    assert (memory.base(APP), memory.base(OTHER)) == (b"next", b"another")


def test_a_run_that_failed_leaves_what_was_remembered(memory: ExtentMemory) -> None:
    """What it noted is not mixed into what the next one remembers."""
    memory.begin(APP)
    memory.note(APP, b"5", 9, SPANS)
    memory.begin(APP)
    memory.keep(APP, b"2")
    memory.remember(APP, b"next")
    assert remembered(memory) == {b"2", b"4"}


def test_a_database_can_be_forgotten(memory: ExtentMemory) -> None:
    """Its next backup reads everything."""
    memory.forget(APP)
    assert (remembered(memory), memory.base(APP), memory.base(OTHER)) == ({b"4"}, None, b"another")


@pytest.mark.parametrize("how", ["pack", "section", "segment", "generation"])
def test_all_are_forgotten_with_anything_that_they_may_refer_to(index: Index, memory: ExtentMemory, how: str) -> None:
    """The number of a section that is gone may be given to another one."""
    memory.keep(APP, b"1")
    memory.remember_all(OTHER, b"another", RememberedSnapshot(b"another", b"", [], 0, [], 0))
    (pack,) = index.packs()
    if how == "pack":
        index.forget_pack(pack)
    elif how == "section":
        index.forget_sections(pack, [0], 5)
    elif how == "segment":
        index.forget_segments([SEGMENT])
    else:
        index.begin(Generation(GenerationId("h"), RepositoryId("r"), b"k", "", frozenset()))
    assert (remembered(memory), memory.base(APP), memory.base(OTHER)) == (set(), None, None)
    assert index._file.rows("SELECT * FROM snapshots") == []
    memory.remember(APP, b"next")
    assert remembered(memory) == set()


def test_nothing_is_forgotten_where_nothing_of_the_index_is(index: Index, memory: ExtentMemory) -> None:
    """A purge of somebody of whom this node put nothing there costs no full backup."""
    index.forget_segments([Pseudonym("f" * 32)])
    assert remembered(memory) == {b"1", b"2", b"3", b"4"}


def test_what_a_snapshot_needs_is_remembered_with_its_base_alone(index: Index, memory: ExtentMemory) -> None:
    """A build that does not know of it renews the base, and what it leaves there is another run's."""
    kept = RememberedSnapshot(b"next", b"places", [(7, 7, 0, 80)], 1, [(1, [0, 1], [])], 10)
    memory.note(APP, b"5", 9, SPANS)
    memory.remember_all(APP, b"next", kept)
    assert (memory.snapshot(APP), memory.snapshot(OTHER)) == (kept, None)
    assert remembered(memory) == {b"1", b"2", b"3", b"4", b"5"}
    index._file.write("UPDATE readings SET base = x'00' WHERE database = ?", APP)
    assert memory.snapshot(APP) is None
    memory.remember_all(APP, b"next", kept)
    memory.keep(APP, b"1")
    memory.remember(APP, b"next")
    assert memory.snapshot(APP) is None
    memory.remember_all(APP, b"next", kept)
    memory.forget(APP)
    assert memory.snapshot(APP) is None


def test_damaged_spans_are_not_found(index: Index, memory: ExtentMemory) -> None:
    """They are read again instead."""
    index._file.write("UPDATE extents SET spans = x'00' WHERE place = ?", b"1")
    assert remembered(memory) == {b"2", b"3", b"4"}


def test_what_audits_found_outlives_a_generation(index: Index, memory: ExtentMemory) -> None:
    """A difference is not forgotten because a new full copy begins."""
    assert memory.audit("app") == AuditState(0.0, distrusted=False)
    memory.set_audit("app", AuditState(5.0, distrusted=True))
    index.begin(Generation(GenerationId("h"), RepositoryId("r"), b"k", "", frozenset()))
    assert memory.audit("app") == AuditState(5.0, distrusted=True)


def test_others_may_read_how_a_database_stands(index: Index, memory: ExtentMemory, tmp_path: Path) -> None:
    """While the backup that writes it is at work; a machine that makes none knows nothing."""
    memory.set_last("app", LastUnread(4096, ""))
    memory.set_audit("app", AuditState(5.0, distrusted=True))
    memory.set_last("young", LastUnread(0, "why"))
    memory.set_last("off", LastUnread(1, ""))
    memory.set_last("off", None)
    with index.transaction():
        assert unread_states(tmp_path) == {
            "app": (LastUnread(4096, ""), AuditState(5.0, distrusted=True)),
            "young": (LastUnread(0, "why"), AuditState(0.0, distrusted=False)),
        }
    assert unread_states(tmp_path / "nowhere") == {}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.sqlite").write_bytes(b"no database" * 100)
    assert unread_states(tmp_path / "other") == {}


def test_the_size_of_extents_is_kept(memory: ExtentMemory) -> None:
    """Today's backup divides a table where yesterday's did."""
    assert memory.extent_blocks(b"t") is None
    memory.set_extent_blocks(b"t", 2048)
    assert memory.extent_blocks(b"t") == 2048
