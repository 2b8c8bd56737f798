"""Runs turned into the plain bytes they stand for: in order, checked, and with bounded memory."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from backupd.errors import DamageError
from backupd.model.ids import ObjectHash
from backupd.model.manifest import FileEntry, TableEntry
from backupd.repository.containers import ContainerCache, ContainerRef, OpenContainer, Slice

if TYPE_CHECKING:
    from concurrent.futures import Future

    from backupd.repository.blocks import Blocks, ComingBlock

_PREPARED = 24
"""Stretches whose containers are looked up ahead: each may be an object of its own, a round trip away."""
_RUNS_A_STRETCH = 256

T = TypeVar("T")


class ExpectedBytes(NamedTuple):
    """The manifest's promise about the next bytes: rows (None for bytes that are no rows), size and SHA-256."""

    rows: int | None
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Content:
    """The runs of one manifest entry, with the part they are in and the bytes they must amount to."""

    part: ContainerRef
    runs: Sequence[int]
    checks: Sequence[ExpectedBytes]
    packs: Sequence[tuple[ObjectHash, int]] | None = None
    """The part's list of other containers; with it, a part that holds no data need not be opened."""


def table_content(part: ContainerRef, entry: TableEntry) -> Content:
    """Return the content of a table's entry in a part's manifest."""
    return Content(part, entry.runs, [ExpectedBytes(*span) for span in entry.spans])


def file_content(part: ContainerRef, entry: FileEntry) -> Content:
    """Return the content of a file's entry in a part's manifest."""
    return Content(part, entry.runs, [ExpectedBytes(None, entry.bytes, entry.sha256)])


class ContentReader:
    """A reader of contents from a store. Several threads may each have a `read` of their own in progress."""

    def __init__(self, containers: ContainerCache, blocks: Blocks, ahead: int = 8 << 20) -> None:
        """Read through shared containers and blocks; each `read` keeps up to `ahead` bytes of blocks in flight."""
        self._containers = containers
        self._blocks = blocks
        self._ahead = ahead

    def read(self, wanted: Iterable[tuple[T, Content]]) -> Iterator[tuple[T, memoryview]]:
        """Yield the bytes of each content in turn, piece by piece, each with the tag its content came with.

        Later elements of `wanted` are fetched meanwhile, so `wanted` is consumed ahead of need. A piece need not end
        with a row. Size, digest and rows are checked as the bytes pass: a content is known to be right only when the
        next one begins, or the iterator ends.

        Raises DamageError naming the object and its segment, the store's errors, and the errors of opening a container.
        """
        source = _Stretches(self._containers, self._blocks, wanted)
        pending: deque[_Pending[T]] = deque()
        held: Counter[ComingBlock] = Counter()
        weight = 0
        while True:
            if weight <= self._ahead // 2:
                for step in self._request(source.take(self._ahead - weight, wait=not pending)):
                    pending.append(step)
                    if step.block is not None:
                        weight += 0 if held[step.block] else step.weight
                        held[step.block] += 1
            if not pending:
                return
            step = pending.popleft()
            if step.block is None:
                step.stretch.meter.finish()
                continue
            piece = memoryview(step.block.content())[step.start : step.end]
            held[step.block] -= 1
            if not held[step.block]:
                del held[step.block]
                weight -= step.weight
            step.stretch.meter.feed(piece)
            yield step.stretch.tag, piece

    def whole(self, content: Content) -> bytes:
        """Return all bytes of a small content, such as a file's. Raises the errors of `read`."""
        return b"".join(piece for _, piece in self.read([(None, content)]))

    def _request(self, taken: Iterable[tuple[_Stretch[T], Slice | None]]) -> Iterator[_Pending[T]]:
        steps = list(taken)
        blocks = iter(self._blocks.request([part for _, part in steps if part is not None]))
        for stretch, part in steps:
            if part is None:
                yield _Pending(stretch, None, 0, 0, 0)
            else:
                yield _Pending(stretch, next(blocks), part.start, part.end, part.weight)


@dataclass(frozen=True, slots=True)
class _Stretch(Generic[T]):
    """Some consecutive runs of one content; the last stretch closes it."""

    tag: T
    content: Content
    meter: _Meter
    start: int
    last: bool

    def slices(self, containers: ContainerCache) -> list[Slice]:
        found: list[Slice] = []
        runs = self.content.runs[self.start : self.start + 3 * _RUNS_A_STRETCH]
        for number, first, count in zip(runs[::3], runs[1::3], runs[2::3], strict=True):
            found.extend(self._container(containers, number).slices(first, count))
        return found

    def _container(self, containers: ContainerCache, number: int) -> OpenContainer:
        part, packs = self.content.part, self.content.packs
        if number == 0:
            return containers.open(part)
        sha256, size = (containers.open(part).reader.packs if packs is None else packs)[number - 1]
        return containers.open(ContainerRef(part.context, sha256, size))


class _Pending(NamedTuple, Generic[T]):
    """One step of a reader: some bytes of a block, or, without a block, a content's end."""

    stretch: _Stretch[T]
    block: ComingBlock | None
    start: int
    end: int
    weight: int


class _Stretches(Generic[T]):
    """The wanted contents, cut into stretches whose containers the threads look up ahead."""

    def __init__(self, containers: ContainerCache, blocks: Blocks, wanted: Iterable[tuple[T, Content]]) -> None:
        self._containers = containers
        self._blocks = blocks
        self._coming = chain.from_iterable(_cut(tag, content) for tag, content in wanted)
        self._prepared: deque[tuple[_Stretch[T], Future[list[Slice]]]] = deque()
        self._left: Iterator[Slice] | None = None

    def take(self, weight: int, *, wait: bool) -> Iterator[tuple[_Stretch[T], Slice | None]]:
        """Yield slices in order up to `weight` bytes, and None after a content's last slice.

        With `wait`, it waits for the first stretch's containers; it never waits for later ones.
        """
        seen = None
        while weight > 0:
            self._prepare()
            if not self._prepared:
                return
            stretch, future = self._prepared[0]
            if self._left is None:
                if not (wait or future.done()):
                    return
                self._left = iter(future.result())
            for part in self._left:
                wait = False
                yield stretch, part
                weight -= part.weight if seen != part[:2] else 0
                seen = part[:2]
                if weight <= 0:
                    return
            self._left = None
            self._prepared.popleft()
            if stretch.last:
                wait = False
                yield stretch, None

    def _prepare(self) -> None:
        for stretch in islice(self._coming, _PREPARED - len(self._prepared)):
            self._prepared.append((stretch, self._blocks.submit(partial(stretch.slices, self._containers))))


def _cut(tag: T, content: Content) -> Iterator[_Stretch[T]]:
    meter = _Meter(content)
    size = 3 * _RUNS_A_STRETCH
    for start in range(0, max(len(content.runs), 1), size):
        yield _Stretch(tag, content, meter, start, last=start + size >= len(content.runs))


@dataclass(slots=True)
class _Meter:
    """The comparison of the bytes that pass with what their manifest says of them."""

    content: Content
    _checked: int = 0
    _rows: int = 0
    _size: int = 0
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def feed(self, piece: memoryview) -> None:
        while piece:
            if self._checked == len(self.content.checks):
                raise self._wrong("is longer than")
            check = self.content.checks[self._checked]
            here = piece[: check.size - self._size]
            self._size += len(here)
            self._digest.update(here)
            if check.rows is not None:
                self._rows += here.tobytes().count(b"\n")
            if self._size == check.size:
                self._close(check)
            piece = piece[len(here) :]

    def finish(self) -> None:
        while self._checked < len(self.content.checks) and not self.content.checks[self._checked].size:
            self._close(self.content.checks[self._checked])
        if self._size or self._checked != len(self.content.checks):
            raise self._wrong("is shorter than")

    def _close(self, check: ExpectedBytes) -> None:
        if self._digest.hexdigest() != check.sha256 or (check.rows is not None and self._rows != check.rows):
            raise self._wrong("differs from")
        self._checked += 1
        self._rows = self._size = 0
        self._digest = hashlib.sha256()

    def _wrong(self, how: str) -> DamageError:
        part = self.content.part
        return DamageError(f"content of part '{part.sha256}' of segment {part.context.segment} {how} its manifest")
