"""Which database each record is of, so that nobody has to read it again: records never change.

Names of records, configured labels and times. Losing it makes the next look read every record once, nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from backupd.atomic_file import write_whole
from backupd.model.ids import RepositoryId, SnapshotName


class LabelledRecord(NamedTuple):
    """One record that was read and believed."""

    label: str
    exported: datetime


class _File(msgspec.Struct):
    repository: str
    signers: list[str]
    """Whose records were believed."""
    records: dict[str, tuple[str, datetime]]


class Labels:
    """The memory of one repository on one store."""

    def __init__(self, path: Path, repository: RepositoryId, signers: Iterable[str]) -> None:
        """One that is of another repository, or believed others, is forgotten; so is one that cannot be read."""
        self._path = path
        self._empty = _File(repository, sorted(signers), {})
        self._kept = self._empty
        self._changed = False
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found = msgspec.json.decode(path.read_bytes(), type=_File)
            if (found.repository, found.signers) == (repository, self._empty.signers):
                self._kept = found

    def get(self, name: SnapshotName) -> LabelledRecord | None:
        found = self._kept.records.get(name)
        return None if found is None else LabelledRecord(*found)

    def remember(self, name: SnapshotName, found: LabelledRecord) -> None:
        if self.get(name) != found:
            self._kept.records[name] = (found.label, found.exported)
            self._changed = True

    def save(self, listed: Collection[SnapshotName]) -> None:
        """Keep what is said of these, which are all there are. A disk that does not take it is no fault."""
        kept = {name: found for name, found in self._kept.records.items() if name in listed}
        if not self._changed and len(kept) == len(self._kept.records):
            return
        self._kept.records = kept
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path, msgspec.json.encode(self._kept))
