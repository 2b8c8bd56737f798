"""Sections are fetched with their neighbours, and once, however a month of days is spread over packs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from doubles.stores.faulty_store import FaultyStore
from doubles.stores.segments import CONTEXT, HandmadeKeys, HandmadeSegment, publish_pack, take_out

from backupd.repository import sections as sections_module
from backupd.repository.packs import Section
from backupd.repository.sections import GAP, Sections
from backupd.store.directory import DirectoryStore

SEGMENTS, DAYS = 20, 6


class Month:
    """Twenty segments, each with a section in each day's pack, behind a store that counts what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.store = FaultyStore(DirectoryStore(folder))
        self.segments = [HandmadeSegment(self.store) for _ in range(SEGMENTS)]
        self.packs = [
            publish_pack(self.store, CONTEXT, [one.sealed([[self.row(one, day)]]) for one in self.segments])
            for day in range(DAYS)
        ]
        self.store.calls.clear()
        self.sections = Sections(self.store, HandmadeKeys.of_segments(*self.segments).of, threads=2, kept=1, gap=GAP)

    def row(self, segment: HandmadeSegment, day: int) -> bytes:
        return b"%d\t%s\n" % (day, segment.segment.encode())

    def of(self, *days: int) -> list[Section]:
        """The sections of these days, each segment's together."""
        order = sorted(segment.segment for segment in self.segments)
        return [self.packs[day].section(at) for at in range(len(order)) for day in days]

    def fetches(self) -> int:
        return self.store.calls.count("get")

    def read(self, wanted: Sequence[Section]) -> list[bytes]:
        """Read sections one after another, as a reader that keeps nothing."""
        return [self.sections.request([one])[0].opened().reader.open_block(0) for one in wanted]

    def rows(self, wanted: Sequence[Section]) -> list[bytes]:
        return [b"%d\t%s\n" % (one.row.number - 1, one.row.segment.encode()) for one in wanted]


@pytest.fixture
def month(tmp_path: Path) -> Iterator[Month]:
    found = Month(tmp_path / "be")
    yield found
    found.sections.close()


def test_held_sections_are_fetched_once_a_pack(month: Month) -> None:
    newest, every = month.of(DAYS - 1), month.of(*range(DAYS))
    month.sections.hold(newest, every)
    assert month.fetches() == 0
    assert month.read(newest) == month.rows(newest)
    assert month.fetches() == 1
    assert month.read(every) == month.rows(every)
    assert month.fetches() == DAYS


def test_what_is_wanted_first_is_held_first_where_not_all_has_room(
    month: Month, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest, every = month.of(2), month.of(*range(DAYS))
    monkeypatch.setattr(sections_module, "_HELD", sum(one.row.length for one in newest))
    month.sections.hold(newest, every)
    assert month.read(newest) == month.rows(newest)
    assert month.read(newest) == month.rows(newest)
    assert month.fetches() == 1
    assert month.read(month.of(3)) == month.rows(month.of(3))
    assert month.fetches() == 1 + SEGMENTS


def test_full_disk_costs_requests_and_nothing_else(month: Month, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sections_module, "write_all", full)
    every = month.of(*range(DAYS))
    month.sections.hold(month.of(0), every)
    assert month.read(every) == month.rows(every)
    assert month.read(every) == month.rows(every)


def test_section_that_moved_before_it_was_held_is_found_in_its_new_place(month: Month) -> None:
    gone, left = month.of(1)[0], month.of(1)[1:]
    take_out(month.store, month.packs[1], [gone.at])
    month.store.calls.clear()
    month.sections.hold(left, ())
    assert month.read(left) == month.rows(left)


def test_held_section_that_can_not_be_read_back_is_fetched(month: Month, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    wanted = month.of(0)
    monkeypatch.setattr(sections_module, "write_all", lambda *given: made.append(given[0]))
    month.sections.hold(wanted, ())
    assert month.read(wanted) == month.rows(wanted)
    assert len(made) == 1
    assert month.fetches() == 1 + SEGMENTS


def test_small_gap_is_fetched_along(month: Month) -> None:
    every_other = month.of(0)[::2]
    assert [one.opened().reader.open_block(0) for one in month.sections.request(every_other)] == month.rows(every_other)
    assert month.fetches() == 1


def test_larger_gap_is_not_fetched(month: Month) -> None:
    length = month.of(0)[0].row.length
    month.sections = Sections(month.store, HandmadeKeys.of_segments(*month.segments).of, threads=2, gap=length - 1)
    every_other = month.of(0)[::2]
    assert [one.opened().reader.open_block(0) for one in month.sections.request(every_other)] == month.rows(every_other)
    assert month.fetches() == len(every_other)
