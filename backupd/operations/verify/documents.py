"""Read the records and keyrings of one generation, and judge by the ledger which of its absences are damage.

Absences are judged after everything was read: a keeper may have been at work meanwhile, and wrote into the ledger
before it removed anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from backupd.errors import UNSOUND, DamageError, ObjectMissingError
from backupd.model.documents import REDUCED, Totals
from backupd.model.ids import ClassTag, GenerationId, ObjectHash, ObjectName, Pseudonym, SnapshotName
from backupd.model.text import parse_stamp
from backupd.planning.ledger_facts import Explained
from backupd.planning.verify import ContainerKey, Mismatch, Wanted
from backupd.repository import layout

if TYPE_CHECKING:
    from backupd.repository.ledger import Chain
    from backupd.repository.repository import Repository
    from backupd.seal.keyring import Keyring


@dataclass(frozen=True, slots=True)
class RecordClaims:
    """The claims of one record that are compared with what the store holds."""

    exported: datetime
    parts: list[ContainerKey]
    totals: Totals | None
    """None when the totals are those of a whole record of which this one is a reduced part."""


@dataclass(slots=True)
class Documents:
    """The content of a generation's records and keyrings."""

    previous: dict[SnapshotName, SnapshotName | None] = field(default_factory=dict)
    """The record before each record; None for the first and for unreadable ones."""
    parts: dict[ContainerKey, Wanted] = field(default_factory=dict)
    """Every part a record names, once."""
    claims: dict[SnapshotName, RecordClaims] = field(default_factory=dict)
    keyrings: list[Keyring] = field(default_factory=list)
    findings: list[Mismatch] = field(default_factory=list)
    vanished: dict[SnapshotName, Mismatch] = field(default_factory=dict)
    """Records that were listed, and gone when they were read."""
    keyless: dict[Pseudonym, Mismatch] = field(default_factory=dict)
    """Segments that records need and of which no keyring has a key."""

    def classes(self) -> dict[Pseudonym, ClassTag]:
        """Return the class tag of every segment that a keyring lists."""
        return {
            segment: tags.data_class
            for keyring in self.keyrings
            for (segment, _), tags in zip(keyring.index, keyring.tags, strict=True)
        }

    def keyed(self) -> set[Pseudonym]:
        """Return the segments of which a keyring has a key."""
        return {keyring.index[place][0] for keyring in self.keyrings for place in keyring.sealed}


def read_documents(
    repository: Repository,
    chain: Chain,
    places: tuple[GenerationId, Iterable[SnapshotName], Iterable[ObjectName]],
) -> Documents:
    """Read a generation's records and keyrings; those that cannot be believed become findings.

    A record that saw another ledger than `chain`, or more of it, becomes a finding, too.
    """
    documents = Documents()
    generation, records, keyrings = places
    for name in records:
        _read_record(repository, generation, name, documents, chain)
    for where in keyrings:
        try:
            documents.keyrings.append(repository.keyring(where))
        except UNSOUND as error:
            documents.findings.append(Mismatch(where, error.message))
    documents.keyless.update(_keyless(documents))
    return documents


def _read_record(
    repository: Repository, generation: GenerationId, name: SnapshotName, documents: Documents, chain: Chain
) -> None:
    where = layout.record_name(generation, name)
    documents.previous[name] = None
    try:
        record = repository.record(name, generation)
    except ObjectMissingError as error:
        documents.vanished[name] = Mismatch(where, error.message)
        return
    except UNSOUND as error:
        documents.findings.append(Mismatch(where, error.message))
        return
    documents.previous[name] = record.previous
    try:
        chain.require(record.ledger, where)
    except DamageError as error:
        documents.findings.append(Mismatch(where, error.message))
    keys: list[ContainerKey] = []
    for segment, sha256, size in record.parts:
        wanted = documents.parts.setdefault(
            ContainerKey(segment, sha256), Wanted(ContainerKey(segment, sha256), size, where)
        )
        if wanted.size != size:
            documents.findings.append(Mismatch(where, f"disagrees with '{wanted.by}' on the size of a part", segment))
        keys.append(wanted.key)
    totals = None if REDUCED in record.extra else record.totals
    documents.claims[name] = RecordClaims(parse_stamp(record.exported), keys, totals)


def _keyless(documents: Documents) -> Iterable[tuple[Pseudonym, Mismatch]]:
    listed: set[Pseudonym] = {segment for keyring in documents.keyrings for segment, _ in keyring.index}
    shredded: dict[Pseudonym, str] = {
        segment: keyring.where for keyring in documents.keyrings for segment in keyring.shredded
    }
    by_segment = {wanted.key.segment: wanted.by for wanted in documents.parts.values()}
    for segment, by in sorted(by_segment.items()):
        if segment not in listed:
            yield segment, Mismatch(by, "names a segment that no keyring of its generation lists", segment)
        elif segment in shredded:
            message = "lacks the key of a segment, and no ledger says it was purged"
            yield segment, Mismatch(shredded[segment], message, segment)


@dataclass(frozen=True, slots=True)
class JudgedAbsences:
    """One generation's absences under one state of the ledger."""

    findings: list[Mismatch]
    """Absences that the ledger does not explain."""
    keyless: frozenset[Pseudonym]
    """Segments among the unexplained absences whose key is gone."""
    excused: frozenset[ContainerKey]
    """Containers that are missing, and may be."""
    aged: int
    """Number of excused parts that went with the age of their class."""


@dataclass(frozen=True, slots=True)
class Absences:
    """The containers, keys and records that a generation lacks."""

    generation: GenerationId
    documents: Documents
    packs: Mapping[ContainerKey, Iterable[tuple[ObjectHash, int]]]
    """The containers that the parts which were read name."""
    missing: Mapping[ContainerKey, Mismatch]
    """Containers that are needed and not there."""

    @property
    def any(self) -> bool:
        return bool(self.missing or self.documents.keyless or self.documents.vanished)

    def judge(self, explained: Explained) -> JudgedAbsences:
        """Judge by the ledger which absences are damage."""
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
        return JudgedAbsences(findings, frozenset(keyless), frozenset(excused), aged)


class _Index:
    """The records and parts that need what is missing."""

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
        self._records: dict[ContainerKey, list[tuple[SnapshotName, RecordClaims]]] = {part: [] for part in wanted}
        self._users: dict[Pseudonym, set[SnapshotName]] = {segment: set() for segment in absences.documents.keyless}
        for name, claims in absences.documents.claims.items():
            for key in claims.parts:
                if key in self._records:
                    self._records[key].append((name, claims))
                if key.segment in self._users:
                    self._users[key.segment].add(name)

    def excuses(self, key: ContainerKey) -> bool:
        """Check whether a container may be missing: it was purged, or all that needs it has expired or aged out."""
        if self._explained.is_purged(self._generation, key.segment):
            return True
        return all(
            name in self._explained.expired or self._aged(key.segment, claims)
            for part in self._namers[key]
            for name, claims in self._records[part]
        )

    def excuses_key(self, segment: Pseudonym) -> bool:
        return self._explained.is_purged(self._generation, segment) or self._users[segment] <= self._explained.expired

    def aged(self, part: ContainerKey) -> bool:
        """Check whether the age of its class is what excuses a part."""
        return any(self._aged(part.segment, claims) for _, claims in self._records[part])

    def _aged(self, segment: Pseudonym, claims: RecordClaims) -> bool:
        return self._explained.is_aged(self._generation, self._classes.get(segment), claims.exported)
