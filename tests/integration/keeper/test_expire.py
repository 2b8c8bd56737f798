"""Snapshots expire on real files: what was planned goes, in the right order, and nothing else."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from doubles.stores.fake_writer import segment
from fix_offline_keeper import DAY, KEEP, OfflineKeeper
from fix_regions import Events

from backupd.errors import DamageError, RefusedError, StoreError
from backupd.model.ids import ObjectName
from backupd.model.ledger import ClassExpired, Expired, ExpiryBegan
from backupd.repository import layout
from backupd.trace import PhaseDone, PhaseStarted, Warned

SUPPORT = segment("support", "ada")


def events(yard: OfflineKeeper, kind: type) -> list[object]:
    return [event for entry in yard.keeper.book.chain.entries() for event in entry.events if isinstance(event, kind)]


def stored(yard: OfflineKeeper) -> set[str]:
    """All but what a keeper writes itself."""
    return {name for name in yard.files() if not name.startswith("ledger/")}


def planned(yard: OfflineKeeper) -> set[str]:
    plan = yard.plan()
    items = [item for removal in plan.removals for item in removal.items]
    records = {layout.record_name(yard.repository.generation_of(name), name) for name in plan.expiring}
    return {item.name for item in [*items, *plan.uploads]} | records


def test_what_is_planned_is_what_is_done(yard: OfflineKeeper) -> None:
    """A dry run changes not a byte, and its plan is executed to the name."""
    for day in (50, 30, 20, 8, 1):
        yard.backup(day, "ada", "bob")
    before = yard.files()
    names = planned(yard)
    assert yard.files() == before
    done = yard.expire()
    after = yard.files()
    assert {name for name in before if name not in after} == names
    assert {name: after[name] for name in before if name in after}.items() <= before.items()
    assert (done.snapshots, done.objects) == (3, len(names) - 3)
    assert [type(event) for entry in yard.keeper.book.chain.entries() for event in entry.events] == [
        ExpiryBegan,
        Expired,
    ]
    assert planned(yard) == set()
    assert yard.expire() == Expired(store="disk", snapshots=0, objects=0, bytes=0)


def test_records_go_first_and_packs_last(yard: OfflineKeeper) -> None:
    """The order of FORMAT.md's invariants, backwards; and the intent is written before anything goes."""
    yard.backup(50, "ada", "bob")
    yard.backup(40, "ada", "bob")
    yard.backup(1, "ada", "bob")
    told: list[tuple[str, str]] = []
    yard.store.before = lambda method, name: told.append((method, name))
    yard.expire()
    kinds = [layout.place_of(ObjectName(name)).kind.value for method, name in told if method == "remove"]
    order = [kind for kind in kinds if kind in ("record", "part", "keyring", "pack")]
    assert order == sorted(order, key=["record", "part", "keyring", "pack"].index)
    assert set(order) == {"record", "part", "keyring", "pack"}
    intent = next(at for at, (method, name) in enumerate(told) if method == "put_new" and name.startswith("ledger/"))
    assert intent < next(at for at, (method, name) in enumerate(told) if method == "remove" and "snapshots/" in name)


def test_orphans_and_leftovers_go_after_their_grace_only(yard: OfflineKeeper) -> None:
    """What a failed run left may be what the next one refers to, for two days; then it goes."""
    yard.backup(4, "ada")
    now = datetime.now(UTC)
    yard.begin(now - 3 * DAY, {segment("uploaded", "bob"): [b"orphan\n"]}, stages=2)
    yard.begin(now - 1 * DAY, {segment("uploaded", "eve"): [b"young\n"]}, stages=2)
    yard.put("tmp/" + "0" * 32, b"cut off", days_ago=3)
    yard.put("tmp/" + "1" * 32, b"under way", days_ago=1)
    before = stored(yard)
    yard.expire()
    gone = before - stored(yard)
    assert sorted(name.split("/")[0] for name in gone) == ["segments", "tmp"]
    pack = next(name for name in gone if name.startswith("segments/"))
    assert yard.owners[pack.split("/")[2]].tenant == "bob"
    assert "tmp/" + "0" * 32 in gone


def test_a_generation_goes_whole_with_its_last_record(yard: OfflineKeeper) -> None:
    """No folder of it is left, its keyrings neither."""
    name = yard.backup(60, "ada", "bob")
    generation = yard.repository.generation_of(name)
    yard.backup(1, "ada")
    yard.expire()
    assert not [name for name in yard.files() if generation in name]
    assert not list(yard.root.rglob(generation))


def test_a_mark_nobody_removed_blocks_for_a_day(yard: OfflineKeeper) -> None:
    """A run that was killed holds its generation up until its mark is old, and says so."""
    yard.writer.generation_length = 5 * DAY
    yard.backup(20, "ada")
    yard.backup(1, "ada")
    old = min(yard.repository.records())[0]
    yard.put(f"runs/{old}/20300101T000000Z-00000000", b"", days_ago=0.9)
    plan = yard.plan()
    assert list(plan.left_alone) == [old]
    assert "run 20300101T000000Z-00000000" in plan.left_alone[old]
    yard.execute(plan)
    assert [name for name in stored(yard) if f"segments/{old}" in name]
    yard.age(f"runs/{old}/20300101T000000Z-00000000", days_ago=1.1)
    yard.expire()
    assert not [name for name in stored(yard) if f"segments/{old}" in name]


def test_the_mark_of_a_run_that_ended_does_not_block(yard: OfflineKeeper) -> None:
    """On a store where a writer removes nothing every run leaves its mark: a record says that its run is over."""
    yard.backup(12, "ada", extra={SUPPORT: [b"once\n"]})
    name = yard.backup(0.5, "ada")
    record = yard.repository.record(name)
    yard.put(f"runs/{record.generation}/{record.run}", b"", days_ago=0.5)
    plan = yard.plan()
    assert not plan.left_alone
    assert [item for removal in plan.removals for item in removal.parts]
    done = yard.execute(plan)
    assert done.objects == sum(len(removal.items) for removal in plan.removals)


@pytest.mark.parametrize("when", ["planned", "removing"])
def test_a_run_under_way_blocks_its_generation(yard: OfflineKeeper, when: str) -> None:
    """What looks unneeded may be what the run is about to refer to; records go all the same."""
    yard.backup(20, "ada")
    yard.backup(1, "ada")
    old = min(yard.repository.records())[0]
    mark = f"runs/{old}/20300101T000000Z-00000000"
    if when == "planned":
        yard.put(mark, b"", days_ago=0)
    plan = yard.plan()
    yard.put(mark, b"", days_ago=0)
    before = {name for name in stored(yard) if name.startswith("segments/")}
    assert yard.execute(plan).snapshots == 1
    assert {name for name in stored(yard) if name.startswith("segments/")} == before


def test_a_snapshot_that_came_since_the_plan_blocks(yard: OfflineKeeper) -> None:
    """A run that began and ended in between may need what the plan thought nobody does."""
    yard.backup(20, "ada")
    generation = yard.repository.records()[0][0]
    plan = yard.plan()
    yard.backup(0, "ada")
    assert {place for place, _ in yard.repository.records()} == {generation}
    before = {name for name in stored(yard) if name.startswith(("segments/", "keyrings/"))}
    yard.execute(plan)
    assert {name for name in stored(yard) if name.startswith(("segments/", "keyrings/"))} == before
    trace = yard.keeper.trace
    assert isinstance(trace, Events)
    assert any(isinstance(one, Warned) for one in trace.seen)


def test_numbers_nobody_expects_are_confirmed_first(yard: OfflineKeeper) -> None:
    """More snapshots than usual go only when that very number is said."""
    for day in (50, 49, 48):
        yard.backup(day, "ada")
    yard.ruled(most_snapshots=2)
    before = yard.files()
    plan = yard.plan()
    for confirmed in (None, 2, 4):
        with pytest.raises(RefusedError, match="3 snapshots would be removed"):
            yard.execute(plan, confirmed)
    assert yard.files() == before
    assert yard.execute(plan, 3).snapshots == 3


@pytest.mark.parametrize("by", [30 * DAY, -30 * DAY, timedelta(minutes=6)])
def test_a_clock_that_differs_removes_nothing(yard: OfflineKeeper, by: timedelta) -> None:
    """Ahead or behind: the store's clock is asked first."""
    yard.backup(50, "ada")
    yard.backup(5, "ada")
    before = stored(yard)
    yard.clock.by = by
    with pytest.raises(RefusedError, match="clock of store 'disk'"):
        yard.execute(yard.plan())
    assert stored(yard) == before


def test_a_plan_made_under_another_clock_is_not_executed(yard: OfflineKeeper) -> None:
    """A clock that was set right since the plan does not make the plan right."""
    yard.backup(5, "ada")
    yard.clock.by = 30 * DAY
    plan = yard.plan()
    assert plan.expiring
    yard.clock.by = timedelta()
    before = stored(yard)
    with pytest.raises(RefusedError, match="plan"):
        yard.execute(plan)
    assert stored(yard) == before


def test_expiry_downloads_no_pack(yard: OfflineKeeper) -> None:
    """Records and clear headers of parts are all it reads, each once."""
    for day in (20, 15, 9, 6, 3, 1):
        yard.backup(day, "ada", "bob", "eve")
    read: Counter[str] = Counter()
    yard.store.before = lambda method, name: read.update([name]) if method == "get" else None
    yard.expire()
    assert not [name for name in read if name.endswith(".pack")]
    parts = {name: count for name, count in read.items() if name.endswith(".part")}
    assert parts
    assert set(parts.values()) == {1}
    read.clear()
    yard.expire()
    assert not [name for name in read if name.endswith((".part", ".pack"))]


@pytest.mark.parametrize("what", ["part", "keyring", "record"])
def test_damage_keeps_its_own_generation_only(yard: OfflineKeeper, what: str) -> None:
    """One object that cannot be believed stops nothing but what it might be about, and is told."""
    yard.writer.generation_length = 5 * DAY
    yard.backup(21, "ada")
    yard.backup(20, "ada")
    yard.backup(9, "bob")
    hurt = yard.repository.records()[-1][0]
    yard.put(f"segments/{hurt}/{'a' * 32}/{'b' * 64}.pack", b"orphan", days_ago=5)
    folder = {"part": "segments", "keyring": "keyrings", "record": "snapshots"}[what]
    endings = {"part": ".part", "keyring": ".keyring", "record": ""}[what]
    victim = next(n for n in sorted(stored(yard)) if n.startswith(f"{folder}/{hurt}/") and n.endswith(endings))
    path = yard.root / victim
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    plan = yard.plan()
    assert list(plan.left_alone) == [hurt]
    done = yard.execute(plan)
    assert done.snapshots == 2
    left = {layout.place_of(ObjectName(name)).generation for name in stored(yard)}
    assert left - {None} == {hurt}
    assert f"segments/{hurt}/{'a' * 32}/{'b' * 64}.pack" in stored(yard)


def test_what_was_removed_is_listed_again(yard: OfflineKeeper) -> None:
    """`expired` is written only when nothing of it shows any more, be it record, part, pack or leftover."""
    yard.writer.generation_length = 5 * DAY
    yard.backup(20, "ada")
    yard.backup(1, "ada")
    inner = yard.store.inner
    remove = inner.remove

    def lazy(name: ObjectName) -> None:
        if not name.endswith(".pack"):
            remove(name)

    inner.remove = lazy  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="still listed"):
        yard.expire()
    assert not events(yard, Expired)
    inner.remove = remove  # type: ignore[method-assign]
    yard.expire()
    assert events(yard, Expired)


def test_a_removal_that_takes_long_keeps_its_mark_young(yard: OfflineKeeper) -> None:
    """A run waits for a keeper's mark for an hour only: no object is removed under an older one."""
    yard.backup(20, *(f"t{number}" for number in range(6)))
    yard.backup(1, "ada")
    marked: list[datetime] = []
    under: list[timedelta] = []

    def before(method: str, name: str) -> None:
        if method == "put_new" and name.endswith("/keeper"):
            marked.append(yard.clock.now())
        if method == "remove" and name.startswith(("segments/", "keyrings/")):
            under.append(yard.clock.now() - marked[-1])
            yard.clock.by += timedelta(minutes=11)

    yard.store.before = before
    yard.expire()
    assert len(under) * timedelta(minutes=11) > 2 * timedelta(hours=1)
    assert max(under) < timedelta(hours=1)
    assert yard.plan().removals == ()


def test_a_class_has_an_age_of_its_own(yard: OfflineKeeper) -> None:
    """Parts of the class go when only old snapshots need them; the ledger says so, and nothing else goes."""
    for day in (9, 8, 7):
        yard.backup(day, "ada", extra={SUPPORT: [b"asked\n", f"{day}\n".encode()]})
    yard.ruled(max_ages={"support": 7.5 * DAY})
    before = stored(yard)
    plan = yard.plan()
    assert not plan.expiring
    yard.execute(plan)
    gone = before - stored(yard)
    # The newest part needs the packs of the older ones: their parts alone go, and the row that was only in them.
    assert {yard.owners[name.split("/")[2]] for name in gone} == {SUPPORT}
    (told,) = events(yard, ClassExpired)
    assert isinstance(told, ClassExpired)
    assert told.class_tag == yard.keeper.tags.class_tag(told.generation, "support")
    assert sum(name.endswith(".part") for name in gone) == 2
    assert any(name.endswith(".pack") for name in gone)


def test_phases_that_begin_end(yard: OfflineKeeper) -> None:
    """Also where there is nothing to do."""
    yard.expire()
    trace = yard.keeper.trace
    assert isinstance(trace, Events)
    kinds = [type(one) for one in trace.seen]
    assert kinds.count(PhaseStarted) == kinds.count(PhaseDone)


def test_nothing_is_kept_below_the_rules(yard: OfflineKeeper, tmp_path: Path) -> None:
    """Backups that stopped do not stop expiry: the last snapshot goes, too."""
    yard.backup(11, "ada")
    assert KEEP < 11 * DAY
    assert yard.expire().snapshots == 1
    assert {name.split("/")[0] for name in stored(yard)} == {"repository.json"}


def hide(yard: OfflineKeeper, name: str) -> str:
    """What a writer's key allows where removing is forbidden: a rename into the folder that a keeper clears."""
    hidden = f"tmp/{'0f' * 16}"
    (yard.root / "tmp").mkdir(exist_ok=True)
    (yard.root / name).rename(yard.root / hidden)
    return hidden


@pytest.mark.parametrize("kind", ["snapshots/", ".part", ".pack", ".keyring"])
def test_what_a_thief_hid_is_not_cleared_away(yard: OfflineKeeper, kind: str) -> None:
    """A record, part, pack or keyring moved into tmp/ is missed, and until it is back nothing of it is removed."""
    for day in (4, 3):
        yard.backup(day, "ada", "bob", extra={SUPPORT: [bytes([day]) * 3_000_000]})
    yard.expire()
    (victim, *_) = sorted(name for name in stored(yard) if kind in name)
    hidden = hide(yard, victim)
    before = stored(yard)
    yard.clock.by = timedelta()
    if kind == "snapshots/":
        with pytest.raises(DamageError, match="is gone, and the ledger knows of no expiry"):
            yard.plan()
    else:
        plan = yard.plan()
        assert (plan.uploads, plan.removals) == ((), ())
        assert len(plan.left_alone) == 1
        yard.execute(plan)
    assert stored(yard) == before
    (yard.root / hidden).rename(yard.root / victim)
    assert yard.plan().left_alone == {}
