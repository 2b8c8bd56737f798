"""The dates of an entry that a clock which was ahead wrote: what was done counts later, and deadlines come earlier."""

from __future__ import annotations

from backupd.model.ids import RegionName, RepositoryId, TenantId
from backupd.model.ledger import Event, Held, LedgerEntry, Released, Unsubscribed
from backupd.model.misdated_entries import Misdating, redate

EARLIEST, LATEST = "2030-01-01T00:00:00.000000Z", "2030-01-03T00:00:00.000000Z"
AHEAD, NEXT = "2032-01-01T00:00:00.000000Z", "2032-01-11T00:00:00.000000Z"
WHO = TenantId("ab" * 16)


def read(event: Event) -> Event:
    entry = LedgerEntry(
        repository=RepositoryId("0" * 32), region=RegionName("be"), seq=7, previous="1" * 64, at=AHEAD, events=[event]
    )
    redated = redate(entry, Misdating(EARLIEST, LATEST))
    assert redated.at == LATEST
    (found,) = redated.events
    return found


def leaving(since: str, deadline: str = NEXT, purge_by: str = NEXT) -> Unsubscribed:
    return Unsubscribed(tenant=WHO, incarnation=1, since=since, deadline=deadline, purge_by=purge_by)


def test_a_day_that_the_clock_gave_counts_from_the_earliest_and_the_purge_from_the_latest() -> None:
    """Ten days after: the deadline comes in time, and nothing is removed before its time."""
    assert read(leaving(AHEAD)) == leaving(
        EARLIEST, deadline="2030-01-11T00:00:00.000000Z", purge_by="2030-01-13T00:00:00.000000Z"
    )


def test_a_day_of_the_past_was_given_by_somebody_who_knew_it() -> None:
    """It stays, with what follows from it."""
    assert read(leaving(EARLIEST)) == leaving(EARLIEST)


def test_a_release_is_due_as_long_after_the_earliest_instant() -> None:
    """And a hold, which dates nothing, stays as it is."""
    released = Released(tenant=WHO, hold="CASE-1", due=NEXT)
    assert read(released) == Released(tenant=WHO, hold="CASE-1", due="2030-01-11T00:00:00.000000Z")
    held = Held(tenant=WHO, hold="CASE-1", review=NEXT)
    assert read(held) == held
