"""Snapshots expire on real files: what was planned goes, in the right order, and nothing else."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from doubles.stores.faulty_store import FaultyStore
from fix_handmade_keeper import DAY, KEEP, HandmadeKeeper, make_handmade_keeper, named, notes
from msgspec.structs import replace

from backupd.errors import DamageError, RefusedError, StoreError
from backupd.model.documents import MARK, PackRef, mark_text
from backupd.model.ids import GenerationId, ObjectName, SnapshotName
from backupd.model.ledger import ClassExpired, Expired, ExpiryBegan
from backupd.repository import layout
from backupd.trace import PhaseDone, PhaseStarted, Warned

SUPPORT = named("ada", "support")


def stored(handmade: HandmadeKeeper) -> set[str]:
    """All but what a keeper writes itself."""
    return {name for name in handmade.files() if not name.startswith("ledger/")}


def planned(handmade: HandmadeKeeper) -> set[str]:
    plan = handmade.plan()
    items = [item for removal in plan.removals for item in removal.items]
    records = {layout.record_name(handmade.repository.generation_of(name), name) for name in plan.expiring}
    return {item.name for item in [*items, *plan.uploads]} | records


def test_what_is_planned_is_what_is_done(handmade: HandmadeKeeper) -> None:
    """A dry run changes not a byte, and its plan is executed to the name."""
    for day in (50, 30, 20, 8, 1):
        handmade.backup(day, "ada", "bob")
    before, sections = handmade.files(), handmade.sections()
    names = planned(handmade)
    anew = {step.item.name for removal in handmade.plan().removals for step in removal.rewrites}
    assert handmade.files() == before
    done = handmade.expire()
    after = handmade.files()
    assert {name for name in before if name not in after} == names
    assert {name for name in after if name in before and after[name] != before[name]} == anew
    assert (done.snapshots, done.objects) == (3, len(names) - 3 + len(anew))
    assert handmade.sections().items() <= sections.items()
    assert any(name.startswith("packs/") for name in names)
    assert any(name.startswith("keyrings/") for name in names)
    assert [type(event) for entry in handmade.keeper.book.chain.entries() for event in entry.events] == [
        ExpiryBegan,
        Expired,
    ]
    assert planned(handmade) == set()
    assert handmade.expire() == Expired(store="disk", snapshots=0, objects=0, bytes=0)


def test_records_go_first_and_keyrings_last(handmade: HandmadeKeeper) -> None:
    """The order of FORMAT.md's invariants, backwards; and the intent is written before anything goes."""
    handmade.backup(50, "ada", "bob")
    handmade.backup(40, "ada", "bob")
    handmade.backup(1, "ada", "bob")
    told: list[tuple[str, str]] = []
    handmade.store.before = lambda method, name: told.append((method, name))
    handmade.expire()
    kinds = [layout.place_of(ObjectName(name)).kind.value for method, name in told if method == "remove"]
    order = [kind for kind in kinds if kind in ("record", "pack", "keyring")]
    assert order == sorted(order, key=["record", "pack", "keyring"].index)
    assert set(order) == {"record", "pack", "keyring"}
    intent = next(at for at, (method, name) in enumerate(told) if method == "put_new" and name.startswith("ledger/"))
    assert intent < next(at for at, (method, name) in enumerate(told) if method == "remove" and "snapshots/" in name)


def test_orphans_and_leftovers_go_after_their_grace_only(handmade: HandmadeKeeper) -> None:
    """What a failed run left may be what the next one refers to, for two days, and for a week while such runs go on."""
    handmade.backup(9, "ada")
    handmade.orphan(8, "bob")
    handmade.orphan(3, "dan")
    handmade.orphan(1, "eve")
    lost = {pack for pack, segment, _ in handmade.sections() if segment == handmade.pseudonym("bob")}
    handmade.put("tmp/" + "0" * 32, b"cut off", days_ago=3)
    handmade.put("tmp/" + "1" * 32, b"under way", days_ago=1)
    before = stored(handmade)
    handmade.expire()
    gone = before - stored(handmade)
    assert {name.split("/")[0] for name in gone} == {"packs", "keyrings", "tmp"}
    assert {name for name in gone if name.startswith("packs/")} == lost
    assert len([name for name in gone if name.startswith("keyrings/")]) == 1
    assert {name for name in gone if name.startswith("tmp/")} == {"tmp/" + "0" * 32}


def test_a_generation_goes_whole_with_its_last_record(handmade: HandmadeKeeper) -> None:
    """No folder of it is left, its keyrings neither."""
    name = handmade.backup(60, "ada", "bob")
    generation = handmade.repository.generation_of(name)
    handmade.made.start_generation()
    handmade.backup(1, "ada")
    handmade.expire()
    assert not [name for name in handmade.files() if generation in name]
    assert not list(handmade.root.rglob(generation))


def test_a_mark_nobody_removed_blocks_for_a_day(handmade: HandmadeKeeper) -> None:
    """A run that was killed holds its generation up until its mark is old, and says so."""
    handmade.backup(20, "ada")
    handmade.made.start_generation()
    handmade.backup(1, "ada")
    old = min(handmade.repository.records())[0]
    handmade.put(f"runs/{old}/20300101T000000Z-00000000", b"", days_ago=0.9)
    plan = handmade.plan()
    assert list(plan.left_alone) == [old]
    assert "run 20300101T000000Z-00000000" in plan.left_alone[old]
    handmade.execute(plan)
    assert [name for name in stored(handmade) if f"packs/{old}" in name]
    handmade.age(f"runs/{old}/20300101T000000Z-00000000", days_ago=1.1)
    handmade.expire()
    assert not [name for name in stored(handmade) if f"packs/{old}" in name]


def test_the_mark_of_a_run_that_ended_does_not_block(handmade: HandmadeKeeper) -> None:
    """On a store where a writer removes nothing every run leaves its mark: its record says that it is over, and nobody
    else can, though the mark shows its name.
    """
    handmade.backup(12, "ada", extra={SUPPORT: notes("once")})
    name = handmade.backup(0.5, "ada")
    record = handmade.repository.record(name)
    mark = f"runs/{record.generation}/{record.run}"
    for text in ("", record.run, mark_text("a secret"), "a secret"):
        handmade.put(mark, text.encode(), days_ago=0.5)
        false = replace(record, extra={MARK: "another"})
        handmade.made.publish(false)
        assert f"run {record.run}" in handmade.plan().left_alone[record.generation]
    handmade.put(mark, mark_text("a secret").encode(), days_ago=0.5)
    handmade.made.publish(replace(record, extra={MARK: "a secret"}))
    plan = handmade.plan()
    assert not plan.left_alone
    assert [item for removal in plan.removals for item in removal.packs]
    done = handmade.execute(plan)
    assert done.objects == sum(len(removal.steps) for removal in plan.removals)


@pytest.mark.parametrize("when", ["planned", "removing"])
def test_a_run_under_way_blocks_its_generation(handmade: HandmadeKeeper, when: str) -> None:
    """What looks unneeded may be what the run is about to refer to; records go all the same."""
    handmade.backup(20, "ada")
    handmade.backup(1, "ada")
    old = min(handmade.repository.records())[0]
    mark = f"runs/{old}/20300101T000000Z-00000000"
    if when == "planned":
        handmade.put(mark, b"", days_ago=0)
    plan = handmade.plan()
    handmade.put(mark, b"", days_ago=0)
    before = {name for name in stored(handmade) if name.startswith("packs/")}
    assert handmade.execute(plan).snapshots == 1
    assert {name for name in stored(handmade) if name.startswith("packs/")} == before


def test_a_snapshot_that_came_since_the_plan_blocks(handmade: HandmadeKeeper) -> None:
    """A run that began and ended in between may need what the plan thought nobody does."""
    handmade.backup(20, "ada")
    generation = handmade.repository.records()[0][0]
    plan = handmade.plan()
    handmade.backup(0, "ada")
    assert {place for place, _ in handmade.repository.records()} == {generation}
    before = {name for name in stored(handmade) if name.startswith(("packs/", "keyrings/"))}
    handmade.execute(plan)
    assert {name for name in stored(handmade) if name.startswith(("packs/", "keyrings/"))} == before
    trace = handmade.trace
    assert any(isinstance(one, Warned) for one in trace.seen)


def test_numbers_nobody_expects_are_confirmed_first(handmade: HandmadeKeeper) -> None:
    """More snapshots than usual go only when that very number is said."""
    for day in (50, 49, 48):
        handmade.backup(day, "ada")
    handmade.ruled(most_snapshots=2)
    before = handmade.files()
    plan = handmade.plan()
    for confirmed in (None, 2, 4):
        with pytest.raises(RefusedError, match="3 snapshots would be removed"):
            handmade.execute(plan, confirmed)
    assert handmade.files() == before
    assert handmade.execute(plan, 3).snapshots == 3


@pytest.mark.parametrize("by", [30 * DAY, -30 * DAY, timedelta(minutes=6)])
def test_a_clock_that_differs_removes_nothing(handmade: HandmadeKeeper, by: timedelta) -> None:
    """Ahead or behind: the store's clock is asked first."""
    handmade.backup(50, "ada")
    handmade.backup(5, "ada")
    before = stored(handmade)
    handmade.clock.by = by
    with pytest.raises(RefusedError, match="clock of store 'disk'"):
        handmade.execute(handmade.plan())
    assert stored(handmade) == before


def test_a_plan_made_under_another_clock_is_not_executed(handmade: HandmadeKeeper) -> None:
    """A clock that was set right since the plan does not make the plan right."""
    handmade.backup(5, "ada")
    handmade.clock.by = 30 * DAY
    plan = handmade.plan()
    assert plan.expiring
    handmade.clock.by = timedelta()
    before = stored(handmade)
    with pytest.raises(RefusedError, match="plan"):
        handmade.execute(plan)
    assert stored(handmade) == before


def test_expiry_reads_headers_once(handmade: HandmadeKeeper) -> None:
    """Records and clear headers of packs are all it reads; those of packs that go a second time, right before."""
    for day in (20, 15, 9, 6, 3, 1):
        handmade.backup(day, "ada", "bob", "eve")
    read: Counter[str] = Counter()
    handmade.store.before = lambda method, name: read.update([name]) if method == "get" else None
    handmade.expire()
    anew = {name for name in handmade.store.put if name.endswith(".pack")}
    packs = {name: count for name, count in read.items() if name.endswith(".pack") and name not in anew}
    there = set(handmade.files())
    assert {count for name, count in packs.items() if name in there} == {1}
    assert {count for name, count in packs.items() if name not in there} == {2}
    read.clear()
    handmade.expire()
    assert {name for name in read if name.endswith(".pack")} <= anew


@pytest.mark.parametrize("what", ["pack", "keyring", "record"])
def test_damage_keeps_its_own_generation_only(handmade: HandmadeKeeper, what: str) -> None:
    """One object that cannot be believed stops nothing but what it might be about, and is told."""
    handmade.backup(21, "ada")
    handmade.backup(20, "ada")
    handmade.made.start_generation()
    handmade.backup(9, "bob")
    handmade.orphan(5, "eve")
    orphan = next(pack for pack, segment, _ in handmade.sections() if segment == handmade.pseudonym("eve"))
    hurt = handmade.repository.records()[-1][0]
    folder = {"pack": "packs", "keyring": "keyrings", "record": "snapshots"}[what]
    needed = {sha256 for name in handmade.repository.records()[-1:] for sha256, *_ in _packs_of(handmade, *name)}
    (victim, *_) = (name for name in handmade.names(f"{folder}/{hurt}") if what != "pack" or name[-69:-5] in needed)
    path = handmade.root / victim
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 if what != "pack" else 60] ^= 1
    path.write_bytes(data)
    plan = handmade.plan()
    assert list(plan.left_alone) == [hurt]
    done = handmade.execute(plan)
    assert done.snapshots == 2
    left = {layout.place_of(ObjectName(name)).generation for name in stored(handmade)}
    assert left - {None} == {hurt}
    assert orphan in stored(handmade)


def _packs_of(handmade: HandmadeKeeper, generation: GenerationId, name: SnapshotName) -> list[PackRef]:
    return handmade.repository.record(name, generation).packs


def test_what_was_removed_is_listed_again(handmade: HandmadeKeeper) -> None:
    """`expired` is written only when nothing of it shows any more, be it record, pack, keyring or leftover."""
    handmade.backup(20, "ada")
    handmade.made.start_generation()
    handmade.backup(1, "ada")
    inner = handmade.store.inner
    remove = inner.remove

    def lazy(name: ObjectName) -> None:
        if not name.endswith(".pack"):
            remove(name)

    inner.remove = lazy
    with pytest.raises(StoreError, match="still listed"):
        handmade.expire()
    assert not handmade.events(Expired)
    inner.remove = remove
    handmade.expire()
    assert handmade.events(Expired)


def test_a_removal_that_takes_long_keeps_its_mark_young(handmade: HandmadeKeeper) -> None:
    """A run waits for a keeper's mark for an hour only: no object is removed under an older one."""
    for number in range(6):
        handmade.backup(20 + number, f"t{number}")
    handmade.backup(1, "ada")
    marked: list[datetime] = []
    under: list[timedelta] = []

    def before(method: str, name: str) -> None:
        if method == "put_new" and name.endswith("/keeper"):
            marked.append(handmade.clock.now())
        if method == "remove" and name.startswith(("packs/", "keyrings/")):
            under.append(handmade.clock.now() - marked[-1])
            handmade.clock.by += timedelta(minutes=11)

    handmade.store.before = before
    handmade.expire()
    assert len(under) * timedelta(minutes=11) > 2 * timedelta(hours=1)
    assert max(under) < timedelta(hours=1)
    assert handmade.plan().removals == ()


def test_a_class_has_an_age_of_its_own(handmade: HandmadeKeeper) -> None:
    """Sections of the class go when only old snapshots need them; the ledger says so, and nothing else goes."""
    names = [handmade.backup(day, "ada", extra={SUPPORT: notes("asked", f"{day}")}) for day in (9, 8, 7)]
    handmade.ruled(max_ages={"support": 7.5 * DAY})
    before, files = handmade.sections(), stored(handmade)
    plan = handmade.plan()
    assert not plan.expiring
    assert plan.rewrites
    done = handmade.execute(plan)
    gone = {key: data for key, data in before.items() if key not in handmade.sections()}
    assert gone
    assert {segment for _, segment, _ in gone} == {handmade.pseudonym("ada", "support")}
    assert done.bytes == sum(map(len, gone.values()))
    assert stored(handmade) == files
    (told,) = handmade.events(ClassExpired)
    assert told.class_tag == handmade.keeper.tags.class_tag(told.generation, "support")
    newest = handmade.repository.sections(handmade.repository.record(names[-1]))
    assert all(section.is_there for section in newest.sections.values())
    assert not handmade.plan().rewrites
    assert not handmade.plan().left_alone


def test_a_pack_is_put_anew_when_most_of_it_is_waste(handmade: HandmadeKeeper) -> None:
    """Not before; what stays, stays to the byte."""
    once = {named(f"once{number}"): notes("x" * 50) for number in range(4)}
    handmade.backup(30, "ada", extra=once, once=False)
    handmade.backup(9, "ada", extra=dict(list(once.items())[:3]), once=False)
    before, packs = handmade.sections(), handmade.names("packs")
    handmade.expire()
    assert handmade.sections() == before
    handmade.backup(5, "ada", once=False)
    handmade.clock.by = 2 * DAY
    handmade.ruled(clock_tolerance=5 * DAY)
    plan = handmade.plan()
    assert plan.rewrites
    handmade.execute(plan)
    gone = {key: data for key, data in before.items() if key not in handmade.sections()}
    assert {segment for _, segment, _ in gone} == {handmade.made.pseudonym(one) for one in once}
    assert before.items() >= {key: handmade.sections()[key] for key in before.keys() - gone.keys()}.items()
    assert set(packs) <= set(handmade.names("packs"))


@pytest.mark.parametrize("after", [False, True])
def test_it_may_be_killed_at_every_step(tmp_path: Path, after: bool) -> None:
    """What the records there need is there at each instant, and a later run ends it."""
    for at in itertools.count(1):
        (tmp_path / str(at)).mkdir()
        handmade = make_handmade_keeper(tmp_path / str(at))
        handmade.backup(30, "ada", "bob", extra={SUPPORT: notes("asked")}, once=False)
        handmade.backup(9, "ada", extra={SUPPORT: notes("asked")}, once=False)
        handmade.ruled(max_ages={"support": 5 * DAY})
        faulty = FaultyStore(handmade.store.inner, at, after=after)
        handmade.through(faulty)
        try:
            handmade.keeper.book.sync()
            handmade.expire()
            done = len(faulty.calls) < at
        except StoreError:
            done = False
        asked = handmade.pseudonym("ada", "support")
        for name in handmade.made.repository.snapshots():
            needed = handmade.made.repository.sections(handmade.made.repository.record(name))
            assert all(one.is_there or one.row.segment == asked for one in needed.sections.values())
        handmade.through(handmade.store)
        handmade.keeper.book.sync()
        for mark in handmade.names("runs"):
            handmade.age(mark, 1)
        handmade.expire()
        handmade.clock.by = 3 * DAY  # what was changed now is younger than any run before
        handmade.ruled(clock_tolerance=9 * DAY)
        handmade.expire()
        assert not {key for key in handmade.sections() if key[1] in (asked, handmade.pseudonym("bob"))}
        assert handmade.plan().left_alone == {}
        shutil.rmtree(handmade.folder)
        if done:
            break
    assert at > 30


def test_taking_out_makes_no_pack_younger(handmade: HandmadeKeeper) -> None:
    """A tenant purged each day must not keep alive what others have in the same packs."""
    handmade.backup(9, "ada", "bob", extra={SUPPORT: notes("asked")})
    handmade.backup(1, "ada")
    handmade.expire()
    handmade.erase("bob")
    handmade.purge("bob")
    assert any(
        handmade.repository.store.stat(name).modified > datetime.now(UTC) - DAY for name in handmade.names("packs")
    )
    handmade.ruled(max_ages={"support": 7 * DAY})
    handmade.expire()
    assert not {key for key in handmade.sections() if key[1] == handmade.pseudonym("ada", "support")}


def test_a_section_that_nothing_explains_keeps_its_generation(handmade: HandmadeKeeper) -> None:
    """A bit that is not set where a record needs the section, and no purge took it."""
    handmade.backup(30, "ada", "bob", once=False)
    handmade.backup(5, "ada", "bob", once=False)
    pack = next(pack for pack, segment, _ in handmade.sections() if segment == handmade.pseudonym("bob"))
    place = [row.segment for row in handmade.open(pack).header.rows].index(handmade.pseudonym("bob"))
    handmade.take_out(pack, place)
    handmade.age(pack, 30)
    plan = handmade.plan()
    assert plan.removals == ()
    assert "and no purge took it" in plan.left_alone[handmade.made.generation]
    handmade.erase("bob")
    handmade.purge("bob")
    assert handmade.plan().left_alone == {}


def test_a_pack_of_a_wrong_size_keeps_its_generation(handmade: HandmadeKeeper) -> None:
    """Where its sections are is not known, and so not what would be taken out."""
    handmade.backup(30, "ada", "bob")
    handmade.backup(5, "ada")
    pack = next(pack for pack, segment, _ in handmade.sections() if segment == handmade.pseudonym("bob"))
    (handmade.root / pack).chmod(0o600)
    with (handmade.root / pack).open("ab") as file:
        file.write(b"x")
    handmade.age(pack, 30)
    plan = handmade.plan()
    assert plan.removals == ()
    assert "by its header and map" in plan.left_alone[handmade.made.generation]


def test_a_forged_class_makes_nothing_older(handmade: HandmadeKeeper) -> None:
    """Tags of a class with an age of its own beside a stranger's segment take nothing of that."""
    handmade.backup(9, "ada", extra={SUPPORT: notes("asked")})
    handmade.backup(8, "ada")
    handmade.forge(named("ada"), SUPPORT)
    before = {key: data for key, data in handmade.sections().items() if key[1] == handmade.pseudonym("ada")}
    handmade.ruled(max_ages={"support": 5 * DAY})
    handmade.expire()
    assert {key: data for key, data in handmade.sections().items() if key[1] == handmade.pseudonym("ada")} == before
    assert not {key for key in handmade.sections() if key[1] == handmade.pseudonym("ada", "support")}


def test_phases_that_begin_end(handmade: HandmadeKeeper) -> None:
    """Also where there is nothing to do."""
    handmade.expire()
    trace = handmade.trace
    kinds = [type(one) for one in trace.seen]
    assert kinds.count(PhaseStarted) == kinds.count(PhaseDone)


def test_nothing_is_kept_below_the_rules(handmade: HandmadeKeeper, tmp_path: Path) -> None:
    """Backups that stopped do not stop expiry: the last snapshot goes, too."""
    handmade.backup(11, "ada")
    assert KEEP < 11 * DAY
    assert handmade.expire().snapshots == 1
    assert {name.split("/")[0] for name in stored(handmade)} == {"repository.json"}


def hide(handmade: HandmadeKeeper, name: str) -> str:
    """What a writer's key allows where removing is forbidden: a rename into the folder that a keeper clears."""
    hidden = f"tmp/{'0f' * 16}"
    (handmade.root / "tmp").mkdir(exist_ok=True)
    (handmade.root / name).rename(handmade.root / hidden)
    return hidden


@pytest.mark.parametrize("kind", ["snapshots/", ".pack", ".keyring"])
def test_what_a_thief_hid_is_not_cleared_away(handmade: HandmadeKeeper, kind: str) -> None:
    """A record, pack or keyring moved into tmp/ is missed, and until it is back nothing of it is removed."""
    for day in (4, 3):
        handmade.backup(day, "ada", "bob", extra={SUPPORT: notes(str(day) * 3_000)})
    handmade.expire()
    (victim, *_) = sorted(name for name in stored(handmade) if kind in name)
    hidden = hide(handmade, victim)
    before = stored(handmade)
    handmade.clock.by = timedelta()
    if kind == "snapshots/":
        with pytest.raises(DamageError, match="is gone, and the ledger knows of no expiry"):
            handmade.plan()
    else:
        plan = handmade.plan()
        assert (plan.uploads, plan.removals) == ((), ())
        assert len(plan.left_alone) == 1
        handmade.execute(plan)
    assert stored(handmade) == before
    (handmade.root / hidden).rename(handmade.root / victim)
    assert handmade.plan().left_alone == {}


def test_sections_put_back_after_a_purge_go_again(handmade: HandmadeKeeper) -> None:
    """Whoever may write to the store may put back an older pack: the next expiry takes out what has to be gone."""
    handmade.backup(4, "ada", "bob")
    handmade.backup(1, "bob")
    old = {name: (handmade.root / name).read_bytes() for name in handmade.names("packs")}
    handmade.erase("ada")
    handmade.purge("ada")
    ada, bob = handmade.pseudonym("ada"), handmade.pseudonym("bob")
    assert ada not in {segment for _, segment, _ in handmade.sections()}
    for name, data in old.items():
        path = handmade.root / name
        path.unlink()
        path.write_bytes(data)
    before = handmade.sections()
    assert ada in {segment for _, segment, _ in before}
    handmade.expire()
    after = handmade.sections()
    assert {segment for _, segment, _ in before} - {segment for _, segment, _ in after} == {ada}
    assert {at: data for at, data in before.items() if at[1] == bob} == {
        at: data for at, data in after.items() if at[1] == bob
    }


def test_a_record_that_was_never_believed_is_not_missed(handmade: HandmadeKeeper) -> None:
    """Who removes by hand what a thief put there does not stop the keeper for good; a true one is missed, though it was
    altered before it went.
    """
    true = handmade.backup(2, "ada")
    folder = f"snapshots/{handmade.made.generation}"
    junk = f"{folder}/20991231T000000Z-{'ab' * 32}"
    handmade.put(junk, b"junk", 1)
    handmade.plan()
    (handmade.root / junk).unlink()
    assert handmade.plan().left_alone == {}
    path = handmade.root / folder / true
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-2])
    assert set(handmade.plan().left_alone) == {handmade.made.generation}
    path.unlink()
    with pytest.raises(DamageError, match=rf"record '{true}' is gone"):
        handmade.plan()
