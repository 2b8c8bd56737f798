"""An observer reads the bytes on the stores of a `World`, and compares them with the clerk's notes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from doubles.lifecycle.lifecycle_bytes import NamedSection, StoredBytes, kept_lines
from doubles.lifecycle.lifecycle_model import OWN, NotedLife

from backupd.model.documents import Record
from backupd.model.ids import GenerationId, ObjectName, Pseudonym, SnapshotName
from backupd.model.tenancy import SegmentName
from backupd.model.text import parse_stamp
from backupd.repository import layout
from backupd.repository.ledger import Chain, read_chain

if TYPE_CHECKING:
    from doubles.lifecycle.lifecycle_world import World
    from doubles.stores.memory_store import Objects

HOUR = timedelta(hours=1)
KEEP, SHORT_AGE, GRACE = timedelta(days=6), timedelta(days=3), timedelta(days=2)
SHORT = "logs"
HOLDING = (layout.ObjectKind.PACK, layout.ObjectKind.KEYRING, layout.ObjectKind.TEMPORARY)
"""Kinds of objects that hold something of a segment."""


def incarnation_of(name: SegmentName) -> str:
    """The scope of the incarnation a segment is of."""
    return OWN if name.data_class == OWN else ""


class Snap(NamedTuple):
    """A record as it was published."""

    name: SnapshotName
    record: Record


@dataclass(frozen=True)
class Promise:
    """What a hold found on a store: it stays until the hold is released."""

    tenant: str
    store: str
    exported: str
    segment: Pseudonym
    manifest: tuple[str, int]
    """The pack of the section with the segment's manifest, and its place there."""


class LifecycleObserver:
    """Checks of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._bytes = StoredBytes(world.identity.secret, world.signer.public)
        self._promises: set[Promise] = set()
        self._keyed: set[Pseudonym] = set()
        """Segments whose key was on some store at some time."""
        self._first: dict[tuple[str, str], datetime] = {}
        """When each pack was first seen to be put: putting it anew without some sections makes no others young."""
        self.snapshots: dict[str, list[Snap]] = defaultdict(list)

    def published(self, store: str, name: SnapshotName, record: Record) -> None:
        self.snapshots[store].append(Snap(name, record))
        objects = self._world.stores[store].objects
        self._bytes.named(_body(objects[layout.record_name(record.generation, name)][0]), objects)

    def promise(self, tenant: str) -> None:
        """A hold was put on a tenant: note what every store has of it now."""
        for store, found in self._world.stores.items():
            for record in _records(found.objects):
                for section in self._bytes.named(record, found.objects):
                    segment = section.row.segment
                    theirs = section.is_manifest and self._world.owners[segment][0].tenant == tenant
                    if theirs and self._bytes.has(found.objects, section) and not self._is_purged(segment):
                        self._promises.add(Promise(tenant, store, record["exported"], segment, section.place))

    # ---- after every happening

    def check(self) -> None:
        """Nothing is where it must not be any more, and everything is where it must be."""
        self._world.see_purges()
        for found in self._world.stores.values():
            for name, (data, _) in found.objects.items():
                if _is_key(name):
                    self._keyed |= self._in(name, data)
        self._check_gone()
        for store in self._world.stores:
            self._check_restorable(store)
        self._check_promises()

    def _check_gone(self) -> None:
        """No byte and no key of an incarnation in any place behind its day; no key on a store behind the early one."""
        world, now = self._world, self._world.time.now
        for incarnation in world.clerk.all():
            if incarnation.proven:
                for where, left in self._everything():
                    # Uploads of a run that died before its keyring was there: nothing is sealed under their keys.
                    assert not self._of_incarnation(incarnation, left & self._keyed), (
                        f"{incarnation.tenant} is in {where}, and was told to be nowhere"
                    )
            if incarnation.dates is None or world.clerk.held(incarnation.tenant):
                continue
            if now > world.gone_by(incarnation):
                for where, left in self._everything():
                    assert not self._of_incarnation(incarnation, left), (
                        f"{incarnation.tenant} is still in {where} behind its day"
                    )
            if incarnation.erased is not None and now > self._unreadable_by(incarnation):
                for store, found in world.stores.items():
                    keys = set[Pseudonym]().union(
                        *(self._in(n, d) for n, (d, _) in found.objects.items() if _is_key(n))
                    )
                    assert not self._of_incarnation(incarnation, keys), (
                        f"{incarnation.tenant} can still be read on {store}"
                    )

    def _unreadable_by(self, incarnation: NotedLife) -> datetime:
        """The early date, the gap between two runs of the keeper, a run of the writer that was under way, a repair."""
        assert incarnation.dates is not None
        purge_by = self._world.clerk.purge_by(incarnation)
        down = max(self._world.down_until.values())
        late = 2 * timedelta(days=2) + 30 * HOUR
        return max(purge_by, down) + late

    def _everything(self) -> Iterable[tuple[str, set[Pseudonym]]]:
        for store, found in self._world.stores.items():
            maps: dict[str, Objects] = {
                store: found.objects,
                **{f"{store} {n}": shot for n, shot in found.shots.items()},
            }
            for where, objects in maps.items():
                left = set[Pseudonym]()
                for name, (data, _) in objects.items():
                    left |= self._in(name, data)
                yield where, left

    def _in(self, name: str, data: bytes) -> set[Pseudonym]:
        kind = layout.place_of(ObjectName(name)).kind
        return self._bytes.residues(name, data) if kind in HOLDING else set()

    def _of_incarnation(self, incarnation: NotedLife, segments: set[Pseudonym]) -> set[Pseudonym]:
        found = set()
        for segment in segments:
            name, epoch = self._world.owners[segment]
            if (name.tenant, epoch, incarnation_of(name)) == (incarnation.tenant, incarnation.epoch, incarnation.scope):
                found.add(segment)
        return found

    def _is_purged(self, segment: Pseudonym) -> bool:
        name, epoch = self._world.owners[segment]
        return any(
            one.purged is not None and (one.tenant, one.epoch, one.scope) == (name.tenant, epoch, incarnation_of(name))
            for one in self._world.clerk.all()
        )

    def _check_restorable(self, store: str) -> None:
        """Every section that a record needs is there and opens, unless a purge or its class's age took it."""
        objects = self._world.stores[store].objects
        for snap in self.snapshots[store]:
            young = self._world.time.now - parse_stamp(snap.record.exported) < KEEP - HOUR
            assert not young or _record_name(snap) in objects, "a snapshot expired before its time"
        records = [_body(objects[_record_name(s)][0]) for s in self.snapshots[store] if _record_name(s) in objects]
        for record in records:
            assert _packs(record) <= objects.keys(), "a pack that a record names is missing"
            keys = self._bytes.keys(objects, GenerationId(record["generation"]))
            aged = parse_stamp(record["exported"]) < self._world.time.now - SHORT_AGE + HOUR
            for segment, sections in self._by_segment(record, objects).items():
                short = self._world.owners[segment][0].data_class == SHORT
                if not self._is_purged(segment) and not (short and aged):
                    self._bytes.check_segment(objects, sections, keys)

    def _by_segment(self, record: dict[str, Any], objects: Objects) -> dict[Pseudonym, list[NamedSection]]:
        found: dict[Pseudonym, list[NamedSection]] = defaultdict(list)
        for section in self._bytes.named(record, objects):
            found[section.row.segment].append(section)
        return found

    def _check_promises(self) -> None:
        """What a hold found can still be restored, with the structure it needs."""
        for promise in list(self._promises):
            if not self._world.clerk.held(promise.tenant) or self._is_purged(promise.segment):
                self._promises.discard(promise)
                continue
            objects = self._world.stores[promise.store].objects
            for record in _records(objects):
                found = self._by_segment(record, objects) if record["exported"] == promise.exported else {}
                if any(s.place == promise.manifest and s.is_manifest for s in found.get(promise.segment, ())):
                    self._check_held(promise, GenerationId(record["generation"]), found)
                    break
            else:
                raise AssertionError("what a hold keeps is not restorable any more")

    def _check_held(
        self, promise: Promise, generation: GenerationId, found: dict[Pseudonym, list[NamedSection]]
    ) -> None:
        objects = self._world.stores[promise.store].objects
        structure = {one for one in found if self._world.owners[one][0].data_class == "structure"}
        assert structure, "a held tenant lost its structure"
        keys = self._bytes.keys(objects, generation)
        for segment in {*structure, promise.segment}:
            self._bytes.check_segment(objects, found[segment], keys)

    # ---- around a run of the keeper

    def compare(self, store: str, before: Objects, began: datetime) -> None:
        """A keeper removed nothing that somebody needs, and changed nothing but what was due."""
        after = self._world.stores[store].objects
        needed = self._needed(store)
        named = set[str]().union(*map(_packs, _records(after)))
        for name, (data, modified) in before.items():
            place = layout.place_of(ObjectName(name))
            self._first.setdefault((store, name), modified)
            if name in after and after[name][0] == data:
                continue
            assert name in after or name not in named, "a pack that a record names was removed"
            if place.kind is layout.ObjectKind.PACK:
                age = began - self._first[store, name]
                self._check_sections(name, data, after[name][0] if name in after else None, needed, age)
            elif (
                name not in after or place.kind is layout.ObjectKind.MARK
            ):  # one left behind is removed, and taken anew
                self._check_removed(store, place, data, began - modified)
            else:
                assert place.kind is layout.ObjectKind.KEYRING, f"{name} was changed"
                gone, others_stay = kept_lines(data, after[name][0])
                assert others_stay, "a line of a keyring was changed"
                assert all(self._is_purged(segment) for segment in gone), "a key was removed that was not due"

    def _check_sections(
        self, name: str, before: bytes, after: bytes | None, needed: set[tuple[str, int]], age: timedelta
    ) -> None:
        """The sections that are gone were purged, or nobody needs them; header and all others are as they were."""
        old = self._bytes.pack(name, before)
        left = set[int]()
        if after is not None:
            new = self._bytes.pack(name, after)
            assert new.header.raw == old.header.raw
            left = set(new.there.there)
            assert left < set(old.there.there), "sections came back"
        for at in set(old.there.there) - left:
            if not self._is_purged(old.header.rows[at].segment):
                assert (name, at) not in needed, "a section that a record needs was removed"
                assert age >= GRACE - HOUR, "a section younger than a run was removed"

    def _check_removed(self, store: str, place: layout.ObjectPlace, data: bytes, age: timedelta) -> None:
        after = self._world.stores[store].objects
        match place.kind:
            case layout.ObjectKind.MARK:
                assert place.run is None or age >= GRACE / 2
            case layout.ObjectKind.TEMPORARY:
                assert age >= GRACE - HOUR
            case layout.ObjectKind.RECORD:
                exported = parse_stamp(_body(data)["exported"])
                assert self._world.time.now - exported >= KEEP - HOUR
            case layout.ObjectKind.KEYRING:
                packs = [name for name in after if name.startswith(f"packs/{place.generation}/")]
                rows = [row for name in packs for row in self._bytes.pack(name, after[name][0]).header.rows]
                assert all(row.keyring != place.run for row in rows), "a keyring left before what it opens"
            case _:
                raise AssertionError(f"{place.kind} was removed")

    def _needed(self, store: str) -> set[tuple[str, int]]:
        """Sections that records need, by pack and place, less those a class's age lets go."""
        objects = self._world.stores[store].objects
        cutoff = self._world.time.now - SHORT_AGE + HOUR
        needed = set()
        for record in _records(objects):
            aged = parse_stamp(record["exported"]) < cutoff
            for section in self._bytes.named(record, objects):
                name, _ = self._world.owners[section.row.segment]
                held = name.tenant is not None and self._world.clerk.held(name.tenant)
                if not (name.data_class == SHORT and aged) or held:
                    needed.add(section.place)
        return needed

    def after_keeper_runs(self) -> None:
        """What a run that came to its end everywhere must have done."""
        world = self._world
        for incarnation in world.clerk.all():
            due = incarnation.dates is not None and not world.clerk.held(incarnation.tenant)
            if due and world.clerk.purge_by(incarnation) + HOUR < world.time.now:
                assert incarnation.purged is not None, "a purge that is due was not begun"
        for store, found in world.stores.items():
            for name, (data, _) in found.objects.items():
                if name.startswith("snapshots/"):
                    record = _body(data)
                    sections = self._bytes.named(record, found.objects)
                    tenants = {world.owners[section.row.segment][0].tenant for section in sections}
                    held = "reduced" in record and any(t and world.clerk.held(t) for t in tenants)
                    old = parse_stamp(record["exported"]) < world.time.now - KEEP - HOUR
                    assert held or not old, f"a snapshot on {store} outlived its time"

    def check_ledgers(self) -> None:
        """Every store has the same chain, which is sound to its last byte."""
        heads = []
        for found in self._world.stores.values():
            chain = Chain(layout.ObjectName("be"), self._world.repository)
            heads.append(read_chain(found, chain, [self._world.keeper_key.public], compare_all=True)[0].head)
        assert len({head.head for head in heads}) == 1


def _is_key(name: str) -> bool:
    return name.startswith("keyrings/")


def _record_name(snap: Snap) -> str:
    return layout.record_name(snap.record.generation, snap.name)


def _body(record: bytes) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(record.partition(b"\n")[0])
    return body


def _packs(record: dict[str, Any]) -> set[str]:
    """The packs that a record names."""
    return {f"packs/{record['generation']}/{sha256}.pack" for sha256, _, _ in record["packs"]}


def _records(objects: Objects) -> Iterator[dict[str, Any]]:
    return (_body(data) for name, (data, _) in list(objects.items()) if name.startswith("snapshots/"))
