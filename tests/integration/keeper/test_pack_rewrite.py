"""Taking sections out of a pack: what is left stays to the byte, whatever happens on the way."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import timedelta
from itertools import count

import pytest
from doubles.stores.faulty_store import FaultyStore
from fix_handmade_keeper import HandmadeKeeper, named, notes

from backupd.errors import BusyError, DamageError, StoreError
from backupd.model.ids import ObjectName
from backupd.operations.keeper.pack_rewrite import TakenOut, take_out
from backupd.repository import layout
from backupd.repository.packs import OpenPack
from backupd.store.base import Kept, kept

TENANTS = ("ada", "bob", "cid", "dan", "eve")


@pytest.fixture
def pack(handmade: HandmadeKeeper) -> OpenPack:
    """A pack with a section of each tenant's rows."""
    handmade.made.write({named(tenant): notes(*[f"{tenant} {number}" for number in range(99)]) for tenant in TENANTS})
    packs = [
        handmade.repository.pack(handmade.made.generation, one)
        for one in handmade.repository.list_packs(handmade.made.generation)
    ]
    return next(one for one in packs if len(one.header.rows) == len(TENANTS))


@pytest.mark.parametrize("doomed", [{0}, {4}, {1, 3}, {0, 1, 2, 3}, {0, 1, 2, 3, 4}, {2, 99}])
def test_the_others_stay_to_the_byte(handmade: HandmadeKeeper, pack: OpenPack, doomed: set[int]) -> None:
    """Header and name stay, the map says what is gone, and the rest follows without a gap."""
    data = handmade.store.get(pack.name)
    rest = [data[pack.there.offsets[at] : pack.there.offsets[at + 1]] for at in range(5) if at not in doomed]
    gone = sum(pack.header.rows[at].length for at in doomed if at < 5)
    assert take_out(handmade.keeper, "disk", pack.header, lambda _: doomed) == TakenOut(5 - len(rest), gone)
    bits = sum(1 << at for at in range(5) if at not in doomed)
    assert handmade.store.get(pack.name) == pack.header.raw + bytes([bits]) + b"".join(rest)
    assert not handmade.names("tmp")
    assert not handmade.names("runs")
    assert take_out(handmade.keeper, "disk", pack.header, lambda _: doomed) == TakenOut()


def test_nothing_to_take_writes_nothing(handmade: HandmadeKeeper, pack: OpenPack) -> None:
    """Neither a mark nor anything else; nor of a pack that is gone."""
    told: list[str] = []
    handmade.store.before = lambda method, _: told.append(method)
    assert take_out(handmade.keeper, "disk", pack.header, lambda _: ()) == TakenOut()
    assert set(told) == {"get", "stat"}
    handmade.store.inner.remove(pack.name)
    assert take_out(handmade.keeper, "disk", pack.header, lambda _: {1}) == TakenOut()


@pytest.mark.parametrize("after", [False, True])
def test_it_may_end_at_every_step(handmade: HandmadeKeeper, pack: OpenPack, after: bool) -> None:
    """The old pack or the new one stands there whole, and the next attempt finishes."""
    old = handmade.store.get(pack.name)
    path = handmade.root / pack.name
    seen = set()
    for at in count(1):
        path.unlink()
        path.write_bytes(old)
        for mark in handmade.names("runs"):
            (handmade.root / mark).unlink()
        faulty = FaultyStore(handmade.store.inner, at, after=after)
        handmade.through(faulty)
        with suppress(StoreError):
            take_out(handmade.keeper, "disk", pack.header, lambda _: {1, 2})
        seen.add(path.read_bytes())
        handmade.clock.by = handmade.clock.by * 0
        handmade.through(handmade.store)
        for mark in handmade.names("runs"):
            handmade.age(mark, 1)
        take_out(handmade.keeper, "disk", pack.header, lambda _: {1, 2})
        assert len(handmade.repository.pack(handmade.made.generation, pack.header.sha256).there.there) == 3
        if len(faulty.calls) < at:
            break
    assert seen == {old, path.read_bytes()}
    assert at > 8


def test_a_pack_of_a_wrong_size_is_left_alone(handmade: HandmadeKeeper, pack: OpenPack) -> None:
    """Where the sections are is not known then."""
    path = handmade.root / pack.name
    data = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(data + b"x")
    with pytest.raises(DamageError, match="by its header and map"):
        take_out(handmade.keeper, "disk", pack.header, lambda _: {1})
    assert path.read_bytes() == data + b"x"


def test_a_map_alone_proves_no_absence(handmade: HandmadeKeeper, pack: OpenPack) -> None:
    """Whoever may write to the store can say in the map that a section is gone, and leave its bytes."""
    path = handmade.root / pack.name
    data = bytearray(path.read_bytes())
    data[len(pack.header.raw)] &= ~0b10
    path.chmod(0o600)
    path.write_bytes(data)
    with pytest.raises(DamageError, match="by its header and map"):
        take_out(handmade.keeper, "disk", pack.header, lambda _: {1})
    assert path.read_bytes() == data


def test_a_damaged_header_is_told_and_stands_in_no_ones_way(handmade: HandmadeKeeper, pack: OpenPack) -> None:
    """What it said is known from before: the sections go, and whoever heals the pack heals the header, too."""
    path = handmade.root / pack.name
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    with pytest.raises(DamageError, match="hash its name says"):
        take_out(handmade.keeper, "disk", pack.header, lambda _: {1})
    row, header = pack.header.rows[1], len(pack.header.raw)
    offset = pack.there.offsets[1]
    assert (
        path.read_bytes() == data[:header] + bytes([0b11101]) + data[header + 1 : offset] + data[offset + row.length :]
    )
    assert take_out(handmade.keeper, "disk", pack.header, lambda _: {1}) == TakenOut()


@pytest.mark.parametrize("wrong", ["shifted", "swapped", "last"])
def test_a_store_that_copies_wrongly_is_noticed(
    handmade: HandmadeKeeper, pack: OpenPack, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """Sections that are not where header and map say are told, also when the size is right."""
    recompose = type(handmade.store.inner).recompose

    def lying(self, name, pieces, size):
        places = [number for number, piece in enumerate(pieces) if isinstance(piece, Kept)]
        if wrong == "shifted":
            pieces[places[1] :] = [piece._replace(offset=piece.offset - 1) for piece in pieces[places[1] :]]
        elif wrong == "last":
            pieces[places[-1]] = pieces[places[-1]]._replace(offset=pieces[places[-1]].offset - 1)
        else:
            pieces[places[1]], pieces[places[3]] = pieces[places[3]], pieces[places[1]]
        recompose(self, name, pieces, size)

    monkeypatch.setattr(type(handmade.store.inner), "recompose", lying)
    with pytest.raises(DamageError, match="does not have the hash its header says"):
        take_out(handmade.keeper, "disk", pack.header, lambda _: {1})


def test_two_keepers_take_turns(handmade: HandmadeKeeper, pack: OpenPack) -> None:
    """While another one's mark is there, a pack is not touched; an old mark counts no more."""
    mark = layout.rewrite_mark(handmade.made.generation, pack.name)
    handmade.put(mark, b"another", days_ago=0)
    assert layout.place_of(mark).kind is layout.ObjectKind.MARK
    data = handmade.store.get(pack.name)
    started = handmade.clock.now()
    with pytest.raises(BusyError, match="another keeper rewrites"):
        take_out(handmade.keeper, "disk", pack.header, lambda _: {1})
    assert handmade.store.get(pack.name) == data
    assert (handmade.clock.now() - started).total_seconds() >= 600
    handmade.age(mark, 1)
    assert take_out(handmade.keeper, "disk", pack.header, lambda _: {1}).sections == 1


def test_who_took_too_long_for_the_mark_writes_nothing(handmade: HandmadeKeeper, pack: OpenPack) -> None:
    """Another keeper may count the mark as old by then."""
    data = handmade.store.get(pack.name)

    def slow(method: str, name: str) -> None:
        if method == "stat" and name == pack.name:
            handmade.clock.by += timedelta(minutes=40)

    handmade.store.before = slow
    with pytest.raises(BusyError, match="took too long"):
        take_out(handmade.keeper, "disk", pack.header, lambda _: {1})
    assert handmade.store.get(pack.name) == data


def test_what_another_keeper_took_meanwhile_stays_gone(handmade: HandmadeKeeper, pack: OpenPack) -> None:
    """The map is read under the mark: nothing that went before comes back, or counts twice."""
    reads = []

    def meanwhile(method: str, name: str) -> None:
        if method == "put_new" and name.startswith("runs/"):
            reads.append(name)
            handmade.take_out(pack.name, 0, 1)

    handmade.store.before = meanwhile
    taken = take_out(handmade.keeper, "disk", pack.header, lambda _: {1, 2})
    assert reads
    assert taken == TakenOut(1, pack.header.rows[2].length)
    assert handmade.repository.pack(handmade.made.generation, pack.header.sha256).there.there == [3, 4]


def test_the_bytes_that_stay_do_not_pass_through_the_keeper(handmade: HandmadeKeeper, pack: OpenPack) -> None:
    """It gives the map, and reads the header and sections at the cuts only."""
    calls: list[tuple[str, str]] = []
    handmade.store.before = lambda method, name: calls.append((method, name))
    take_out(handmade.keeper, "disk", pack.header, lambda _: {2})
    assert [
        method for method, name in calls if name == pack.name and method in ("put_new", "replace", "recompose")
    ] == ["recompose"]
    assert not [name for method, name in calls if method == "put_new" and ObjectName(name).startswith("packs/")]


def test_kept_ranges_are_the_sections_with_their_hashes(
    handmade: HandmadeKeeper, pack: OpenPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store through which the bytes pass can compare them."""
    seen = []
    monkeypatch.setattr(
        type(handmade.store.inner), "recompose", lambda _self, _name, pieces, _size: seen.extend(pieces)
    )
    data = handmade.store.get(pack.name)
    with pytest.raises(DamageError, match="has not the map"):
        take_out(handmade.keeper, "disk", pack.header, lambda _: {2})
    ranges = [piece for _, piece in kept(seen)]
    assert len(ranges) == 5
    assert all(hashlib.sha256(data[one.offset : one.offset + one.length]).digest() == one.sha256 for one in ranges)


def test_sections_in_each_others_places_are_not_taken_for_what_they_are_not(
    handmade: HandmadeKeeper, pack: OpenPack
) -> None:
    """Whoever may write to the store could have a purge take somebody else's bytes, and leave those that must go."""
    first, second = next(
        (a, b) for a in range(5) for b in range(a + 1, 5) if pack.header.rows[a].length == pack.header.rows[b].length
    )
    path = handmade.root / pack.name
    data = bytearray(path.read_bytes())
    one, other = (slice(pack.there.offsets[at], pack.there.offsets[at + 1]) for at in (first, second))
    data[one], data[other] = data[other], data[one]
    path.chmod(0o600)
    path.write_bytes(data)
    with pytest.raises(DamageError, match="another section"):
        take_out(handmade.keeper, "disk", pack.header, lambda _: {first})
    assert path.read_bytes() == data


def test_a_section_that_rotted_is_taken_out_all_the_same(handmade: HandmadeKeeper, pack: OpenPack) -> None:
    """Damage of what has to go keeps nothing from going, as long as all others are right."""
    path = handmade.root / pack.name
    data = bytearray(path.read_bytes())
    data[pack.there.offsets[2] + 5] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    assert take_out(handmade.keeper, "disk", pack.header, lambda _: {2}).sections == 1
