"""Read a snapshot's contents: its manifests into a plan, and its files and rows as they are asked for. Spans and runs
that need not be in memory are kept in a temporary file, sealed under a key that exists in this process only.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from backupd.atomic_file import write_all
from backupd.errors import BackupdError, DamageError, SpoolFullError
from backupd.planning.restore import Kept, Piece, Planner, RestorePlan
from backupd.planning.selection import STRUCTURE, Selection
from backupd.postgres.schema.archive import divide_by_needs
from backupd.repository.content import Content, ContentReader, file_content
from backupd.repository.manifests import read_entries
from backupd.repository.sections import GAP, Sections
from backupd.seal import suite

if TYPE_CHECKING:
    from backupd.model.ids import ObjectHash, Pseudonym
    from backupd.model.manifest import Entry
    from backupd.operations.restore.opened_choice import OpenedChoice
    from backupd.repository.repository import Repository
    from backupd.seal.keyring import SegmentKey
    from backupd.seal.pack import SectionRow

_AHEAD = 12 << 20
"""Sealed bytes under way or waiting, for all readers together; each has a section at least, and asks for the next."""


class SnapshotContents:
    """One snapshot's contents, opened with an identity. A context manager: its threads end with the block."""

    def __init__(self, repository: Repository, choice: OpenedChoice, readers: int) -> None:
        """Open what was chosen for `readers` threads that may read rows at once, and share what is fetched ahead."""
        self._choice = choice
        self._sections = Sections(repository.store, self._key_of, gap=0 if choice.partial else GAP)
        self._reader = ContentReader(choice.sections.sections, self._sections, _AHEAD // readers)
        self._spilled = SealedTempFile()
        self.verified = 0
        """Number of files whose digests were compared, all equal."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        gc.unfreeze()
        self._sections.close()
        self._spilled.close()

    def plan(self, selection: Selection | None = None, *, exact: bool = True, rows: bool = True) -> RestorePlan:
        """Read every segment's manifest into a plan.

        Not `exact` when the record's totals include segments that are left out; not `rows` when none will be read.
        Raises DamageError, and RefusedError or KeyRefusedError for a segment that cannot be opened.
        """
        if rows:
            self._hold(every=selection is None or not selection.tables)
        with uncollected():
            return self._plan(selection, exact=exact)

    def _hold(self, *, every: bool) -> None:
        """Hold what is fetched for the manifests until its rows are read: every section, or only those."""
        chosen, choice = set(self._choice.segments), self._choice.sections
        later = (section for (segment, _), section in choice.sections.items() if every and segment in chosen)
        self._sections.hold([choice.manifests[segment] for segment in self._choice.segments], later)

    def _plan(self, selection: Selection | None, *, exact: bool) -> RestorePlan:
        choice = self._choice
        planner = Planner(choice.record, selection, exact=exact, put=self._spilled.put)
        numbered = list(enumerate(choice.segments))
        first = [pair for pair in numbered if choice.name_of(pair[1]).data_class == STRUCTURE]
        structure = [(place, segment, list(entries)) for place, segment, entries in self._manifests(first)]
        for _, segment, listed in structure:
            planner.define(listed, _named(segment))
        for place, segment, listed in structure:
            planner.add(place, listed, _named(segment), structure=True)
        apart = {place for place, _ in first}
        for place, segment, entries in self._manifests([pair for pair in numbered if pair[0] not in apart]):
            planner.add(place, entries, _named(segment), defined=segment not in choice.undefined)
        return planner.plan()

    def manifests(self, segments: Sequence[Pseudonym]) -> Iterator[tuple[Pseudonym, Iterator[Entry]]]:
        """Yield each of these segments with the entries of its manifest, which are read before the next.

        Raises DamageError, and RefusedError or KeyRefusedError for a segment that cannot be opened.
        """
        for _, segment, entries in self._manifests(list(enumerate(segments))):
            yield segment, entries

    def needed(self) -> dict[ObjectHash, int]:
        """Return every pack that the chosen segments' sections are in, with the bytes of those sections."""
        found: dict[ObjectHash, int] = {}
        chosen = set(self._choice.segments)
        for (segment, _), section in self._choice.sections.sections.items():
            if segment in chosen:
                name = section.pack.header.sha256
                found[name] = found.get(name, 0) + section.row.length
        return found

    def file(self, plan: RestorePlan, name: str) -> list[bytes]:
        """Return the files of this name, one of each segment that has it."""
        found = [file_content(self._choice.segments[place], entry) for place, entry in plan.files.get(name, [])]
        files = [bytearray() for _ in found]
        for file, piece in self._reader.read(zip(files, found, strict=True)):
            file.extend(piece)
        self.verified += len(found)
        return [bytes(file) for file in files]

    def schema(self, plan: RestorePlan) -> tuple[bytes, list[bytes], list[tuple[str, str]]]:
        """Return the `ddl-head` and `ddl` files, and kind and name of each entry left out of them because it needs
        others that are not there: of what was purged, or not asked for.
        """
        head, files = self.file(plan, "ddl-head")[0], self.file(plan, "ddl")
        if self._choice.exact:
            return head, files, []
        files, lacking = divide_by_needs(head, files)
        return head, files, [(entry.description, entry.tag) for entry in lacking]

    def large_objects(self, plan: RestorePlan) -> Iterator[Iterator[memoryview]]:
        """Yield the archives of large objects, each as its pieces, which must be read before the next."""
        for place, entry in plan.files.get("large-objects", []):
            yield (piece for _, piece in self._reader.read([(None, file_content(self._choice.segments[place], entry))]))
            self.verified += 1

    def rows(self, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, memoryview]]:
        """Yield the rows of pieces, in order; see `ContentReader.read`."""
        return self._reader.read((piece, self._content(piece)) for piece in pieces)

    def _key_of(self, row: SectionRow) -> SegmentKey:
        """Return a section's key. Raises DamageError when it speaks of another segment than the manifest's key."""
        key = self._choice.keys.of(row)
        if key.name != self._choice.name_of(row.segment):
            raise DamageError(f"the keyrings do not agree on the name of segment {row.segment}")
        return key

    def _content(self, piece: Piece) -> Content:
        spans, runs = piece.unpacked()
        # PostgreSQL counts the rows it takes, so they need not be counted here.
        return Content(self._choice.segments[piece.segment], runs, spans, counted=False)

    def _manifests(self, segments: Sequence[tuple[int, Pseudonym]]) -> Iterator[tuple[int, Pseudonym, Iterator[Entry]]]:
        """Yield the entries of these segments' manifests, in order."""
        opened = self._reader.in_order(self._choice.sections.manifests[segment] for _, segment in segments)
        for (place, segment), section in zip(segments, opened, strict=True):
            yield place, segment, read_entries(section.reader)


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector away from what a plan is made of, and from what is read by it, until the contents are
    closed: it looks through hundred thousands of objects again and again, and there is no circle among them.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def _named(segment: Pseudonym) -> str:
    return f"the manifest of segment {segment}"


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

    def put(self, data: bytes) -> Kept:
        """Write the data; returns a function that reads it back, or a few bytes as they are. Raises SpoolFullError."""
        if len(data) <= _SMALL:
            return data
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
