"""A snapshot's contents: its parts read into a plan, and its files and rows as they are asked for."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from backupd.catalog.parts import read_entries
from backupd.catalog.reading.blocks import Blocks
from backupd.catalog.reading.containers import ContainerCache, ContainerRef
from backupd.catalog.reading.content import Content, ContentReader, ExpectedBytes, file_content
from backupd.errors import DamageError
from backupd.model.ids import ObjectHash
from backupd.model.stored.manifest import SegmentEntry
from backupd.operations.restore.attic import SealedTempFile
from backupd.planning.restoring.restore import Planner
from backupd.seal.containers.container import ContainerContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from backupd.catalog.keys import SecretKeys
    from backupd.catalog.repository import Repository
    from backupd.model.stored.documents import PartRef, Record
    from backupd.model.stored.manifest import Entry
    from backupd.planning.restoring.restore import Piece, RestorePlan
    from backupd.planning.restoring.selection import Selection

_PARTS_AHEAD = 32
_AHEAD = 24 << 20
"""Bytes of blocks on their way or waiting, of all readers."""
_PACK = struct.Struct("<32sQ")


class SnapshotContents:
    """One snapshot's contents, opened with an identity. A context manager: its threads end with the block."""

    def __init__(self, repository: Repository, record: Record, keys: SecretKeys, readers: int) -> None:
        """`readers` threads may read rows at once, and share what is fetched ahead."""
        self._record = record
        self._keys = keys
        self._blocks = Blocks()
        self._containers = ContainerCache(repository.store, lambda segment: keys[segment].secret)
        self._reader = ContentReader(self._containers, self._blocks, _AHEAD // readers)
        self._refs = [self._ref(part) for part in record.parts]
        self._attic = SealedTempFile()
        self._packs: dict[int, _Packs] = {}
        """Of each part, so that one that holds no data is opened once only."""
        self.verified = 0
        """Digests among what was read to its end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._blocks.close()
        self._attic.close()

    def plan(self, selection: Selection | None = None, *, exact: bool = True) -> RestorePlan:
        """Read every part's manifest. Not `exact` when the record's totals are of more than its parts.

        Raises DamageError, and RefusedError or KeyRefusedError for a segment that cannot be opened.
        """
        planner = Planner(self._record, selection, exact=exact, put=self._attic.put)
        coming: deque[Future[list[Entry]]] = deque()
        for place in range(len(self._refs)):
            while len(coming) < _PARTS_AHEAD and place + len(coming) < len(self._refs):
                coming.append(self._blocks.submit(partial(self._entries, place + len(coming))))
            planner.add(place, coming.popleft().result())
        return planner.plan()

    def needed(self) -> dict[ObjectHash, int]:
        """Every container the parts are or name, with its size; after `plan`."""
        found = {ref.sha256: ref.size for ref in self._refs}
        for packs in self._packs.values():
            found.update(packs)
        return found

    def file(self, plan: RestorePlan, name: str) -> list[bytes]:
        """The files of this name, one of each segment that has it."""
        found = [file_content(self._refs[part], entry) for part, entry in plan.files.get(name, [])]
        files = [bytearray() for _ in found]
        for file, piece in self._reader.read(zip(files, found, strict=True)):
            file.extend(piece)
        self.verified += len(found)
        return [bytes(file) for file in files]

    def streamed(self, plan: RestorePlan, name: str) -> Iterator[Iterator[memoryview]]:
        """Likewise, but each as its pieces, to be read before the next."""
        for part, entry in plan.files.get(name, []):
            yield (piece for _, piece in self._reader.read([(None, file_content(self._refs[part], entry))]))
            self.verified += 1

    def rows(self, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, memoryview]]:
        """The rows of pieces, in order; see `ContentReader.read`."""
        return self._reader.read((piece, self._content(piece)) for piece in pieces)

    def _content(self, piece: Piece) -> Content:
        spans, runs = piece.unpacked()
        # PostgreSQL counts the rows it takes, so they need not be counted here.
        checks = [ExpectedBytes(None, size, sha256) for _, size, sha256 in spans]
        return Content(self._refs[piece.part], runs, checks, self._packs[piece.part])

    def _entries(self, place: int) -> list[Entry]:
        ref = self._refs[place]
        part = self._containers.open(ref).reader
        entries = list(read_entries(part))
        self._packs[place] = _Packs(part.packs)
        first = entries[0] if entries else None
        if not isinstance(first, SegmentEntry) or first.name != self._keys[ref.context.segment].name:
            raise DamageError(f"part '{ref.sha256}' does not speak of its segment {ref.context.segment}")
        return entries

    def _ref(self, part: PartRef) -> ContainerRef:
        pseudonym, sha256, size = part
        context = ContainerContext(self._record.repository, self._record.generation, pseudonym)
        return ContainerRef(context, sha256, size, part=True)


class _Packs(Sequence[tuple[ObjectHash, int]]):
    """A part's list of containers in a tenth of the memory: there may be thousands of parts."""

    __slots__ = ("_packed",)

    def __init__(self, packs: Sequence[tuple[ObjectHash, int]]) -> None:
        self._packed = b"".join(_PACK.pack(bytes.fromhex(sha256), size) for sha256, size in packs)

    def __len__(self) -> int:
        return len(self._packed) // _PACK.size

    def __getitem__(self, place: Any) -> Any:
        if not 0 <= place < len(self):
            raise IndexError(place)
        sha256, size = _PACK.unpack_from(self._packed, place * _PACK.size)
        return ObjectHash(sha256.hex()), size
