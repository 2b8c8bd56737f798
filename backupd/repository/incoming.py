"""Objects in `incoming/`, FORMAT.md §15: nodes that may add nothing themselves hand them in, in one flat folder each.

An incoming object is no part of the repository before the keeper takes it, but it is on the store. So removals must
consider it, because a run may rely on it; and attestations must, because it may hold purged data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from backupd.model.ids import GenerationId, ObjectName
from backupd.repository import layout
from backupd.store.base import ObjectInfo, StoreView
from backupd.store.names import is_legal, unflat

_AT_WORK = (layout.ObjectKind.MARK, layout.ObjectKind.TEMPORARY)
"""Kinds that only show that a run is in progress, and are not handed in themselves."""


@dataclass(frozen=True, slots=True)
class IncomingObject:
    """An object that a node handed in; `size` is in bytes, `modified` is the store's time."""

    name: ObjectName
    """Name of the object as it lies in `incoming/`."""
    target: ObjectName
    """Name that the object will have in its place."""
    place: layout.ObjectPlace
    """Place of the target."""
    size: int
    modified: datetime

    @property
    def at_work(self) -> bool:
        """Check whether it is only a mark or an unfinished upload."""
        return self.place.kind in _AT_WORK

    @property
    def odd(self) -> bool:
        """Check whether no writer would make it: it has another name than those of the format, or lies in a folder.

        It may be nothing that the keeper can remove, so that it must hold nothing up.
        """
        return self.place.kind in (layout.ObjectKind.FOREIGN, layout.ObjectKind.INCOMING)


def incoming_objects(view: StoreView) -> Iterator[IncomingObject]:
    """Yield every object that nodes handed in, as a store or one of its own snapshots shows it."""
    for info in view.list(layout.INCOMING):
        _, _, *rest = info.name.split("/")
        target = unflat(rest[0]) if len(rest) == 1 and is_legal(info.name) else info.name
        yield IncomingObject(info.name, target, layout.place_of(target), info.size, info.modified)


def first_awaited(view: StoreView, generation: GenerationId) -> IncomingObject | None:
    """Return an object of a generation that the keeper has not taken yet; None when there is none.

    A record among such objects may refer to packs that are already in place.
    """
    return next((one for one in incoming_objects(view) if one.place.generation == generation and not one.at_work), None)


class SeenMark(NamedTuple):
    """A mark of a run or keeper at work; `modified` is the store's time."""

    name: ObjectName
    """Name of the mark where it lies: in `runs/`, or in `incoming/`."""
    place: layout.ObjectPlace
    """What its name in `runs/` says."""
    modified: datetime


def all_marks(view: StoreView) -> Iterator[SeenMark]:
    """Yield the marks of all runs and keepers at work."""
    for info in view.list(layout.MARKS):
        yield SeenMark(info.name, layout.place_of(info.name), info.modified)
    for one in incoming_objects(view):
        if one.place.kind is layout.ObjectKind.MARK:
            yield SeenMark(one.name, one.place, one.modified)


def unfinished_objects(view: StoreView) -> Iterator[ObjectInfo]:
    """Yield the objects on their way: unfinished or abandoned uploads, and what nodes handed in under our names."""
    for info in view.list(layout.TEMPORARY):
        if layout.place_of(info.name).kind is layout.ObjectKind.TEMPORARY:
            yield info
    for one in incoming_objects(view):
        if not one.odd:
            yield ObjectInfo(one.name, one.size, one.modified)
