"""Runs turned into the plain bytes they stand for: in order, checked, and with bounded memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from backupd.errors import DamageError
from backupd.model.ids import Pseudonym
from backupd.model.manifest import FileEntry, RowsEntry, Span
from backupd.repository.packs import Section
from backupd.repository.sections import OpenSection, Sections, weight_of

if TYPE_CHECKING:
    from backupd.repository.sections import ComingSection, Slice

_STEPS = 4096
"""Runs that a reader looks up ahead at most: after weeks of changes, thousands may lie in one section."""
_OPENED = 4 << 20
"""Bytes of blocks' contents that a reader keeps: a segment's tables often share a block."""

T = TypeVar("T")


class Content(NamedTuple):
    """The runs of one manifest entry, with the segment they are of and the bytes they must amount to."""

    segment: Pseudonym
    runs: Sequence[int]
    spans: Sequence[Span]
    """Rows, bytes and SHA-256 of each stretch, in order."""
    counted: bool = True
    """Whether the rows are to be counted, too."""


def rows_content(segment: Pseudonym, entry: RowsEntry) -> Content:
    """Return the content of a table's rows in a segment's manifest."""
    return Content(segment, entry.runs, entry.spans)


def file_content(segment: Pseudonym, entry: FileEntry) -> Content:
    """Return the content of a file's entry in a segment's manifest."""
    return Content(segment, entry.runs, [(0, entry.bytes, entry.sha256)], counted=False)


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
        coming = _Coming(self._sections, self._steps(wanted), self._ahead)
        contents = _Contents()
        for section, steps in coming.groups():
            opened = None if section is None else coming.opened(section)
            for tag, content, meter, _, first, number in steps:
                if opened is None:
                    _finish(content, meter)
                    continue
                found = opened.slice(first, number)
                if meter is None and found is not None:
                    piece = contents.view(opened, found)
                    _check_whole(content, piece)
                    yield tag, piece
                    continue
                watch = meter or _Meter(content)
                for one in (found,) if found is not None else opened.slices(first, number):
                    piece = contents.view(opened, one)
                    watch.feed(piece)
                    yield tag, piece
                if meter is None:
                    watch.finish()
            if section is not None:
                coming.done(section)

    def whole(self, content: Content) -> bytes:
        """Return all bytes of a small content, such as a file's. Raises the errors of `read`."""
        return b"".join(piece for _, piece in self.read([(None, content)]))

    def in_order(self, sections: Iterable[Section]) -> Iterator[OpenSection]:
        """Yield sections, opened, in their order; later ones are fetched meanwhile. Raises the errors of `read`."""
        nothing = Content(Pseudonym(""), (), ())
        steps: Iterator[_Step[None]] = ((None, nothing, None, section, 0, 0) for section in sections)
        coming = _Coming(self._sections, steps, self._ahead)
        for section, found in coming.groups():
            if section is not None:
                opened = coming.opened(section)
                yield from (opened for _ in found)
                coming.done(section)

    def _steps(self, wanted: Iterable[tuple[T, Content]]) -> Iterator[_Step[T]]:
        """Yield the steps of each content: one for each run and one for its end; of a single run, one for all."""
        listed = self._listed
        for tag, content in wanted:
            segment, runs = content.segment, content.runs
            if len(runs) == 3:
                number, first, count = runs
                section = listed.get((segment, number)) or self._section(segment, number)
                yield tag, content, None, section, first, count
                continue
            meter = _Meter(content)
            for at in range(0, len(runs), 3):
                yield tag, content, meter, self._section(segment, runs[at]), runs[at + 1], runs[at + 2]
            yield tag, content, meter, None, 0, 0

    def _section(self, segment: Pseudonym, number: int) -> Section:
        section = self._listed.get((segment, number))
        if section is None:
            raise DamageError(
                f"a manifest of segment {segment} speaks of section {number}, which the snapshot's record does not name"
            )
        return section


_Step = tuple[T, Content, "_Meter | None", Section | None, int, int]
"""One step of a reader: a tag with its content; the meter of a content of several steps; then some chunks of a section,
by the first and their number, or, without a section, the content's end."""


@dataclass(slots=True)
class _Held:
    """A requested section with its weight, and how many pending groups of steps need it."""

    weight: int
    groups: int = 0
    coming: ComingSection | None = None


class _Coming(Generic[T]):
    """The steps of one reader in groups of one section, which are requested ahead, up to a limit in bytes."""

    def __init__(self, sections: Sections, steps: Iterator[_Step[T]], ahead: int) -> None:
        self._sections = sections
        self._steps = steps
        self._ahead = ahead
        self._pending: deque[tuple[Section | None, list[_Step[T]]]] = deque()
        self._left = 0
        """Number of pending steps in all groups."""
        self._held: dict[tuple[str, int], _Held] = {}
        self._weight = 0

    def groups(self) -> Iterator[tuple[Section | None, list[_Step[T]]]]:
        """Yield the steps in groups; a section's group is done before the next. Raises the errors of finding them."""
        while True:
            if self._weight <= self._ahead // 2 and self._left < _STEPS // 2:
                self._request()
            if not self._pending:
                return
            group = self._pending.popleft()
            self._left -= len(group[1])
            yield group

    def opened(self, section: Section) -> OpenSection:
        """Wait for a section. Raises the errors of fetching and opening it."""
        coming = self._held[section.place].coming
        assert coming is not None  # noqa: S101 - it was requested before its first group was yielded
        return coming.opened()

    def done(self, section: Section) -> None:
        """Forget a section once its last pending group is done."""
        place = section.place
        held = self._held[place]
        held.groups -= 1
        if not held.groups:
            del self._held[place]
            self._weight -= held.weight

    def _request(self) -> None:
        fresh: list[Section] = []
        before: Section | None = None
        group: list[_Step[T]] = []
        for step in self._steps:
            section = step[3]
            if section is before and group:
                group.append(step)
            else:
                group = [step]
                self._pending.append((section, group))
                before = section
                if section is not None:
                    self._hold(section, fresh)
            self._left += 1
            if self._weight >= self._ahead or self._left >= _STEPS:
                break
        for section, coming in zip(fresh, self._sections.request(fresh), strict=True):
            self._held[section.place].coming = coming

    def _hold(self, section: Section, fresh: list[Section]) -> None:
        place = section.place
        held = self._held.get(place)
        if held is None:
            held = self._held[place] = _Held(weight_of(section))
            self._weight += held.weight
            fresh.append(section)
        held.groups += 1


class _Contents:
    """The contents of the blocks that one reader opened last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], memoryview] = OrderedDict()
        self._weight = 0
        self._last: tuple[OpenSection | None, int, memoryview] = (None, 0, memoryview(b""))

    def view(self, section: OpenSection, found: Slice) -> memoryview:
        """Return some bytes of a block's content. Raises DamageError."""
        block, start, end = found
        last, place, content = self._last
        if last is not section or place != block:
            content = self._block(section, block)
            self._last = section, block, content
        return content[start:end]

    def _block(self, section: OpenSection, block: int) -> memoryview:
        place = section.where, block
        content = self._kept.get(place)
        if content is not None:
            self._kept.move_to_end(place)
            return content
        content = self._kept[place] = memoryview(section.reader.open_block(block))
        self._weight += len(content)
        while self._weight > _OPENED and len(self._kept) > 1:
            self._weight -= len(self._kept.popitem(last=False)[1])
        return content


def _check_whole(content: Content, piece: memoryview) -> None:
    """Check a content that is all there at once. Raises DamageError."""
    if len(content.spans) == 1:
        rows, size, sha256 = content.spans[0]
        right = len(piece) == size and hashlib.sha256(piece).digest() == sha256
        if right and (not content.counted or piece.tobytes().count(b"\n") == rows):
            return
    meter = _Meter(content)
    meter.feed(piece)
    meter.finish()


def _finish(content: Content, meter: _Meter | None) -> None:
    (meter or _Meter(content)).finish()


class _Meter:
    """The comparison of the bytes that pass with what their manifest says of them."""

    __slots__ = ("_checked", "_content", "_digest", "_rows", "_size")

    def __init__(self, content: Content) -> None:
        self._content = content
        self._checked = 0
        self._rows = 0
        self._size = 0
        self._digest = hashlib.sha256()

    def feed(self, piece: memoryview) -> None:
        while piece:
            if self._checked == len(self._content.spans):
                raise self._wrong("is longer than")
            size = self._content.spans[self._checked][1]
            here = piece[: size - self._size]
            self._size += len(here)
            self._digest.update(here)
            if self._content.counted:
                self._rows += here.tobytes().count(b"\n")
            if self._size == size:
                self._close()
            piece = piece[len(here) :]

    def finish(self) -> None:
        spans = self._content.spans
        while self._checked < len(spans) and not spans[self._checked][1]:
            self._close()
        if self._size or self._checked != len(spans):
            raise self._wrong("is shorter than")

    def _close(self) -> None:
        rows, _, sha256 = self._content.spans[self._checked]
        if self._digest.digest() != sha256 or (self._content.counted and self._rows != rows):
            raise self._wrong("differs from")
        self._checked += 1
        self._rows = self._size = 0
        self._digest = hashlib.sha256()

    def _wrong(self, how: str) -> DamageError:
        return DamageError(f"content of segment {self._content.segment} {how} its manifest")
