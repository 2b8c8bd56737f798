"""Read a snapshot's contents: its parts into a plan, and its files and rows as they are asked for. Parts of the plan
that need not be in memory are kept in a temporary file, sealed under a key that exists in this process only.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, Self

from backupd.atomic_file import write_all
from backupd.errors import BackupdError, DamageError, SpoolFullError
from backupd.model.documents import PartRef, Record
from backupd.model.ids import ObjectHash
from backupd.model.manifest import Entry, SegmentEntry
from backupd.planning.restore import Piece, Planner, RestorePlan
from backupd.planning.selection import Selection
from backupd.repository.blocks import Blocks
from backupd.repository.containers import ContainerCache, ContainerRef
from backupd.repository.content import Content, ContentReader, ExpectedBytes, file_content
from backupd.repository.keys import SecretKeys
from backupd.repository.parts import read_entries
from backupd.repository.repository import Repository
from backupd.seal import suite
from backupd.seal.container_format import ContainerContext

_PARTS_AHEAD = 32
"""Parts whose manifests are fetched ahead."""
_AHEAD = 24 << 20
"""Bytes of blocks under way or waiting, for all readers together."""
_PACK = struct.Struct("<32sQ")


class SnapshotContents:
    """One snapshot's contents, opened with an identity. A context manager: its threads end with the block."""

    def __init__(self, repository: Repository, record: Record, keys: SecretKeys, readers: int) -> None:
        """Open the contents for `readers` threads that may read rows at once, and share what is fetched ahead."""
        self._record = record
        self._keys = keys
        self._blocks = Blocks()
        self._containers = ContainerCache(repository.store, lambda segment: keys[segment].secret)
        self._reader = ContentReader(self._containers, self._blocks, _AHEAD // readers)
        self._refs = [self._ref(part) for part in record.parts]
        self._spilled = SealedTempFile()
        self._packs: dict[int, _Packs] = {}
        """The containers that each part names, so that a part without data is opened once only."""
        self.verified = 0
        """Number of files whose digests were compared, all equal."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._blocks.close()
        self._spilled.close()

    def plan(self, selection: Selection | None = None, *, exact: bool = True) -> RestorePlan:
        """Read every part's manifest into a plan. Not `exact` when the record's totals include parts that are left out.

        Raises DamageError, and RefusedError or KeyRefusedError for a segment that cannot be opened.
        """
        planner = Planner(self._record, selection, exact=exact, put=self._spilled.put)
        coming: deque[Future[list[Entry]]] = deque()
        for place in range(len(self._refs)):
            while len(coming) < _PARTS_AHEAD and place + len(coming) < len(self._refs):
                coming.append(self._blocks.submit(partial(self._entries, place + len(coming))))
            planner.add(place, coming.popleft().result())
        return planner.plan()

    def needed(self) -> dict[ObjectHash, int]:
        """Return every container the parts are or name, with its size in bytes; to be called after `plan`."""
        found = {ref.sha256: ref.size for ref in self._refs}
        for packs in self._packs.values():
            found.update(packs)
        return found

    def file(self, plan: RestorePlan, name: str) -> list[bytes]:
        """Return the files of this name, one of each segment that has it."""
        found = [file_content(self._refs[part], entry) for part, entry in plan.files.get(name, [])]
        files = [bytearray() for _ in found]
        for file, piece in self._reader.read(zip(files, found, strict=True)):
            file.extend(piece)
        self.verified += len(found)
        return [bytes(file) for file in files]

    def streamed(self, plan: RestorePlan, name: str) -> Iterator[Iterator[memoryview]]:
        """Yield the files of this name, each as an iterator over its pieces that must be read before the next."""
        for part, entry in plan.files.get(name, []):
            yield (piece for _, piece in self._reader.read([(None, file_content(self._refs[part], entry))]))
            self.verified += 1

    def rows(self, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, memoryview]]:
        """Yield the rows of pieces, in order; see `ContentReader.read`."""
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


_SMALL: Final = 256
"""Bytes that are kept in memory all the same: their position in the file would take as many."""
_AAD: Final = b"backupd attic"


class SealedTempFile:
    """A temporary file without a name, sealed under a key of its own.

    `put` is for one thread, reading back for many.
    """

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._file = tempfile.TemporaryFile(prefix="backupd-", buffering=0)  # noqa: SIM115  # closed by `close`
        self._aead = suite.Aead(random(suite.KEY_SIZE))
        self._size = 0

    def put(self, data: bytes) -> Callable[[], bytes]:
        """Write the data; returns a function that reads it back. Raises SpoolFullError."""
        if len(data) <= _SMALL:
            return partial(bytes, data)
        at = self._size
        sealed = self._aead.seal(suite.nonce(at), data, _AAD)
        self._size += len(sealed)  # before writing: a place, and with it a nonce, is never used twice
        try:
            write_all(self._file.fileno(), sealed, at)
        except OSError as error:
            raise SpoolFullError(
                f"the folder for temporary files cannot be written: {os.strerror(error.errno or 0)}",
                hint="Make room there, or name another one with the environment variable TMPDIR.",
            ) from error
        return partial(self._read, at, len(sealed))

    def close(self) -> None:
        """Close the file, whose content is gone with it."""
        self._file.close()

    def _read(self, at: int, size: int) -> bytes:
        try:
            sealed = os.pread(self._file.fileno(), size, at)
            return self._aead.open(suite.nonce(at), sealed, _AAD)
        except OSError as error:
            raise BackupdError(f"a temporary file cannot be read: {os.strerror(error.errno or 0)}") from error
        except suite.NotAuthenticError as error:
            raise DamageError("a temporary file was altered while it was in use", hint="Check its disk.") from error
