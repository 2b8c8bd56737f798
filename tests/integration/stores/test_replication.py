"""One store is brought up to date from another: byte for byte, by the ledger, and whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from doubles.stores.fake_writer import segment
from doubles.stores.hooked_store import Fuse, HookedStore
from doubles.stores.snapshots import look
from fix_clock import FAR, ShiftedClock
from fix_offline_keeper import DAY, make_offline_keeper
from fix_regions import REGION

from backupd.errors import BackupdError, RefusedError, StoreGoneError
from backupd.model.ids import ObjectName
from backupd.model.ledger import Replicated
from backupd.operations.keeper.purge import purge_due
from backupd.operations.keeper.rekey import rekey
from backupd.operations.keeper.types import Keeper
from backupd.operations.ledger import Book, LedgerPlace
from backupd.operations.replication import Copying, Replication, replicate
from backupd.operations.verify import Scope, Tools, verify
from backupd.planning import lifecycle
from backupd.planning.lifecycle import ClockDates
from backupd.planning.verify import parse_share
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.seal import suite
from backupd.store.directory import DirectoryStore


class Pair:
    """An offline keeper with a second store, to which nothing was ever backed up."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "far").mkdir()
        self.cellar = HookedStore(DirectoryStore(folder / "far" / "be"))
        self.offline = make_offline_keeper(folder, cellar=self.cellar)
        self.root = folder / "far" / "be"

    def crowd(self) -> None:
        """Two generations with two snapshots each, of four tenants."""
        for days in (5, 4, 3, 2):
            self.offline.writer.generation_length = timedelta(hours=30)
            self.offline.backup(days, "ada", "bob", "cyd", "dan")

    def run(self, keeper: Keeper | None = None, **changes: object) -> Replication:
        copying = Copying(keeper or self.offline.keeper, "disk", "cellar", self.offline.folder / "scratch")
        return replicate(replace(copying, **changes))

    @property
    def repository(self) -> Repository:
        return self.offline.keeper.stores["cellar"]

    def files(self) -> dict[str, bytes]:
        """Of the second store."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def verify(self, store: str = "cellar") -> list[str]:
        """Every byte and every row."""
        repository = self.offline.keeper.stores[store]
        with CheckedState(self.offline.folder / "checked" / os.urandom(4).hex()) as checked:
            scope = Scope(parse_share("all"), self.offline.identity.secret)
            tools = Tools(self.offline.clock, self.offline.folder, store=store)
            seen = verify(repository, checked, scope, tools)
        assert seen.foreign == ()
        # The quick writer counts no rows.
        found = [one for one in seen.findings if "as many rows" not in one.message]
        return [f"{one.object}: {one.message}" for one in found]

    def tenants(self) -> set[str | None]:
        """Whose keys the identity opens on the second store."""
        generations = {name.split("/")[1] for name in self.files() if name.startswith("keyrings/")}
        opened = self.repository.open_keys(self.offline.identity.secret, generations)  # type: ignore[arg-type]
        return {opened[one].name.tenant for one in opened}

    def erase(self, tenant: str) -> None:
        now, one = datetime.now(UTC), self.offline.keeper.tags.tenant_id(tenant)
        self.offline.keeper.book.append(lambda lives: lifecycle.erase(lives, one, ClockDates(now, now + 40 * DAY, now)))

    def rival(self) -> Keeper:
        """Another machine that keeps the same stores."""
        offline, clock = self.offline, ShiftedClock()
        stores = {"disk": DirectoryStore(offline.root), "cellar": DirectoryStore(self.root)}
        keepers, signers = offline.repository.keepers, offline.repository.signers
        copy = DirectoryStore(offline.folder / "rival-copy")
        book = Book(
            LedgerPlace(REGION, offline.keeper.repository, stores, copy, keepers, clock, offline.keeper.signer, FAR)
        )
        book.sync()
        repositories = {name: Repository(store, signers, keepers) for name, store in stores.items()}
        return replace(offline.keeper, stores=repositories, state=offline.folder / "rival", clock=clock, book=book)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path / "pair")


def test_a_new_store_gets_everything_and_stands_alone(pair: Pair) -> None:
    """Every object is the same to the byte; with the first store gone, every row is read from the second."""
    pair.crowd()
    names = pair.offline.repository.snapshots()
    done = pair.run()
    assert (sorted(done.snapshots), done.generations, done.damage) == (names, 2, [])
    theirs, ours = {name: (pair.offline.root / name).read_bytes() for name in pair.offline.files()}, pair.files()
    assert {name: data for name, data in theirs.items() if name != "repository.json"} == {
        name: data for name, data in ours.items() if name != "repository.json"
    }
    assert list((pair.offline.folder / "scratch").iterdir()) == []
    pair.offline.root.rename(pair.offline.folder / "gone")
    assert pair.verify() == []
    for name in names:
        seen = look(pair.repository, name, pair.offline.identity.secret)
        assert {segment.tenant for segment in seen.segments} == {None, "ada", "bob", "cyd", "dan"}
    told = [event for entry in pair.offline.keeper.book.chain.entries() for event in entry.events]
    assert [event.snapshots for event in told if isinstance(event, Replicated)] == [names[:2], names[2:]]


def test_a_store_that_comes_back_gets_what_it_missed(pair: Pair) -> None:
    """Only that; done again it copies nothing."""
    pair.crowd()
    pair.run()
    before = pair.files()
    late = pair.offline.backup(1.5, "ada", "eve")
    pair.offline.writer.generation_length = 28 * DAY
    later = pair.offline.backup(1, "ada", "eve")
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


def test_what_expired_is_not_copied(pair: Pair) -> None:
    """Nor missed afterwards: the ledger says of the second store what it said of the first."""
    pair.offline.writer.generation_length = timedelta(days=28)
    for days in (14, 12, 5, 4):
        pair.offline.backup(days, "ada", "bob")
    assert pair.offline.expire().snapshots == 2
    done = pair.run()
    assert (len(done.snapshots), done.damage) == (2, [])
    assert pair.verify() == []
    # Nor does what expired there come back.
    with pair.offline.census():
        pass
    gone = pair.repository.snapshots()
    pair.offline.keeper.book.append(lambda _: [expiry_of("cellar", gone[0])])
    pair.cellar.remove(ObjectName(f"snapshots/{pair.repository.generation_of(gone[0])}/{gone[0]}"))
    again = pair.run()
    assert (again.snapshots, again.left_out) == ([], 1)
    assert pair.verify() == []


def expiry_of(store: str, name: str) -> object:
    from backupd.model.ledger import ExpiryBegan

    return ExpiryBegan(store=store, snapshots=[name])


def test_classes_that_aged_are_not_missed(pair: Pair) -> None:
    """Parts of a class with a maximum age of its own are absent there as here."""
    pair.offline.writer.generation_length = timedelta(days=28)
    extra = {segment("session", "ada"): [b"short-lived\n"]}
    pair.offline.backup(8, "ada", extra=extra)
    pair.offline.backup(2, "ada")
    pair.offline.ruled(max_ages={"session": 5 * DAY})
    pair.offline.expire()
    assert pair.verify("disk") == []
    done = pair.run()
    assert (len(done.snapshots), done.damage) == (2, [])
    assert pair.verify() == []


def test_who_was_purged_is_not_copied(pair: Pair) -> None:
    """No object of theirs, and no key."""
    pair.crowd()
    pair.erase("ada")
    assert purge_due(pair.offline.keeper).errors == {}
    done = pair.run()
    assert (len(done.snapshots), done.damage) == (4, [])
    assert pair.tenants() == {None, "bob", "cyd", "dan"}
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

        hooked = pair.offline.store if where == "disk" else pair.cellar
        hooked.before = between
        done = pair.run()
        hooked.before = lambda *_: None
        if not purged:
            break
        assert purged[0].errors == {}
        doomed = {one for one, name in pair.offline.owners.items() if name.tenant == "ada"}
        assert (done.damage, len(done.snapshots)) == ([], 4)
        assert pair.tenants() == {None, "bob", "cyd", "dan"}, at
        assert not [name for name in pair.files() if doomed & set(name.split("/"))], at
        assert pair.verify() == [], at
    assert at > 50


def test_a_target_that_breaks_off_at_any_call_is_gone_on_with(tmp_path: Path) -> None:
    """Before or after each call that changes something: what is there is valid, and the next run completes it."""
    for side, step in (("before", 5), ("after", 5)):
        for at in range(1, 400, step):
            pair = Pair(tmp_path / f"{side}{at}")
            pair.crowd()
            fuse = Fuse(at)
            pair.cellar.before, pair.cellar.after = fuse.hooks(side)
            with contextlib.suppress(StoreGoneError):
                pair.run()
            pair.cellar.before = pair.cellar.after = lambda *_: None
            assert pair.verify() == []
            pair.offline.keeper.book.sync()
            pair.run()
            assert pair.repository.snapshots() == pair.offline.repository.snapshots()
            assert pair.verify() == []
            if not fuse.blown:
                break
        assert at > 30


def damage(pair: Pair, pick: Callable[[str], bool]) -> str:
    name = min(name for name in pair.offline.files() if pick(name))
    path = pair.offline.root / name
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    return name


@pytest.mark.parametrize("kind", ["pack", "part", "keyring", "snapshots/"])
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


def test_a_missing_object_keeps_back_who_needs_it(pair: Pair) -> None:
    """An absence nothing explains is damage here as anywhere."""
    pair.crowd()
    (pair.offline.root / min(name for name in pair.offline.files() if name.endswith(".pack"))).unlink()
    done = pair.run()
    assert any("missing" in one for one in done.damage)
    assert len(done.snapshots) < 4


def test_nothing_is_written_over(pair: Pair) -> None:
    """Other content under a name of ours stops it, and stays."""
    pair.crowd()
    name = min(name for name in pair.offline.files() if name.startswith("keyrings/"))
    other = max(name for name in pair.offline.files() if name.startswith("keyrings/"))
    path = pair.root / name
    path.parent.mkdir(parents=True)
    path.write_bytes((pair.offline.root / other).read_bytes())
    with pytest.raises(BackupdError):
        pair.run()
    assert path.read_bytes() == (pair.offline.root / other).read_bytes()


def test_recipients_of_long_ago_do_not_come_with_copies(pair: Pair) -> None:
    """A store whose keyrings were sealed to others since refuses them, and says what to do first."""
    pair.crowd()
    pair.run()
    new = suite.generate()
    rekey(pair.offline.keeper, "cellar", [new.public], pair.offline.identity.secret)
    pair.offline.writer.generation_length = timedelta()
    pair.offline.backup(1.2, "ada")
    with pytest.raises(RefusedError, match="sealed to others"):
        pair.run()
    rekey(pair.offline.keeper, "disk", [new.public], pair.offline.identity.secret)
    pair.offline.identity = new
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
        if method == "put_new" and name.startswith(("segments/", "keyrings/", "snapshots/")):
            marked.append(any((pair.root / "runs" / name.split("/")[1]).iterdir()))

    pair.cellar.before = look_around
    pair.run()
    assert (len(marked) > 20, all(marked)) == (True, True)
    assert not (pair.root / "runs").exists()


def test_memory_does_not_grow_with_objects(pair: Pair) -> None:
    """Of three objects of 15 MB, a few pieces are in memory at once."""
    big = {segment("uploaded", name): [os.urandom(1 << 20) for _ in range(15)] for name in ("eve", "fay", "gus")}
    pair.offline.backup(1, "ada", extra=big)
    tracemalloc.start()
    try:
        done = pair.run(threads=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (done.bytes > 45 << 20, peak < 14 << 20) == (True, True), peak
