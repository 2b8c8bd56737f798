"""Entries of the ledger are believed: what could not have been decided changes what it says, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backupd.model.ids import TenantId
from backupd.model.ledger import Absent, Cleared, Event, Held, PurgeBegan, Released, Shredded, Unsubscribed
from backupd.model.text import stamp
from backupd.planning.incarnations import Incarnation, IncarnationKey, Purge, State, TenantStates, foreseen

ADA, BOB, CYD = (TenantId(letter * 32) for letter in "abc")
START = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
OF_ADA = {"tenant": ADA, "incarnation": 1, "scope": ""}
LEFT = Unsubscribed(
    **OF_ADA, since=stamp(START), deadline=stamp(START + 30 * DAY), purge_by=stamp(START + 20 * DAY), by="command"
)
HOLD = Held(tenant=BOB, hold="CASE-1", review=stamp(START + 90 * DAY))


def after(*events: Event) -> TenantStates:
    return foreseen(TenantStates(), events, START)


def test_a_tenant_is_known_by_what_befell_it_or_by_a_hold() -> None:
    """Also by one that was released."""
    states = after(LEFT, HOLD, Released(tenant=BOB, hold="CASE-1", due=stamp(START + DAY)))
    assert [states.knows(tenant) for tenant in (ADA, BOB, CYD)] == [True, True, False]


def test_who_stays_has_no_dates() -> None:
    """Asking for them is a mistake of the caller's."""
    active = Incarnation(IncarnationKey(CYD, 1))
    for ask in (after(LEFT).purge_by, after(LEFT).deadline):
        with pytest.raises(ValueError, match="has no date"):
            ask(active)


def test_a_release_of_no_hold_holds_nothing() -> None:
    """Nor does it release another one."""
    other = Released(tenant=BOB, hold="CASE-2", due=stamp(START + DAY))
    assert after(other) == TenantStates()
    assert after(HOLD, other) == after(HOLD)


@pytest.mark.parametrize(
    "event",
    [
        Shredded(**OF_ADA, store="disk", keyrings=1),
        Cleared(**OF_ADA, store="disk", objects=1, bytes=1),
        Absent(**OF_ADA, store="disk", snapshots=[]),
    ],
    ids=["shredded", "cleared", "absent"],
)
def test_a_step_of_a_purge_that_did_not_begin_is_none(event: Event) -> None:
    """Whoever was marked is as before, and once the purge begins, this step is still to be done."""
    key = IncarnationKey(ADA, 1)
    assert after(LEFT, event).incarnations[key] == after(LEFT).incarnations[key]
    began = PurgeBegan(**OF_ADA, segments=[], stores=["disk"])
    assert after(LEFT, event, began).incarnations[key] == after(LEFT, began).incarnations[key]
    assert after(LEFT, began, event).incarnations[key] != after(LEFT, began).incarnations[key]


def test_a_purge_is_as_far_as_on_the_store_where_it_is_least_far() -> None:
    """Unreadable only where no store has a key any more, cleared only where none has a byte."""
    began = PurgeBegan(**OF_ADA, segments=[], stores=["disk", "cellar"])
    shredded = [Shredded(**OF_ADA, store=store, keyrings=1) for store in began.stores]
    cleared = [Cleared(**OF_ADA, store=store, objects=1, bytes=1) for store in began.stores]
    events = [LEFT, began, *shredded, *cleared]
    states = [after(*events[:number]).incarnations[IncarnationKey(ADA, 1)].state for number in range(1, 7)]
    assert states == [State.MARKED, State.PURGING, State.PURGING, State.UNREADABLE, State.UNREADABLE, State.CLEARED]


def test_a_purge_goes_from_state_to_state_as_its_stores_do() -> None:
    """Every store has to come as far; what was attested stays so, whatever is known of stores."""
    key, seen = IncarnationKey(ADA, 1), {"disk": START}
    both = {**seen, "cellar": START}

    def state(shredded: dict[str, datetime], cleared: dict[str, datetime], attestation: str | None = None) -> State:
        purge = Purge(START, frozenset(both), frozenset(), shredded, cleared)
        return Incarnation(key, purge=purge, attestation=attestation).state

    assert state({}, {}) is state(seen, both) is State.PURGING
    assert state(both, {}) is state(both, seen) is State.UNREADABLE
    assert state(both, both) is State.CLEARED
    assert state(both, both, "0" * 64) is state({}, {}, "0" * 64) is State.ATTESTED
