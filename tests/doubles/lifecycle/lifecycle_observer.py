"""An observer reads the bytes on the stores of a `World`, and compares them with the clerk's notes."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from doubles.lifecycle.lifecycle_model import OWN, NotedLife

from backupd.model.documents import Record
from backupd.model.ids import GenerationId, ObjectName, Pseudonym, SnapshotName
from backupd.model.manifest import TableEntry
from backupd.model.tenancy import SegmentName
from backupd.model.text import parse_stamp
from backupd.repository import layout
from backupd.repository.ledger import Chain, read_chain
from backupd.repository.parts import read_entries
from backupd.seal.container_format import CLEAR_START, DATA, ContainerContext, header_length, read_header
from backupd.seal.container_reader import ContainerReader
from backupd.seal.keyring import SegmentKey, parse_keyring

if TYPE_CHECKING:
    from doubles.lifecycle.lifecycle_world import World
    from doubles.stores.memory_store import Objects

HOUR = timedelta(hours=1)
KEEP, SHORT_AGE, GRACE = timedelta(days=6), timedelta(days=3), timedelta(days=2)
SHORT = "logs"


def life_of(name: SegmentName) -> str:
    """The scope of the life a segment is of."""
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
    part: tuple[Pseudonym, str]


def residues(data: bytes) -> set[Pseudonym]:
    """Whose bytes an object is, whatever it is called: a container's segment, the segments whose keys a keyring has."""
    if data.startswith((b"BKPDPACK", b"BKPDPART")):
        return {read_header(data, "it").context.segment}
    if b'"kind":"keyring"' in data[:4000] or b'"kind":"keyring"' in data:
        return {Pseudonym(json.loads(line)["segment"]) for line in data.split(b"\n")[4:-1]}
    return set()


class LifecycleObserver:
    """Checks of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._residues: dict[int, tuple[bytes, set[Pseudonym]]] = {}
        self._opened: dict[str, dict[Pseudonym, SegmentKey]] = {}
        self._sound: set[tuple[str, str]] = set()
        self._packs: dict[str, tuple[str, ...]] = {}
        self._promises: set[Promise] = set()
        self._keyed: set[Pseudonym] = set()
        """Segments whose key was on some store at some time."""
        self.snapshots: dict[str, list[Snap]] = defaultdict(list)

    def published(self, store: str, name: SnapshotName, record: Record) -> None:
        self.snapshots[store].append(Snap(name, record))

    def promise(self, tenant: str) -> None:
        """A hold was put on a tenant: note what every store has of it now."""
        for store, found in self._world.stores.items():
            for name, (data, _) in found.objects.items():
                if layout.place_of(ObjectName(name)).kind is not layout.ObjectKind.RECORD:
                    continue
                record = json.loads(data.partition(b"\n")[0])
                for segment, sha256, _ in record["parts"]:
                    there = f"segments/{record['generation']}/{segment}/{sha256}.part" in found.objects
                    if self._world.owners[segment][0].tenant == tenant and there and not self._is_purged(segment):
                        self._promises.add(Promise(tenant, store, record["exported"], (segment, sha256)))

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
        """No byte and no key of a life in any place behind its day; no key on a store behind the early one."""
        world, now = self._world, self._world.time.now
        for life in world.clerk.all():
            if life.proven:
                for where, left in self._everything():
                    # What a run left that died before its keyring is noise for ever; no keeper can tell whose it is.
                    assert not self._of_life(life, left & self._keyed), (
                        f"{life.tenant} is in {where}, and was told to be nowhere"
                    )
            if life.dates is None or world.clerk.held(life.tenant):
                continue
            if now > world.gone_by(life):
                for where, left in self._everything():
                    assert not self._of_life(life, left), f"{life.tenant} is still in {where} behind its day"
            if life.erased is not None and now > self._unreadable_by(life):
                for store, found in world.stores.items():
                    keys = set[Pseudonym]().union(
                        *(self._in(n, d) for n, (d, _) in found.objects.items() if _is_key(n))
                    )
                    assert not self._of_life(life, keys), f"{life.tenant} can still be read on {store}"

    def _unreadable_by(self, life: NotedLife) -> datetime:
        """The early date, the gap between two runs of the keeper, a run of the writer that was under way, a repair."""
        assert life.dates is not None
        purge_by = self._world.clerk.purge_by(life)
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
        place = layout.place_of(ObjectName(name))
        if place.segment is not None:
            return {place.segment}
        if place.kind not in (layout.ObjectKind.KEYRING, layout.ObjectKind.TEMPORARY):
            return set()
        kept, found = self._residues.get(id(data), (b"", set[Pseudonym]()))
        if kept is not data:
            found = residues(data)
            self._residues[id(data)] = data, found
        return found

    def _of_life(self, life: NotedLife, segments: set[Pseudonym]) -> set[Pseudonym]:
        found = set()
        for segment in segments:
            name, epoch = self._world.owners[segment]
            if (name.tenant, epoch, life_of(name)) == (life.tenant, life.epoch, life.scope):
                found.add(segment)
        return found

    def _is_purged(self, segment: Pseudonym) -> bool:
        name, epoch = self._world.owners[segment]
        return any(
            life.purged is not None and (life.tenant, life.epoch, life.scope) == (name.tenant, epoch, life_of(name))
            for life in self._world.clerk.all()
        )

    def _check_restorable(self, store: str) -> None:
        """Every part and pack that a record needs is there and opens, unless a purge or its class's age took it."""
        objects = self._world.stores[store].objects
        snapshots = [snap for snap in self.snapshots[store] if _record_name(snap) in objects]
        newest: dict[tuple[str, str], str] = {}
        for _, record in snapshots:
            for segment, sha256, _ in record.parts:
                newest[segment, sha256] = max(record.exported, newest.get((segment, sha256), ""))
        for snap in self.snapshots[store]:
            young = self._world.time.now - parse_stamp(snap.record.exported) < KEEP - HOUR
            assert not young or _record_name(snap) in objects, "a snapshot expired before its time"
        keys: dict[GenerationId, dict[Pseudonym, SegmentKey]] = {}
        for _, record in snapshots:
            for segment, sha256, _ in record.parts:
                name, _ = self._world.owners[segment]
                aged = parse_stamp(newest[segment, sha256]) < self._world.time.now - SHORT_AGE + HOUR
                if self._is_purged(segment) or (name.data_class == SHORT and aged):
                    continue
                if record.generation not in keys:
                    keys[record.generation] = self._keys(store, record.generation)
                self._check_part(objects, record.generation, segment, sha256, keys[record.generation])

    def _check_part(
        self, objects: Objects, generation: GenerationId, segment: str, sha256: str, keys: dict[Pseudonym, SegmentKey]
    ) -> None:
        folder = f"segments/{generation}/{segment}"
        assert f"{folder}/{sha256}.part" in objects, "a part that a record needs is missing"
        assert segment in keys, "a key that a record needs is missing"
        part = objects[f"{folder}/{sha256}.part"][0]
        if sha256 not in self._packs:
            self._packs[sha256] = tuple(f"{folder}/{pack}" for pack, _ in read_header(part, sha256).packs)
        for pack in self._packs[sha256]:
            assert f"{pack}.pack" in objects or f"{pack}.part" in objects, "a pack that a part needs is missing"
        secret = keys[Pseudonym(segment)].secret
        if (sha256, secret.hex()) in self._sound:
            return
        self._sound.add((sha256, secret.hex()))
        readers = []
        for name in (f"{folder}/{sha256}", *self._packs[sha256]):
            data = (objects.get(f"{name}.pack") or objects[f"{name}.part"])[0]
            context = ContainerContext(self._world.repository, generation, Pseudonym(segment))
            readers.append(
                ContainerReader(
                    lambda at, n, data=data: data[at : at + n], len(data), secret=secret, context=context, where=name
                )
            )
        chunks = [_chunks(reader) for reader in readers]
        for entry in read_entries(readers[0]):
            if isinstance(entry, TableEntry):
                runs = zip(entry.runs[::3], entry.runs[1::3], entry.runs[2::3], strict=True)
                rows = b"".join(b"".join(chunks[k][c : c + n]) for k, c, n in runs)
                assert hashlib.sha256(rows).hexdigest() == entry.spans[0][2], "a row is not what it was"

    def _keys(self, store: str, generation: GenerationId) -> dict[Pseudonym, SegmentKey]:
        found: dict[Pseudonym, SegmentKey] = {}
        for name, (data, _) in self._world.stores[store].objects.items():
            if name.startswith(f"keyrings/{generation}/"):
                sha256 = hashlib.sha256(data).hexdigest()
                if sha256 not in self._opened:
                    keyring = parse_keyring(data, [self._world.signer.public], name)
                    self._opened[sha256] = dict(keyring.open(self._world.identity.secret).segments)
                found |= self._opened[sha256]
        return found

    def _check_promises(self) -> None:
        """What a hold found can still be restored, with the structure it needs."""
        for promise in list(self._promises):
            segment, sha256 = promise.part
            if not self._world.clerk.held(promise.tenant) or self._is_purged(segment):
                self._promises.discard(promise)
                continue
            objects = self._world.stores[promise.store].objects
            for name, (data, _) in objects.items():
                if name.startswith("snapshots/") and f'"exported":"{promise.exported}"'.encode() in data:
                    parts = json.loads(data.partition(b"\n")[0])["parts"]
                    if any(part[:2] == [segment, sha256] for part in parts):
                        generation = GenerationId(name.split("/")[1])
                        keys = self._keys(promise.store, generation)
                        classes = {self._world.owners[part[0]][0].data_class for part in parts}
                        assert "structure" in classes, "a held tenant lost its structure"
                        for one, two, _ in parts:
                            if self._world.owners[one][0].data_class == "structure" or one == segment:
                                self._check_part(objects, generation, one, two, keys)
                        break
            else:
                raise AssertionError("what a hold keeps is not restorable any more")

    # ---- around a run of the keeper

    def compare(self, store: str, before: Objects, began: datetime) -> None:
        """A keeper removed nothing that somebody needs, and changed nothing but lines that were due."""
        after = self._world.stores[store].objects
        needed = self._needed(store)
        for name, (data, modified) in before.items():
            place = layout.place_of(ObjectName(name))
            if name not in after:
                self._check_removed(store, place, data, needed, began - modified)
            elif after[name][0] != data:
                assert place.kind is layout.ObjectKind.KEYRING, f"{name} was changed"
                self._check_lines(data, after[name][0])

    def _check_removed(
        self, store: str, place: layout.ObjectPlace, data: bytes, needed: set[tuple[str, str]], age: timedelta
    ) -> None:
        after = self._world.stores[store].objects
        match place.kind:
            case layout.ObjectKind.MARK:
                assert place.run is None or age >= GRACE / 2
            case layout.ObjectKind.TEMPORARY:
                assert age >= GRACE - HOUR
            case layout.ObjectKind.PACK | layout.ObjectKind.PART:
                assert place.segment is not None
                if not self._is_purged(place.segment):
                    assert (place.segment, place.sha256) not in needed, "an object that a record needs was removed"
                    assert age >= GRACE - HOUR, "an object younger than a run was removed"
            case layout.ObjectKind.RECORD:
                exported = parse_stamp(json.loads(data.partition(b"\n")[0])["exported"])
                assert self._world.time.now - exported >= KEEP - HOUR
            case layout.ObjectKind.KEYRING:
                # Packs go behind it, as FORMAT.md has it.
                folders = (f"segments/{place.generation}/", f"snapshots/{place.generation}/")
                left = [name for name in after if name.startswith(folders) and not name.endswith(".pack")]
                assert not left, "a keyring left before what it opens"
            case _:
                raise AssertionError(f"{place.kind} was removed")

    def _needed(self, store: str) -> set[tuple[str, str]]:
        """Containers that records need, less those a class's age lets go."""
        objects = self._world.stores[store].objects
        newest: dict[tuple[str, str, str], datetime] = {}
        for name, (data, _) in objects.items():
            if name.startswith("snapshots/"):
                record = json.loads(data.partition(b"\n")[0])
                for segment, sha256, _ in record["parts"]:
                    key = (record["generation"], segment, sha256)
                    exported = parse_stamp(record["exported"])
                    newest[key] = max(exported, newest.get(key, exported))
        needed = set()
        for (generation, segment, sha256), exported in newest.items():
            name, _ = self._world.owners[Pseudonym(segment)]
            held = name.tenant is not None and self._world.clerk.held(name.tenant)
            if name.data_class == SHORT and exported < self._world.time.now - SHORT_AGE + HOUR and not held:
                continue
            needed.add((segment, sha256))
            part = objects.get(f"segments/{generation}/{segment}/{sha256}.part")
            if part is not None:
                needed |= {
                    (segment, pack)
                    for pack, _ in read_header(part[0][: header_length(part[0][:CLEAR_START], "it")], "it").packs
                }
        return needed

    def _check_lines(self, before: bytes, after: bytes) -> None:
        """Whole lines are gone, of lives that are purged, and all others are as they were."""
        old, new = before.split(b"\n"), after.split(b"\n")
        assert old[:4] == new[:4]
        kept = set(new)
        for line in old[4:]:
            if line not in kept:
                assert self._is_purged(Pseudonym(json.loads(line)["segment"])), "a key was removed that was not due"
        assert new == [line for line in old if line in kept]

    def after_keeper_runs(self) -> None:
        """What a run that came to its end everywhere must have done."""
        world = self._world
        for life in world.clerk.all():
            due = life.dates is not None and not world.clerk.held(life.tenant)
            if due and world.clerk.purge_by(life) + HOUR < world.time.now:
                assert life.purged is not None, "a purge that is due was not begun"
        for store, found in world.stores.items():
            for name, (data, _) in found.objects.items():
                if name.startswith("snapshots/"):
                    record = json.loads(data.partition(b"\n")[0])
                    tenants = {world.owners[part[0]][0].tenant for part in record["parts"]}
                    held = "reduced" in record and any(t and world.clerk.held(t) for t in tenants)
                    old = parse_stamp(record["exported"]) < world.time.now - KEEP - HOUR
                    assert held or not old, f"a snapshot on {store} outlived its time"

    def check_ledgers(self) -> None:
        """Every store has the same chain, which is sound to its last byte."""
        heads = []
        for found in self._world.stores.values():
            chain = Chain(layout.ObjectName("be"), self._world.repository)  # type: ignore[arg-type]
            heads.append(read_chain(found, chain, [self._world.keeper_key.public], compare_all=True)[0].head)
        assert len({head.head for head in heads}) == 1


def _is_key(name: str) -> bool:
    return name.startswith("keyrings/")


def _record_name(snap: Snap) -> str:
    return layout.record_name(snap.record.generation, snap.name)


def _chunks(reader: ContainerReader) -> list[bytes]:
    found: list[bytes] = []
    for index, block in enumerate(reader.blocks):
        if block.kind == DATA:
            content, at = bytes(reader.open_block(index)), 0
            for length in block.chunk_lengths:
                found.append(content[at : at + length])
                at += length
    return found
