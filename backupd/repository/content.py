"""Runs turned into the plain bytes they stand for: in order, checked, and with bounded memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from backupd.errors import DamageError
from backupd.model.ids import Pseudonym
from backupd.model.manifest import FileEntry, RowsEntry
from backupd.repository.packs import Section
from backupd.repository.sections import OpenSection, Sections, weight_of

if TYPE_CHECKING:
    from backupd.repository.sections import ComingSection

_STEPS = 4096
"""Runs that a reader looks up ahead at most: after weeks of changes, thousands may lie in one section."""
_OPENED = 4 << 20
"""Bytes of blocks' contents that a reader keeps: a segment's tables often share a block."""

T = TypeVar("T")


class ExpectedBytes(NamedTuple):
    """The manifest's promise about the next bytes: rows (None where they need not be counted), size and SHA-256."""

    rows: int | None
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """The runs of one manifest entry, with the segment they are of and the bytes they must amount to."""

    segment: Pseudonym
    runs: Sequence[int]
    checks: Sequence[ExpectedBytes]


def rows_content(segment: Pseudonym, entry: RowsEntry) -> Content:
    """Return the content of a table's rows in a segment's manifest."""
    return Content(segment, entry.runs, [ExpectedBytes(*span) for span in entry.spans])


def file_content(segment: Pseudonym, entry: FileEntry) -> Content:
    """Return the content of a file's entry in a segment's manifest."""
    return Content(segment, entry.runs, [ExpectedBytes(None, entry.bytes, entry.sha256)])


class ContentReader:
    """A reader of one snapshot's contents. Several threads may each have a `read` of their own in progress."""

    def __init__(
        self, listed: Mapping[tuple[Pseudonym, int], Section], sections: Sections, ahead: int = 8 << 20
    ) -> None:
        """Read through the sections that the record names; each `read` keeps up to `ahead` bytes of them in flight."""
        self._listed = listed
        self._sections = sections
        self._ahead = ahead

    def read(self, wanted: Iterable[tuple[T, Content]]) -> Iterator[tuple[T, memoryview]]:
        """Yield the bytes of each content in turn, piece by piece, each with the tag its content came with.

        Later elements of `wanted` are fetched meanwhile, so `wanted` is consumed ahead of need. A piece need not end
        with a row. Size, digest and rows are checked as the bytes pass: a content is known to be right only when the
        next one begins, or the iterator ends.

        Raises DamageError naming the section or segment, also for a section that the record does not name, the store's
        errors, and the errors of opening a section.
        """
        steps = self._steps(wanted)
        coming = _Coming(self._sections, steps, self._ahead)
        contents = _Contents()
        while (step := coming.next()) is not None:
            section = step.section
            if section is None:
                step.meter.finish()
                continue
            opened = coming.opened(section)
            for block, start, end in opened.slices(step.first, step.number):
                piece = memoryview(contents.get(opened, block))[start:end]
                step.meter.feed(piece)
                yield step.tag, piece
            coming.done(section)

    def whole(self, content: Content) -> bytes:
        """Return all bytes of a small content, such as a file's. Raises the errors of `read`."""
        return b"".join(piece for _, piece in self.read([(None, content)]))

    def in_order(self, sections: Iterable[Section]) -> Iterator[OpenSection]:
        """Yield sections, opened, in their order; later ones are fetched meanwhile. Raises the errors of `read`."""
        meter = _Meter(Content(Pseudonym(""), (), ()))
        steps = (_Step(None, meter, section, 0, 0) for section in sections)
        coming = _Coming(self._sections, steps, self._ahead)
        while (step := coming.next()) is not None:
            if step.section is not None:
                yield coming.opened(step.section)
                coming.done(step.section)

    def _steps(self, wanted: Iterable[tuple[T, Content]]) -> Iterator[_Step[T]]:
        for tag, content in wanted:
            meter, runs = _Meter(content), content.runs
            for at in range(0, len(runs), 3):
                yield _Step(tag, meter, self._section(content.segment, runs[at]), runs[at + 1], runs[at + 2])
            yield _Step(tag, meter, None, 0, 0)

    def _section(self, segment: Pseudonym, number: int) -> Section:
        section = self._listed.get((segment, number))
        if section is None:
            raise DamageError(
                f"a manifest of segment {segment} speaks of section {number}, which the snapshot's record does not name"
            )
        return section


class _Step(NamedTuple, Generic[T]):
    """One step of a reader: some chunks of a section, or, without a section, a content's end."""

    tag: T
    meter: _Meter
    section: Section | None
    first: int
    number: int


@dataclass(slots=True)
class _Held:
    """A requested section, and how many pending steps need it."""

    steps: int = 0
    coming: ComingSection | None = None


class _Coming(Generic[T]):
    """The steps of one reader, whose sections are requested ahead, up to a limit in bytes."""

    def __init__(self, sections: Sections, steps: Iterator[_Step[T]], ahead: int) -> None:
        self._sections = sections
        self._steps = steps
        self._ahead = ahead
        self._pending: deque[_Step[T]] = deque()
        self._held: dict[tuple[str, int], _Held] = {}
        self._weight = 0

    def next(self) -> _Step[T] | None:
        """Return the next step; None at the end. Raises the errors of finding the steps' sections."""
        if self._weight <= self._ahead // 2 and len(self._pending) < _STEPS // 2:
            self._request()
        return self._pending.popleft() if self._pending else None

    def opened(self, section: Section) -> OpenSection:
        """Wait for a section. Raises the errors of fetching and opening it."""
        coming = self._held[section.pack.name, section.at].coming
        assert coming is not None  # noqa: S101 - it was requested before its first step was returned
        return coming.opened()

    def done(self, section: Section) -> None:
        """Forget a section once its last pending step is done."""
        place = section.pack.name, section.at
        held = self._held[place]
        held.steps -= 1
        if not held.steps:
            del self._held[place]
            self._weight -= weight_of(section)

    def _request(self) -> None:
        fresh: list[Section] = []
        for step in self._steps:
            self._pending.append(step)
            section = step.section
            if section is not None:
                place = section.pack.name, section.at
                held = self._held.get(place)
                if held is None:
                    held = self._held[place] = _Held()
                    self._weight += weight_of(section)
                    fresh.append(section)
                held.steps += 1
            if self._weight >= self._ahead or len(self._pending) >= _STEPS:
                break
        for section, coming in zip(fresh, self._sections.request(fresh), strict=True):
            self._held[section.pack.name, section.at].coming = coming


class _Contents:
    """The contents of the blocks that one reader opened last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._weight = 0

    def get(self, section: OpenSection, block: int) -> bytes:
        """Return a block's content. Raises DamageError."""
        place = section.where, block
        content = self._kept.get(place)
        if content is not None:
            self._kept.move_to_end(place)
            return content
        content = self._kept[place] = section.reader.open_block(block)
        self._weight += len(content)
        while self._weight > _OPENED and len(self._kept) > 1:
            self._weight -= len(self._kept.popitem(last=False)[1])
        return content


class _Meter:
    """The comparison of the bytes that pass with what their manifest says of them."""

    __slots__ = ("_checked", "_content", "_digest", "_rows", "_size")

    def __init__(self, content: Content) -> None:
        self._content = content
        self._checked = 0
        self._rows = 0
        self._size = 0
        self._digest: hashlib._Hash | None = None

    def feed(self, piece: memoryview) -> None:
        while piece:
            if self._checked == len(self._content.checks):
                raise self._wrong("is longer than")
            check = self._content.checks[self._checked]
            here = piece[: check.size - self._size]
            self._size += len(here)
            if self._digest is None:
                self._digest = hashlib.sha256(here)
            else:
                self._digest.update(here)
            if check.rows is not None:
                self._rows += here.tobytes().count(b"\n")
            if self._size == check.size:
                self._close(check)
            piece = piece[len(here) :]

    def finish(self) -> None:
        checks = self._content.checks
        while self._checked < len(checks) and not checks[self._checked].size:
            self._close(checks[self._checked])
        if self._size or self._checked != len(checks):
            raise self._wrong("is shorter than")

    def _close(self, check: ExpectedBytes) -> None:
        digest = self._digest or hashlib.sha256()
        if digest.digest() != check.sha256 or (check.rows is not None and self._rows != check.rows):
            raise self._wrong("differs from")
        self._checked += 1
        self._rows = self._size = 0
        self._digest = None

    def _wrong(self, how: str) -> DamageError:
        return DamageError(f"content of segment {self._content.segment} {how} its manifest")
