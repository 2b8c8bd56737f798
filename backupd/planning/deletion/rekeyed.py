"""Whom the ledger says a store's keyrings are sealed to, FORMAT.md §10. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from backupd.model.ids import Fingerprint
from backupd.model.instants import parse_stamp
from backupd.model.stored.ledger import LedgerEntry, RekeyBegan, Rekeyed

Recipients = frozenset[Fingerprint]


@dataclass(frozen=True, slots=True)
class RequiredRecipients:
    """What keyrings of before some instant must be sealed to."""

    at: datetime
    """When every keyring was seen to be."""
    allowed: tuple[Recipients, ...]
    """The recipients of that time, and those of rekeyings that were begun since."""


def rekeyed_to(entries: Iterable[LedgerEntry], store: str) -> list[Recipients]:
    """Every set of recipients that keyrings on the store were, or may have been, put anew for; oldest first."""
    return [
        frozenset(event.recipients)
        for entry in entries
        for event in entry.events
        if isinstance(event, RekeyBegan) and event.store == store
    ]


def standing_recipients(entries: Iterable[LedgerEntry], store: str) -> RequiredRecipients | None:
    """Whom the newest rekeying that ended left the store's keyrings sealed to; None when none ever did."""
    standing: RequiredRecipients | None = None
    for entry in entries:
        for event in entry.events:
            if isinstance(event, Rekeyed) and event.store == store:
                standing = RequiredRecipients(parse_stamp(entry.at), (frozenset(event.recipients),))
            elif isinstance(event, RekeyBegan) and event.store == store and standing is not None:
                standing = RequiredRecipients(standing.at, (*standing.allowed, frozenset(event.recipients)))
    return standing
