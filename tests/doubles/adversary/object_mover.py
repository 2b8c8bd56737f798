"""A thief whose account may rename: he moves honest objects where nobody looks, or where keepers clear, also between
two calls of a keeper's run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from doubles.adversary.node_thief import NodeThief

CLEARED = ("tmp/", "runs/", "leases/", "incoming/")
"""Folders whose every object goes some day."""
OUTDATED = ("packs/", "snapshots/")
"""Folders whose objects go when nobody needs them."""


class Move(NamedTuple):
    """Of an honest object, once a keeper made so many calls more; to a name that a keeper clears, or to a new one."""

    after: int
    pick: int
    instead: str


@dataclass
class ObjectMover:
    """`thief` is the one who moves. He knows what nobody needs, as everybody may who reads a store's listings."""

    thief: NodeThief
    moved: int = 0
    _junk: set[bytes] = field(default_factory=set)
    """What he put in place of what he moved: nobody wants it back."""

    def hide(self, pick: int, place: str, instead: str) -> None:
        """Move an honest object to a name that was free, and put something in its place."""
        thief = self.thief
        generation, run = thief.generation(pick), f"20200101T000000Z-{thief.new()}"
        targets = {
            "upload": f"tmp/{thief.hex(16)}",
            "odd": f"packs/{thief.new()}",
            "pack": f"packs/{generation}/{thief.hex(32)}.pack",
            "keyring": f"keyrings/{generation}/{run}.keyring",
            "mark": f"runs/{generation}/{run}",
            "ballast": "ballast",
        }
        if not (thief.region.root / targets[place]).exists():
            self._move(pick, targets[place], instead)
            thief.made.add(targets[place])  # no honest object has the name: what is moved back leaves nothing of theirs

    @contextmanager
    def at_work(self, moves: Sequence[Move]) -> Iterator[None]:
        """A block in which calls of the region's store are counted, and each move is made when its time has come."""
        store, waiting, calls = self.thief.region.store, list(moves), 0
        before = store.before

        def count(method: str, name: str) -> None:
            nonlocal calls
            before(method, name)
            calls += 1
            if waiting and waiting[0].after <= calls:
                calls = 0
                # Of what goes with this very call the keeper has seen the last: that moment is left to who may rename.
                self._move_to_cleared(waiting.pop(0), name if method in ("remove", "replace", "recompose") else "")

        store.before = count
        try:
            yield
        finally:
            store.before = before

    def _move_to_cleared(self, move: Move, too_late: str) -> None:
        thief = self.thief
        found = [name for name in self._cleared() if name != too_late]
        target = (*found, f"tmp/{thief.hex(16)}")[move.pick // 7 % (len(found) + 1)]
        path = thief.region.root / target
        if path.exists():
            aside = thief.region.root / f"tmp/{thief.hex(16)}"
            aside.parent.mkdir(exist_ok=True)
            data = path.read_bytes()
            path.rename(aside)
            thief.take(target, partial(self._move_back, target, str(aside.relative_to(thief.region.root)), data))
        # Not the ledger and the repository's document, without which the run cannot end (`test_moved_objects.py`).
        self._move(move.pick, target, move.instead, ("keyrings/", "packs/", "snapshots/"))

    def _cleared(self) -> list[str]:
        """Names of what a keeper removes, now or when it is old."""
        region = self.thief.region
        living = [region.records[snapshot] for snapshot in region.living()]
        needed = {f"packs/{record.generation}/{one[0]}.pack" for record in living for one in record.packs}
        needed |= {place for snapshot in region.living() for place in region.places(snapshot)}
        return [
            name
            for name in sorted(self.thief.files())
            if name.startswith(CLEARED) or (name.startswith(OUTDATED) and name not in needed)
        ]

    def _move(self, pick: int, target: str, instead: str, folders: tuple[str, ...] = ("",)) -> None:
        thief, root = self.thief, self.thief.region.root
        honest = [name for name in thief.honest_objects() if name != target and name.startswith(folders)]
        if not honest or thief.rights == "hand in":
            return
        name = honest[pick % len(honest)]
        data = (root / name).read_bytes()
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        (root / name).rename(root / target)
        if instead != "nothing":
            junk = bytes(len(data)) if instead == "junk" else data[:-1] + bytes([(data[-1] + 1) % 256])
            (root / name).write_bytes(junk)
            self._junk.add(junk)
            os.utime(root / name, (thief.region.time.now.timestamp(),) * 2)
        if data not in self._junk:
            thief.take(name, partial(self._move_back, name, target, data))
        self.moved += 1

    def _move_back(self, name: str, target: str, data: bytes) -> None:
        """A keeper may have copied it aside, or to its own place; or nobody needed it any more, and it is gone."""
        root = self.thief.region.root
        aside = (root / other for other in sorted(self.thief.files()) if other.startswith(CLEARED))
        for path in (root / target, *aside):
            if path.is_file() and path.read_bytes() == data:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                path.replace(root / name)
                return
