"""Lines of records: an honest writer's records stay in one line, whatever somebody with its key puts beside them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.model.ids import SnapshotName
from backupd.operations.snapshots import lines
from backupd.operations.snapshots.lines import record_lines


def name(hour: int, salt: int) -> SnapshotName:
    """An honest record has the salt 0."""
    return SnapshotName(f"202601{hour // 24 + 1:02d}T{hour % 24:02d}0000Z-{salt:064x}")


hours = st.lists(st.integers(0, 24 * 25), min_size=1, max_size=12, unique=True).map(sorted)
forged = st.lists(st.tuples(st.integers(0, 24 * 25), st.integers(0, 30)), max_size=8)


@settings(deadline=None)
@given(hours, forged, st.sets(st.integers(0, 11)))
def test_an_honest_chain_is_a_line_of_its_own(chain: list[int], lies: list[tuple[int, int]], gone: set[int]) -> None:
    """False records follow any but the newest; of the true ones some have expired, which the keeper remembers."""
    true = [name(hour, 0) for hour in chain]
    follows: dict[SnapshotName, list[SnapshotName]] = {
        one: [before] if before else [] for one, before in zip(true, [None, *true], strict=False)
    }
    for salt, (hour, after) in enumerate(lies, start=1):
        known = sorted(follows.keys() - {true[-1]})
        follows[name(hour, salt)] = [known[after % len(known)]] if after and known else []
    expired = {true[at] for at in gone if at < len(true) - 1}
    there = {one: before for one, before in follows.items() if one not in expired}
    left = {one for one in true if one not in expired}
    found = record_lines(there, {one: follows[one] for one in expired})
    assert set().union(*found) == there.keys()
    assert frozenset(left) in found


@settings(deadline=None)
@given(hours, st.sets(st.integers(0, 11)))
def test_one_writers_records_are_one_line_also_where_nobody_remembers(chain: list[int], gone: set[int]) -> None:
    """A keeper that lost its cache, or a store that was away, has no more lines than before."""
    true = [name(hour, 0) for hour in chain]
    there = {
        one: [before] if before else []
        for at, (one, before) in enumerate(zip(true, [None, *true], strict=False))
        if at not in gone
    }
    assert record_lines(there, {}) == ((frozenset(there),) if there else ())


@settings(deadline=None)
@given(hours, st.data())
def test_what_was_handed_in_is_one_line_whatever_came(chain: list[int], data: st.DataObject) -> None:
    """A node that hands in names the last record that was taken, and all that it handed in since."""
    true = [name(hour, 0) for hour in chain]
    taken = data.draw(st.sets(st.integers(0, len(true) - 1)))
    follows: dict[SnapshotName, list[SnapshotName]] = {}
    for at, one in enumerate(true):
        seen = data.draw(st.integers(0, at))
        newest = max((before for before in range(seen) if before in taken), default=None)
        since = [] if newest is None else [true[newest]]
        follows[one] = [*true[0 if newest is None else newest + 1 : at][::-1], *since]
    there = {one: follows[one] for at, one in enumerate(true) if at in taken}
    assert record_lines(there, {}) == ((frozenset(there),) if there else ())


def test_records_in_a_circle_are_lines_too() -> None:
    """No writer makes such, as each name is a hash; nothing hangs or is left out."""
    first, second = name(1, 1), name(2, 2)
    found = record_lines({first: [second], second: [first]}, {})
    assert set().union(*found) == {first, second}


def test_too_many_lines_are_judged_one_record_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing gives its place to another, and neither memory nor time is anybody's to take."""
    monkeypatch.setattr(lines, "_MOST_LINES", 3)
    there: dict[SnapshotName, list[SnapshotName]] = {name(0, 0): []}
    there |= {name(1, salt): [name(0, 0)] for salt in range(1, 4)}
    assert len(lines.record_lines(there, {})) == 3
    there[name(2, 4)] = [name(0, 0)]
    assert set(lines.record_lines(there, {})) == {frozenset({one}) for one in there}
