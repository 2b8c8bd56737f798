"""Verify one generation: its documents against its listing, then as much of its bytes as asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from backupd.errors import UNSOUND, BackupdError, ObjectMissingError
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym, SnapshotName
from backupd.operations.ledger.history import LedgerHistory
from backupd.operations.phases import Phases
from backupd.operations.verify.contents import ContentChecker
from backupd.operations.verify.documents import Absences, Documents, read_documents
from backupd.parallel import in_parallel
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


class GenerationCheck:
    """One generation's share of a verify; its fields are the result of `run`."""

    def __init__(
        self, repository: Repository, generation: GenerationId, checked: CheckedState, scope: Scope, tools: Tools
    ) -> None:
        self._repository = repository
        self._generation = generation
        self._checked = checked
        self._scope = scope
        self._tools = tools
        self._containers = ContainerChecker(repository.store, repository.info().repository, generation)
        self._packs: dict[ContainerKey, list[tuple[ObjectHash, int]]] = {}
        self._whole: set[ContainerKey] = set()
        self._damaged: set[ContainerKey] = set()
        self._absences = Absences(generation, Documents(), self._packs)
        self.findings: list[Mismatch] = []
        self.orphans: list[Stored] = []
        self.proven: list[SnapshotName] = []
        self.parts = self.packs = self.size = 0
        self.read = self.read_size = self.opened = 0
        self.purged = self.unpurged = self.aged = 0

    def run(
        self, records: Iterable[SnapshotName], keyrings: Iterable[ObjectName], history: LedgerHistory
    ) -> dict[SnapshotName, SnapshotName | None]:
        """Check everything; returns each record with the one it was written after."""
        # 1. What records and keyrings say.
        documents = read_documents(self._repository, history.chain, (self._generation, records, keyrings))
        self._absences.documents = documents
        self.findings += documents.findings
        self.findings += history.wrongly_sealed(documents.keyrings)
        keys = self._open_keys(documents)
        # 2. Are the parts there, and which packs do they need? Purged segments are not asked for.
        stored, twins = self._checked.listed(self._generation)
        gone = history.explained.purged_in(self._generation)
        parts = self._compare((want for want in documents.parts.values() if want.key.segment not in gone), stored)
        wanted = self._read_headers(parts)
        # 3. Are the packs there?
        packs = self._compare(wanted, stored)
        self.parts, self.packs = len(parts), len(packs)
        needed = parts | packs
        self.size = sum(place.size for place in needed.values())
        # 4. What nothing refers to, and what should be gone.
        named = {*documents.parts, *(want.key for want in wanted)}
        others = [(key, place) for key, place in stored.items() if key not in named or key.segment in gone]
        self._look_at_orphans([*others, *twins], gone)
        self.purged = len({key.segment for key in documents.parts} & gone)
        self.unpurged = len((documents.keyed() | {key.segment for key in stored}) & gone)
        # 5. The bytes themselves, as many as asked for.
        self._read_bytes(needed, keys)
        if keys is not None:
            self._read_contents(documents, parts, keys)
        # 6. What is missing, and what the ledger says of it.
        self._settle(documents, needed, history)
        return documents.previous

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
                self._absences.missing[key] = finding
            else:
                self.findings.append(finding)
        return result.sound

    def _read_headers(self, parts: dict[ContainerKey, Stored]) -> list[Wanted]:
        wanted: list[Wanted] = []
        for (key, place), result in self._each(self._containers.header, list(parts.items())):
            header = self._header_of(key, place, result)
            if header is None:
                del parts[key]
                continue
            self._packs[key] = header.packs
            wanted += [Wanted(ContainerKey(key.segment, sha256), size, place.name) for sha256, size in header.packs]
        return wanted

    def _look_at_orphans(self, places: list[tuple[ContainerKey, Stored]], gone: frozenset[Pseudonym]) -> None:
        """Nothing needs them, but what lies in a segment's folder must be that segment's: a purge relies on it."""
        for (key, place), result in self._each(self._containers.header, places):
            if self._header_of(key, place, result) is not None and key.segment not in gone:
                self.orphans.append(place)

    def _header_of(self, key: ContainerKey, place: Stored, result: Future[tuple[Header, bool]]) -> Header | None:
        try:
            header, whole = result.result()
        except UNSOUND as error:
            self._found(key, place, error)
            return None
        if whole:
            self._passed(key)
        return header

    def _read_bytes(self, needed: dict[ContainerKey, Stored], keys: SecretKeys | None) -> None:
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
        self.read = len(self._whole)
        self.read_size = sum(place.size for key, place in needed.items() if key in self._whole)

    def _read(self, key: ContainerKey, place: Stored, keys: SecretKeys | None) -> None:
        if keys is not None and key.segment in keys:
            chunk_key = keys.chunk_keys[self._generation]
            self._containers.open(key, place, keys[key.segment].secret, chunk_key, self._tools.scratch)
        elif key not in self._whole:  # a small one was read whole for its header
            self._containers.check(key, place)

    def _read_contents(self, documents: Documents, parts: dict[ContainerKey, Stored], keys: SecretKeys) -> None:
        times = self._checked.times(CONTENT, (key.segment for key in parts))
        sound = [key for key in parts if key.segment in keys and not self._damaged & self._containers_of(key)]
        weights = {key: parts[key].size + sum(size for _, size in self._packs[key]) for key in sound}
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
        self.opened = len(amounts)
        self._compare_totals(documents, amounts)

    def _containers_of(self, part: ContainerKey) -> set[ContainerKey]:
        return {part, *(ContainerKey(part.segment, sha256) for sha256, _ in self._packs[part])}

    def _compare_totals(self, documents: Documents, amounts: dict[ContainerKey, tuple[int, int]]) -> None:
        for name, claims in documents.claims.items():
            if claims.totals is not None and all(key in amounts for key in claims.parts):
                rows, size = (sum(amounts[key][at] for key in claims.parts) for at in (0, 1))
                if (rows, size) != (claims.totals.rows, claims.totals.bytes):
                    where = layout.record_name(self._generation, name)
                    self.findings.append(Mismatch(where, "does not have as many rows in its parts as it says"))

    def _settle(self, documents: Documents, needed: dict[ContainerKey, Stored], history: LedgerHistory) -> None:
        """Judge what is missing by the ledger as it is by now; then which snapshots are proven."""
        if self._absences.any:
            history.refresh()
        judged = self._absences.judge(history.explained)
        self.findings += judged.findings
        self.aged = judged.aged
        read = self._checked.times(READ, (key.segment for key in needed)).keys() & needed.keys()
        right = {
            part for part in self._packs if part.segment not in judged.keyless and self._containers_of(part) <= read
        }
        # What is missing and may be proves nothing, and prevents no proof.
        excused = {part for part in self._packs if self._containers_of(part) & judged.excused} | judged.excused
        gone, wrong = history.explained.purged_in(self._generation), {finding.object for finding in self.findings}
        for name, claims in documents.claims.items():
            left = [key for key in claims.parts if key.segment not in gone and (key in right or key not in excused)]
            unsound = layout.record_name(self._generation, name) in wrong or name in history.explained.expired
            if left and not unsound and right.issuperset(left):
                self.proven.append(name)

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
            self._absences.missing[key] = finding
        else:
            self.findings.append(finding)
