"""What one generation misses, and which of it the ledger explains.

Judged when everything was looked at: a keeper may have been at work meanwhile, and wrote into the ledger before it
removed anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backupd.model.ids import ClassTag, GenerationId, ObjectHash, Pseudonym, SnapshotName
    from backupd.operations.verify.documents import Documents, Said
    from backupd.planning.deletion.explained import Explained
    from backupd.planning.verify import ContainerKey, Mismatch


@dataclass(frozen=True, slots=True)
class Judged:
    """One generation's absences under one state of the ledger."""

    findings: list[Mismatch]
    """Absences nothing explains."""
    keyless: frozenset[Pseudonym]
    """Segments among them whose key is gone."""
    excused: frozenset[ContainerKey]
    """Containers that are missing, and may be."""
    aged: int
    """Parts among them that went with the age of their class."""


@dataclass(slots=True)
class Absences:
    """Collected while a generation is looked at."""

    generation: GenerationId
    documents: Documents
    packs: Mapping[ContainerKey, Iterable[tuple[ObjectHash, int]]]
    """What the parts that were read name."""
    missing: dict[ContainerKey, Mismatch] = field(default_factory=dict)
    """Containers that are needed, and not there."""

    @property
    def any(self) -> bool:
        return bool(self.missing or self.documents.keyless or self.documents.vanished)

    def judge(self, explained: Explained) -> Judged:
        """What of it is damage."""
        index = _Index(self, explained)
        keyless = {
            segment: finding for segment, finding in self.documents.keyless.items() if not index.excuses_key(segment)
        }
        excused = {key for key in self.missing if index.excuses(key)}
        findings = [
            *keyless.values(),
            *(finding for name, finding in self.documents.vanished.items() if name not in explained.expired),
            *(finding for key, finding in self.missing.items() if key not in excused),
        ]
        aged = sum(1 for key in excused & self.documents.parts.keys() if index.aged(key))
        return Judged(findings, frozenset(keyless), frozenset(excused), aged)


class _Index:
    """Who needs what is missing."""

    def __init__(self, absences: Absences, explained: Explained) -> None:
        self._generation = absences.generation
        self._explained = explained
        self._classes: dict[Pseudonym, ClassTag] = absences.documents.classes() if explained.aged else {}
        missing = absences.missing.keys()
        self._namers: dict[ContainerKey, set[ContainerKey]] = {
            key: {key} & absences.documents.parts.keys() for key in missing
        }
        for part, packs in absences.packs.items():
            for sha256, _ in packs:
                key = part._replace(sha256=sha256)
                if key in self._namers:
                    self._namers[key].add(part)
        wanted = {part for namers in self._namers.values() for part in namers}
        self._records: dict[ContainerKey, list[tuple[SnapshotName, Said]]] = {part: [] for part in wanted}
        self._users: dict[Pseudonym, set[SnapshotName]] = {segment: set() for segment in absences.documents.keyless}
        for name, said in absences.documents.said.items():
            for key in said.parts:
                if key in self._records:
                    self._records[key].append((name, said))
                if key.segment in self._users:
                    self._users[key.segment].add(name)

    def excuses(self, key: ContainerKey) -> bool:
        """Whether a container may be missing: purged, or no snapshot that needs it has to have it still."""
        if self._explained.is_purged(self._generation, key.segment):
            return True
        return all(
            name in self._explained.expired or self._aged(key.segment, said)
            for part in self._namers[key]
            for name, said in self._records[part]
        )

    def excuses_key(self, segment: Pseudonym) -> bool:
        return self._explained.is_purged(self._generation, segment) or self._users[segment] <= self._explained.expired

    def aged(self, part: ContainerKey) -> bool:
        """Whether it is the age of its class that excuses a part."""
        return any(self._aged(part.segment, said) for _, said in self._records[part])

    def _aged(self, segment: Pseudonym, said: Said) -> bool:
        return self._explained.is_aged(self._generation, self._classes.get(segment), said.exported)
