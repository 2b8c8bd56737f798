"""One store is brought up to date from another: byte for byte, by the ledger, and whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from doubles.stores.hooked_store import Fuse, HookedStore
from doubles.stores.segments import take_out
from doubles.stores.small_repository import Content, Rows
from doubles.stores.snapshots import look
from fix_clock import FAR, ShiftedClock
from fix_handmade_keeper import DAY, make_handmade_keeper, named, notes

from backupd.errors import BackupdError, BusyError, RefusedError, StoreError, StoreFullError, StoreGoneError
from backupd.model.ids import ObjectName, SnapshotName
from backupd.model.ledger import ExpiryBegan, PurgeBegan, Replicated
from backupd.model.ranges import from_ranges
from backupd.operations.keeper.purge import purge_due
from backupd.operations.keeper.rekey import rekey
from backupd.operations.keeper.types import Keeper
from backupd.operations.ledger import Book, LedgerPlace
from backupd.operations.replication import Copying, Replication, objects, replicate
from backupd.operations.verify import Scope, Tools, verify
from backupd.planning.verify import parse_share
from backupd.repository import layout
from backupd.repository.packs import OpenPack
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.seal import suite
from backupd.seal.keyring import without_lines
from backupd.seal.pack import PresenceMap
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore


class Pair:
    """A handmade keeper with a second store, to which nothing was ever backed up."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.handmade = handmade = make_handmade_keeper(folder)
        self.made = handmade.made
        self.folder = folder
        self.root = folder / "far" / "be"
        self.root.mkdir(parents=True)
        self.cellar = HookedStore(DirectoryStore(self.root))
        Repository(self.cellar, [self.made.signer.public]).put_info(self.made.info, self.made.signer)
        stores = {"disk": handmade.store, "cellar": self.cellar}
        handmade.keeper = self.keeper_of(stores, folder / "copy", folder / "keeper")
        self.identity = self.made.identity

    def keeper_of(self, stores: Mapping[str, Store], copy: Path, state: Path) -> Keeper:
        """A machine that keeps these stores."""
        keeper, clock = self.handmade.keeper, ShiftedClock()
        signers, keepers = [self.made.signer.public, keeper.signer.public], frozenset({keeper.signer.public})
        place = LedgerPlace(
            keeper.region, keeper.repository, stores, DirectoryStore(copy), keepers, clock, keeper.signer, FAR
        )
        repositories = {name: Repository(store, signers, keepers) for name, store in stores.items()}
        return replace(keeper, stores=repositories, state=state, clock=clock, book=Book(place))

    def crowd(self) -> None:
        """Two generations with two snapshots each, of four tenants."""
        for days in (5, 4):
            self.handmade.backup(days, "ada", "bob", "cyd", "dan")
        self.made.start_generation()
        for days in (3, 2):
            self.handmade.backup(days, "ada", "bob", "cyd", "dan")

    def run(self, keeper: Keeper | None = None, **changes: Any) -> Replication:
        copying = Copying(keeper or self.handmade.keeper, "disk", "cellar", self.folder / "scratch")
        return replicate(replace(copying, **changes))

    @property
    def repository(self) -> Repository:
        return self.handmade.keeper.stores["cellar"]

    def files(self) -> dict[str, bytes]:
        """Of the second store."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def origin(self) -> dict[str, bytes]:
        """Of the first store."""
        root = self.handmade.root
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def verify(self, store: str = "cellar") -> list[str]:
        """Every byte and every row."""
        repository = self.handmade.keeper.stores[store]
        with CheckedState(self.folder / "checked" / os.urandom(4).hex()) as checked:
            scope = Scope(parse_share("all"), self.identity.secret)
            tools = Tools(self.handmade.clock, self.folder, store=store, tags=self.made.tags)
            seen = verify(repository, checked, scope, tools)
        assert seen.foreign == ()
        return [f"{one.object}: {one.message}" for one in seen.findings]

    def packs(self) -> list[OpenPack]:
        """All packs of the second store."""
        places = [layout.place_of(ObjectName(name)) for name in self.files() if name.startswith("packs/")]
        return [self.repository.pack(one.generation, one.sha256) for one in places if one.generation and one.sha256]

    def tenants(self) -> tuple[set[str | None], set[str | None]]:
        """Whose keys, and whose sections, are on the second store, by what the identity opens on the first."""
        names, keyed = {}, set()
        for name in (name for name in self.origin() if name.startswith("keyrings/")):
            theirs = self.handmade.keeper.stores["disk"].keyring(ObjectName(name))
            names |= {
                theirs.index[at][0]: theirs.open(self.identity.secret).key(at).name.tenant for at in theirs.sealed
            }
        for name in (name for name in self.files() if name.startswith("keyrings/")):
            ours = self.repository.keyring(ObjectName(name))
            keyed |= {ours.open(self.identity.secret).key(at).name.tenant for at in ours.sealed}
        sections = {section.row.segment for pack in self.packs() for section in pack.sections()}
        return keyed, {names.get(one, "purged") for one in sections}

    def erase(self, tenant: str) -> None:
        self.handmade.erase(tenant)

    def rival(self) -> Keeper:
        """Another machine that keeps the same stores."""
        stores = {"disk": DirectoryStore(self.handmade.root), "cellar": DirectoryStore(self.root)}
        keeper = self.keeper_of(stores, self.folder / "rival-copy", self.folder / "rival")
        keeper.book.sync()
        return keeper


ALL: set[str | None] = {None, "ada", "bob", "cyd", "dan"}
REST = ALL - {"ada"}


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path / "pair")


def test_a_new_store_gets_everything_and_stands_alone(pair: Pair) -> None:
    """Every object is the same to the byte; with the first store gone, every row is read from the second."""
    pair.crowd()
    names = pair.handmade.repository.snapshots()
    done = pair.run()
    assert (sorted(done.snapshots), done.generations, done.damage) == (names, 2, [])
    theirs, ours = pair.origin(), pair.files()
    assert {name: data for name, data in theirs.items() if name != "repository.json"} == {
        name: data for name, data in ours.items() if name != "repository.json"
    }
    assert list((pair.folder / "scratch").iterdir()) == []
    assert pair.tenants() == (ALL, ALL)
    pair.handmade.root.rename(pair.folder / "gone")
    assert pair.verify() == []
    for name in names:
        seen = look(pair.repository, name, pair.identity.secret)
        assert {segment.tenant for segment in seen.segments} == {None, "ada", "bob", "cyd", "dan"}
    told = [event for entry in pair.handmade.keeper.book.chain.entries() for event in entry.events]
    assert [event.snapshots for event in told if isinstance(event, Replicated)] == [names[:2], names[2:]]


def test_a_store_that_comes_back_gets_what_it_missed(pair: Pair) -> None:
    """Only that; done again it copies nothing."""
    pair.crowd()
    pair.run()
    before = pair.files()
    late = pair.handmade.backup(1.5, "ada", "eve")
    later = pair.handmade.backup(1, "ada", "eve")
    dry = pair.run(dry_run=True)
    assert pair.files() == before
    done = pair.run()
    assert (done.snapshots, done.already) == (sorted([late, later]), 4)
    assert (dry.snapshots, dry.generations) == (done.snapshots, done.generations)
    assert before.items() <= pair.files().items()
    assert pair.verify() == []
    after = pair.files()
    again = pair.run()
    assert (again.snapshots, again.objects, pair.files() == after) == ([], 0, True)


def test_nothing_is_copied_under_a_clock_that_is_wrong(pair: Pair) -> None:
    """What was copied is told in the ledger at the end, which a wrong clock would refuse after all the work."""
    pair.crowd()
    before, keeper = pair.files(), pair.handmade.keeper
    place = replace(keeper.book._place, tolerance=timedelta(minutes=5), clock=ShiftedClock(timedelta(hours=2)))
    wrong = replace(keeper, book=Book(place))
    with pytest.raises(RefusedError, match="clock of store 'disk'"):
        pair.run(wrong)
    assert pair.files() == before
    assert len(pair.run(wrong, dry_run=True).snapshots) == 4


def test_what_expired_is_not_copied(pair: Pair) -> None:
    """Nor missed afterwards: the ledger says of the second store what it said of the first."""
    for days in (14, 12, 5, 4):
        pair.handmade.backup(days, "ada", "bob")
    assert pair.handmade.expire().snapshots == 2
    done = pair.run()
    assert (len(done.snapshots), done.damage) == (2, [])
    assert pair.verify() == []
    # Nor does what expired there come back.
    gone = pair.repository.snapshots()
    pair.handmade.keeper.book.append(lambda _: [ExpiryBegan(store="cellar", snapshots=[gone[0]])])
    pair.cellar.remove(ObjectName(f"snapshots/{pair.repository.generation_of(gone[0])}/{gone[0]}"))
    again = pair.run()
    assert (again.snapshots, again.left_out) == ([], 1)
    assert pair.verify() == []


def test_classes_that_aged_are_not_missed(pair: Pair) -> None:
    """Parts of a class with a maximum age of its own are absent there as here."""
    extra = {named("ada", "session"): notes("short-lived")}
    pair.handmade.backup(8, "ada", extra=extra)
    pair.handmade.backup(2, "ada")
    pair.handmade.ruled(max_ages={"session": 5 * DAY})
    pair.handmade.expire()
    assert pair.verify("disk") == []
    done = pair.run()
    assert (len(done.snapshots), done.damage) == (2, [])
    assert pair.verify() == []


def test_who_was_purged_is_not_copied(pair: Pair) -> None:
    """No object of theirs, and no key."""
    pair.crowd()
    pair.erase("ada")
    assert purge_due(pair.handmade.keeper).errors == {}
    done = pair.run()
    assert (len(done.snapshots), done.damage) == (4, [])
    assert pair.tenants() == (REST, REST)
    assert pair.verify() == []


@pytest.mark.parametrize("where", ["disk", "cellar"])
def test_who_is_purged_meanwhile_stays_purged(tmp_path: Path, where: str) -> None:
    """A purge by another machine before any call: in the end neither a key nor an object of the tenant is there."""
    for at in range(1, 1000, 7):
        pair = Pair(tmp_path / str(at))
        pair.crowd()
        pair.erase("ada")
        seen, purged = [0], []

        def between(*_: str, at: int = at, seen: list = seen, pair: Pair = pair, purged: list = purged) -> None:
            seen[0] += 1
            if seen[0] == at:
                purged.append(purge_due(pair.rival()))

        hooked = pair.handmade.store if where == "disk" else pair.cellar
        hooked.before = between
        done = pair.run()
        hooked.before = lambda *_: None
        if not purged:
            break
        assert purged[0].errors == {}
        assert (done.damage, len(done.snapshots)) == ([], 4)
        assert pair.tenants() == (REST, REST), at
        assert pair.verify() == [], at
    assert at > 50


def test_a_target_that_breaks_off_at_any_call_is_gone_on_with(tmp_path: Path) -> None:
    """Before or after each call that changes something: what is there is valid, and the next run completes it."""
    for side, step in (("before", 2), ("after", 2)):
        for at in range(1, 400, step):
            pair = Pair(tmp_path / f"{side}{at}")
            pair.crowd()
            fuse = Fuse(at)
            pair.cellar.before, pair.cellar.after = fuse.hooks(side)
            with contextlib.suppress(StoreGoneError):
                pair.run()
            pair.cellar.before = pair.cellar.after = lambda *_: None
            assert pair.verify() == []
            pair.handmade.keeper.book.sync()
            pair.run()
            assert pair.repository.snapshots() == pair.handmade.repository.snapshots()
            assert pair.verify() == []
            if not fuse.blown:
                break
        assert at > 20


def damage(pair: Pair, pick: Callable[[str], bool]) -> str:
    name = min(name for name in pair.origin() if pick(name))
    path = pair.handmade.root / name
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    return name


@pytest.mark.parametrize("kind", ["pack", "keyring", "snapshots/"])
def test_damage_is_not_spread(pair: Pair, kind: str) -> None:
    """What is wrong at the origin is told; no record that needs it is copied, every other is."""
    pair.crowd()
    name = damage(pair, lambda name: name.endswith(kind) or name.startswith(kind))
    done = pair.run()
    assert done.damage
    assert 2 <= len(done.snapshots) < 4
    assert name not in pair.files()
    found = pair.verify()
    assert all("which is missing" in one for one in found)


@pytest.mark.parametrize("which", [0, -1])
def test_a_damaged_section_is_not_spread(pair: Pair, which: int) -> None:
    """No pack with it is copied, and no record that names that pack; once it is mended, all is."""
    pair.crowd()
    pack, at = sections_of(pair, "disk", "ada")[which]
    path = pair.handmade.root / pack.name
    whole, place = path.read_bytes(), pack.there.offsets[at] + 1
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    done = pair.run()
    assert any(f"section {at} of '{pack.name}' does not have the hash" in one for one in done.damage)
    assert pack.name not in pair.files()
    path.write_bytes(whole)
    assert pair.run().damage == []
    assert pair.verify() == []


def test_a_missing_object_keeps_back_who_needs_it(pair: Pair) -> None:
    """An absence nothing explains is damage here as anywhere."""
    pair.crowd()
    (pair.handmade.root / min(name for name in pair.origin() if name.endswith(".pack"))).unlink()
    done = pair.run()
    assert any("missing" in one for one in done.damage)
    assert len(done.snapshots) < 4


def test_nothing_is_written_over(pair: Pair) -> None:
    """Other content under a name of ours stops it, and stays."""
    pair.crowd()
    name = min(name for name in pair.origin() if name.startswith("keyrings/"))
    other = max(name for name in pair.origin() if name.startswith("keyrings/"))
    path = pair.root / name
    path.parent.mkdir(parents=True)
    path.write_bytes((pair.handmade.root / other).read_bytes())
    with pytest.raises(BackupdError):
        pair.run()
    assert path.read_bytes() == (pair.handmade.root / other).read_bytes()


def test_recipients_of_long_ago_do_not_come_with_copies(pair: Pair) -> None:
    """A store whose keyrings were sealed to others since refuses them, and says what to do first."""
    pair.crowd()
    pair.run()
    new = suite.generate()
    rekey(pair.handmade.keeper, "cellar", [new.public], pair.identity.secret)
    pair.made.start_generation()
    pair.handmade.backup(1.2, "ada")
    with pytest.raises(RefusedError, match="sealed to others"):
        pair.run()
    rekey(pair.handmade.keeper, "disk", [new.public], pair.identity.secret)
    pair.identity = new
    assert len(pair.run().snapshots) == 1
    assert pair.verify() == []


def test_a_store_without_the_regions_repository_is_refused(pair: Pair) -> None:
    """Before anything is written there."""
    pair.crowd()
    (pair.root / "repository.json").unlink()
    with pytest.raises(RefusedError, match="has no repository"):
        pair.run()
    assert pair.files() == {}


def test_a_keeper_there_leaves_alone_what_is_being_copied(pair: Pair) -> None:
    """While it runs there is a mark of it in the generation, and none afterwards."""
    pair.crowd()
    marked: list[bool] = []

    def look_around(method: str, name: str) -> None:
        if method == "put_new" and name.startswith(("packs/", "keyrings/", "snapshots/")):
            marked.append(any((pair.root / "runs" / name.split("/")[1]).iterdir()))

    pair.cellar.before = look_around
    pair.run()
    assert (len(marked) > 10, all(marked)) == (True, True)
    assert not (pair.root / "runs").exists()


def test_memory_does_not_grow_with_objects(pair: Pair) -> None:
    """Of packs of 45 MB, a few pieces are in memory at once."""
    rows = tuple(os.urandom(1 << 19).hex().encode() + b"\n" for _ in range(15))
    big = Content((Rows("public", "note", ("said",), rows),), chunk=1 << 20)
    pair.handmade.backup(1, "ada", extra={named(name): big for name in ("eve", "fay", "gus")})
    tracemalloc.start()
    try:
        done = pair.run(threads=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (done.bytes > 22 << 20, peak < 14 << 20) == (True, True), (done.bytes, peak)


def sections_of(pair: Pair, store: str, tenant: str) -> list[tuple[OpenPack, int]]:
    """Where the newest snapshot's sections of a tenant are."""
    repository = pair.handmade.keeper.stores[store]
    record = repository.record(repository.snapshots()[-1])
    wanted = pair.made.pseudonym(named(tenant))
    found = repository.sections(record).sections
    return [(section.pack, section.at) for (segment, _), section in found.items() if segment == wanted]


def needed_by(pair: Pair, name: str) -> set[tuple[str, int]]:
    """The sections that a snapshot of the second store refers to, by pack and place."""
    record = next(pair.repository.record(one) for one in pair.repository.snapshots() if one == name)
    return {
        (sha256, at)
        for sha256, *ranges in record.packs
        for one in ranges
        for at in from_ranges(one, len(pair.repository.pack(record.generation, sha256).header.rows))
    }


def test_a_section_missing_at_the_origin_keeps_back_who_needs_it(pair: Pair) -> None:
    """Until the ledger explains it; then the pack is copied as it is: the same header, and its own map."""
    pair.crowd()
    (pack, at), *_ = sections_of(pair, "disk", "ada")
    take_out(pair.handmade.store.inner, pack, [at])
    done = pair.run()
    assert any("is missing" in one for one in done.damage)
    assert len(done.snapshots) < 4
    pair.erase("ada")
    assert purge_due(pair.handmade.keeper).errors == {}
    assert pair.run().damage == []
    assert pair.repository.snapshots() == pair.handmade.repository.snapshots()
    assert (pair.root / pack.name).read_bytes() == (pair.handmade.root / pack.name).read_bytes()
    assert (pair.verify(), pair.tenants()) == ([], (REST, REST))


def test_a_purge_that_only_began_is_obeyed(pair: Pair) -> None:
    """The origin still has keys and sections; the copies have neither, and every other byte as it was."""
    pair.crowd()
    pair.erase("ada")
    generations = {
        place.generation for place in map(layout.place_of, map(ObjectName, pair.origin())) if place.generation
    }
    incarnation, tags = pair.handmade.incarnation("ada"), pair.made.tags
    refs = []
    for generation in sorted(generations):
        own = tags.tenant_tag(generation, pair.handmade.tenant("ada"), 1)
        rings = pair.handmade.repository.keyrings(generation)
        refs += sorted({(generation, one) for ring in rings for one, listed in ring.index if listed.tenant == own})
    pair.handmade.keeper.book.append(
        lambda _: [PurgeBegan(**incarnation._asdict(), segments=refs, stores=["cellar", "disk"])]
    )
    doomed = {segment for _, segment in refs}
    done = pair.run()
    assert (done.damage, len(done.snapshots)) == ([], 4)
    assert (pair.verify(), pair.tenants()) == ([], (REST, REST))
    for pack in pair.packs():
        whole = (pair.handmade.root / pack.name).read_bytes()
        theirs = OpenPack(pack.name, pack.header, PresenceMap.full(pack.header))
        kept = [theirs.section(at) for at, row in enumerate(pack.header.rows) if row.segment not in doomed]
        parts = [whole[one.offset : one.offset + one.row.length] for one in kept]
        assert (pair.root / pack.name).read_bytes() == b"".join((pack.header.raw, pack.there.raw, *parts))


@pytest.mark.parametrize("at_once", [1, 1 << 24])
def test_a_pack_there_with_fewer_sections_gets_them_back(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """An expiry there took them before a later snapshot of the origin needed them: these, and no others, come back."""
    monkeypatch.setattr(objects, "_AT_ONCE", at_once)
    pair.crowd()
    pair.run()
    newest = expired_there(pair)
    before = {pack.name: pack.there.raw for pack in pair.packs()}
    done = pair.run()
    assert (done.snapshots, done.damage) == ([newest], [])
    assert before != {pack.name: pack.there.raw for pack in pair.packs()}
    assert (pair.repository.snapshots()[-1], pair.verify()) == (newest, [])


def expired_there(pair: Pair) -> SnapshotName:
    """The newest snapshot, which the second store has no more, nor all but one section of what only that needed."""
    *others, newest = pair.repository.snapshots()
    lone = needed_by(pair, newest)
    for name in others:
        lone -= needed_by(pair, name)
    generation = pair.repository.record(newest).generation
    (pair.root / layout.record_name(generation, newest)).unlink()
    for sha256 in {sha256 for sha256, _ in lone}:
        pack = pair.repository.pack(generation, sha256)
        take_out(pair.cellar.inner, pack, [at for at in pack.there.there if (sha256, at) in lone][1:])
    return newest


class HastyClock(ShiftedClock):
    """Waits are over at once, and no date is ahead for them."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return super().now().timestamp()


@pytest.mark.parametrize("when", ["read", "marked", "rewritten"])
def test_a_purge_that_begins_while_sections_are_put_back_is_obeyed(pair: Pair, when: str) -> None:
    """By another machine: before they are read, while the pack is marked as being rewritten, or just after that."""
    pair.crowd()
    pair.run()
    newest = expired_there(pair)
    pair.erase("ada")
    surveyed: list[str] = []
    purged: list[str] = []

    def purge(at: str) -> None:
        if at == when and not purged:
            purged.append(at)
            purge_due(replace(pair.rival(), clock=HastyClock()))  # it waits for a pack that is marked, and gives up

    def on_target(method: str, name: str) -> None:
        if name.startswith("packs/") and method == "get":
            surveyed.append(name)
        elif method == "recompose":
            purge("marked")

    def on_origin(method: str, name: str) -> None:
        if surveyed and name.startswith("packs/") and method == "get":
            purge("read")

    pair.handmade.store.before, pair.cellar.before = on_origin, on_target
    pair.cellar.after = lambda method, _: purge("rewritten") if method == "recompose" else None
    done = pair.run()
    pair.cellar.before = pair.cellar.after = pair.handmade.store.before = lambda *_: None
    assert purged
    assert (done.snapshots, done.damage, done.refused) == ([newest], [], [])
    assert purge_due(pair.handmade.keeper).errors == {}
    assert (pair.tenants(), pair.verify()) == ((REST, REST), [])


@pytest.mark.parametrize("error", [StoreError("no exchange here"), BusyError("another keeper rewrites it")])
def test_a_store_that_refuses_to_rewrite_a_pack_gets_all_that_needs_none(pair: Pair, error: BackupdError) -> None:
    """That pack's snapshots are named at the end; once the store lets it be rewritten, they are copied, too."""
    pair.crowd()
    pair.run()
    newest = expired_there(pair)
    pair.made.start_generation()
    later = pair.handmade.backup(1, "ada")

    def refuse(method: str, _: str) -> None:
        if method == "recompose":
            raise error

    pair.cellar.before = refuse
    done = pair.run()
    assert (done.snapshots, done.damage) == ([later], [])
    assert done.refused == [f"snapshot '{newest}' is not copied: {error.message}"]
    assert [one for one in pair.verify() if not one.endswith(f"record '{newest}', which is missing")] == []
    pair.cellar.before = lambda *_: None
    assert (pair.run().snapshots, pair.verify()) == ([newest], [])


@pytest.mark.parametrize("error", [StoreGoneError("the line was cut"), StoreFullError("no room")])
def test_what_stands_in_the_way_of_every_object_ends_it(pair: Pair, error: BackupdError) -> None:
    """A line that is cut, or a store without room, while a pack is rewritten."""
    pair.crowd()
    pair.run()
    expired_there(pair)

    def fail(method: str, _: str) -> None:
        if method == "recompose":
            raise error

    pair.cellar.before = fail
    with pytest.raises(type(error)):
        pair.run()


def test_a_section_that_both_stores_lack_keeps_back_who_needs_it(pair: Pair) -> None:
    """Nor is one put back that is damaged at the origin; what stands at the target stays as it is."""
    pair.crowd()
    pair.run()
    (pack, at), *_ = sections_of(pair, "cellar", "ada")
    newest = pair.repository.snapshots()[-1]
    (pair.root / layout.record_name(pack.header.context.generation, newest)).unlink()
    take_out(pair.cellar.inner, pair.repository.pack(pack.header.context.generation, pack.header.sha256), [at])
    whole = pair.handmade.keeper.stores["disk"].pack(pack.header.context.generation, pack.header.sha256)
    path, offset = pair.handmade.root / pack.name, whole.section(at).offset
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    before = pair.files()
    done = pair.run()
    assert (done.snapshots, len(done.damage)) == ([], 1)
    assert newest in done.damage[0]
    assert f"'{pack.name}, section {at}' is missing on both stores, or damaged on the origin" in done.damage[0]
    assert {name: data for name, data in pair.files().items() if name.startswith("packs/")} == {
        name: data for name, data in before.items() if name.startswith("packs/")
    }


def test_a_keyring_there_with_fewer_lines_is_damage(pair: Pair) -> None:
    """As for a pack."""
    pair.crowd()
    pair.run()
    newest = pair.repository.snapshots()[-1]
    record = pair.repository.record(newest)
    (pair.root / layout.record_name(record.generation, newest)).unlink()
    where = layout.keyring_name(record.generation, record.run)
    keyring, path = pair.repository.keyring(where), pair.root / where
    path.write_bytes(without_lines(path.read_bytes(), keyring, {pair.made.pseudonym(named("ada"))}))
    done = pair.run()
    assert (done.snapshots, len(done.damage)) == ([], 1)
    assert "no keyring has the key" in done.damage[0]


def test_a_pack_that_a_keeper_puts_anew_meanwhile_is_copied(pair: Pair) -> None:
    """The map of before and sections of after do not fit; the next look does."""
    pair.crowd()
    pair.erase("ada")
    seen: list[str] = []

    def between(method: str, name: str) -> None:
        copying = any(one.startswith("keyrings/") for one in pair.files())
        if copying and method == "get" and name.startswith("packs/"):
            seen.append(name)
            if len(seen) == 2:  # the sections of a pack whose header was read
                assert seen[0] == name
                assert purge_due(pair.rival()).errors == {}

    pair.handmade.store.before = between
    done = pair.run(threads=1)
    assert (len(seen) > 2, done.damage, len(done.snapshots)) == (True, [], 4)
    assert (pair.verify(), pair.tenants()[0]) == ([], REST)


def test_a_forged_listing_keeps_back_who_needs_it(pair: Pair) -> None:
    """A section under tags that are not its own is nobody's to copy."""
    pair.crowd()
    tags_of = pair.made.tags_of
    pair.made.tags_of = lambda name: tags_of(named("bob") if name.tenant == "ada" else name)
    pseudonym = pair.made.pseudonym
    pair.made.pseudonym = lambda name: pair.made.tags.pseudonym(pair.made.generation, tags_of(name))
    pair.handmade.backup(1, "ada")
    pair.made.tags_of, pair.made.pseudonym = tags_of, pseudonym
    done = pair.run()
    assert (len(done.snapshots), len(done.damage)) == (4, 1)
    assert "not that of its tags" in done.damage[0]
