"""The choice of what is restored, with the keys and the sections to read it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from backupd.model.ids import Pseudonym
from backupd.model.tenancy import SegmentName
from backupd.planning.selection import Choice
from backupd.repository.keys import SecretKeys
from backupd.repository.packs import SnapshotSections


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedChoice(Choice):
    """A choice, with the sections of its snapshot and the keys of its generation."""

    keys: SecretKeys
    sections: SnapshotSections
    """Every section that the record names, also of segments that are left out."""
    names: Mapping[Pseudonym, SegmentName] = field(repr=False)
    """The names of the segments whose keys the identity has."""
    undefined: frozenset[Pseudonym] = frozenset()
    """Segments of tenants whose own schema was purged, and not they: a class of data may be kept for longer."""

    def name_of(self, segment: Pseudonym) -> SegmentName:
        """Return the name of a segment. Raises KeyRefusedError where the identity may not know it, DamageError."""
        return self.names.get(segment) or self.keys.of(self.sections.manifests[segment].row).name
