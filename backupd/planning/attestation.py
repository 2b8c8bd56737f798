"""The evidence that the ledger holds of one incarnation's end, and what still prevents an attestation. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from backupd.model.attestation import AttestedHold, AttestedRestore, DeclaredCopy, RetiredStore
from backupd.model.ledger import LedgerEntry, Restored
from backupd.model.text import parse_stamp, stamp
from backupd.planning.incarnations import DeletionClock, Hold, IncarnationKey, Purge, TenantStates, fold

MAX_AGE_OF_OBSERVATION: Final = timedelta(days=1)
"""The greatest age of an observation: an attestation says what a store holds today."""


@dataclass(frozen=True, slots=True)
class PurgeEvidence:
    """The ledger's evidence of a purged incarnation."""

    key: IncarnationKey
    clock: DeletionClock
    purge: Purge
    due: datetime
    """When the last byte had to be gone."""
    holds: tuple[AttestedHold, ...]
    restores: tuple[AttestedRestore, ...]
    retired: tuple[RetiredStore, ...] = ()
    """Every store of the region that was ever declared gone, including those in use again."""

    def retired_but(self, looked_at: Collection[str]) -> list[RetiredStore]:
        """Return the retired stores that nobody can look at any more: those not in `looked_at`."""
        return [store for store in self.retired if store.store not in looked_at]

    def late_on(self, store: str) -> bool:
        """Check whether the store was first seen without the incarnation only after the day it was due.

        Raises KeyError when it was never seen without it.
        """
        return self.purge.absent[store][0] > self.due


@dataclass(frozen=True, slots=True)
class StoreObservation:
    """The result of a look at one store, after everything that the same look removed."""

    at: datetime
    snapshots: tuple[str, ...]
    """The store's own snapshots that were looked into."""
    still_in: tuple[str, ...]
    """The places where something of the incarnation was found."""


def purge_evidence(entries: Iterable[LedgerEntry], key: IncarnationKey) -> PurgeEvidence | None:
    """Collect the evidence of an incarnation's end from a ledger, whose entries are given from the first on.

    Returns None when the incarnation has no clock, or no purge of it began.
    """
    read = list(entries)
    states = fold(read)
    incarnation = states.incarnations.get(key)
    if incarnation is None or incarnation.clock is None or incarnation.purge is None:
        return None
    return PurgeEvidence(
        key=key,
        clock=incarnation.clock,
        purge=incarnation.purge,
        due=states.deadline(incarnation),
        holds=tuple(_holds(states, key, incarnation.clock)),
        restores=tuple(restores_since(read, incarnation.purge.began)),
        retired=tuple(
            RetiredStore(store=name, at=stamp(one.at), decision=one.decision, purging=name in incarnation.purge.retired)
            for name, one in sorted(states.retired.items())
        ),
    )


def open_items(
    purge: Purge, configured: Collection[str], looks: Mapping[str, StoreObservation], now: datetime
) -> Iterator[str]:
    """Yield a sentence for everything about the stores that is inferred and not observed; none when all was observed.

    `looks` holds the observation of each store that was looked at, by configured name.
    """
    for store in sorted({*purge.stores, *configured}):
        if store not in configured:
            yield (
                f"store '{store}' took part in the purge and is not configured any more, so nobody can look at it "
                "(if it is gone for good, `backupd ledger retire` says so)"
            )
        elif store not in looks:
            yield f"store '{store}' was not looked at"
        else:
            yield from _of_store(store, purge, looks[store], now)


def declared_copies(purge: Purge, copies: Mapping[str, timedelta]) -> list[DeclaredCopy]:
    """Return the declared kinds of copies, each with the end of the last one made before the last removal."""
    removed = max([purge.began, *purge.shredded.values(), *purge.cleared.values()])
    return [
        DeclaredCopy(copy=name, kept=int(keep.total_seconds()), until=stamp(removed + keep))
        for name, keep in sorted(copies.items())
    ]


def living_copies(copies: Iterable[DeclaredCopy], now: datetime) -> Iterator[str]:
    """Yield a sentence for each kind of copy that may still live, by what was declared: nobody can look."""
    for copy in copies:
        if parse_stamp(copy.until) > now:
            yield f"a copy '{copy.copy}' from before may live until {copy.until}"


def _of_store(store: str, purge: Purge, look: StoreObservation, now: datetime) -> Iterator[str]:
    if store not in purge.shredded:
        yield f"the keys on store '{store}' were not seen destroyed"
    if store not in purge.cleared:
        yield f"the packs on store '{store}' were not seen without it"
    if look.still_in:
        yield f"store '{store}' still holds something in: {', '.join(look.still_in)}"
    elif store not in purge.absent:
        yield f"the snapshots of store '{store}' were not seen without it"
    removed = max((mapping[store] for mapping in (purge.shredded, purge.cleared) if store in mapping), default=None)
    if removed is not None and look.at < removed:
        yield f"the last look at store '{store}' was before the last removal there"
    if not timedelta(0) <= now - look.at <= MAX_AGE_OF_OBSERVATION:
        yield f"the last look at store '{store}' was at {stamp(look.at)}"


def _holds(states: TenantStates, key: IncarnationKey, clock: DeletionClock) -> Iterator[AttestedHold]:
    ours = (hold for hold in states.holds.values() if hold.tenant == key.tenant)
    for hold in sorted(ours, key=lambda hold: (hold.since, hold.reference)):
        if hold.released is None or hold.released >= clock.since:
            yield _hold(hold)


def _hold(hold: Hold) -> AttestedHold:
    return AttestedHold(
        hold=hold.reference,
        since=stamp(hold.since),
        review=stamp(hold.review),
        released=stamp(hold.released) if hold.released else None,
        due=stamp(hold.due) if hold.due else None,
    )


def restores_since(entries: Iterable[LedgerEntry], began: datetime) -> Iterator[AttestedRestore]:
    """Yield every restore in these entries that is dated `began` or later."""
    for entry in entries:
        if parse_stamp(entry.at) >= began:
            for event in entry.events:
                if isinstance(event, Restored):
                    yield AttestedRestore(seq=entry.seq, at=entry.at, snapshot=event.snapshot, override=event.override)
