"""A cache of each record's database label and time, so that records, which never change, are read only once.

It holds names of records, configured labels and times. Losing it makes the next look read every record once.
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
    """The label and the export time of one record that was read and believed."""

    label: str
    exported: datetime


class _File(msgspec.Struct):
    repository: str
    signers: list[str]
    """Public keys whose records were believed."""
    records: dict[str, tuple[str, datetime]]


class Labels:
    """The cache of one repository on one store."""

    def __init__(self, path: Path, repository: RepositoryId, signers: Iterable[str]) -> None:
        """Load the cache; one that is unreadable, of another repository, or made with other signers is dropped."""
        self._path = path
        self._empty = _File(repository, sorted(signers), {})
        self._kept = self._empty
        self._changed = False
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found = msgspec.json.decode(path.read_bytes(), type=_File)
            if (found.repository, found.signers) == (repository, self._empty.signers):
                self._kept = found

    def get(self, name: SnapshotName) -> LabelledRecord | None:
        """Return a record's label and time; None when they are not cached."""
        found = self._kept.records.get(name)
        return None if found is None else LabelledRecord(*found)

    def remember(self, name: SnapshotName, found: LabelledRecord) -> None:
        """Store a record's label and time until `save`."""
        if self.get(name) != found:
            self._kept.records[name] = (found.label, found.exported)
            self._changed = True

    def save(self, listed: Collection[SnapshotName]) -> None:
        """Write the entries of the `listed` records, which are all there are, to disk. A write error is ignored."""
        kept = {name: found for name, found in self._kept.records.items() if name in listed}
        if not self._changed and len(kept) == len(self._kept.records):
            return
        self._kept.records = kept
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path, msgspec.json.encode(self._kept))
