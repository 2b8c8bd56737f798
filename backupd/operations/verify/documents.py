"""Records and keyrings of one generation: signatures, places, and what they ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.catalog import layout
from backupd.errors import DamageError, ObjectMissingError, RefusedError
from backupd.planning.verify import Finding, Key, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backupd.catalog.repository import Repository
    from backupd.model.documents import Totals
    from backupd.model.ids import GenerationId, ObjectName, Pseudonym, SnapshotName
    from backupd.seal.opening import Keyring

UNSOUND = (DamageError, RefusedError, ObjectMissingError)
"""Errors that say an object is wrong, not that it could not be looked at."""


@dataclass(slots=True)
class Documents:
    """What a generation's records and keyrings say."""

    previous: dict[SnapshotName, SnapshotName | None] = field(default_factory=dict)
    """Of every record, also of unreadable ones (None)."""
    parts: dict[Key, Wanted] = field(default_factory=dict)
    """Every part a record names, once."""
    of_record: dict[SnapshotName, tuple[list[Key], Totals]] = field(default_factory=dict)
    keyrings: list[Keyring] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read_documents(
    repository: Repository, generation: GenerationId, records: Iterable[SnapshotName], keyrings: Iterable[ObjectName]
) -> Documents:
    """Read them all; the ones that cannot be believed become findings."""
    documents = Documents()
    for name in records:
        _read_record(repository, generation, name, documents)
    for where in keyrings:
        try:
            documents.keyrings.append(repository.keyring(where))
        except UNSOUND as error:
            documents.findings.append(Finding(where, error.message))
    documents.findings.extend(_without_key(documents))
    return documents


def _read_record(repository: Repository, generation: GenerationId, name: SnapshotName, documents: Documents) -> None:
    where = layout.record_name(generation, name)
    documents.previous[name] = None
    try:
        record = repository.record(name, generation)
    except UNSOUND as error:
        documents.findings.append(Finding(where, error.message))
        return
    documents.previous[name] = record.previous
    keys: list[Key] = []
    for segment, sha256, size in record.parts:
        wanted = documents.parts.setdefault(Key(segment, sha256), Wanted(Key(segment, sha256), size, where))
        if wanted.size != size:
            documents.findings.append(Finding(where, f"disagrees with '{wanted.by}' on the size of a part", segment))
        keys.append(wanted.key)
    documents.of_record[name] = keys, record.totals


def _without_key(documents: Documents) -> Iterable[Finding]:
    listed: set[Pseudonym] = {segment for keyring in documents.keyrings for segment, _ in keyring.index}
    shredded: dict[Pseudonym, str] = {
        segment: keyring.where for keyring in documents.keyrings for segment in keyring.shredded
    }
    by_segment = {wanted.key.segment: wanted.by for wanted in documents.parts.values()}
    for segment, by in sorted(by_segment.items()):
        if segment not in listed:
            yield Finding(by, "names a segment that no keyring of its generation lists", segment)
        elif segment in shredded:
            # No ledger, no purge: without one, a line that is gone was not removed by us.
            yield Finding(shredded[segment], "lacks the key of a segment, and no ledger says it was purged", segment)
