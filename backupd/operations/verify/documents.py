"""Records and keyrings of one generation: signatures, places, and what they ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.catalog import layout
from backupd.errors import UNSOUND, DamageError, ObjectMissingError
from backupd.model.instants import parse_stamp
from backupd.model.stored.documents import REDUCED
from backupd.planning.verify import ContainerKey, Mismatch, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from backupd.catalog.ledger import Chain
    from backupd.catalog.repository import Repository
    from backupd.model.ids import ClassTag, GenerationId, ObjectName, Pseudonym, SnapshotName
    from backupd.model.stored.documents import Totals
    from backupd.seal.keys.opening import Keyring


@dataclass(frozen=True, slots=True)
class Said:
    """What one record says that is held against the rest."""

    exported: datetime
    parts: list[ContainerKey]
    totals: Totals | None
    """None: they are those of the record this one is a part of."""


@dataclass(slots=True)
class Documents:
    """What a generation's records and keyrings say."""

    previous: dict[SnapshotName, SnapshotName | None] = field(default_factory=dict)
    """Of every record, also of unreadable ones (None)."""
    parts: dict[ContainerKey, Wanted] = field(default_factory=dict)
    """Every part a record names, once."""
    said: dict[SnapshotName, Said] = field(default_factory=dict)
    keyrings: list[Keyring] = field(default_factory=list)
    findings: list[Mismatch] = field(default_factory=list)
    vanished: dict[SnapshotName, Mismatch] = field(default_factory=dict)
    """Records that were listed, and gone when they were read."""
    keyless: dict[Pseudonym, Mismatch] = field(default_factory=dict)
    """Segments that records need and no keyring has a key of."""

    def classes(self) -> dict[Pseudonym, ClassTag]:
        """Of every segment a keyring lists, by its tags."""
        return {
            segment: tags.data_class
            for keyring in self.keyrings
            for (segment, _), tags in zip(keyring.index, keyring.tags, strict=True)
        }

    def keyed(self) -> set[Pseudonym]:
        """Segments that a keyring has a key of."""
        return {keyring.index[place][0] for keyring in self.keyrings for place in keyring.sealed}


def read_documents(
    repository: Repository,
    chain: Chain,
    places: tuple[GenerationId, Iterable[SnapshotName], Iterable[ObjectName]],
) -> Documents:
    """Read a generation's records and keyrings; the ones that cannot be believed become findings.

    So does a record that saw another ledger than `chain`, or more of it.
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
    documents.said[name] = Said(parse_stamp(record.exported), keys, totals)


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
