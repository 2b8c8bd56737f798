"""Declare entries misdated that a wrong clock dated ahead, so that work can go on behind them."""

from __future__ import annotations

from re import fullmatch
from typing import TYPE_CHECKING

from backupd.errors import UsageError
from backupd.model.ledger import REFERENCE, Event, Misdated
from backupd.planning.incarnations import TenantStates

if TYPE_CHECKING:
    from backupd.operations.ledger.book import Book


def redate(book: Book, decision: str, *, dry_run: bool = False) -> list[int]:
    """Append that the entries dated ahead are misdated; returns their numbers, none when all dates are right.

    With `dry_run` nothing is appended.
    `decision` is a reference to the decision. Raises UsageError when it is none, RefusedError unless every store that
    can be reached agrees with this machine's clock, and what `Book.append` raises.
    """
    require_reference(decision)
    book.require_clock(everywhere=True)

    def decide(_: TenantStates) -> list[Event]:
        ahead = book.ahead
        return [Misdated(entries=ahead, decision=decision)] if ahead else []

    if dry_run:
        return book.ahead
    return [seq for event in book.append(decide) if isinstance(event, Misdated) for seq in event.entries]


def require_reference(decision: str) -> None:
    """Raise UsageError unless the text is a short reference that the ledger can keep for good."""
    if fullmatch(REFERENCE, decision) is None:
        raise UsageError(
            "a decision needs a reference of up to 64 letters, digits and ._/#-",
            hint="The number of a ticket or a protocol, never a sentence: the ledger keeps it for good.",
        )
