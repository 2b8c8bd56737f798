"""The whole ledger, checked: every copy of it, and the snapshots that bear witness of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.errors import UNSOUND, DamageError, ObjectMissingError, RefusedError

if TYPE_CHECKING:
    from backupd.catalog.repository import Repository
    from backupd.model.stored.documents import LedgerHead
    from backupd.operations.ledger.book import Book


@dataclass(frozen=True, slots=True)
class CheckedLedger:
    """What was found."""

    entries: int
    head: LedgerHead
    witnesses: int
    """Records whose head the chain has."""
    unreached: tuple[str, ...]
    """Stores whose copy could not be looked at: of these nothing is said."""
    damage: tuple[str, ...]
    ahead: tuple[int, ...]
    """Entries that are dated ahead of this machine's clock, and of which nobody has said so: no damage."""


def check_ledger(book: Book, repository: Repository) -> CheckedLedger:
    """Read every entry of every store anew, then every record's head on one of them.

    Raises the store's errors; damage is told, not raised.
    """
    damage: list[str] = []
    try:
        book.sync(anew=True)
    except UNSOUND as error:
        damage.append(error.message)
    witnesses = 0
    for generation, name in repository.records():
        try:
            book.chain.require(repository.record(name, generation).ledger, name)
        except (DamageError, RefusedError) as error:
            damage.append(error.message)
        except ObjectMissingError:
            continue
        else:
            witnesses += 1
    return CheckedLedger(
        entries=len(book.chain.links),
        head=book.chain.head,
        witnesses=witnesses,
        unreached=tuple(book.unreached),
        damage=tuple(damage),
        ahead=tuple(book.ahead),
    )
