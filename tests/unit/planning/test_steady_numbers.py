"""What is added to a list, or taken from it, changes the numbers and places of nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.planning.incremental.steady_numbers import SteadyNumber, steady_numbers

LAST = (1 << 32) - 1
KEYS = st.lists(st.integers(0, 99).map(lambda number: b"%d" % number), unique=True, max_size=30)


def numbered(keys: list[bytes], known: dict[bytes, SteadyNumber]) -> dict[bytes, SteadyNumber]:
    """A numbering of the list, looked at for what always holds."""
    found = steady_numbers(keys, known)
    places = [one.place for one in found]
    assert len(found) == len(keys)
    assert places == sorted(set(places))
    assert all(0 <= place <= LAST for place in places)
    assert len({one.number for one in found}) == len(keys)
    assert all(1 <= one.number <= 2 * len(keys) + (1 << 16) for one in found)
    return dict(zip(keys, found, strict=True))


@given(KEYS, st.lists(st.tuples(st.integers(0, 30), st.integers(100, 199)), max_size=5), st.sets(st.integers(0, 29)))
def test_who_stays_keeps_both(keys: list[bytes], added: list[tuple[int, int]], gone: set[int]) -> None:
    """Whatever comes and goes beside it, as long as the order of those that stay is the same."""
    known = numbered(keys, {})
    later = [key for at, key in enumerate(keys) if at not in gone]
    for at, number in added:
        if b"%d" % number not in later:
            later.insert(at, b"%d" % number)
    found = numbered(later, known)
    assert {key: found[key] for key in later if key in known} == {key: known[key] for key in later if key in known}


def test_who_moves_gets_a_new_place_alone() -> None:
    """And keeps its number."""
    keys = [b"%d" % number for number in range(10)]
    known = numbered(keys, {})
    found = numbered([*keys[:2], *keys[3:8], keys[2], *keys[8:]], known)
    assert {key for key in keys if found[key] != known[key]} == {b"2"}
    assert found[b"2"].number == known[b"2"].number


@pytest.mark.parametrize("upwards", [True, False])
def test_where_no_room_is_left_few_neighbours_move(upwards: bool) -> None:
    """However many come into the same gap, one after the other, only some near them ever move."""
    keys = [b"%d" % number for number in range(60)]
    first = known = numbered(keys, {})
    at = 30
    for number in range(50):
        keys.insert(at, b"new %d" % number)
        at += upwards
        known = numbered(keys, known)
    moved = {key for key in first if known[key] != first[key]}
    assert moved
    assert len(moved) <= 20


@given(KEYS, st.dictionaries(st.integers(0, 99), st.tuples(st.integers(0, LAST), st.integers(0, LAST))))
def test_whatever_is_remembered_the_numbering_is_one(keys: list[bytes], known: dict[int, tuple[int, int]]) -> None:
    """Places twice, numbers twice, 0 or far too high: they are given anew."""
    numbered(keys, {b"%d" % key: SteadyNumber(*pair) for key, pair in known.items()})


def test_numbers_of_those_that_are_gone_are_given_again() -> None:
    """So that they stay low: pg_restore's memory grows with the highest."""
    known = numbered([b"a", b"b", b"c"], {})
    assert numbered([b"a", b"c", b"d"], known)[b"d"].number == known[b"b"].number
