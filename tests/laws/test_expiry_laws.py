"""The plan of an expiry keeps its promises for all contents of a store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.model.ids import ClassTag, GenerationId, ObjectHash, ObjectName, RunId, SnapshotName
from backupd.model.ranges import bits_of
from backupd.planning.expiry import (
    ExpiryLimits,
    Item,
    ListedPack,
    Recorded,
    Removal,
    StoredGeneration,
    attempts_since,
    find_needs,
    grace_before,
    leftovers,
    plan,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
GRACE = grace_before(NOW, 24 * HOUR)
GENERATION = GenerationId("20291201T000000Z-00000000")
LOGS, TRACES = ClassTag("1" * 16), ClassTag("2" * 16)
ATTEMPTS = attempts_since(NOW, 100 * 24 * HOUR)
LIMITS = ExpiryLimits(GRACE, {LOGS: NOW - 72 * HOUR, TRACES: NOW - 150 * HOUR}, ATTEMPTS, NOW + 24 * HOUR)
SECTIONS = 6
ALL = (1 << SECTIONS) - 1
PACKS = [ObjectHash(f"{number:064x}") for number in range(5)]
KEYRINGS = [RunId(f"20291201T000000Z-{number:08x}") for number in range(4)]

hours = st.sampled_from([0, 47, 48, 49, 71, 72, 73, 149, 150, 151, 167, 168, 169, 200])
masks = st.integers(0, ALL)


@st.composite
def packs(draw: st.DrawFn) -> tuple[ListedPack, ...]:
    found = []
    for sha256 in draw(st.sets(st.sampled_from(PACKS))):
        logs, traces, there = draw(masks), draw(masks), draw(masks)
        lengths = draw(st.lists(st.integers(1, 99), min_size=SECTIONS, max_size=SECTIONS))
        size = sum(lengths[place] for place in bits_of(there)) + 50
        found.append(
            ListedPack(
                item=Item(ObjectName(f"packs/{GENERATION}/{sha256}.pack"), size, NOW - draw(hours) * HOUR),
                sha256=sha256,
                there=there,
                lengths=lengths,
                keyrings=frozenset(draw(st.sets(st.sampled_from(KEYRINGS), min_size=1))),
                classes={LOGS: logs & ~traces, TRACES: traces},
                pinned=draw(st.sampled_from([0, 0, 1, ALL])),
            )
        )
    return tuple(sorted(found, key=lambda pack: pack.item))


records = st.lists(st.tuples(hours, st.dictionaries(st.sampled_from(PACKS), st.integers(1, ALL))), max_size=5).map(
    lambda found: tuple(
        Recorded(SnapshotName(f"20291201T000000Z-{number:064x}"), NOW - age * HOUR, sections)
        for number, (age, sections) in enumerate(found)
    )
)
keyrings = st.dictionaries(st.sampled_from(KEYRINGS), hours).map(
    lambda ages: {
        run: Item(ObjectName(f"keyrings/{GENERATION}/{run}.keyring"), 1, NOW - age * HOUR) for run, age in ages.items()
    }
)
shown = st.builds(
    StoredGeneration,
    generation=st.just(GENERATION),
    staying=records,
    leaving=st.just((SnapshotName("20291201T000000Z-" + "f" * 64),)),
    packs=packs(),
    keyrings=keyrings,
    others=st.just(()),
    expired=st.frozensets(st.sampled_from(PACKS)),
)


def planned(one: StoredGeneration) -> Removal:
    return plan(one, find_needs(one, LIMITS.classes), LIMITS)


def gone_of(removal: Removal, pack: ListedPack) -> set[int]:
    """The sections of a pack that a plan takes, with the whole or out of it."""
    if pack.item in removal.packs:
        return set(range(SECTIONS))
    return {place for rewrite in removal.rewrites if rewrite.item == pack.item for place in rewrite.sections}


def too_old(one: StoredGeneration, pack: ListedPack, place: int) -> bool:
    """Whether only snapshots before its class's instant need a section, said in another way than the plan says it."""
    tags = [tag for tag, sections in pack.classes.items() if sections >> place & 1]
    naming = [record.exported for record in one.staying if record.sections.get(pack.sha256, 0) >> place & 1]
    return bool(tags and naming) and max(naming) < LIMITS.classes[tags[0]] and not pack.pinned >> place & 1


def awaited(one: StoredGeneration, pack: ListedPack) -> bool:
    """Whether an attempt that was cut off less than two days ago may go on with a pack, said in another way."""
    named = {sha256 for record in one.staying for sha256 in record.sections} | one.expired
    last = max((other.item.modified for other in one.packs if other.sha256 not in named), default=None)
    ages = [LIMITS.classes[tag] for tag, sections in pack.classes.items() if sections & pack.there]
    since = max([NOW - 168 * HOUR, *ages])
    return pack.sha256 not in named and last is not None and last >= GRACE and pack.item.modified >= since


@settings(deadline=None)
@given(shown)
def test_nothing_needed_and_nothing_young_goes(one: StoredGeneration) -> None:
    """Not a section that a record names, but for its class's age; no pack that one names; nothing of a run."""
    removal = planned(one)
    assert all(entry.modified < GRACE for entry in removal.items)
    assert all(rewrite.item.modified < GRACE for rewrite in removal.rewrites)
    for pack in one.packs:
        for record in one.staying:
            assert pack.item not in removal.packs or pack.sha256 not in record.sections
            for place in bits_of(record.sections.get(pack.sha256, 0)):
                assert place not in gone_of(removal, pack) or too_old(one, pack, place)


@settings(deadline=None)
@given(shown)
def test_what_is_old_and_of_no_use_goes(one: StoredGeneration) -> None:
    """Packs that nobody names, sections too old for their class, and waste that is most of a pack."""
    removal = planned(one)
    for pack in one.packs:
        if pack.item.modified >= GRACE:
            continue
        naming = [record for record in one.staying if pack.sha256 in record.sections]
        assert (pack.item in removal.packs) == (not naming and not awaited(one, pack))
        if not naming:
            continue
        there = set(bits_of(pack.there))
        needed = {place for record in naming for place in bits_of(record.sections[pack.sha256])}
        aged = {place for place in needed if too_old(one, pack, place)}
        waste = there - (needed - aged)
        size = sum(pack.lengths[place] for place in waste)
        most = 2 * size > sum(pack.lengths[place] for place in there)
        assert gone_of(removal, pack) == (waste if waste and (most or waste & aged) else set())


def loose(number: int, days: float, **fields: int) -> ListedPack:
    """A pack that no record names."""
    item = Item(ObjectName(f"packs/{GENERATION}/{PACKS[number]}.pack"), 60, NOW - 24 * days * HOUR)
    return ListedPack(item, PACKS[number], 1, [10], frozenset(KEYRINGS[:1]), {}, **fields)


def gone(*packs: ListedPack, expired: frozenset[ObjectHash] = frozenset()) -> list[int]:
    removal = planned(StoredGeneration(GENERATION, (), (), packs, {}, expired=expired))
    return [PACKS.index(pack.sha256) for pack in packs if pack.item in removal.packs]


def test_what_was_cut_off_stays_for_the_next_attempt() -> None:
    """A first backup that takes many attempts over a slow line comes to its end; but nothing purged or expired stays.

    And two days after the last attempt nothing of them is left.
    """
    attempts = [loose(0, 8), loose(1, 6), loose(2, 3)]
    assert gone(*attempts) == [0, 1, 2]
    assert gone(*attempts, loose(3, 1)) == [0]
    assert gone(*attempts, loose(3, 1), expired=frozenset(PACKS[1:2])) == [0, 1]
    assert gone(loose(0, 3, purged=1), loose(3, 1)) == [0]
    assert attempts_since(NOW, 24 * HOUR) == NOW - 24 * HOUR


@settings(deadline=None)
@given(shown)
def test_a_second_plan_finds_nothing_more(one: StoredGeneration) -> None:
    """What was done once is not done again."""
    removal = planned(one)
    left = replace(
        one,
        leaving=(),
        packs=tuple(
            replace(pack, there=pack.there & ~sum(1 << place for place in gone_of(removal, pack)))
            for pack in one.packs
            if pack.item not in removal.packs
        ),
        keyrings={run: item for run, item in one.keyrings.items() if item not in removal.keyrings},
    )
    assert not planned(left)


@settings(deadline=None)
@given(shown)
def test_a_keyring_goes_when_no_pack_that_stays_names_it(one: StoredGeneration) -> None:
    """Neither before, nor a day after it may."""
    removal = planned(one)
    used = {run for pack in one.packs if pack.item not in removal.packs for run in pack.keyrings}
    for run, item in one.keyrings.items():
        assert (item in removal.keyrings) == (run not in used and item.modified < GRACE)


@settings(deadline=None)
@given(shown)
def test_the_order_is_the_reverse_of_writing(one: StoredGeneration) -> None:
    """Packs before keyrings; and the sizes are those of what goes."""
    removal = planned(one)
    assert removal.steps == (*removal.packs, *removal.rewrites, *removal.keyrings, *removal.others)
    for rewrite in removal.rewrites:
        (pack,) = (pack for pack in one.packs if pack.item == rewrite.item)
        assert rewrite.size == sum(pack.lengths[place] for place in rewrite.sections)
    assert removal.bytes == sum(item.size for item in removal.items) + sum(one.size for one in removal.rewrites)


@settings(deadline=None)
@given(shown)
def test_a_class_is_told_exactly_when_a_named_section_of_it_goes(one: StoredGeneration) -> None:
    """The ledger must explain every section that a record names and that is not there; and says nothing else."""
    removal = planned(one)
    told = {
        tag
        for pack in one.packs
        if pack.item not in removal.packs
        for place in gone_of(removal, pack)
        if any(record.sections.get(pack.sha256, 0) >> place & 1 for record in one.staying)
        for tag, sections in pack.classes.items()
        if sections >> place & 1
    }
    assert set(removal.aged) == told


@given(st.lists(hours, max_size=6))
def test_leftovers_are_the_old_uploads(ages: list[int]) -> None:
    """And no others."""
    uploads = [Item(ObjectName(f"tmp/{number:032x}"), 1, NOW - age * HOUR) for number, age in enumerate(ages)]
    assert leftovers(uploads, GRACE) == tuple(one for one in uploads if one.modified < GRACE)


class CountedName(str):
    """A pack's or keyring's name that counts how often it is put into a set or looked up."""

    __slots__ = ()
    seen = 0

    def __hash__(self) -> int:
        CountedName.seen += 1
        return super().__hash__()


def look_ups(number: int) -> int:
    """How often names are hashed to plan the expiry of so many packs, half of which are needed."""
    age = NOW - 200 * HOUR
    names = [ObjectHash(CountedName(f"{one:064x}")) for one in range(number)]
    runs = [RunId(CountedName(f"20291201T000000Z-{one:08x}")) for one in range(number)]
    packs = tuple(
        ListedPack(Item(ObjectName(name), 60, age), name, 3, [10, 50], frozenset([run]), {LOGS: 1})
        for name, run in zip(names, runs, strict=True)
    )
    named = Recorded(SnapshotName("20291201T000000Z-" + "a" * 64), NOW, dict.fromkeys(names[::2], 1))
    listed = {run: Item(ObjectName(run), 1, age) for run in runs}
    junk = {ObjectHash(CountedName("f" + name[1:])): Item(ObjectName(name), 1, age) for name in names}
    shown = StoredGeneration(GENERATION, (named,), (), packs, listed, (), frozenset(names[1::4]), junk)
    CountedName.seen = 0
    removal = planned(shown)
    assert (len(removal.packs), len(removal.rewrites), len(removal.keyrings)) == (
        number // 2 + number,
        number // 2,
        number // 2,
    )
    return CountedName.seen


def test_a_plan_costs_in_proportion_to_the_packs() -> None:
    """Once a set of all was made anew for every one of them: 181 s of an expiry with 50,000 tenants."""
    assert look_ups(400) <= 4 * look_ups(100) + 10
