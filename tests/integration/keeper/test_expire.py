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


def events(offline: OfflineKeeper, kind: type) -> list[object]:
    return [event for entry in offline.keeper.book.chain.entries() for event in entry.events if isinstance(event, kind)]


def stored(offline: OfflineKeeper) -> set[str]:
    """All but what a keeper writes itself."""
    return {name for name in offline.files() if not name.startswith("ledger/")}


def planned(offline: OfflineKeeper) -> set[str]:
    plan = offline.plan()
    items = [item for removal in plan.removals for item in removal.items]
    records = {layout.record_name(offline.repository.generation_of(name), name) for name in plan.expiring}
    return {item.name for item in [*items, *plan.uploads]} | records


def test_what_is_planned_is_what_is_done(offline: OfflineKeeper) -> None:
    """A dry run changes not a byte, and its plan is executed to the name."""
    for day in (50, 30, 20, 8, 1):
        offline.backup(day, "ada", "bob")
    before = offline.files()
    names = planned(offline)
    assert offline.files() == before
    done = offline.expire()
    after = offline.files()
    assert {name for name in before if name not in after} == names
    assert {name: after[name] for name in before if name in after}.items() <= before.items()
    assert (done.snapshots, done.objects) == (3, len(names) - 3)
    assert [type(event) for entry in offline.keeper.book.chain.entries() for event in entry.events] == [
        ExpiryBegan,
        Expired,
    ]
    assert planned(offline) == set()
    assert offline.expire() == Expired(store="disk", snapshots=0, objects=0, bytes=0)


def test_records_go_first_and_packs_last(offline: OfflineKeeper) -> None:
    """The order of FORMAT.md's invariants, backwards; and the intent is written before anything goes."""
    offline.backup(50, "ada", "bob")
    offline.backup(40, "ada", "bob")
    offline.backup(1, "ada", "bob")
    told: list[tuple[str, str]] = []
    offline.store.before = lambda method, name: told.append((method, name))
    offline.expire()
    kinds = [layout.place_of(ObjectName(name)).kind.value for method, name in told if method == "remove"]
    order = [kind for kind in kinds if kind in ("record", "part", "keyring", "pack")]
    assert order == sorted(order, key=["record", "part", "keyring", "pack"].index)
    assert set(order) == {"record", "part", "keyring", "pack"}
    intent = next(at for at, (method, name) in enumerate(told) if method == "put_new" and name.startswith("ledger/"))
    assert intent < next(at for at, (method, name) in enumerate(told) if method == "remove" and "snapshots/" in name)


def test_orphans_and_leftovers_go_after_their_grace_only(offline: OfflineKeeper) -> None:
    """What a failed run left may be what the next one refers to, for two days; then it goes."""
    offline.backup(4, "ada")
    now = datetime.now(UTC)
    offline.begin(now - 3 * DAY, {segment("uploaded", "bob"): [b"orphan\n"]}, stages=2)
    offline.begin(now - 1 * DAY, {segment("uploaded", "eve"): [b"young\n"]}, stages=2)
    offline.put("tmp/" + "0" * 32, b"cut off", days_ago=3)
    offline.put("tmp/" + "1" * 32, b"under way", days_ago=1)
    before = stored(offline)
    offline.expire()
    gone = before - stored(offline)
    assert sorted(name.split("/")[0] for name in gone) == ["segments", "tmp"]
    pack = next(name for name in gone if name.startswith("segments/"))
    assert offline.owners[pack.split("/")[2]].tenant == "bob"
    assert "tmp/" + "0" * 32 in gone


def test_a_generation_goes_whole_with_its_last_record(offline: OfflineKeeper) -> None:
    """No folder of it is left, its keyrings neither."""
    name = offline.backup(60, "ada", "bob")
    generation = offline.repository.generation_of(name)
    offline.backup(1, "ada")
    offline.expire()
    assert not [name for name in offline.files() if generation in name]
    assert not list(offline.root.rglob(generation))


def test_a_mark_nobody_removed_blocks_for_a_day(offline: OfflineKeeper) -> None:
    """A run that was killed holds its generation up until its mark is old, and says so."""
    offline.writer.generation_length = 5 * DAY
    offline.backup(20, "ada")
    offline.backup(1, "ada")
    old = min(offline.repository.records())[0]
    offline.put(f"runs/{old}/20300101T000000Z-00000000", b"", days_ago=0.9)
    plan = offline.plan()
    assert list(plan.left_alone) == [old]
    assert "run 20300101T000000Z-00000000" in plan.left_alone[old]
    offline.execute(plan)
    assert [name for name in stored(offline) if f"segments/{old}" in name]
    offline.age(f"runs/{old}/20300101T000000Z-00000000", days_ago=1.1)
    offline.expire()
    assert not [name for name in stored(offline) if f"segments/{old}" in name]


def test_the_mark_of_a_run_that_ended_does_not_block(offline: OfflineKeeper) -> None:
    """On a store where a writer removes nothing every run leaves its mark: a record says that its run is over."""
    offline.backup(12, "ada", extra={SUPPORT: [b"once\n"]})
    name = offline.backup(0.5, "ada")
    record = offline.repository.record(name)
    offline.put(f"runs/{record.generation}/{record.run}", b"", days_ago=0.5)
    plan = offline.plan()
    assert not plan.left_alone
    assert [item for removal in plan.removals for item in removal.parts]
    done = offline.execute(plan)
    assert done.objects == sum(len(removal.items) for removal in plan.removals)


@pytest.mark.parametrize("when", ["planned", "removing"])
def test_a_run_under_way_blocks_its_generation(offline: OfflineKeeper, when: str) -> None:
    """What looks unneeded may be what the run is about to refer to; records go all the same."""
    offline.backup(20, "ada")
    offline.backup(1, "ada")
    old = min(offline.repository.records())[0]
    mark = f"runs/{old}/20300101T000000Z-00000000"
    if when == "planned":
        offline.put(mark, b"", days_ago=0)
    plan = offline.plan()
    offline.put(mark, b"", days_ago=0)
    before = {name for name in stored(offline) if name.startswith("segments/")}
    assert offline.execute(plan).snapshots == 1
    assert {name for name in stored(offline) if name.startswith("segments/")} == before


def test_a_snapshot_that_came_since_the_plan_blocks(offline: OfflineKeeper) -> None:
    """A run that began and ended in between may need what the plan thought nobody does."""
    offline.backup(20, "ada")
    generation = offline.repository.records()[0][0]
    plan = offline.plan()
    offline.backup(0, "ada")
    assert {place for place, _ in offline.repository.records()} == {generation}
    before = {name for name in stored(offline) if name.startswith(("segments/", "keyrings/"))}
    offline.execute(plan)
    assert {name for name in stored(offline) if name.startswith(("segments/", "keyrings/"))} == before
    trace = offline.keeper.trace
    assert isinstance(trace, Events)
    assert any(isinstance(one, Warned) for one in trace.seen)


def test_numbers_nobody_expects_are_confirmed_first(offline: OfflineKeeper) -> None:
    """More snapshots than usual go only when that very number is said."""
    for day in (50, 49, 48):
        offline.backup(day, "ada")
    offline.ruled(most_snapshots=2)
    before = offline.files()
    plan = offline.plan()
    for confirmed in (None, 2, 4):
        with pytest.raises(RefusedError, match="3 snapshots would be removed"):
            offline.execute(plan, confirmed)
    assert offline.files() == before
    assert offline.execute(plan, 3).snapshots == 3


@pytest.mark.parametrize("by", [30 * DAY, -30 * DAY, timedelta(minutes=6)])
def test_a_clock_that_differs_removes_nothing(offline: OfflineKeeper, by: timedelta) -> None:
    """Ahead or behind: the store's clock is asked first."""
    offline.backup(50, "ada")
    offline.backup(5, "ada")
    before = stored(offline)
    offline.clock.by = by
    with pytest.raises(RefusedError, match="clock of store 'disk'"):
        offline.execute(offline.plan())
    assert stored(offline) == before


def test_a_plan_made_under_another_clock_is_not_executed(offline: OfflineKeeper) -> None:
    """A clock that was set right since the plan does not make the plan right."""
    offline.backup(5, "ada")
    offline.clock.by = 30 * DAY
    plan = offline.plan()
    assert plan.expiring
    offline.clock.by = timedelta()
    before = stored(offline)
    with pytest.raises(RefusedError, match="plan"):
        offline.execute(plan)
    assert stored(offline) == before


def test_expiry_downloads_no_pack(offline: OfflineKeeper) -> None:
    """Records and clear headers of parts are all it reads, each once."""
    for day in (20, 15, 9, 6, 3, 1):
        offline.backup(day, "ada", "bob", "eve")
    read: Counter[str] = Counter()
    offline.store.before = lambda method, name: read.update([name]) if method == "get" else None
    offline.expire()
    assert not [name for name in read if name.endswith(".pack")]
    parts = {name: count for name, count in read.items() if name.endswith(".part")}
    assert parts
    assert set(parts.values()) == {1}
    read.clear()
    offline.expire()
    assert not [name for name in read if name.endswith((".part", ".pack"))]


@pytest.mark.parametrize("what", ["part", "keyring", "record"])
def test_damage_keeps_its_own_generation_only(offline: OfflineKeeper, what: str) -> None:
    """One object that cannot be believed stops nothing but what it might be about, and is told."""
    offline.writer.generation_length = 5 * DAY
    offline.backup(21, "ada")
    offline.backup(20, "ada")
    offline.backup(9, "bob")
    hurt = offline.repository.records()[-1][0]
    offline.put(f"segments/{hurt}/{'a' * 32}/{'b' * 64}.pack", b"orphan", days_ago=5)
    folder = {"part": "segments", "keyring": "keyrings", "record": "snapshots"}[what]
    endings = {"part": ".part", "keyring": ".keyring", "record": ""}[what]
    victim = next(n for n in sorted(stored(offline)) if n.startswith(f"{folder}/{hurt}/") and n.endswith(endings))
    path = offline.root / victim
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    plan = offline.plan()
    assert list(plan.left_alone) == [hurt]
    done = offline.execute(plan)
    assert done.snapshots == 2
    left = {layout.place_of(ObjectName(name)).generation for name in stored(offline)}
    assert left - {None} == {hurt}
    assert f"segments/{hurt}/{'a' * 32}/{'b' * 64}.pack" in stored(offline)


def test_what_was_removed_is_listed_again(offline: OfflineKeeper) -> None:
    """`expired` is written only when nothing of it shows any more, be it record, part, pack or leftover."""
    offline.writer.generation_length = 5 * DAY
    offline.backup(20, "ada")
    offline.backup(1, "ada")
    inner = offline.store.inner
    remove = inner.remove

    def lazy(name: ObjectName) -> None:
        if not name.endswith(".pack"):
            remove(name)

    inner.remove = lazy  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="still listed"):
        offline.expire()
    assert not events(offline, Expired)
    inner.remove = remove  # type: ignore[method-assign]
    offline.expire()
    assert events(offline, Expired)


def test_a_removal_that_takes_long_keeps_its_mark_young(offline: OfflineKeeper) -> None:
    """A run waits for a keeper's mark for an hour only: no object is removed under an older one."""
    offline.backup(20, *(f"t{number}" for number in range(6)))
    offline.backup(1, "ada")
    marked: list[datetime] = []
    under: list[timedelta] = []

    def before(method: str, name: str) -> None:
        if method == "put_new" and name.endswith("/keeper"):
            marked.append(offline.clock.now())
        if method == "remove" and name.startswith(("segments/", "keyrings/")):
            under.append(offline.clock.now() - marked[-1])
            offline.clock.by += timedelta(minutes=11)

    offline.store.before = before
    offline.expire()
    assert len(under) * timedelta(minutes=11) > 2 * timedelta(hours=1)
    assert max(under) < timedelta(hours=1)
    assert offline.plan().removals == ()


def test_a_class_has_an_age_of_its_own(offline: OfflineKeeper) -> None:
    """Parts of the class go when only old snapshots need them; the ledger says so, and nothing else goes."""
    for day in (9, 8, 7):
        offline.backup(day, "ada", extra={SUPPORT: [b"asked\n", f"{day}\n".encode()]})
    offline.ruled(max_ages={"support": 7.5 * DAY})
    before = stored(offline)
    plan = offline.plan()
    assert not plan.expiring
    offline.execute(plan)
    gone = before - stored(offline)
    # The newest part needs the packs of the older ones: their parts alone go, and the row that was only in them.
    assert {offline.owners[name.split("/")[2]] for name in gone} == {SUPPORT}
    (told,) = events(offline, ClassExpired)
    assert isinstance(told, ClassExpired)
    assert told.class_tag == offline.keeper.tags.class_tag(told.generation, "support")
    assert sum(name.endswith(".part") for name in gone) == 2
    assert any(name.endswith(".pack") for name in gone)


def test_phases_that_begin_end(offline: OfflineKeeper) -> None:
    """Also where there is nothing to do."""
    offline.expire()
    trace = offline.keeper.trace
    assert isinstance(trace, Events)
    kinds = [type(one) for one in trace.seen]
    assert kinds.count(PhaseStarted) == kinds.count(PhaseDone)


def test_nothing_is_kept_below_the_rules(offline: OfflineKeeper, tmp_path: Path) -> None:
    """Backups that stopped do not stop expiry: the last snapshot goes, too."""
    offline.backup(11, "ada")
    assert KEEP < 11 * DAY
    assert offline.expire().snapshots == 1
    assert {name.split("/")[0] for name in stored(offline)} == {"repository.json"}


def hide(offline: OfflineKeeper, name: str) -> str:
    """What a writer's key allows where removing is forbidden: a rename into the folder that a keeper clears."""
    hidden = f"tmp/{'0f' * 16}"
    (offline.root / "tmp").mkdir(exist_ok=True)
    (offline.root / name).rename(offline.root / hidden)
    return hidden


@pytest.mark.parametrize("kind", ["snapshots/", ".part", ".pack", ".keyring"])
def test_what_a_thief_hid_is_not_cleared_away(offline: OfflineKeeper, kind: str) -> None:
    """A record, part, pack or keyring moved into tmp/ is missed, and until it is back nothing of it is removed."""
    for day in (4, 3):
        offline.backup(day, "ada", "bob", extra={SUPPORT: [bytes([day]) * 3_000_000]})
    offline.expire()
    (victim, *_) = sorted(name for name in stored(offline) if kind in name)
    hidden = hide(offline, victim)
    before = stored(offline)
    offline.clock.by = timedelta()
    if kind == "snapshots/":
        with pytest.raises(DamageError, match="is gone, and the ledger knows of no expiry"):
            offline.plan()
    else:
        plan = offline.plan()
        assert (plan.uploads, plan.removals) == ((), ())
        assert len(plan.left_alone) == 1
        offline.execute(plan)
    assert stored(offline) == before
    (offline.root / hidden).rename(offline.root / victim)
    assert offline.plan().left_alone == {}
