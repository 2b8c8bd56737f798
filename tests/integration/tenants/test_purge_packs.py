"""A purge takes one tenant's sections out of packs that many share, and its lines out of every keyring."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from doubles.stores.faulty_store import FaultyStore
from fix_handmade_keeper import DAY, HandmadeKeeper, make_handmade_keeper, named, notes

from backupd.errors import BackupdError, DamageError, RefusedError, StoreError, StoreGoneError
from backupd.model.ids import Pseudonym
from backupd.model.ledger import Absent, Cleared, PurgeBegan, Shredded
from backupd.operations.attestation import attest
from backupd.operations.keeper.purge import Purging, purge_due
from backupd.operations.keeper.server_snapshots import holds_section
from backupd.planning.incarnations import State
from backupd.trace import Warned

SNAPSHOT = f"daily_{datetime.now(UTC):%Y-%m-%d}"


@pytest.fixture
def shared(handmade: HandmadeKeeper) -> HandmadeKeeper:
    """Three backups of four tenants, in two generations."""
    for day in (3, 2):
        handmade.backup(day, "ada", "bob", "cid", "dan")
    handmade.made.start_generation()
    handmade.backup(1, "ada", "bob", "cid")
    return handmade


def segments_of(shared: HandmadeKeeper, tenant: str) -> set[Pseudonym]:
    with Purging(shared.keeper) as purging:
        assert not purging.errors
        return {segment for _, segment in purging.find(shared.incarnation(tenant))}


def test_only_the_tenants_sections_and_lines_go(shared: HandmadeKeeper) -> None:
    """In every generation and keyring; every other section stays to the byte, and no other object changes."""
    doomed = segments_of(shared, "bob")
    assert len(doomed) == 2
    files, before = shared.files(), shared.sections()
    theirs = {key for key in before if key[1] in doomed}
    shared.erase("bob")
    done = shared.purge("bob")
    after = shared.sections()
    assert after == {key: data for key, data in before.items() if key not in theirs}
    packs = {pack for pack, _, _ in theirs}
    assert (done.keyrings, done.objects, done.absent) == (3, len(packs), True)
    assert done.bytes == sum(len(before[key]) for key in theirs)
    now = shared.files()
    changed = {name for name in files if now.get(name) != files[name]}
    assert changed == packs | set(shared.names("keyrings"))
    assert all(name.startswith("ledger/") for name in now.keys() - files.keys())
    for ring in shared.names("keyrings"):
        keyring = shared.repository.keyring(ring)
        assert keyring.shredded == keyring.segments & doomed
        assert keyring.shredded
    (cleared,) = shared.events(Cleared)
    assert (cleared.objects, cleared.bytes) == (done.objects, done.bytes)
    assert shared.keeper.book.states.incarnations[shared.incarnation("bob")].state is State.CLEARED


def test_more_tenants_than_anybody_expects_are_confirmed_first(shared: HandmadeKeeper) -> None:
    """A query that answers wrongly, or an application that was broken into, does not have everybody purged."""
    shared.ruled(most_tenants=1)
    for tenant in ("ada", "bob"):
        shared.erase(tenant)
    before = shared.files()
    for confirmed in (None, 1, 3):
        with pytest.raises(RefusedError, match="2 tenants would be removed in one run"):
            purge_due(shared.keeper, confirmed)
    assert shared.files() == before
    assert {one.incarnation for one in purge_due(shared.keeper, 2).done} == {
        shared.incarnation("ada"),
        shared.incarnation("bob"),
    }


def test_a_pack_of_nobody_else_keeps_header_and_map(shared: HandmadeKeeper) -> None:
    """A record names it, and only they say whose sections are gone."""
    with shared.dated(0.5):
        name = shared.made.snapshot({named("eve"): notes("all of a pack")})
    own = {pack for pack, segment, _ in shared.sections() if segment == shared.pseudonym("eve")}
    shared.erase("eve")
    shared.purge("eve")
    assert own <= set(shared.names("packs"))
    found = shared.repository.sections(shared.repository.record(name))
    gone = [section for section in found.sections.values() if not section.is_there]
    assert {section.row.segment for section in gone} == {shared.pseudonym("eve")}
    assert gone


@pytest.mark.parametrize("after", [False, True])
def test_it_may_be_killed_at_every_step(tmp_path: Path, after: bool) -> None:
    """At each instant every pack is the old one or the new one, nobody else's section changes, and a run finishes."""
    for at in count(1):
        (tmp_path / str(at)).mkdir()
        handmade = make_handmade_keeper(tmp_path / str(at))
        for day in (2, 1):
            handmade.backup(day, "ada", "bob")
        handmade.erase("bob")
        doomed, before = handmade.pseudonym("bob"), handmade.sections()
        others = {key: data for key, data in before.items() if key[1] != doomed}
        faulty = FaultyStore(handmade.store.inner, at, after=after)
        handmade.through(faulty)
        with_errors: list[BackupdError] = []
        try:
            handmade.keeper.book.sync()
            with Purging(handmade.keeper) as purging:
                purging.purge(handmade.incarnation("bob"))
                with_errors += purging.errors.values()
        except BackupdError as error:
            with_errors.append(error)
        left = handmade.sections()
        assert left == {key: data for key, data in before.items() if key in left}
        assert {key: left.get(key) for key in others} == others
        finished = len(faulty.calls) < at
        handmade.through(handmade.store)
        handmade.keeper.book.sync()
        assert handmade.events(PurgeBegan) or left == before
        for mark in handmade.names("runs"):
            handmade.age(mark, 1)
        handmade.purge("bob")
        handmade.purge("bob")
        assert handmade.sections() == others
        assert all(handmade.repository.keyring(ring).shredded == {doomed} for ring in handmade.names("keyrings"))
        assert handmade.keeper.book.states.incarnations[handmade.incarnation("bob")].state is State.CLEARED
        shutil.rmtree(handmade.folder)
        if finished:
            assert not with_errors
            break
    assert at > 40


def test_a_second_purge_of_the_same_reads_maps_only(shared: HandmadeKeeper) -> None:
    """Headers are known; nothing is written."""
    shared.erase("bob")
    shared.purge("bob")
    read: list[tuple[str, str]] = []
    shared.store.before = lambda method, name: read.append((method, name))
    shared.purge("bob")
    touched = {name for method, name in read if method in ("put_new", "replace", "recompose") and "ledger/" not in name}
    assert {name.split("/")[0] for name in touched} <= {"tmp"}
    packs = [name for method, name in read if method == "get" and name.startswith("packs/")]
    assert len(packs) == len(set(packs))


def test_packs_of_others_are_not_read_again(shared: HandmadeKeeper) -> None:
    """Headers are read once, whoever is purged afterwards."""
    shared.erase("bob")
    shared.purge("bob")
    shared.erase("dan")
    mine = {pack for pack, segment, _ in shared.sections() if segment in segments_of(shared, "dan")}
    assert mine != set(shared.names("packs"))
    read: list[str] = []
    shared.store.before = lambda method, name: read.append(name) if method == "get" else None
    shared.purge("dan")
    assert {name for name in read if name.startswith("packs/")} == mine


def test_what_arrives_while_packs_are_read_goes_too(shared: HandmadeKeeper) -> None:
    """The packs are listed again until none is new."""
    shared.erase("bob")
    arrived: list[int] = []

    def arrive(method: str, name: str) -> None:
        if method == "recompose" and not arrived:
            arrived.append(1)
            shared.orphan(0, "ada", "bob")

    shared.store.before = arrive
    shared.purge("bob")
    assert arrived
    assert not {key for key in shared.sections() if key[1] == shared.pseudonym("bob")}


def test_a_keyring_that_is_taken_meanwhile_is_waited_for(shared: HandmadeKeeper) -> None:
    """It was in `incoming/` when the keyrings were listed, and is not there when the packs are."""
    target = shared.forge(named("bob"), named("bob"))
    handed_in = shared.root / "incoming" / "node" / target.replace("/", "+")
    handed_in.parent.mkdir(parents=True)
    (shared.root / target).rename(handed_in)
    shared.erase("bob")

    def ingest(method: str, name: str) -> None:
        if name.startswith("ledger/") and handed_in.exists() and method == "put_new":
            handed_in.rename(shared.root / target)

    shared.store.before = ingest
    assert not shared.purge("bob").absent
    assert not handed_in.exists()
    assert shared.purge("bob").absent
    assert shared.repository.keyring(target).shredded


def test_a_keyring_that_is_put_back_loses_the_keys_again(shared: HandmadeKeeper) -> None:
    """Whoever may write can put an older copy back, long after a purge was finished."""
    rings = {name: (shared.root / name).read_bytes() for name in shared.names("keyrings")}
    bob = segments_of(shared, "bob")
    shared.erase("bob")
    shared.purge("bob")
    shared.clock.by += 4 * DAY
    shared.ruled(clock_tolerance=5 * DAY)
    assert not purge_due(shared.keeper).done
    for name, data in rings.items():
        (shared.root / name).chmod(0o600)
        (shared.root / name).write_bytes(data)
    assert purge_due(shared.keeper).plan.late == (shared.incarnation("bob"),)
    assert bob == {one for name in rings for one in shared.repository.keyring(name).shredded}
    assert not purge_due(shared.keeper).done


def test_damage_stops_its_own_pack_only(shared: HandmadeKeeper) -> None:
    """All other packs are done first; it is told, and nothing is said to be cleared."""
    victim = next(pack for pack, segment, _ in shared.sections() if segment == shared.pseudonym("bob"))
    path = shared.root / victim
    data = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(data[:-1])
    shared.erase("bob")
    with pytest.raises(DamageError, match="by its header and map"):
        shared.purge("bob")
    assert shared.events(Shredded)
    assert not shared.events(Cleared)
    path.write_bytes(data)
    left = {pack for pack, segment, _ in shared.sections() if segment in segments_of(shared, "bob")}
    assert left == {victim}
    assert shared.purge("bob").objects == 1


def test_a_store_that_is_gone_is_not_asked_for_every_pack(shared: HandmadeKeeper) -> None:
    """Each call may wait long for it; the next run goes on."""
    shared.keeper = replace(shared.keeper, threads=1)
    shared.erase("bob")
    asked: list[str] = []

    def gone(method: str, name: str) -> None:
        if method == "recompose":
            asked.append(name)
            raise StoreGoneError("on purpose")

    shared.store.before = gone
    with pytest.raises(StoreGoneError):
        shared.purge("bob")
    shared.store.before = lambda *_: None
    theirs = {pack for pack, segment, _ in shared.sections() if segment in segments_of(shared, "bob")}
    assert len(set(asked)) < len(theirs)
    shared.purge("bob")
    assert not {key for key in shared.sections() if key[1] in segments_of(shared, "bob")}


def test_a_pack_nobody_can_read_is_told(shared: HandmadeKeeper) -> None:
    """What it holds cannot be known, so nothing can be said to be gone."""
    generation = shared.made.generation
    stranger = f"packs/{generation}/{'a' * 64}.pack"
    shared.put(stranger, b"no pack", days_ago=0)
    shared.erase("bob")
    with pytest.raises(DamageError, match="is not a pack"):
        shared.purge("bob")
    assert not shared.events(Cleared)
    (shared.root / stranger).unlink()
    assert not {key for key in shared.sections() if key[1] == shared.pseudonym("bob")}


def test_a_keyring_nobody_can_believe_stops_no_shredding(shared: HandmadeKeeper) -> None:
    """Whoever may add can put one there: it is told, and nothing is said to be shredded, but all that can go goes."""
    rings = shared.names("keyrings")
    stranger = f"keyrings/{shared.made.generation}/20991231T000000Z-deadbeef.keyring"
    shared.put(stranger, b"junk", days_ago=0)
    bob = shared.pseudonym("bob")
    shared.erase("bob")
    run = purge_due(shared.keeper)
    assert isinstance(run.errors["disk"], DamageError)
    assert stranger in run.errors["disk"].message
    assert not run.done
    assert all(shared.repository.keyring(ring).shredded for ring in rings)
    assert not {key for key in shared.sections() if key[1] == bob}
    assert (shared.events(Shredded), shared.events(Absent)) == ([], [])
    assert "disk" in purge_due(shared.keeper).errors
    (shared.root / stranger).unlink()
    assert purge_due(shared.keeper).done[0].absent
    assert shared.events(Shredded)


# Forged listings ------------------------------------------------------------------------------------------------------


def test_a_forged_listing_is_told_and_never_acted_on(shared: HandmadeKeeper) -> None:
    """Whose tags stand beside a stranger's segment does not take that with them."""
    where = shared.forge(named("ada"), named("bob"))
    ada = shared.pseudonym("ada")
    before = {key: data for key, data in shared.sections().items() if key[1] == ada}
    assert before
    shared.erase("bob")
    run = purge_due(shared.keeper)
    assert not run.errors
    assert {key: data for key, data in shared.sections().items() if key[1] == ada} == before
    assert ada not in {segment for began in shared.events(PurgeBegan) for _, segment in began.segments}
    assert not shared.repository.keyring(where).shredded
    (sentence,) = run.forgeries
    assert f"'{where}' on store 'disk' lists 1 segment beside tags not their own" in sentence
    assert [one for one in shared.trace.seen if isinstance(one, Warned) and one.message == sentence]


def test_nothing_is_attested_while_there_are_segments_of_nobody_known(shared: HandmadeKeeper) -> None:
    """A node with another tenant key writes tenants that nobody finds: the one who was purged may be among them."""
    shared.erase("bob")
    shared.purge("bob")
    locations = {"disk": "zurich"}
    shared.forge(named("ada"), named("dan"))
    attest(shared.keeper, shared.incarnation("bob"), locations)
    where = shared.write_under_another_key(named("bob"))
    with pytest.raises(RefusedError, match=f"'{where}' on store 'disk' lists 1 segment .* whose they are"):
        attest(shared.keeper, shared.incarnation("bob"), locations)


def test_a_purged_segment_loses_its_key_in_a_forged_listing_too(shared: HandmadeKeeper) -> None:
    """The reason is its own, true listing."""
    where = shared.forge(named("ada"), named("bob"))
    shared.erase("ada")
    shared.purge("ada")
    assert shared.repository.keyring(where).shredded == {shared.pseudonym("ada")}


# The store's own snapshots --------------------------------------------------------------------------------------------


def snapshot(shared: HandmadeKeeper, *without: str) -> None:
    """What the store keeps of its folder, without some of it."""
    kept = shared.root.parent / ".zfs" / "snapshot" / SNAPSHOT / shared.root.name
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(shared.root, kept, ignore=shutil.ignore_patterns(*without))


@pytest.mark.parametrize("known", [True, False])
def test_a_section_in_a_snapshot_is_waited_for(shared: HandmadeKeeper, known: bool) -> None:
    """By the map of a pack in there, whether or not the pack is known; its keyrings are gone."""
    if known:
        segments_of(shared, "bob")
    snapshot(shared, "keyrings")
    shared.erase("bob")
    done = shared.purge("bob")
    assert (done.absent, done.waits_for) == (False, (SNAPSHOT,))
    assert not shared.events(Absent)
    snapshot(shared)
    done = shared.purge("bob")
    assert (done.absent, done.looked_into) == (True, (SNAPSHOT,))


def test_a_map_in_a_snapshot_alone_proves_no_absence(shared: HandmadeKeeper) -> None:
    """A pack in there that has more bytes than its map speaks of is waited for."""
    bob = segments_of(shared, "bob")
    snapshot(shared, "keyrings")
    kept = shared.root.parent / ".zfs" / "snapshot" / SNAPSHOT / shared.root.name
    for name in shared.names("packs"):
        pack, data = shared.open(name), bytearray((kept / name).read_bytes())
        for at in (at for at, row in enumerate(pack.header.rows) if row.segment in bob):
            data[len(pack.header.raw) + at // 8] &= ~(1 << at % 8)
        (kept / name).chmod(0o600)
        (kept / name).write_bytes(data)
    shared.erase("bob")
    assert shared.purge("bob").waits_for == (SNAPSHOT,)


def test_a_key_in_a_snapshot_is_waited_for(shared: HandmadeKeeper) -> None:
    """Without any pack."""
    snapshot(shared, "packs")
    shared.erase("bob")
    assert shared.purge("bob").waits_for == (SNAPSHOT,)


def test_a_pack_that_left_the_store_is_found_in_a_snapshot(shared: HandmadeKeeper) -> None:
    """Also one that this keeper never saw on the store."""
    snapshot(shared, "keyrings")
    shared.erase("bob")
    segments = segments_of(shared, "bob")
    refs = {(shared.made.generation, segment) for segment in segments}
    shutil.rmtree(shared.root / "packs")
    (made,) = shared.store.snapshots()
    with shared.census() as census:
        assert holds_section(shared.store.view(made), shared.repository, refs, census)
        stranger = {(shared.made.generation, Pseudonym("0" * 32))}
        assert not holds_section(shared.store.view(made), shared.repository, stranger, census)


def test_a_pack_in_a_snapshot_that_cannot_be_read_proves_nothing(shared: HandmadeKeeper) -> None:
    """Not to find anything in it would be no absence."""
    shared.erase("bob")
    shared.purge("bob")
    snapshot(shared)
    kept = shared.root.parent / ".zfs" / "snapshot" / SNAPSHOT / shared.root.name
    (kept / "packs" / shared.made.generation / f"{'b' * 64}.pack").write_bytes(b"no pack")
    with pytest.raises((DamageError, StoreError)):
        shared.purge("bob")


def test_junk_that_comes_every_day_keeps_no_purge_from_its_end(shared: HandmadeKeeper) -> None:
    """What nobody can believe counts where a run from before the purge may have left it, and no longer."""
    generation = shared.made.generation
    junk = [f"packs/{generation}/{'ab' * 32}.pack", f"keyrings/{generation}/20991231T000000Z-deadbeef.keyring"]
    shared.erase("bob")
    for name in junk:
        shared.put(name, b"noise", days_ago=0.5)
    run = purge_due(shared.keeper)
    assert [one.absent for one in run.done] == []
    assert junk[0] in run.errors["disk"].message
    shared.ruled(clock_tolerance=5 * DAY)
    shared.clock.by = 3 * DAY
    for name in junk:
        shared.age(name, days_ago=-2)
    run = purge_due(shared.keeper)
    assert [one.absent for one in run.done] == [True]
    assert "deadbeef" in run.errors["disk"].message
