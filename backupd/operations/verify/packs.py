"""Read packs of one generation, compare each section with its hash, and open those that there are keys for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.errors import UNSOUND, BackupdError, KeyRefusedError, ObjectMissingError, RefusedError
from backupd.model.ids import ObjectHash, RunId
from backupd.operations.phases import Phases
from backupd.parallel import in_parallel
from backupd.planning.verify import Mismatch, ReadCandidate, choose
from backupd.repository import layout
from backupd.repository.pack_check import KeyringListing, check_sections
from backupd.repository.state.checked import READ
from backupd.trace import Progress

if TYPE_CHECKING:
    from backupd.operations.verify.types import CheckedGeneration
    from backupd.repository.keys import SecretKeys
    from backupd.seal.keyring import SegmentKey
    from backupd.seal.pack import SectionRow


@dataclass(frozen=True, slots=True)
class SoundKeys:
    """The keys of those sections whose listing is right; None for any other, which is hashed and not opened."""

    listings: Mapping[RunId, KeyringListing]
    keys: SecretKeys | None

    def of(self, row: SectionRow) -> SegmentKey | None:
        """Return a section's key; None without an identity, and where other checks report damage."""
        listing = self.listings.get(row.keyring)
        if self.keys is None or listing is None or listing.fault_of(row) or row.place in listing.shredded:
            return None
        try:
            return self.keys.of(row)
        except KeyRefusedError:
            return None  # of a section that no record needs, or the survey would have raised this

    def require(self, row: SectionRow) -> SegmentKey:
        """Return a section's key; raises RefusedError where `of` returns None."""
        key = self.of(row)
        if key is None:
            raise RefusedError(f"there is no key for a section of segment {row.segment}")
        return key


@dataclass(slots=True)
class ReadPacks:
    """The result of reading packs."""

    right: dict[ObjectHash, int] = field(default_factory=dict)
    """Packs that were read in this run and are right, with their bytes."""
    damaged: dict[ObjectHash, list[Mismatch]] = field(default_factory=dict)
    vanished: dict[ObjectHash, Mismatch] = field(default_factory=dict)
    """Packs that were gone when they were to be read."""


class PackReader:
    """The reader of one generation's packs; what passed is remembered. For one thread; it uses several."""

    def __init__(self, checked: CheckedGeneration) -> None:
        self._of = checked

    def read(self, sound: Mapping[ObjectHash, int], keys: SoundKeys) -> ReadPacks:
        """Read as many of these packs as asked for; each has its size in bytes. Raises the store's errors."""
        times = self._of.state.times(READ, self._of.id)
        candidates = [ReadCandidate(sha256, size, times.get(sha256)) for sha256, size in sound.items()]
        chosen = choose(candidates, self._of.scope.share)
        total = sum(candidate.weight for candidate in chosen)
        done, region, size, tools = ReadPacks(), self._of.repository.info().region, 0, self._of.tools
        with Phases(tools.clock, tools.trace, region).phase("reading", total):
            for candidate, result in in_parallel(lambda one: self._check(one.key, keys), chosen, tools.threads):
                try:
                    found = result.result()
                except UNSOUND as error:
                    self._fail(candidate.key, done, error)
                    continue
                if found:
                    self._forget(candidate.key)
                    done.damaged[candidate.key] = found
                    continue
                now = tools.clock.now().timestamp()
                self._of.state.remember(READ, self._of.id, candidate.key, now)
                done.right[candidate.key] = candidate.weight
                size += candidate.weight
                tools.trace.emit(Progress("reading", region, bytes_in=size, objects=len(done.right)))
        return done

    def _check(self, sha256: ObjectHash, keys: SoundKeys) -> list[Mismatch]:
        pack = self._of.repository.pack(self._of.id, sha256)
        faults = check_sections(self._of.repository.store, pack, keys.of, self._of.tools.scratch)
        return [Mismatch(pack.name, fault.message, pack.header.rows[fault.at].segment) for fault in faults]

    def _fail(self, sha256: ObjectHash, done: ReadPacks, error: BackupdError) -> None:
        self._forget(sha256)
        finding = Mismatch(layout.pack_name(self._of.id, sha256), error.message)
        if isinstance(error, ObjectMissingError):
            done.vanished[sha256] = finding
        else:
            done.damaged[sha256] = [finding]

    def _forget(self, sha256: ObjectHash) -> None:
        """Forget that the pack was ever verified, so that it is read first the next time."""
        self._of.state.forget(READ, self._of.id, sha256)
