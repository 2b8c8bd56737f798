"""The whole ledger, checked: every copy of it, and the snapshots that bear witness of it.

A store that left the configuration is declared gone: said by somebody, seen by nobody, and told as that.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from backupd.errors import UNSOUND, DamageError, ObjectMissingError, RefusedError, UsageError
from backupd.model.documents import LedgerHead
from backupd.model.ledger import Event, PurgeBegan, StoreRetired
from backupd.operations.ledger.book import Book
from backupd.operations.ledger.misdated import require_reference
from backupd.planning.incarnations import TenantStates
from backupd.repository.repository import Repository


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
        book.sync(from_start=True)
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


def retire(book: Book, configured: Collection[str], store: str, decision: str) -> list[Event]:
    """Append that a store is gone for good; nothing when it is so already.

    From then on no purge waits for it, and every attestation names it. `decision` is the reference of whoever decided.
    Raises RefusedError for a store that is configured, UsageError for one the ledger has never heard of, or a decision
    that is no reference.
    """
    require_reference(decision)
    if store in configured:
        raise RefusedError(
            f"store '{store}' is configured, so it can be looked at",
            hint="Take it out of the region's stores first, on every machine; then say that it is gone.",
        )
    known = _known(book)
    if store not in known:
        raise UsageError(
            f"the ledger knows of no store '{store}'", hint=f"It tells of {', '.join(sorted(known)) or 'none'}."
        )

    def decide(lives: TenantStates) -> list[Event]:
        waits = any(store in life.purge.stores for life in lives.incarnations.values() if life.purge)
        return [StoreRetired(store=store, decision=decision)] if waits or store not in lives.retired else []

    return book.append(decide)


def _known(book: Book) -> set[str]:
    """Every store that an entry names."""
    known = set[str]()
    for entry in book.chain.entries():
        for event in entry.events:
            known |= set(event.stores) if isinstance(event, PurgeBegan) else {getattr(event, "store", "")}
    return known - {""}
