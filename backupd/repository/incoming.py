"""What nodes handed in that may add nothing themselves, FORMAT.md §15: one flat folder each, below `incoming/`.

Nothing in there is part of the repository before the keeper took it. It is on the store all the same: whoever removes
must know of it, because a run may rely on it, and whoever attests, because it may hold what is to be gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from backupd.model.ids import GenerationId, ObjectName
from backupd.repository import layout
from backupd.store.base import ObjectInfo, StoreView
from backupd.store.names import unflat

_AT_WORK = (layout.ObjectKind.MARK, layout.ObjectKind.TEMPORARY)
"""What tells of a run under way, and is not handed in itself."""


@dataclass(frozen=True, slots=True)
class IncomingObject:
    """An object a node handed in."""

    name: ObjectName
    """As it lies there."""
    target: ObjectName
    """What it is to be called."""
    place: layout.ObjectPlace
    """Of the target; FOREIGN also for what lies in a folder of its own, which no node makes."""
    size: int
    modified: datetime

    @property
    def at_work(self) -> bool:
        """Whether it is only a mark or an upload under way."""
        return self.place.kind in _AT_WORK


def incoming_objects(view: StoreView) -> Iterator[IncomingObject]:
    """Everything nodes handed in, as a store or one of its own snapshots shows it."""
    for info in view.list(layout.INCOMING):
        _, _, *rest = info.name.split("/")
        target = unflat(rest[0]) if len(rest) == 1 else info.name
        yield IncomingObject(info.name, target, layout.place_of(target), info.size, info.modified)


def first_awaited(view: StoreView, generation: GenerationId) -> IncomingObject | None:
    """Something of a generation that the keeper has not taken yet: a record in it refers to what is there already."""
    return next((one for one in incoming_objects(view) if one.place.generation == generation and not one.at_work), None)


def all_marks(view: StoreView) -> Iterator[ObjectInfo]:
    """The marks of all who are at work, wherever they may put them."""
    yield from view.list(layout.MARKS)
    for one in incoming_objects(view):
        if one.place.kind is layout.ObjectKind.MARK:
            yield ObjectInfo(one.target, one.size, one.modified)


def unfinished_objects(view: StoreView) -> Iterator[ObjectInfo]:
    """What is on its way: uploads under way or cut off, and everything nodes handed in."""
    yield from view.list(layout.TEMPORARY)
    yield from view.list(layout.INCOMING)
