"""More of a tenant turns up after its purge than runs under way can add: nothing is done before somebody looked."""

from __future__ import annotations

import pytest
from fix_handmade_keeper import DAY, HandmadeKeeper, named

from backupd.model.ids import RunId
from backupd.model.ledger import Absent, Cleared, PurgeBegan, Shredded
from backupd.model.text import stamp
from backupd.operations.keeper import incarnation_segments
from backupd.operations.keeper.purge import PurgeRun, Purging, purge_due
from backupd.repository import layout
from backupd.seal.keyring import KeyringIds, KeyringWriter


def list_many(handmade: HandmadeKeeper, number: int) -> None:
    """A thief of a node, who has the tenant key and signs, lists segments of bob that nobody ever backed up."""
    made = handmade.made
    run = RunId(f"{made._run[:-8]}{'e' * 8}")
    ids = KeyringIds(made.info.repository, made.info.region, made.generation, run)
    writer = KeyringWriter(ids, [made.identity.public])
    for at in range(number):
        name = named("bob", f"class{at}")
        writer.add(made.pseudonym(name), b"k" * 32, name, made.tags_of(name))
    made.repository.put_keyring(ids, writer.render(stamp(handmade.clock.now()), made.signer))
    assert handmade.repository.store.stat(layout.keyring_name(ids.generation, ids.run)) is not None


@pytest.fixture
def purged(handmade: HandmadeKeeper) -> HandmadeKeeper:
    """Bob's purge was finished four days ago."""
    handmade.backup(1, "ada", "bob")
    handmade.erase("bob")
    handmade.purge("bob")
    handmade.ruled(clock_tolerance=5 * DAY)
    return handmade


def later(handmade: HandmadeKeeper, days: float, confirmed: int | None = None) -> PurgeRun:
    handmade.clock.by = days * DAY
    return purge_due(handmade.keeper, confirmed)


@pytest.mark.parametrize("days", [0, 4], ids=["unfinished", "finished"])
def test_an_incarnation_that_grows_by_more_than_late_runs_add_asks(purged: HandmadeKeeper, days: float) -> None:
    """By name, with the number that confirms it; others are purged beside it."""
    list_many(purged, 150)
    purged.erase("ada")
    before = purged.events(PurgeBegan)
    run = later(purged, days)
    bob, ada = purged.incarnation("bob"), purged.incarnation("ada")
    assert run.grown == (bob,)
    assert f"150 new segments of tenant {bob.tenant}" in run.refused[bob]
    assert {one.incarnation for one in run.done} == {ada}
    assert [one.tenant for one in purged.events(PurgeBegan)[len(before) :]] == [ada.tenant]
    run = later(purged, days, confirmed=150)
    assert (run.grown, run.refused) == ((), {})
    assert len(purged.events(PurgeBegan)[-1].segments) == 150


def test_an_incarnation_that_grows_loses_what_the_ledger_lists_all_the_same(handmade: HandmadeKeeper) -> None:
    """A thief of a node could list more each day: no purge that has begun waits for a person because of it."""
    handmade.backup(1, "ada", "bob")
    handmade.erase("bob")
    bob = handmade.incarnation("bob")
    with Purging(handmade.keeper) as purging:
        purging.begin([bob])
    list_many(handmade, 150)
    assert purge_due(handmade.keeper).grown == (bob,)
    assert handmade.pseudonym("bob") not in {segment for _, segment, _ in handmade.sections()}
    assert len(handmade.events(Shredded)) == len(handmade.events(Cleared)) == 1
    assert handmade.events(Absent) == []  # before somebody looked at the rest, nobody says that all is gone
    assert purge_due(handmade.keeper, 150).grown == ()
    assert len(handmade.events(Absent)) == 1


def test_what_late_runs_add_goes_without_asking(purged: HandmadeKeeper) -> None:
    """One segment for each database and class."""
    list_many(purged, 20)
    run = later(purged, 4)
    assert run.refused == {}
    assert len(purged.events(PurgeBegan)[-1].segments) == 20


def test_a_purge_of_more_than_an_entry_holds_begins_in_several(
    handmade: HandmadeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many a thief lists, the tenant goes: no entry becomes too large to be read."""
    monkeypatch.setattr(incarnation_segments, "MOST_LISTED", 40)
    handmade.backup(1, "ada", "bob")
    list_many(handmade, 100)
    handmade.erase("bob")
    done = handmade.purge("bob")
    assert done.absent
    began = handmade.events(PurgeBegan)
    assert [len(one.segments) for one in began] == [40, 40, 21]
    assert len({ref for one in began for ref in one.segments}) == 101
