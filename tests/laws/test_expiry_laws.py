"""The plan of an expiry keeps its promises for all contents of a store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.model.ids import ClassTag, GenerationId, ObjectHash, ObjectName, Pseudonym, SnapshotName
from backupd.planning.expiry import (
    ExpiryLimits,
    Item,
    Recorded,
    Removal,
    StoredGeneration,
    grace_before,
    leftovers,
    live_parts,
    plan,
)
from backupd.planning.verify import ContainerKey

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
GRACE = grace_before(NOW, 24 * HOUR)
GENERATION = GenerationId("20291201T000000Z-00000000")
SEGMENTS = [Pseudonym(letter * 32) for letter in "abc"]
LOGS, UPLOADED = ClassTag("1" * 16), ClassTag("2" * 16)
CLASS_OF = {SEGMENTS[0]: LOGS, SEGMENTS[1]: LOGS, SEGMENTS[2]: UPLOADED}
LIMITS = ExpiryLimits(GRACE, {LOGS: NOW - 72 * HOUR})

hours = st.integers(0, 200)
keys = st.builds(
    ContainerKey, st.sampled_from(SEGMENTS), st.integers(0, 7).map(lambda number: ObjectHash(f"{number:064x}"))
)


def item(key: ContainerKey, kind: str, age: int) -> Item:
    return Item(ObjectName(f"segments/{GENERATION}/{key.segment}/{key.sha256}.{kind}"), 1, NOW - age * HOUR)


def containers(kind: str) -> st.SearchStrategy[dict[ContainerKey, Item]]:
    return st.dictionaries(keys, hours, max_size=10).map(
        lambda found: {key: item(key, kind, age) for key, age in found.items()}
    )


records = st.lists(st.tuples(hours, st.frozensets(keys, max_size=5)), max_size=5).map(
    lambda found: tuple(
        Recorded(SnapshotName(f"20291201T000000Z-{number:064x}"), NOW - age * HOUR, parts)
        for number, (age, parts) in enumerate(found)
    )
)
headers = st.dictionaries(keys, st.lists(st.integers(0, 7).map(lambda n: ObjectHash(f"{n:064x}")), max_size=3))
keyrings = st.lists(hours, max_size=2).map(
    lambda ages: tuple(
        Item(ObjectName(f"keyrings/{GENERATION}/{n}"), 1, NOW - age * HOUR) for n, age in enumerate(ages)
    )
)
pins = st.frozensets(st.sampled_from(SEGMENTS), max_size=2)
shown = st.builds(
    StoredGeneration,
    generation=st.just(GENERATION),
    staying=records,
    leaving=st.just((SnapshotName("20291201T000000Z-" + "f" * 64),)),
    parts=containers("part"),
    packs=containers("pack"),
    keyrings=keyrings,
    others=st.just(()),
)


def planned(
    one: StoredGeneration, named: dict[ContainerKey, list[ObjectHash]], pinned: frozenset[Pseudonym]
) -> tuple[Removal, set[ContainerKey], set[ContainerKey]]:
    live, aged = live_parts(one.staying, CLASS_OF, LIMITS, pinned)
    return plan(one, live, {key: CLASS_OF[key.segment] for key in aged}, named, LIMITS), live, aged


@settings(deadline=None)
@given(shown, headers, pins)
def test_nothing_needed_and_nothing_young_goes(
    one: StoredGeneration, named: dict[ContainerKey, list[ObjectHash]], pinned: frozenset[Pseudonym]
) -> None:
    """Not a part that a record names, but for its class's age; not a container such a part names; nothing of a run."""
    removal, _, _ = planned(one, named, pinned)
    gone = {entry.name for entry in removal.items}
    assert all(entry.modified < GRACE for entry in removal.items)
    for record in one.staying:
        for key in record.parts:
            newest = max(other.exported for other in one.staying if key in other.parts)
            old = CLASS_OF[key.segment] == LOGS and newest < NOW - 72 * HOUR and key.segment not in pinned
            if old:
                continue
            assert item(key, "part", 0).name not in gone
            for sha256 in named.get(key, []):
                assert item(ContainerKey(key.segment, sha256), "pack", 0).name not in gone
                assert item(ContainerKey(key.segment, sha256), "part", 0).name not in gone


@settings(deadline=None)
@given(shown, headers, pins)
def test_everything_else_that_is_old_goes(
    one: StoredGeneration, named: dict[ContainerKey, list[ObjectHash]], pinned: frozenset[Pseudonym]
) -> None:
    """What no record needs does not stay behind, and a second plan finds nothing more."""
    removal, live, aged = planned(one, named, pinned)
    gone = {entry.name for entry in removal.items}
    needed = live | {ContainerKey(key.segment, sha256) for key in live for sha256 in named.get(key, [])}
    for found in (one.parts, one.packs):
        for key, entry in found.items():
            if key not in needed and entry.modified < GRACE:
                assert entry.name in gone
    assert not aged & live
    left = StoredGeneration(
        one.generation,
        one.staying,
        (),
        {key: entry for key, entry in one.parts.items() if entry.name not in gone},
        {key: entry for key, entry in one.packs.items() if entry.name not in gone},
        tuple(entry for entry in one.keyrings if entry.name not in gone),
    )
    again, _, _ = planned(left, named, pinned)
    assert not again


@settings(deadline=None)
@given(shown, headers, pins)
def test_keyrings_go_last_and_together(
    one: StoredGeneration, named: dict[ContainerKey, list[ObjectHash]], pinned: frozenset[Pseudonym]
) -> None:
    """Not while anything is left that they open, or a record that needs them."""
    removal, _, _ = planned(one, named, pinned)
    assert removal.keyrings in ((), one.keyrings)
    if removal.keyrings:
        assert not one.staying
        assert len(removal.parts) == len(one.parts)
        assert len(removal.packs) == len(one.packs)


@settings(deadline=None)
@given(shown, headers, pins)
def test_a_class_is_told_exactly_when_a_named_part_of_it_goes(
    one: StoredGeneration, named: dict[ContainerKey, list[ObjectHash]], pinned: frozenset[Pseudonym]
) -> None:
    """The ledger must explain every part that a record names and that is not there; and says nothing else."""
    removal, _, aged = planned(one, named, pinned)
    gone = {entry.name for entry in removal.parts}
    named_and_gone = {key for record in one.staying for key in record.parts if item(key, "part", 0).name in gone}
    assert named_and_gone <= aged
    assert set(removal.aged) == {CLASS_OF[key.segment] for key in named_and_gone}


@given(st.lists(hours, max_size=6))
def test_leftovers_of_uploads_have_the_same_grace(ages: list[int]) -> None:
    """Twice as long as a run may last."""
    uploads = [Item(ObjectName(f"tmp/{n}"), 1, NOW - age * HOUR) for n, age in enumerate(ages)]
    assert {entry.name for entry in leftovers(uploads, GRACE)} == {f"tmp/{n}" for n, age in enumerate(ages) if age > 48}
