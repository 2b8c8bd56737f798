"""Which absences the ledger explains, FORMAT.md §10. Pure: entries in, questions answered.

Which snapshots the ledger calls proven, and which expired. Pure.

Whom the ledger says a store's keyrings are sealed to, FORMAT.md §10. Pure.

What the ledger has to say of a store before snapshots of another one are copied there. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from backupd.model.ids import ClassTag, Fingerprint, GenerationId, Pseudonym, SnapshotName
from backupd.model.ledger import (
    ClassExpired,
    Event,
    ExpiryBegan,
    LedgerEntry,
    PurgeBegan,
    Reduced,
    RekeyBegan,
    Rekeyed,
    Verified,
)
from backupd.model.text import parse_stamp, stamp


@dataclass(frozen=True, slots=True)
class Explained:
    """What may be missing on one store. Says nothing of what is there."""

    purged: frozenset[tuple[GenerationId, Pseudonym]] = frozenset()
    """Segments whose keys and objects may be missing anywhere, and that no restore brings back."""
    expired: frozenset[SnapshotName] = frozenset()
    """Records that may be missing, with what only they need."""
    aged: Mapping[tuple[GenerationId, ClassTag], datetime] = field(default_factory=dict)
    """Of these classes, parts may be missing that only snapshots exported before the instant need."""
    reduced: Mapping[SnapshotName, SnapshotName] = field(default_factory=dict)
    """Expired snapshots that go on in part under another record."""

    def is_purged(self, generation: GenerationId, segment: Pseudonym) -> bool:
        return (generation, segment) in self.purged

    def purged_in(self, generation: GenerationId) -> frozenset[Pseudonym]:
        return frozenset(segment for place, segment in self.purged if place == generation)

    def is_aged(self, generation: GenerationId, data_class: ClassTag | None, exported: datetime) -> bool:
        """Whether a snapshot exported then may have lost its part of a class; None is a class nobody knows."""
        before = self.aged.get((generation, data_class)) if data_class is not None else None
        return before is not None and exported < before


def explain_absences(entries: Iterable[LedgerEntry], store: str | None) -> Explained:
    """What these entries explain on the store of this configured name; None: on any store they speak of."""
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
    """Snapshots whose every byte was read from this store, and was right."""
    return {
        name
        for entry in entries
        for event in entry.events
        if isinstance(event, Verified) and event.store == store
        for name in event.snapshots
    }


def expired_on(entries: Iterable[LedgerEntry], store: str) -> set[SnapshotName]:
    """Snapshots whose records may be missing on this store."""
    return {
        name
        for entry in entries
        for event in entry.events
        if isinstance(event, ExpiryBegan) and event.store == store
        for name in event.snapshots
    }


Recipients = frozenset[Fingerprint]


@dataclass(frozen=True, slots=True)
class RequiredRecipients:
    """What keyrings of before some instant must be sealed to."""

    at: datetime
    """When every keyring was seen to be."""
    allowed: tuple[Recipients, ...]
    """The recipients of that time, and those of rekeyings that were begun since."""


def rekeyed_to(entries: Iterable[LedgerEntry], store: str) -> list[Recipients]:
    """Every set of recipients that keyrings on the store were, or may have been, put anew for; oldest first."""
    return [
        frozenset(event.recipients)
        for entry in entries
        for event in entry.events
        if isinstance(event, RekeyBegan) and event.store == store
    ]


def standing_recipients(entries: Iterable[LedgerEntry], store: str) -> RequiredRecipients | None:
    """Whom the newest rekeying that ended left the store's keyrings sealed to; None when none ever did."""
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
    """Records of one generation that are about to be copied."""

    generation: GenerationId
    previous: Mapping[SnapshotName, SnapshotName | None]
    """Each with the one it was written after."""
    there: Collection[SnapshotName] = ()
    """Records of the generation that stand there already."""


def explain_copies(store: str, copies: Copies, here: Explained, there: Explained) -> list[Event]:
    """What explains at `store` the absences that come with these copies.

    `here` is what the ledger explains where they are copied from, `there` what it explains at `store` already.
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
