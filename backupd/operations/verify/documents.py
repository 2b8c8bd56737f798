"""Read the records and keyrings of one generation; what they say is compared with the packs later."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from backupd.errors import UNSOUND, DamageError, ObjectMissingError
from backupd.model.documents import REDUCED, PackRef, Totals
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym, RunId, SnapshotName
from backupd.model.text import counted, parse_stamp
from backupd.parallel import in_parallel
from backupd.planning.verify import Mismatch
from backupd.repository import layout
from backupd.repository.keyring_shelf import KeyringShelf
from backupd.repository.pack_check import KeyringListing
from backupd.seal.pack import HEADER_LIMIT, ROW_SIZE

if TYPE_CHECKING:
    from concurrent.futures import Future

    from backupd.model.documents import Record
    from backupd.operations.ledger.history import LedgerHistory
    from backupd.operations.verify.types import Tools
    from backupd.repository.repository import Repository
    from backupd.seal.keyring import Keyring
    from backupd.seal.tags import TenantTags

_SECTIONS_LIMIT = HEADER_LIMIT // ROW_SIZE
"""Sections of a pack at most."""

Ranges = tuple["array[int]", "array[int]"]
"""The sections of a pack that a record names, as ranges: those with manifests, and others."""


@dataclass(frozen=True, slots=True)
class RecordClaims:
    """The claims of one record that are compared with what the store holds."""

    exported: datetime
    source: tuple[str, str | None]
    """The database's label, and the member."""
    packs: Mapping[ObjectHash, Ranges]
    totals: Totals | None
    """None when the totals are those of a whole record of which this one is a reduced part."""


@dataclass(slots=True)
class Documents:
    """The content of a generation's records and keyrings."""

    previous: dict[SnapshotName, SnapshotName | None] = field(default_factory=dict)
    """The record before each record; None for the first and for unreadable ones."""
    believed: set[SnapshotName] = field(default_factory=set)
    """The records that a trusted signer signed."""
    claims: dict[SnapshotName, RecordClaims] = field(default_factory=dict)
    listings: dict[RunId, KeyringListing] = field(default_factory=dict)
    """What each readable keyring lists."""
    unreadable: set[RunId] = field(default_factory=set)
    """Keyrings that are there, and cannot be believed."""
    keyrings: list[Keyring] = field(default_factory=list)
    """The keyrings themselves, when they are to be opened."""
    findings: list[Mismatch] = field(default_factory=list)
    vanished: dict[SnapshotName, Mismatch] = field(default_factory=dict)
    """Records that were listed, and gone when they were read."""

    def users(self) -> dict[ObjectHash, list[SnapshotName]]:
        """Return every pack that a record names, with these records."""
        found: dict[ObjectHash, list[SnapshotName]] = {}
        for name, claims in self.claims.items():
            for sha256 in claims.packs:
                found.setdefault(sha256, []).append(name)
        return found

    def keyed(self, segments: frozenset[Pseudonym]) -> set[Pseudonym]:
        """Return those of these segments of which a keyring has a key."""
        wanted = {bytes.fromhex(segment) for segment in segments}
        return {
            listing.segment(place)
            for listing in (self.listings.values() if wanted else ())
            for place in range(len(listing.classes))
            if listing.segments[16 * place : 16 * place + 16] in wanted and place not in listing.shredded
        }


class DocumentReader:
    """The reader of one generation's records and keyrings: those that cannot be believed become findings."""

    def __init__(self, repository: Repository, generation: GenerationId, history: LedgerHistory) -> None:
        self._repository = repository
        self._generation = generation
        self._history = history
        self._documents = Documents()
        self._shelf = KeyringShelf()

    def read(
        self,
        records: Iterable[SnapshotName],
        keyrings: Iterable[ObjectName],
        tools: Tools,
        *,
        keep: bool,
    ) -> Documents:
        """Read these, several at once; with `keep`, the keyrings are kept, to be opened.

        With the tenant key's tags, listings whose pseudonym is not that of their tags become findings, and so does a
        record that saw another ledger than the store's, or more of it. Raises the store's errors.
        """
        fetch, threads = partial(self._repository.record, generation=self._generation), tools.threads
        for name, record in in_parallel(fetch, records, threads):
            self._note_record(name, record)
        for where, keyring in in_parallel(self._repository.keyring, keyrings, threads):
            self._note_keyring(where, keyring, tools.tags, keep=keep)
        return self._documents

    def _note_record(self, name: SnapshotName, read: Future[Record]) -> None:
        documents, where = self._documents, layout.record_name(self._generation, name)
        documents.previous[name] = None
        try:
            record = read.result()
        except ObjectMissingError as error:
            documents.vanished[name] = Mismatch(where, error.message)
            return
        except UNSOUND as error:
            documents.findings.append(Mismatch(where, error.message))
            return
        documents.believed.add(name)
        documents.previous[name] = record.previous
        try:
            self._history.chain.require(record.ledger, where)
        except DamageError as error:
            documents.findings.append(Mismatch(where, error.message))
        packs = _ranges(record.packs)
        if packs is None:
            documents.findings.append(Mismatch(where, "names a pack twice, or sections that no pack can have"))
            return
        totals = None if REDUCED in record.extra else record.totals
        source = record.database, record.member
        documents.claims[name] = RecordClaims(parse_stamp(record.exported), source, packs, totals)

    def _note_keyring(self, where: ObjectName, read: Future[Keyring], tags: TenantTags | None, *, keep: bool) -> None:
        documents = self._documents
        try:
            keyring = read.result()
        except ObjectMissingError:
            return  # packs that name it tell whether it is missed
        except UNSOUND as error:
            run = layout.place_of(where).run
            documents.unreadable.update([run] if run else ())
            documents.findings.append(Mismatch(where, error.message))
            return
        listing = KeyringListing.of(keyring, tags)
        documents.listings[keyring.ids.run] = listing
        documents.findings += self._history.wrongly_sealed([keyring])
        if listing.forged:
            number = counted(len(listing.forged), "segment")
            message = f"lists {number} beside tags not their own: written under another tenant key, or forged"
            documents.findings.append(Mismatch(where, message))
        if keep:
            documents.keyrings.append(self._shelf.take(keyring))


def _ranges(packs: Iterable[PackRef]) -> dict[ObjectHash, Ranges] | None:
    """Return the ranges in a fraction of their memory; None for a record that no writer makes."""
    found: dict[ObjectHash, Ranges] = {}
    for sha256, manifests, others in packs:
        if sha256 in found or max((*manifests, *others), default=0) > _SECTIONS_LIMIT:
            return None
        found[sha256] = array("I", manifests), array("I", others)
    return found
