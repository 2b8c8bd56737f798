"""Verify one generation: its documents against its packs, then as much of its bytes as asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.model.ids import ObjectName, Pseudonym, SnapshotName
from backupd.operations.ledger.history import LedgerHistory
from backupd.operations.verify.absences import Absence, JudgedAbsences, judge
from backupd.operations.verify.contents import CheckedContents, ContentChecker, KnownTroubles
from backupd.operations.verify.documents import DocumentReader, Documents
from backupd.operations.verify.packs import PackReader, ReadPacks, SoundKeys
from backupd.operations.verify.survey import PackSurvey, Surveyor
from backupd.planning.verify import Mismatch
from backupd.repository import layout
from backupd.repository.keys import SecretKeys
from backupd.repository.state.checked import READ

if TYPE_CHECKING:
    from backupd.operations.verify.types import CheckedGeneration
    from backupd.repository.ledger import Chain


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """The findings and figures of one generation's share of a verify."""

    previous: dict[SnapshotName, SnapshotName | None]
    """Each record with the one that it was written after."""
    believed: frozenset[SnapshotName]
    """Those of the records that a trusted signer signed."""
    findings: tuple[Mismatch, ...]
    orphans: dict[ObjectName, int]
    """Packs that no record names, with their bytes."""
    proven: tuple[SnapshotName, ...]
    """Snapshots of which every byte was read with success, in this run or an earlier one."""
    packs: int
    sections: int
    """Sections that records need and that are there."""
    size: int
    """Bytes of all packs that records need."""
    read: int
    """Packs whose every section was checked in this run."""
    read_size: int
    opened: int
    """Segments whose content was compared with their manifests."""
    purged: int
    """Segments that records name and a purge took out."""
    unpurged: int
    """Segments that a purge lists, of which the store still has a key or a section."""
    aged: int
    """Sections that records name and that went with the age of their class."""


class GenerationCheck:
    """The check of one generation; `run` returns all that it finds."""

    def __init__(self, checked: CheckedGeneration) -> None:
        self._of = checked

    def run(
        self, records: Iterable[SnapshotName], keyrings: Iterable[ObjectName], history: LedgerHistory
    ) -> GenerationResult:
        """Check everything in the generation, once; these are its listed records and keyrings.

        Raises KeyRefusedError when an identity does not open the keyrings, and the store's errors.
        """
        tools = self._of.tools
        # 1. What records and keyrings say. What is gone by the ledger of now must not be seen after it.
        before = history.chain
        with_identity = self._of.scope.identity is not None
        reader = DocumentReader(self._of.repository, self._of.id, history)
        documents = reader.read(records, keyrings, tools, keep=with_identity)
        keys = self._open_keys(documents)
        # 2. Are the packs there, and the sections that records need, and their keys?
        gone = history.explained.purged_in(self._of.id)
        surveyor = Surveyor(self._of.repository, self._of.id, documents, gone, keys)
        survey = surveyor.run(self._of.state.listed(self._of.id), tools.threads)
        # 3. The bytes themselves, as many as asked for, and with an identity the rows.
        sound_keys = SoundKeys(documents.listings, keys)
        read = PackReader(self._of).read(survey.sound, sound_keys)
        contents = CheckedContents()
        if keys is not None:
            contents = ContentChecker(self._of).check(documents, sound_keys, self._troubles(survey, read, gone))
        # 4. What is missing, and what the ledger says of it.
        users = documents.users()
        vanished = [Absence(finding, tuple(users[sha256])) for sha256, finding in read.vanished.items()]
        judged = self._judge(documents, [*survey.absences, *vanished, *contents.absences], history)
        unpurged = survey.unpurged | documents.keyed(gone)
        findings = [
            *self._returned(unpurged, history, before),
            *documents.findings,
            *survey.findings,
            *(finding for found in read.damaged.values() for finding in found),
            *contents.findings,
            *judged.findings,
        ]
        unfit = survey.unfit | contents.unfit | judged.unfit | history.explained.expired
        unfit |= {name for sha256 in read.damaged for name in users[sha256]}
        return GenerationResult(
            previous=documents.previous,
            believed=frozenset(documents.believed),
            findings=tuple(findings),
            orphans=survey.orphans,
            proven=tuple(self._proven(documents, survey.alive - unfit, findings)),
            packs=len(survey.sound),
            sections=survey.sections,
            size=sum(survey.sound.values()),
            read=len(read.right),
            read_size=sum(read.right.values()),
            opened=contents.segments,
            purged=len(survey.purged),
            unpurged=len(unpurged),
            aged=judged.aged,
        )

    def _returned(self, unpurged: Collection[Pseudonym], history: LedgerHistory, before: Chain) -> Iterator[Mismatch]:
        now = self._of.tools.clock.now()
        absent = history.absent_in(self._of.id, now, before) if unpurged else frozenset[Pseudonym]()
        message = (
            "holds a key or a section again of a segment that a purge had taken out: an older copy was put back. A "
            "keeper's `backupd purge` takes it out again"
        )
        for segment in sorted(absent.intersection(unpurged)):
            yield Mismatch(layout.packs_folder(self._of.id), message, segment)

    def _open_keys(self, documents: Documents) -> SecretKeys | None:
        if self._of.scope.identity is None or not documents.keyrings:
            return None
        return SecretKeys({self._of.id: documents.keyrings}, self._of.scope.identity)

    def _troubles(self, survey: PackSurvey, read: ReadPacks, gone: frozenset[Pseudonym]) -> KnownTroubles:
        findings = [*survey.findings, *(absence.finding for absence in survey.absences)]
        damaged = (finding for found in read.damaged.values() for finding in found)
        segments = {finding.segment for finding in (*findings, *damaged) if finding.segment is not None}
        packs = {layout.pack_name(self._of.id, sha256) for sha256 in (*read.damaged, *read.vanished)}
        packs |= {ObjectName(finding.object) for finding in survey.findings if finding.segment is None}
        return KnownTroubles(gone, segments, packs)

    def _judge(self, documents: Documents, absences: list[Absence], history: LedgerHistory) -> JudgedAbsences:
        """Judge what is missing by the ledger as it is by now."""
        absences += (Absence(finding, (name,)) for name, finding in documents.vanished.items())
        if absences:
            history.refresh()
        exported = {name: claims.exported for name, claims in documents.claims.items()}
        return judge(absences, exported, self._of.id, history.explained)

    def _proven(
        self, documents: Documents, fit: Collection[SnapshotName], findings: Iterable[Mismatch]
    ) -> Iterator[SnapshotName]:
        """Yield those of these snapshots whose every pack was read with success, and that no finding is about."""
        read = self._of.state.times(READ, self._of.id).keys()
        wrong = {finding.object for finding in findings}
        for name in sorted(fit):
            is_wrong = layout.record_name(self._of.id, name) in wrong
            if not is_wrong and documents.claims[name].packs.keys() <= read:
                yield name
