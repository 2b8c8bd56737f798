"""What tasks read for each segment, kept until the parts are made.

One for every task and segment: of a large database of many tenants, more than memory should hold. So what is more than
a few megabytes goes into the spool, sealed and sorted as the chunks of small segments are.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from backupd.rows.spill import BySegment, Residue, Spill

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backupd.model.ids import Pseudonym

_PLACE: Final = struct.Struct("<II")
_MOST: Final = 2 << 20
"""Bytes in memory."""
_PIECE: Final = 256 << 10
"""Bytes of one segment written together."""


class SpanLog:
    """Packed spans by segment: first all are added, then read, segment by segment."""

    def __init__(self, path: Path) -> None:
        self._spill = Spill(path)
        self._held: dict[Pseudonym, bytearray] = {}
        self._size = 0
        self._spilled: BySegment | None = None

    def add(self, pseudonym: Pseudonym, task: int, span: bytes) -> None:
        """The packed span of a task. Raises SpoolFullError."""
        self._held.setdefault(pseudonym, bytearray()).extend(_PLACE.pack(task, len(span)) + span)
        self._size += _PLACE.size + len(span)
        if self._size > _MOST:
            self._flush()

    def of(self, pseudonym: Pseudonym) -> list[tuple[int, bytes]]:
        """A segment's tasks with their packed spans, as they were added.

        To be asked in the order of pseudonyms, for every segment that has any. Raises BackupdError, DamageError when
        the spool cannot be read.
        """
        if self._spilled is None:
            if not self._spill.runs:
                return list(_records(self._held.pop(pseudonym, bytearray())))
            self._flush()
            self._spilled = BySegment([self._spill.written()])
        pieces = [piece for residue in self._spilled.of(pseudonym) for piece in residue.chunks]
        return list(_records(b"".join(pieces)))

    def _flush(self) -> None:
        self._spill.add_run(residue for pseudonym in sorted(self._held) for residue in self._residues(pseudonym))
        self._held.clear()
        self._size = 0

    def _residues(self, pseudonym: Pseudonym) -> Iterator[Residue]:
        held = self._held[pseudonym]
        for start in range(0, len(held), _PIECE):
            yield Residue(pseudonym, 0, [bytes(held[start : start + _PIECE])], b"")


def _records(packed: bytes | bytearray) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(packed):
        task, size = _PLACE.unpack_from(packed, at)
        at += _PLACE.size + size
        yield task, bytes(packed[at - size : at])
