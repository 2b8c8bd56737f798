"""The dates with which an entry of the ledger is read that was dated ahead, FORMAT.md §10. Pure.

Nobody knows when such an entry was really written: at the earliest when the preceding entry was, at the latest when a
later entry declared it misdated, or when one after that did so to the declaration. Every date is read on its safe side.
What was done counts from the latest instant, so that nothing is removed before its time. Deadlines count from the
earliest, so that alarms come in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import msgspec

from backupd.model.ledger import ErasureRequested, Event, LedgerEntry, Moved, Released, Unsubscribed
from backupd.model.text import parse_stamp, stamp


@dataclass(frozen=True, slots=True)
class Misdating:
    """The instants between which a misdated entry was written, as stamps."""

    earliest: str
    latest: str


def redate(entry: LedgerEntry, misdating: Misdating) -> LedgerEntry:
    """Return the entry with the dates to read it with."""
    ahead = parse_stamp(entry.at) - parse_stamp(misdating.earliest)
    events = [_redated(event, ahead, misdating) for event in entry.events]
    return msgspec.structs.replace(entry, at=misdating.latest, events=events)


def _redated(event: Event, ahead: timedelta, misdating: Misdating) -> Event:
    match event:
        # A day of the past was given by somebody who knew it, not by the clock.
        case Unsubscribed() | ErasureRequested() | Moved() if event.since > misdating.latest:
            since = parse_stamp(event.since)
            return msgspec.structs.replace(
                event,
                since=misdating.earliest,
                deadline=_earlier(event.deadline, since - parse_stamp(misdating.earliest)),
                purge_by=_earlier(event.purge_by, since - parse_stamp(misdating.latest)),
            )
        case Released():
            return msgspec.structs.replace(event, due=_earlier(event.due, ahead))
        case _:
            return event


def _earlier(date: str, span: timedelta) -> str:
    return stamp(parse_stamp(date) - span)
