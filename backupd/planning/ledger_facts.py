"""Facts that the ledger's entries prove about one store, FORMAT.md §10. Pure: entries in, facts out.

The facts are which absences are explained, which snapshots were verified or expired, to which recipients keyrings are
sealed, and what must be recorded before snapshots of another store are copied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from backupd.model.ids import ClassTag, Fingerprint, GenerationId, Pseudonym, SnapshotName
from backupd.model.ledger import (
    Absent,
    Attested,
    ClassExpired,
    Event,
    ExpiryBegan,
    LedgerEntry,
    PurgeBegan,
    Reduced,
    RekeyBegan,
    Rekeyed,
    Replicated,
    Verified,
)
from backupd.model.text import parse_stamp, stamp


@dataclass(frozen=True, slots=True)
class Explained:
    """The absences on one store that the ledger explains. It proves nothing about what is present."""

    purged: frozenset[tuple[GenerationId, Pseudonym]] = frozenset()
    """Segments whose keys and objects may be missing anywhere, and that no restore brings back."""
    expired: frozenset[SnapshotName] = frozenset()
    """Records that may be missing, together with the objects that only they need."""
    aged: Mapping[tuple[GenerationId, ClassTag], datetime] = field(default_factory=dict)
    """For each of these classes, the sections may be missing that only snapshots exported before the instant need."""
    reduced: Mapping[SnapshotName, SnapshotName] = field(default_factory=dict)
    """Expired snapshots, each with the record under which a part of it is kept."""

    def is_purged(self, generation: GenerationId, segment: Pseudonym) -> bool:
        """Check whether a purge lists the segment."""
        return (generation, segment) in self.purged

    def purged_in(self, generation: GenerationId) -> frozenset[Pseudonym]:
        """Return the segments of a generation that purges list."""
        return frozenset(segment for place, segment in self.purged if place == generation)

    def is_aged(self, generation: GenerationId, data_class: ClassTag | None, exported: datetime) -> bool:
        """Check whether a snapshot exported then may have lost its part of a class; None is an unknown class."""
        before = self.aged.get((generation, data_class)) if data_class is not None else None
        return before is not None and exported < before


def explain_absences(entries: Iterable[LedgerEntry], store: str | None) -> Explained:
    """Collect the absences that these entries explain on a store, given by configured name; None: on any store."""
    explaining = _Explaining(store)
    for entry in entries:
        for event in entry.events:
            explaining.take(event)
    return Explained(
        purged=frozenset(explaining.purged),
        expired=frozenset(explaining.expired),
        aged=explaining.aged,
        reduced=explaining.reduced,
    )


@dataclass(slots=True)
class _Explaining:
    store: str | None
    purged: set[tuple[GenerationId, Pseudonym]] = field(default_factory=set)
    expired: set[SnapshotName] = field(default_factory=set)
    aged: dict[tuple[GenerationId, ClassTag], datetime] = field(default_factory=dict)
    reduced: dict[SnapshotName, SnapshotName] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        match event:
            case PurgeBegan():
                self.purged.update(event.segments)
            case ExpiryBegan() if self._here(event.store):
                self.expired.update(event.snapshots)
            case ClassExpired() if self._here(event.store):
                key, before = (event.generation, ClassTag(event.class_tag)), parse_stamp(event.before)
                self.aged[key] = max(before, self.aged.get(key, before))
            case Reduced() if self._here(event.store):
                self.reduced[event.snapshot] = event.into

    def _here(self, store: str) -> bool:
        return self.store in (None, store)


def proven_on(entries: Iterable[LedgerEntry], store: str) -> set[SnapshotName]:
    """Return the snapshots whose every byte was read from this store and was right."""
    return {
        name
        for entry in entries
        for event in entry.events
        if isinstance(event, Verified) and event.store == store
        for name in event.snapshots
    }


def absent_on(
    entries: Iterable[LedgerEntry], store: str, before: datetime
) -> frozenset[tuple[GenerationId, Pseudonym]]:
    """Return the segments of which nothing may be on this store any more.

    Those are what was listed when an attestation was issued, before which no run was left that could add to it; and
    what purges from before an instant list, once this store was seen to hold nothing of it.
    """
    listed: dict[tuple[str, int, str], list[tuple[bool, set[tuple[GenerationId, Pseudonym]]]]] = defaultdict(list)
    absent: set[tuple[GenerationId, Pseudonym]] = set()
    for entry in entries:
        for event in entry.events:
            if not isinstance(event, PurgeBegan | Absent | Attested):
                continue
            of_incarnation = listed[event.tenant, event.incarnation, event.scope]
            if isinstance(event, PurgeBegan):
                of_incarnation.append((parse_stamp(entry.at) < before, set(event.segments)))
            elif isinstance(event, Attested) or event.store == store:
                absent.update(*(found for old, found in of_incarnation if old or isinstance(event, Attested)))
    return frozenset(absent)


def names_store(entries: Iterable[LedgerEntry], store: str) -> bool:
    """Check whether the ledger speaks of this store: then somebody has seen or changed something there."""
    return any(
        store == getattr(event, "store", None) or store in getattr(event, "stores", ())
        for entry in entries
        for event in entry.events
    )


def expired_on(entries: Iterable[LedgerEntry], store: str) -> set[SnapshotName]:
    """Return the snapshots whose records may be missing on this store."""
    return {
        name
        for entry in entries
        for event in entry.events
        if isinstance(event, ExpiryBegan) and event.store == store
        for name in event.snapshots
    }


def copied_to(entries: Iterable[LedgerEntry], store: str) -> dict[SnapshotName, str]:
    """Return the snapshots that were copied to this store, each with the store that it was copied from."""
    return {
        name: event.origin
        for entry in entries
        for event in entry.events
        if isinstance(event, Replicated) and event.store == store
        for name in event.snapshots
    }


Recipients = frozenset[Fingerprint]


@dataclass(frozen=True, slots=True)
class RequiredRecipients:
    """The recipients to which keyrings from before some instant must be sealed."""

    at: datetime
    """When every keyring was seen to be sealed to them."""
    allowed: tuple[Recipients, ...]
    """The sets of recipients that are allowed: those of that time, and those of rekeyings that began since."""


def rekeyed_to(entries: Iterable[LedgerEntry], store: str) -> list[Recipients]:
    """Return every set of recipients for which keyrings on the store were, or may have been, replaced; oldest first."""
    return [
        frozenset(event.recipients)
        for entry in entries
        for event in entry.events
        if isinstance(event, RekeyBegan) and event.store == store
    ]


def standing_recipients(entries: Iterable[LedgerEntry], store: str) -> RequiredRecipients | None:
    """Return the recipients of the store's keyrings after the newest finished rekeying; None when none finished."""
    standing: RequiredRecipients | None = None
    for entry in entries:
        for event in entry.events:
            if isinstance(event, Rekeyed) and event.store == store:
                standing = RequiredRecipients(parse_stamp(entry.at), (frozenset(event.recipients),))
            elif isinstance(event, RekeyBegan) and event.store == store and standing is not None:
                standing = RequiredRecipients(standing.at, (*standing.allowed, frozenset(event.recipients)))
    return standing


@dataclass(frozen=True, slots=True)
class Copies:
    """Records of one generation that are about to be copied to another store."""

    generation: GenerationId
    previous: Mapping[SnapshotName, SnapshotName | None]
    """Each record with the one it was written after."""
    there: Collection[SnapshotName] = ()
    """Records of the generation that the other store already has."""


def explain_copies(store: str, copies: Copies, here: Explained, there: Explained) -> list[Event]:
    """Return the events that explain at `store` the absences that come with these copies.

    `here` are the absences explained where the copies come from, `there` those explained at `store` already.
    """
    events: list[Event] = []
    known = {*copies.previous, *copies.there}
    before = {name for name in copies.previous.values() if name is not None}
    gone = (before & here.expired) - known - there.expired
    if gone:
        events.append(ExpiryBegan(store=store, snapshots=sorted(gone)))
    for (generation, tag), until in sorted(here.aged.items()):
        known_until = there.aged.get((generation, tag))
        if generation == copies.generation and (known_until is None or known_until < until):
            events.append(ClassExpired(store=store, generation=generation, class_tag=tag, before=stamp(until)))
    events += (
        Reduced(store=store, snapshot=name, into=into)
        for name, into in sorted(here.reduced.items())
        if into in copies.previous and there.reduced.get(name) != into
    )
    return events
