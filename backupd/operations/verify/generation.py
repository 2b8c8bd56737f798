"""Verify one generation: its documents against its listing, then as much of its bytes as asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from backupd.errors import UNSOUND, BackupdError, ObjectMissingError
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym, SnapshotName
from backupd.operations.ledger.history import LedgerHistory
from backupd.operations.phases import Phases
from backupd.operations.verify.contents import ContentChecker
from backupd.operations.verify.documents import Absences, Documents, JudgedAbsences, read_documents
from backupd.parallel import in_parallel
from backupd.planning.ledger_facts import Explained
from backupd.planning.verify import ContainerKey, Mismatch, ReadCandidate, Stored, Wanted, choose, compare
from backupd.repository import layout
from backupd.repository.container_check import ContainerChecker
from backupd.repository.keys import SecretKeys
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CONTENT, READ, CheckedState
from backupd.seal.container_format import Header
from backupd.trace import Progress

if TYPE_CHECKING:
    from backupd.operations.verify.types import Scope, Tools

R = TypeVar("R")


Packs = dict[ContainerKey, list[tuple[ObjectHash, int]]]
"""The containers that each part names, with their sizes in bytes."""


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """The findings and figures of one generation's share of a verify."""

    previous: dict[SnapshotName, SnapshotName | None]
    """Each record with the one that it was written after."""
    findings: tuple[Mismatch, ...]
    orphans: tuple[Stored, ...]
    """Packs and parts that nothing refers to."""
    proven: tuple[SnapshotName, ...]
    """Snapshots of which every byte was read with success, in this run or an earlier one."""
    parts: int
    packs: int
    size: int
    """Bytes of all parts and packs that records need."""
    read: int
    """Containers whose every byte was checked in this run."""
    read_size: int
    opened: int
    """Parts whose content was compared with their manifests."""
    purged: int
    """Segments that records name and a purge took out."""
    unpurged: int
    """Segments that a purge lists, of which the store still has a key or an object."""
    aged: int
    """Parts that records name and that went with the age of their class."""


class GenerationCheck:
    """The check of one generation, which notes findings as it reads; `run` returns all of them."""

    def __init__(
        self, repository: Repository, generation: GenerationId, checked: CheckedState, scope: Scope, tools: Tools
    ) -> None:
        self._repository = repository
        self._generation = generation
        self._checked = checked
        self._scope = scope
        self._tools = tools
        self._containers = ContainerChecker(repository.store, repository.info().repository, generation)
        self._findings: list[Mismatch] = []
        self._missing: dict[ContainerKey, Mismatch] = {}
        """Containers that are needed and not there; whether that is damage, the ledger decides at the end."""
        self._damaged: set[ContainerKey] = set()
        self._whole: set[ContainerKey] = set()
        """Containers whose every byte was read in this run, and is right."""

    def run(
        self, records: Iterable[SnapshotName], keyrings: Iterable[ObjectName], history: LedgerHistory
    ) -> GenerationResult:
        """Check everything in the generation, once; these are its listed records and keyrings.

        Raises KeyRefusedError when an identity does not open the keyrings, and the store's errors.
        """
        # 1. What records and keyrings say.
        documents = read_documents(self._repository, history.chain, (self._generation, records, keyrings))
        self._findings += documents.findings
        self._findings += history.wrongly_sealed(documents.keyrings)
        keys = self._open_keys(documents)
        # 2. Are the parts there, and which packs do they need? Purged segments are not asked for.
        stored, twins = self._checked.listed(self._generation)
        gone = history.explained.purged_in(self._generation)
        listed = self._compare((want for want in documents.parts.values() if want.key.segment not in gone), stored)
        named, wanted = self._read_headers(listed)
        parts = {key: listed[key] for key in named}
        # 3. Are the packs there?
        packs = self._compare(wanted, stored)
        needed = parts | packs
        # 4. What nothing refers to, and what should be gone.
        referred = {*documents.parts, *(want.key for want in wanted)}
        others = [(key, place) for key, place in stored.items() if key not in referred or key.segment in gone]
        orphans = self._find_orphans([*others, *twins], gone)
        # 5. The bytes themselves, as many as asked for.
        read, read_size = self._read_bytes(needed, keys)
        opened = self._read_contents(documents, parts, named, keys) if keys is not None else 0
        # 6. What is missing, and what the ledger says of it.
        judged = self._judge(Absences(self._generation, documents, named, self._missing), history)
        return GenerationResult(
            previous=documents.previous,
            findings=tuple(self._findings),
            orphans=tuple(orphans),
            proven=tuple(self._proven(documents, named, needed, judged, history.explained)),
            parts=len(parts),
            packs=len(packs),
            size=sum(place.size for place in needed.values()),
            read=read,
            read_size=read_size,
            opened=opened,
            purged=len({key.segment for key in documents.parts} & gone),
            unpurged=len((documents.keyed() | {key.segment for key in stored}) & gone),
            aged=judged.aged,
        )

    def _open_keys(self, documents: Documents) -> SecretKeys | None:
        if self._scope.identity is None or not documents.keyrings:
            return None
        keys = SecretKeys({self._generation: documents.keyrings}, self._scope.identity)
        for key in documents.parts:
            keys.require(key.segment)
        return keys

    def _compare(self, wanted: Iterable[Wanted], stored: dict[ContainerKey, Stored]) -> dict[ContainerKey, Stored]:
        result = compare(wanted, stored)
        self._damaged |= result.damaged
        for key, finding in result.findings.items():
            if key in result.missing:
                self._missing[key] = finding
            else:
                self._findings.append(finding)
        return result.sound

    def _read_headers(self, parts: dict[ContainerKey, Stored]) -> tuple[Packs, list[Wanted]]:
        """Return the packs that each readable part names, and the same as a list of what must be there."""
        named: Packs = {}
        wanted: list[Wanted] = []
        for (key, place), result in self._each(self._containers.header, list(parts.items())):
            header = self._header_of(key, place, result)
            if header is not None:
                named[key] = header.packs
                wanted += [Wanted(ContainerKey(key.segment, sha256), size, place.name) for sha256, size in header.packs]
        return named, wanted

    def _find_orphans(self, places: list[tuple[ContainerKey, Stored]], gone: frozenset[Pseudonym]) -> list[Stored]:
        """Return those of unpurged segments. A purge relies on a segment's folder, so each must be in its own."""
        orphans = []
        for (key, place), result in self._each(self._containers.header, places):
            if self._header_of(key, place, result) is not None and key.segment not in gone:
                orphans.append(place)
        return orphans

    def _header_of(self, key: ContainerKey, place: Stored, result: Future[tuple[Header, bool]]) -> Header | None:
        try:
            header, whole = result.result()
        except UNSOUND as error:
            self._found(key, place, error)
            return None
        if whole:
            self._passed(key)
        return header

    def _read_bytes(self, needed: dict[ContainerKey, Stored], keys: SecretKeys | None) -> tuple[int, int]:
        """Read as many containers as asked for; returns how many were read whole so far, and their bytes if needed."""
        times = self._checked.times(READ, (key.segment for key in needed))
        chosen = choose(
            [ReadCandidate(key, place.size, times.get(key)) for key, place in needed.items()], self._scope.share
        )
        region = self._repository.info().region
        total = sum(candidate.weight for candidate in chosen)
        with Phases(self._tools.clock, self._tools.trace, region).phase("reading", total):
            done = 0
            places = [(candidate.key, needed[candidate.key]) for candidate in chosen]
            for (key, place), result in self._each(lambda key, place: self._read(key, place, keys), places):
                try:
                    result.result()
                except UNSOUND as error:
                    self._found(key, place, error)
                    continue
                self._passed(key)
                done += place.size
                self._tools.trace.emit(Progress("reading", region, bytes_in=done, objects=len(self._whole)))
        return len(self._whole), sum(place.size for key, place in needed.items() if key in self._whole)

    def _read(self, key: ContainerKey, place: Stored, keys: SecretKeys | None) -> None:
        if keys is not None and key.segment in keys:
            chunk_key = keys.chunk_keys[self._generation]
            self._containers.open(key, place, keys[key.segment].secret, chunk_key, self._tools.scratch)
        elif key not in self._whole:  # a small one was read whole for its header
            self._containers.check(key, place)

    def _read_contents(
        self, documents: Documents, parts: dict[ContainerKey, Stored], named: Packs, keys: SecretKeys
    ) -> int:
        """Compare the content of as many parts as asked for with their manifests; returns how many were right."""
        times = self._checked.times(CONTENT, (key.segment for key in parts))
        sound = [key for key in parts if key.segment in keys and not self._damaged & _containers_of(key, named)]
        weights = {key: parts[key].size + sum(size for _, size in named[key]) for key in sound}
        chosen = choose([ReadCandidate(key, weights[key], times.get(key)) for key in sound], self._scope.share)
        amounts: dict[ContainerKey, tuple[int, int]] = {}
        with ContentChecker(self._repository, self._generation, keys, self._tools.threads) as contents:
            for key in sorted(candidate.key for candidate in chosen):
                try:
                    amounts[key] = contents.check(key, parts[key].size)
                except UNSOUND as error:
                    self._found(key, parts[key], error)
                    continue
                self._checked.remember(CONTENT, key, self._tools.clock.now().timestamp())
        self._compare_totals(documents, amounts)
        return len(amounts)

    def _compare_totals(self, documents: Documents, amounts: dict[ContainerKey, tuple[int, int]]) -> None:
        for name, claims in documents.claims.items():
            if claims.totals is not None and all(key in amounts for key in claims.parts):
                rows, size = (sum(amounts[key][at] for key in claims.parts) for at in (0, 1))
                if (rows, size) != (claims.totals.rows, claims.totals.bytes):
                    where = layout.record_name(self._generation, name)
                    self._findings.append(Mismatch(where, "does not have as many rows in its parts as it says"))

    def _judge(self, absences: Absences, history: LedgerHistory) -> JudgedAbsences:
        """Judge what is missing by the ledger as it is by now, and note what it does not explain."""
        if absences.any:
            history.refresh()
        judged = absences.judge(history.explained)
        self._findings += judged.findings
        return judged

    def _proven(
        self,
        documents: Documents,
        named: Packs,
        needed: dict[ContainerKey, Stored],
        judged: JudgedAbsences,
        explained: Explained,
    ) -> Iterator[SnapshotName]:
        """Yield the snapshots whose every container was read with success, and that no finding is about."""
        read = self._checked.times(READ, (key.segment for key in needed)).keys() & needed.keys()
        right = {part for part in named if part.segment not in judged.keyless and _containers_of(part, named) <= read}
        # What is missing and may be proves nothing, and prevents no proof.
        excused = {part for part in named if _containers_of(part, named) & judged.excused} | judged.excused
        gone, wrong = explained.purged_in(self._generation), {finding.object for finding in self._findings}
        for name, claims in documents.claims.items():
            left = [key for key in claims.parts if key.segment not in gone and (key in right or key not in excused)]
            unsound = layout.record_name(self._generation, name) in wrong or name in explained.expired
            if left and not unsound and right.issuperset(left):
                yield name

    def _each(
        self, function: Callable[[ContainerKey, Stored], R], places: Iterable[tuple[ContainerKey, Stored]]
    ) -> Iterator[tuple[tuple[ContainerKey, Stored], Future[R]]]:
        return in_parallel(lambda place: function(*place), places, self._tools.threads)

    def _passed(self, key: ContainerKey) -> None:
        self._whole.add(key)
        self._checked.remember(READ, key, self._tools.clock.now().timestamp())

    def _found(self, key: ContainerKey, place: Stored, error: BackupdError) -> None:
        """Note damage once, and forget that the container was ever verified, so that it is read first the next time."""
        self._damaged.add(key)
        self._whole.discard(key)
        for what in (READ, CONTENT):
            self._checked.forget(what, key)
        finding = Mismatch(place.name, error.message, key.segment)
        if isinstance(error, ObjectMissingError):
            self._missing[key] = finding
        else:
            self._findings.append(finding)


def _containers_of(part: ContainerKey, named: Packs) -> set[ContainerKey]:
    """Return a part with the containers that it names."""
    return {part, *(ContainerKey(part.segment, sha256) for sha256, _ in named[part])}
