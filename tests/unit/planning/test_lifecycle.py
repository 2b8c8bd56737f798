"""Each command about a tenant gives exactly these events in each state; the laws say what holds of any sequence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backupd.errors import RefusedError
from backupd.model.ids import TenantId
from backupd.model.ledger import (
    ErasureRequested,
    Event,
    Held,
    Moved,
    PurgeBegan,
    Released,
    Resubscribed,
    Returned,
    Unsubscribed,
)
from backupd.model.text import stamp
from backupd.planning import lifecycle
from backupd.planning.incarnations import TenantStates, foreseen
from backupd.planning.lifecycle import ClockDates

ADA, BOB = TenantId("a" * 32), TenantId("b" * 32)
START = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def dates(day: int, by: str = "command") -> ClockDates:
    """Of who leaves on that day: 30 days to be gone, 20 to be purged."""
    return ClockDates(START + day * DAY, START + (day + 30) * DAY, START + (day + 20) * DAY, by)


def stamps(day: int, by: str = "command") -> dict[str, str]:
    one = dates(day, by)
    return {"since": stamp(one.since), "deadline": stamp(one.deadline), "purge_by": stamp(one.purge_by), "by": by}


def after(*events: Event) -> TenantStates:
    """The states that these events leave, a day apart."""
    states = TenantStates()
    for number, event in enumerate(events):
        states = foreseen(states, [event], START + number * DAY)
    return states


def of(number: int = 1, scope: str = "") -> dict[str, object]:
    return {"tenant": ADA, "incarnation": number, "scope": scope}


MARKED = after(Unsubscribed(**of(scope="support"), **stamps(3)))
PURGED = after(
    Unsubscribed(**of(scope="support"), **stamps(3)),
    PurgeBegan(**of(scope="support"), segments=[], stores=["disk"]),
)
HOLD = Held(tenant=ADA, hold="CASE-1", review=stamp(START + 90 * DAY))


def test_who_unsubscribes_is_marked_once() -> None:
    """In its own scope; again with the same beginning it is nothing, and with another one it is refused."""
    event = Unsubscribed(**of(scope="support"), **stamps(3, "query"))
    assert lifecycle.unsubscribe(TenantStates(), ADA, dates(3, "query"), "support") == [event]
    assert lifecycle.unsubscribe(MARKED, ADA, dates(3), "support") == []
    assert lifecycle.unsubscribe(MARKED, ADA, dates(4)) == [Unsubscribed(**of(), **stamps(4))]
    assert lifecycle.unsubscribe(PURGED, ADA, dates(4), "support") == []
    with pytest.raises(RefusedError) as raised:
        lifecycle.unsubscribe(MARKED, ADA, dates(4), "support")
    assert raised.value.message == f"tenant {ADA} is marked since {stamp(dates(3).since)} already"
    assert raised.value.hint == (
        "If it came back in between, say `tenant resubscribe` first: its dates then start again."
    )


def test_who_is_to_be_erased_may_be_unsubscribed_at_any_beginning() -> None:
    """The request to erase set the dates, and stays."""
    erased = after(ErasureRequested(**of(), **stamps(3)))
    assert lifecycle.unsubscribe(erased, ADA, dates(4)) == []


def test_who_left_again_has_new_dates() -> None:
    """The old ones are cancelled in the same entry."""
    assert lifecycle.unsubscribe_again(MARKED, ADA, dates(9, "query"), "support") == [
        Resubscribed(**of(scope="support")),
        Unsubscribed(**of(scope="support"), **stamps(9, "query")),
    ]
    assert lifecycle.unsubscribe_again(MARKED, ADA, dates(9))[0] == Resubscribed(**of())


def test_who_comes_back_loses_its_dates_or_begins_a_new_life() -> None:
    """And nobody else does."""
    assert lifecycle.resubscribe(TenantStates(), ADA) == []
    assert lifecycle.resubscribe(MARKED, BOB, "support") == []
    assert lifecycle.resubscribe(MARKED, ADA) == []
    assert lifecycle.resubscribe(MARKED, ADA, "support") == [Resubscribed(**of(scope="support"))]
    assert lifecycle.resubscribe(PURGED, ADA) == []
    assert lifecycle.resubscribe(PURGED, ADA, "support") == [Returned(**of(2, "support"))]


def test_a_hold_is_put_once_and_its_review_may_move() -> None:
    """Not on a tenant whose purge has begun, and never again under a reference that was released."""
    held = after(HOLD)
    review = START + 90 * DAY
    assert lifecycle.hold(TenantStates(), ADA, "CASE-1", review) == [HOLD]
    assert lifecycle.hold(held, ADA, "CASE-1", review) == []
    assert lifecycle.hold(held, ADA, "CASE-1", review + DAY) == [
        Held(tenant=ADA, hold="CASE-1", review=stamp(review + DAY))
    ]
    released = after(HOLD, Released(tenant=ADA, hold="CASE-1", due=stamp(review)))
    with pytest.raises(RefusedError) as raised:
        lifecycle.hold(released, ADA, "CASE-1", review)
    assert (raised.value.message, raised.value.hint) == (
        "hold CASE-1 on this tenant was released",
        "Give a new hold a new reference.",
    )
    purged = after(PurgeBegan(**of(), segments=[], stores=["disk"]))
    with pytest.raises(RefusedError) as raised:
        lifecycle.hold(purged, ADA, "CASE-1", review)
    assert (raised.value.message, raised.value.hint) == (
        f"the purge of tenant {ADA} began at {stamp(START)}",
        "Nothing of it can be held any more.",
    )


def test_a_hold_is_released_once() -> None:
    """One that is not there is named, and beside it what this tenant has, and nobody else's."""
    due = START + 40 * DAY
    event = Released(tenant=ADA, hold="CASE-1", due=stamp(due))
    assert lifecycle.release(after(HOLD), ADA, "CASE-1", due) == [event]
    assert lifecycle.release(after(HOLD, event), ADA, "CASE-1", due) == []
    states = after(HOLD, Held(tenant=ADA, hold="AUDIT", review=HOLD.review))
    for tenant, reference, hint in (
        (ADA, "CASE-2", 'Did you mean "CASE-1"?'),
        (ADA, "9", "Known are AUDIT, CASE-1."),
        (BOB, "CASE-1", "There is none on this tenant: look at its name."),
    ):
        with pytest.raises(RefusedError) as raised:
            lifecycle.release(states, tenant, reference, due)
        assert raised.value.message == f"tenant {tenant} has no hold {reference}"
        assert raised.value.hint == hint


def test_who_is_to_be_erased_keeps_an_earlier_date() -> None:
    """From the beginning that it has; the request is heard once, and not under a hold."""
    assert lifecycle.erase(TenantStates(), ADA, dates(3), "support") == [
        ErasureRequested(**of(scope="support"), **stamps(3))
    ]
    assert lifecycle.erase(PURGED, ADA, dates(3), "support") == []
    assert lifecycle.erase(MARKED, ADA, dates(3), "support") == []
    sooner = dates(0)._replace(deadline=START + 99 * DAY)
    assert lifecycle.erase(MARKED, ADA, sooner, "support") == [
        ErasureRequested(**of(scope="support"), **{**stamps(3), "purge_by": stamp(sooner.purge_by)})
    ]
    with pytest.raises(RefusedError) as raised:
        lifecycle.erase(after(HOLD, Held(tenant=ADA, hold="CASE-2", review=HOLD.review)), ADA, dates(3))
    assert (raised.value.message, raised.value.hint) == (
        f"tenant {ADA} is held by CASE-1, CASE-2",
        "Release the hold first, if the person who ordered it agrees.",
    )


def test_a_request_to_erase_that_stands_is_not_repeated_behind_a_hold() -> None:
    """A hold that was released later than the request's date moved it; an earlier request moves it back."""
    late = START + 40 * DAY
    for by in ("query", "command"):
        asked = after(ErasureRequested(**of(), **stamps(3, by)), HOLD)
        released = foreseen(asked, [Released(tenant=ADA, hold="CASE-1", due=stamp(late + 30 * DAY))], late)
        assert lifecycle.erase(released, ADA, dates(3, by)) == []
    assert lifecycle.erase(released, ADA, dates(2)) == [
        ErasureRequested(**of(), **{**stamps(2), "since": stamps(3)["since"]})
    ]
    assert lifecycle.erase(released, ADA, dates(3, "query")) == [ErasureRequested(**of(), **stamps(3, "query"))]
    unsubscribed = after(Unsubscribed(**of(), **stamps(3)), HOLD)
    released = foreseen(unsubscribed, [Released(tenant=ADA, hold="CASE-1", due=stamp(late + 30 * DAY))], late)
    assert lifecycle.erase(released, ADA, dates(3)) == [ErasureRequested(**of(), **stamps(3))]


def test_who_moves_keeps_the_earlier_of_two_dates() -> None:
    """And moves once to each region; nothing of who is purged moves."""
    assert lifecycle.move(TenantStates(), ADA, dates(3), "ch") == [Moved(**of(), **stamps(3), to="ch")]
    moved = after(Moved(**of(), **stamps(3), to="ch"))
    assert lifecycle.move(moved, ADA, dates(3), "ch") == []
    assert lifecycle.move(moved, ADA, dates(9), "be") == [Moved(**of(), **stamps(3), to="be")]
    assert lifecycle.move(moved, ADA, dates(1), "be") == [
        Moved(**of(), **{**stamps(1), "since": stamps(3)["since"]}, to="be")
    ]
    unsubscribed = after(Unsubscribed(**of(), **stamps(3)))
    assert lifecycle.move(unsubscribed, ADA, dates(3), "ch") == [Moved(**of(), **stamps(3), to="ch")]
    assert lifecycle.move(after(PurgeBegan(**of(), segments=[], stores=["disk"])), ADA, dates(3), "ch") == []
