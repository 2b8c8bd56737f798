"""Incarnations keep their laws under all orders of commands."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from backupd.errors import RefusedError
from backupd.model.ids import GenerationId, Pseudonym, RegionName, RepositoryId, TenantId
from backupd.model.ledger import (
    Absent,
    Attested,
    Cleared,
    ErasureRequested,
    Event,
    Held,
    LedgerEntry,
    Moved,
    PurgeBegan,
    Released,
    Resubscribed,
    Returned,
    Shredded,
    Unsubscribed,
)
from backupd.model.text import stamp
from backupd.planning import lifecycle
from backupd.planning.incarnations import IncarnationKey, State, TenantStates, fold
from backupd.planning.lifecycle import ClockDates

DAY = timedelta(days=1)
START = datetime(2030, 1, 1, tzinfo=UTC)
ADA, BOB = TenantId("a" * 32), TenantId("b" * 32)
GENERATION = GenerationId("20300101T000000Z-00000000")

Command = Callable[[TenantStates], list[Event]]
tenants = st.sampled_from([ADA, BOB])
scopes = st.sampled_from(["", "support"])
references = st.sampled_from(["CASE-1", "CASE-2"])
days = st.integers(0, 60)


def at(day: int) -> datetime:
    return START + day * DAY


def dates(day: int, window: int, purge: int) -> ClockDates:
    return ClockDates(at(day), at(day + window), at(day + purge))


def purge(tenant: TenantId, scope: str, number: int) -> Command:
    """What the keeper does of its own: the step that is next, of an incarnation that is due on day `number`."""

    def decide(states: TenantStates) -> list[Event]:
        incarnation = states.current(tenant, scope)
        if incarnation.purge is None:
            ref = (GENERATION, Pseudonym(f"{number:032x}"))
            began = PurgeBegan(**incarnation.key._asdict(), segments=[ref], stores=["near"])
            return [began] if incarnation in states.due(at(number)) else []
        steps: dict[State, Event] = {
            State.PURGING: Shredded(**incarnation.key._asdict(), store="near", keyrings=1),
            State.UNREADABLE: Cleared(**incarnation.key._asdict(), store="near", objects=1, bytes=1),
        }
        return [steps[incarnation.state]] if incarnation.state in steps else []

    return decide


spoken: st.SearchStrategy[tuple[int, Command]] = st.one_of(
    st.builds(
        lambda t, s, d: (d, lambda states: lifecycle.unsubscribe(states, t, dates(d, 40, 20), s)), tenants, scopes, days
    ),
    st.builds(
        lambda t, s, d: (d, lambda states: lifecycle.erase(states, t, dates(d, 40, 1), s)), tenants, scopes, days
    ),
    st.builds(lambda t, s, d: (d, lambda states: lifecycle.resubscribe(states, t, s)), tenants, scopes, days),
    st.builds(
        lambda t, to, d: (d, lambda states: lifecycle.move(states, t, dates(d, 40, 20), to)),
        tenants,
        st.sampled_from(["nl", "de"]),
        days,
    ),
    st.builds(lambda t, r, d: (d, lambda states: lifecycle.hold(states, t, r, at(d + 90))), tenants, references, days),
    st.builds(
        lambda t, r, d: (d, lambda states: lifecycle.release(states, t, r, at(d + 7))), tenants, references, days
    ),
    st.builds(lambda t, s, d: (d, purge(t, s, d)), tenants, scopes, days),
)
histories = st.lists(spoken, max_size=14).map(lambda told: sorted(told, key=lambda one: one[0]))


def entry(seq: int, day: int, *events: Event) -> LedgerEntry:
    return LedgerEntry(
        repository=RepositoryId("ab" * 16),
        region=RegionName("be"),
        seq=seq,
        previous=None if seq == 1 else "0" * 64,
        at=stamp(at(day)),
        events=list(events),
    )


def written(history: list[tuple[int, Command]]) -> list[LedgerEntry]:
    """The ledger that these commands make; what is refused leaves nothing."""
    entries: list[LedgerEntry] = []
    states = TenantStates()
    for day, command in history:
        try:
            events = command(states)
        except RefusedError:
            continue
        if events:
            entries.append(entry(len(entries) + 1, day, *events))
            states = fold(entries[-1:], states)
    return entries


@given(histories, spoken)
def test_every_command_is_idempotent(history: list[tuple[int, Command]], last: tuple[int, Command]) -> None:
    """Said twice, it is so already: the second time answers with nothing, and refuses nothing it allowed."""
    entries = written(history)
    states = fold(entries)
    try:
        events = last[1](states)
    except RefusedError:
        return
    day = max(last[0], 60)
    again = fold([entry(len(entries) + 1, day, *events)], states) if events else states
    life_event = events and isinstance(events[0], PurgeBegan | Shredded)
    assert life_event or last[1](again) == []


@given(histories, st.integers(0, 20))
def test_folding_in_pieces_is_folding_the_whole(history: list[tuple[int, Command]], cut: int) -> None:
    """A reader that goes on where it stopped knows what one knows who begins at the first entry."""
    entries = written(history)
    assert fold(entries[cut:], fold(entries[:cut])) == fold(entries)


@given(histories)
def test_a_purge_is_never_decided_for_whom_it_must_not_be(history: list[tuple[int, Command]]) -> None:
    """Whoever is due is marked, past the date, held by nobody, and the newest incarnation of its tenant."""
    states = fold(written(history))
    for day in range(0, 120, 5):
        for incarnation in states.due(at(day)):
            assert incarnation.state is State.MARKED
            assert incarnation.clock is not None
            assert incarnation.clock.purge_by <= at(day)
            assert not states.held(incarnation.key.tenant)
            assert states.current(incarnation.key.tenant, incarnation.key.scope) == incarnation


@given(histories, spoken)
def test_dates_never_move_silently(history: list[tuple[int, Command]], last: tuple[int, Command]) -> None:
    """A date moves only by an event that says so: later by a release or a new beginning alone."""
    entries = written(history)
    before = fold(entries)
    try:
        events = last[1](before)
    except RefusedError:
        return
    after = fold([entry(len(entries) + 1, 60, *events)], before)
    for key, incarnation in before.incarnations.items():
        if incarnation.clock is None or after.incarnations[key].clock is None:
            assert incarnation.clock == after.incarnations[key].clock or any(
                isinstance(one, Unsubscribed | ErasureRequested | Moved | Resubscribed) for one in events
            )
            continue
        if before.deadline(incarnation) < after.deadline(after.incarnations[key]):
            assert any(isinstance(one, Released) for one in events)
        if before.purge_by(incarnation) < after.purge_by(after.incarnations[key]):
            assert any(isinstance(one, Released) for one in events)
    for name, hold in before.holds.items():
        assert after.holds[name].since == hold.since


@given(histories, st.lists(st.sampled_from(["resubscribed", "returned", "unsubscribed", "attested"]), max_size=3))
def test_a_purge_that_began_is_never_forgotten(history: list[tuple[int, Command]], also: list[str]) -> None:
    """Nothing that follows takes a segment out of a purge, not even an event nobody could have decided."""
    entries = written(history)
    before = fold(entries)
    for key, incarnation in before.incarnations.items():
        if incarnation.purge is None:
            continue
        known = incarnation.key._asdict()
        strange: dict[str, Event] = {
            "resubscribed": Resubscribed(**known),
            "returned": Returned(**known),
            "unsubscribed": Unsubscribed(**known, since=stamp(START), deadline=stamp(START), purge_by=stamp(START)),
            "attested": Attested(**known, attestation="0" * 64),
        }
        after = fold([entry(len(entries) + 1, 60, *(strange[word] for word in also))], before)
        assert after.incarnations[key].purge is not None
        assert incarnation.purge.segments <= after.incarnations[key].purge.segments


def test_no_event_is_lost_in_any_state() -> None:
    """Each event about an incarnation shows in it, whatever came before."""
    key = IncarnationKey(ADA, 1)
    told = {name: stamp(at(1)) for name in ("since", "deadline", "purge_by")}
    ref = (GENERATION, Pseudonym("1" * 32))
    clock: list[list[Event]] = [
        [],
        [Unsubscribed(**key._asdict(), **told)],
        [ErasureRequested(**key._asdict(), **told)],
        [Moved(**key._asdict(), **told, to="nl")],
        [Held(tenant=ADA, hold="CASE-1", review=stamp(at(9)))],
    ]
    for before in clock:
        began = PurgeBegan(**key._asdict(), segments=[ref], stores=["near", "far"])
        incarnation = fold([entry(1, 1, *before, began)]).incarnations[key]
        assert (incarnation.state, incarnation.purge and incarnation.purge.segments) == (State.PURGING, {ref})
        assert (incarnation.clock is None) == (not before or isinstance(before[0], Held))
        steps: list[Event] = [
            kind(**key._asdict(), store=store, **more)
            for store in ("near", "far")
            for kind, more in (
                (Shredded, {"keyrings": 1}),
                (Cleared, {"objects": 1, "bytes": 1}),
                (Absent, {"snapshots": []}),
            )
        ]
        # Stores advance on their own, in any order of theirs.
        for order in (steps, steps[3:] + steps[:3], steps[::-1]):
            done = fold([entry(1, 1, *before, began), entry(2, 2, *order)]).incarnations[key].purge
            assert done is not None
            assert done.shredded.keys() == done.cleared.keys() == done.absent.keys() == {"near", "far"}


@example(20, 2)
@given(st.integers(0, 40), st.integers(0, 20))
def test_a_request_to_erase_is_heard_behind_a_release(released: int, asked: int) -> None:
    """A hold that ends leaves time to purge; a tenant that asks to be erased need not wait for it."""
    states = fold(
        [
            entry(1, 0, *lifecycle.unsubscribe(TenantStates(), ADA, dates(0, 40, 20))),
            entry(2, 0, Held(tenant=ADA, hold="CASE-1", review=stamp(at(90)))),
            entry(3, released, Released(tenant=ADA, hold="CASE-1", due=stamp(at(released + 30)))),
        ]
    )
    day = released + asked
    events = lifecycle.erase(states, ADA, dates(day, 40, 1))
    after = fold([entry(4, day, *events)], states)
    incarnation, was = after.current(ADA), states.current(ADA)
    assert after.purge_by(incarnation) == min(at(day + 1), states.purge_by(was))
    assert after.deadline(incarnation) <= states.deadline(was)


def test_a_move_elsewhere_is_told() -> None:
    """The region a tenant moves to can be corrected; the dates stay those of the first move."""
    states = fold([entry(1, 0, *lifecycle.move(TenantStates(), ADA, dates(0, 40, 20), "nl"))])
    assert lifecycle.move(states, ADA, dates(3, 40, 20), "nl") == []
    after = fold([entry(2, 3, *lifecycle.move(states, ADA, dates(3, 40, 20), "de"))], states)
    clock, first = after.current(ADA).clock, states.current(ADA).clock
    assert clock is not None
    assert first is not None
    assert (clock.to, clock.deadline, clock.purge_by) == ("de", first.deadline, first.purge_by)


def test_a_hold_with_a_new_review_keeps_what_it_kept() -> None:
    """The review moves; the instant the hold began, which says what it keeps, does not."""
    states = fold([entry(1, 0, *lifecycle.hold(TenantStates(), ADA, "CASE-1", at(30)))])
    after = fold([entry(2, 20, *lifecycle.hold(states, ADA, "CASE-1", at(60)))], states)
    assert (after.holds[ADA, "CASE-1"].since, after.holds[ADA, "CASE-1"].review) == (at(0), at(60))
