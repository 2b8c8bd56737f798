"""What the ledger has to say of a store before snapshots of another one are copied there. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from backupd.model.ids import GenerationId, SnapshotName
from backupd.model.instants import stamp
from backupd.model.stored.ledger import ClassExpired, Event, ExpiryBegan, Reduced
from backupd.planning.deletion.explained import Explained


@dataclass(frozen=True, slots=True)
class Copies:
    """Records of one generation that are about to be copied."""

    generation: GenerationId
    previous: Mapping[SnapshotName, SnapshotName | None]
    """Each with the one it was written after."""
    there: Collection[SnapshotName] = ()
    """Records of the generation that stand there already."""


def explained_there(store: str, copies: Copies, here: Explained, there: Explained) -> list[Event]:
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
