"""A ledger's chain on stores that are away, altered, or written by two at once."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache

import pytest
from doubles.stores.memory_store import Killed, KillingFuse, Line, MachineClock, MemoryStore, VirtualTime
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backupd.errors import DamageError, StoreGoneError
from backupd.model.ids import RegionName, RepositoryId, TenantId
from backupd.model.ledger import Event, Held, Observed
from backupd.model.text import stamp
from backupd.operations.ledger import Book, LedgerPlace
from backupd.planning.incarnations import TenantStates
from backupd.repository.layout import entry_name
from backupd.repository.ledger import Chain, next_document, read_chain
from backupd.seal.documents import Signer

REGION, REPOSITORY = RegionName("be"), RepositoryId("ab" * 16)
SIGNER = Signer(bytes(range(32)))
TRUSTED = frozenset({SIGNER.public})
EMPTY = Chain(REGION, REPOSITORY)


class Machines:
    """Stores, and machines with a copy each that keep one ledger on them."""

    def __init__(self, *names: str) -> None:
        self.time = VirtualTime()
        self.stores = {name: MemoryStore(self.time) for name in names}
        self.away: set[str] = set()
        self.copies: dict[str, MemoryStore] = {}

    def book(self, machine: str = "keeper", fuse: KillingFuse | None = None) -> Book:
        self.time.now += timedelta(seconds=1)
        fuse = fuse or KillingFuse()
        copy = self.copies.setdefault(machine, MemoryStore(self.time))
        lines = {name: Line(store, fuse, lambda name=name: name in self.away) for name, store in self.stores.items()}
        return Book(LedgerPlace(REGION, REPOSITORY, lines, Line(copy, fuse), TRUSTED, MachineClock(self.time), SIGNER))

    def lengths(self) -> dict[str, int]:
        return {name: len(store.objects) for name, store in self.stores.items()}

    def heads(self) -> set[str | None]:
        return {read_chain(store, EMPTY, TRUSTED)[0].head.head for store in self.stores.values()}


def saying(word: str) -> list[Event]:
    return [Observed(store="near", snapshots=[word])]


def words(chain: Chain) -> list[str]:
    return [word for entry in chain.entries() for event in entry.events for word in event.snapshots]


def say(book: Book, word: str) -> None:
    """Append a word that is not there yet."""

    def decide(_: TenantStates) -> list[Event]:
        return [] if word in words(book.chain) else saying(word)

    book.append(decide)


@lru_cache
def documents(number: int, after: str = "") -> tuple[bytes, ...]:
    """A ledger of so many entries; `after` makes it another one."""
    chain, time = EMPTY, VirtualTime()
    for place in range(number):
        chain = chain.extended(next_document(chain, stamp(time.now), saying(f"{after}{place}"), SIGNER), TRUSTED)
    return tuple(link.data for link in chain.links)


def stored(entries: dict[int, bytes]) -> MemoryStore:
    store = MemoryStore(VirtualTime())
    store.objects = {entry_name(seq): (data, store.time.now) for seq, data in entries.items()}
    return store


def known(number: int) -> Chain:
    chain = EMPTY
    for document in documents(number):
        chain = chain.extended(document, TRUSTED)
    return chain


@settings(deadline=None)
@given(st.integers(2, 8), st.data())
def test_an_entry_that_is_missing_moved_or_altered_is_found(number: int, data: st.DataObject) -> None:
    """By a reader who knows nothing of the ledger but whose word it is."""
    entries = dict(enumerate(documents(number), start=1))
    one = data.draw(st.integers(1, number - 1))
    other = data.draw(st.integers(one + 1, number))
    match data.draw(st.sampled_from(["missing", "swapped", "altered", "twice", "another's"])):
        case "missing":
            del entries[one]
        case "swapped":
            entries[one], entries[other] = entries[other], entries[one]
        case "altered":
            bad = bytearray(entries[one])
            at = data.draw(st.integers(0, len(bad) - 1))
            bad[at] ^= 1 << data.draw(st.integers(0, 7))
            entries[one] = bytes(bad)
        case "twice":
            entries[other] = entries[one]
        case "another's":
            entries[one] = documents(number, "x")[one - 1]
    with pytest.raises(DamageError):
        read_chain(stored(entries), EMPTY, TRUSTED)


@settings(deadline=None)
@given(st.integers(1, 8), st.data())
def test_a_ledger_cut_off_is_found_by_any_witness(number: int, data: st.DataObject) -> None:
    """By the head a record saw, and by whoever knew it longer; also where it was written on behind the cut."""
    left = data.draw(st.integers(0, number - 1))
    more = data.draw(st.integers(0, 4))
    entries = dict(enumerate(documents(number)[:left], start=1))
    chain = known(number)
    cut = EMPTY
    for document in entries.values():
        cut = cut.extended(document, TRUSTED)
    for place in range(more):
        document = next_document(cut, stamp(VirtualTime().now), saying(f"new{place}"), SIGNER)
        cut = cut.extended(document, TRUSTED)
        entries[len(cut.links)] = document
    with pytest.raises(DamageError):
        read_chain(stored(entries), EMPTY, TRUSTED)[0].require(chain.head, "a snapshot")
    if more:
        with pytest.raises(DamageError):
            read_chain(stored(entries), chain, TRUSTED)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), st.integers(0, 99)), max_size=10))
def test_two_machines_never_both_append_one_number(steps: list[tuple[str, int]]) -> None:
    """Who finds a number taken reads on and decides again: every word is said once, in one order for all."""
    machines = Machines("near", "far")
    books = {name: machines.book(name) for name in ("one", "two")}
    for machine, word in steps:
        machines.time.now += timedelta(seconds=1)
        say(books[machine], f"{word}")
    for book in books.values():
        book.sync(from_start=True)
    assert words(books["one"].chain) == words(books["two"].chain) == list(dict.fromkeys(str(word) for _, word in steps))
    assert len(machines.heads()) == 1


happenings = st.lists(
    st.one_of(
        st.sampled_from([("away", "near"), ("away", "far"), ("back", "near"), ("back", "far"), ("sync", "")]),
        st.integers(0, 99).map(lambda word: ("say", str(word))),
        st.tuples(st.just("die"), st.tuples(st.integers(1, 20), st.booleans())),
    ),
    max_size=14,
)


@example([("die", (number, True)) for number in range(5, 13)] + [("away", "near"), ("say", "1")])
@example([("die", (5, True)), ("away", "near"), ("say", "1")])
@example([("die", (6, True)), ("away", "near"), ("say", "1"), ("back", "near"), ("away", "far"), ("say", "2")])
@settings(deadline=None)
@given(happenings)
def test_one_keeper_never_forks_its_ledger(steps: list[tuple[str, object]]) -> None:
    """Whatever store is away and wherever the keeper dies: what was said stays said, and every store gets it."""
    machines = Machines("near", "far")
    said: list[str] = []
    for number, (what, about) in enumerate(steps):
        match what:
            case "away":
                machines.away.add(str(about))
            case "back":
                machines.away.discard(str(about))
            case "sync" if len(machines.away) < 2:
                machines.book().sync()
            case "say" | "die":
                fuse = KillingFuse(*about) if what == "die" else KillingFuse()
                word = str(about) if what == "say" else f"dying {number}"
                try:
                    book = machines.book(fuse=fuse)
                    book.sync()
                    say(book, word)
                except (Killed, StoreGoneError):
                    continue
                said.append(word)
    machines.away.clear()
    book = machines.book()
    book.sync(from_start=True)
    assert set(said) <= set(words(book.chain))
    assert len(words(book.chain)) == len(set(words(book.chain)))
    assert machines.heads() == {book.chain.head.head}


def test_a_store_that_was_away_gets_what_it_lacks() -> None:
    """And until then is named as one that did not."""
    machines = Machines("near", "far")
    machines.away.add("far")
    book = machines.book()
    book.sync()
    for word in "abc":
        say(book, word)
    assert list(book.unreached) == ["far"]
    assert machines.lengths() == {"near": 3, "far": 0}
    with pytest.raises(StoreGoneError):
        book.give("far")
    machines.away.clear()
    book.give("far")
    assert machines.lengths() == {"near": 3, "far": 3}
    assert not book.unreached


def test_a_fork_is_found() -> None:
    """Two machines that saw different stores wrote one number each: nobody goes on from there."""
    machines = Machines("near", "far")
    one, two = machines.book("one"), machines.book("two")
    machines.away.add("far")
    one.sync()
    say(one, "one")
    machines.away = {"near"}
    two.sync()
    say(two, "two")
    machines.away.clear()
    for machine in ("one", "two", "three"):
        with pytest.raises(DamageError):
            machines.book(machine).sync()


def test_an_entry_nobody_could_read_is_never_written() -> None:
    """It would end the ledger for good: it is refused before any store or copy has it, and the next one goes in."""
    machines = Machines("near", "far")
    book = machines.book()
    sentence = Held(tenant=TenantId("ab" * 16), hold="a sentence, with a name", review=stamp(machines.time.now))
    with pytest.raises(DamageError, match="not a readable ledger entry"):
        book.append(lambda _: [sentence])
    assert machines.lengths() == {"near": 0, "far": 0}
    assert machines.copies["keeper"].objects == {}
    say(book, "fine")
    assert words(book.chain) == ["fine"]
