"""Read the ledger of one store from its first entry, with this machine's own copy as a witness, and answer what it says
about things that are missing there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from backupd.errors import UNSOUND, BusyError, DamageError, ObjectMissingError, RefusedError
from backupd.model.documents import LedgerHead
from backupd.model.ids import GenerationId, ObjectName, Pseudonym, SnapshotName
from backupd.model.ledger import Event, Verified, in_entries
from backupd.model.text import counted, parse_stamp
from backupd.operations.ledger import Book
from backupd.parallel import in_parallel
from backupd.planning.incarnations import TenantStates
from backupd.planning.ledger_facts import Explained, absent_on, explain_absences, proven_on, standing_recipients
from backupd.planning.verify import Mismatch
from backupd.repository import layout
from backupd.repository.ledger import Chain, list_entries, pop_strays, read_chain, why_stray
from backupd.repository.marks import LONGEST_RUN
from backupd.repository.own_ledger import OwnLedger, read_own
from backupd.repository.repository import Repository
from backupd.seal.keyring import Keyring
from backupd.store.base import Store


@dataclass(frozen=True, slots=True)
class LedgerReading:
    """A store's ledger, as far as it can be believed."""

    chain: Chain
    """The store's entries up to the first wrong one, or this machine's own copy where that is longer."""
    findings: tuple[Mismatch, ...]
    """What is wrong with the store's copy as far as it goes."""
    lacking: tuple[Mismatch, ...] = ()
    """What it lacks at its end, and this machine's own copy has: the chain is that one's."""
    strays: tuple[ObjectName, ...] = ()
    """What stands in the places of the next entries, and no keeper signed, or only one that had been retired."""
    why: Mapping[ObjectName, str] = field(default_factory=dict)
    """Of each stray, why it is no entry."""
    stored: int = 0
    """Number of entries that the store lists, believed or not."""

    @property
    def left_out(self) -> list[Mismatch]:
        """The strays, which stop nothing, each with the reason."""
        return [Mismatch(name, f"is no entry of the ledger: {self.why[name]}") for name in self.strays]

    @property
    def wrong(self) -> list[Mismatch]:
        """The findings, what is lacking, and what was left out."""
        return [*self.findings, *self.lacking, *self.left_out]


def read_ledger(
    repository: Repository, own: Store | None, threads: int = 8, at_least: LedgerHead | None = None
) -> LedgerReading:
    """Read every entry of a store's ledger, and compare it with this machine's own copy where there is one.

    `at_least` is a head that somebody kept elsewhere: the ledger must have or extend it.

    Nothing is written. Raises what `repository.info()` raises, and the store's errors.
    """
    findings, lacking = list[Mismatch](), list[Mismatch]()
    kept = _own_copy(repository, own)
    known = kept.chain
    numbers = list_entries(repository.store)
    strays = _strays(repository, numbers, findings)
    chain = _of_store(repository, known, numbers, threads, findings)
    if (
        findings
        and chain.retired
        and (late := pop_strays(repository.store, numbers, repository.keepers, chain.retired))
    ):
        # Whom the ledger itself retired is known only now: what they signed since is no entry either.
        findings.clear()
        strays += tuple(late)
        chain = _of_store(repository, known, numbers, threads, findings)
    if not findings and len(chain.links) < len(known.links):
        number = counted(len(known.links) - len(chain.links), "entry")
        said = f"is missing: the store lacks the last {number} of the ledger, which this machine's own copy has"
        cure = "a keeper's next run brings them (`backupd purge`)"
        lacking.append(Mismatch(layout.entry_name(len(chain.links) + 1), f"{said}; {cure}"))
        chain = known
    # The copy stands in for a store only if it is whole: behind a gap it knows of entries that nobody has here.
    if not findings and (wrong := kept.contradiction(chain)):
        findings.append(Mismatch(layout.entry_name(wrong[0]), wrong[1]))
    if at_least is not None and not findings:
        try:
            chain.require(at_least, "--ledger-at-least")
        except DamageError as error:
            findings.append(Mismatch(layout.entry_name(at_least.seq), error.message))
    longest = known if len(known.links) > len(chain.links) else chain  # shorter than known where something is wrong
    repository.obey(longest)
    why = {name: why_stray(repository.store, name, longest.retired) for name in strays}
    return LedgerReading(longest, tuple(findings), tuple(lacking), strays, why, len(numbers))


class LedgerHistory:
    """The explanations that a store's ledger gives for objects and keys that are missing there. For one thread.

    `purged` are segments that count as purged although the ledger does not say so.
    """

    def __init__(
        self,
        repository: Repository,
        seen: LedgerReading,
        store: str | None,
        purged: frozenset[tuple[GenerationId, Pseudonym]] = frozenset(),
    ) -> None:
        self._repository = repository
        self._seen = seen
        self._store = store
        self._purged = purged
        self.chain = seen.chain
        self.explained = self._explain()
        self._sealed_to = standing_recipients(self.chain.entries(), store) if store is not None else None

    def _explain(self) -> Explained:
        explained = explain_absences(self.chain.entries(), self._store)
        return replace(explained, purged=explained.purged | self._purged)

    @contextmanager
    def beside_keepers(self) -> Iterator[None]:
        """Turn damage that is found in the block into BusyError where the ledger explains more by then than before it.

        A keeper writes into the ledger before it removes anything; what reads at that time finds it missing.
        """
        before = self.explained
        try:
            yield
        except (DamageError, ObjectMissingError) as error:
            if not self.explains_more(before):
                raise
            raise BusyError(
                "a keeper removed something of the store while it was read",
                hint="Run it again: what was purged or has expired by now is left out then, and what is still missing "
                "is damage.",
            ) from error

    def explains_more(self, before: Explained) -> bool:
        """Read the entries appended since, and return whether more is explained than was before."""
        self.refresh()
        return self.explained != before

    def wrongly_sealed(self, keyrings: Iterable[Keyring]) -> list[Mismatch]:
        """Return the keyrings whose recipients are not those that the last rekeying of this store left."""
        wrong = [keyring for keyring in keyrings if not self._rightly(keyring)]
        if wrong:
            self.refresh()
        message = "is not sealed to the recipients that the ledger's last rekeying names"
        return [Mismatch(keyring.where, message) for keyring in wrong if not self._rightly(keyring)]

    def _rightly(self, keyring: Keyring) -> bool:
        # A run under way then may have published its keyring later.
        standing = self._sealed_to
        late = standing is None or parse_stamp(keyring.created) > standing.at - LONGEST_RUN
        return standing is None or late or keyring.wraps.keys() in standing.allowed

    def absent_in(self, generation: GenerationId, now: datetime, chain: Chain) -> frozenset[Pseudonym]:
        """Return the segments of a generation of which nothing may be on the store any more, by the ledger as it was.

        A keeper saw that they were gone, and no run that was under way when their purge began can still add to them.
        None on a store that the ledger has no name for.
        """
        if self._store is None:
            return frozenset()
        absent = absent_on(chain.entries(), self._store, now - 3 * LONGEST_RUN)
        return frozenset(segment for place, segment in absent if place == generation)

    @property
    def keepers(self) -> frozenset[str]:
        """The public keys whose entries are believed."""
        return self._repository.keepers

    def refresh(self) -> None:
        """Read the entries appended since.

        An entry that cannot be believed is left for the next `read_ledger` to report.
        """
        if self._seen.findings:
            return
        try:
            chain, _ = read_chain(self._repository.store, self.chain, self._repository.keepers, strays=[])
        except UNSOUND:
            return
        if len(chain.links) > len(self.chain.links):
            self.chain = chain
            self.explained = self._explain()
            self._sealed_to = standing_recipients(chain.entries(), self._store) if self._store is not None else None


def note_proven(book: Book, store: str, proven: Collection[SnapshotName]) -> list[SnapshotName]:
    """Append to a keeper's ledger which snapshots were verified; returns those it did not call proven before.

    Raises what `Book.append` does.
    """
    new: set[SnapshotName] = set()

    def decide(_: TenantStates) -> list[Event]:
        names = in_entries(sorted(set(proven) - proven_on(book.chain.entries(), store)))[0]
        return [Verified(store=store, snapshots=names)] if names else []

    while events := book.append(decide):
        new.update(name for event in events if isinstance(event, Verified) for name in event.snapshots)
    return sorted(new)


def _own_copy(repository: Repository, own: Store | None) -> OwnLedger:
    info = repository.info()
    empty = Chain(info.region, info.repository)
    return OwnLedger(empty) if own is None else read_own(own, empty, repository.keepers)


def _strays(repository: Repository, numbers: list[int], findings: list[Mismatch]) -> tuple[ObjectName, ...]:
    try:
        return tuple(pop_strays(repository.store, numbers, repository.keepers))
    except RefusedError as error:
        findings.append(Mismatch(layout.entry_name(1), f"{error.message} ({error.hint.rstrip('.')})"))
        return ()


def _of_store(
    repository: Repository, known: Chain, numbers: Sequence[int], threads: int, findings: list[Mismatch]
) -> Chain:
    """Return the store's entries up to the first wrong one, for which a finding is added."""
    info = repository.info()
    chain = Chain(info.region, info.repository)
    for seq, result in in_parallel(lambda seq: repository.read(layout.entry_name(seq), "ledger"), numbers, threads):
        place = len(chain.links) + 1
        if seq != place:
            message = "is missing, and other entries of the ledger are there"
            findings.append(Mismatch(layout.entry_name(place), message))
            return chain
        try:
            longer = chain.extended(result.result(), repository.keepers)
        except UNSOUND as error:
            # Whoever sees the finding alone needs the signer's fingerprint, and where to name it.
            said = f"{error.message} ({error.hint.rstrip('.')})" if error.hint else error.message
            findings.append(Mismatch(layout.entry_name(seq), said))
            return chain
        if seq <= len(known.links) and longer.links[-1] != known.links[seq - 1]:
            message = "is not the entry that this machine's own copy of the ledger has"
            findings.append(Mismatch(layout.entry_name(seq), message))
            return chain
        chain = longer
    return chain
