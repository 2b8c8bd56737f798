"""Check the whole ledger: every store's copy, and the records that name its head; declare a store gone for good."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from backupd.errors import UNSOUND, DamageError, ObjectMissingError, RefusedError, UsageError
from backupd.model.documents import LedgerHead
from backupd.model.ledger import Event, KeeperRetired, PurgeBegan, StoreRetired
from backupd.model.text import did_you_mean
from backupd.operations.ledger.book import Book
from backupd.operations.ledger.redate import require_reference
from backupd.planning.incarnations import TenantStates
from backupd.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class CheckedLedger:
    """The result of a check of the whole ledger."""

    entries: int
    head: LedgerHead
    witnesses: int
    """Records whose ledger head is part of the chain."""
    unreached: tuple[str, ...]
    """Stores whose copy could not be read; nothing is known about these."""
    damage: tuple[str, ...]
    ahead: tuple[int, ...]
    """Entries dated ahead of this machine's clock and not declared misdated; they are no damage."""


def check_ledger(book: Book, repository: Repository, at_least: LedgerHead | None) -> CheckedLedger:
    """Read every entry of every store from the first on, then the ledger head of every record on one of the stores.

    `at_least` is a head that somebody kept elsewhere: the ledger must have or extend it.

    Raises the store's errors; damage is returned, not raised.
    """
    damage: list[str] = []
    try:
        book.sync(from_start=True)
    except UNSOUND as error:
        damage.append(error.message)
    try:
        book.chain.require(at_least or LedgerHead(seq=0), "--ledger-at-least")
    except DamageError as error:
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


def retire(book: Book, configured: Collection[str], store: str, decision: str, *, dry_run: bool = False) -> list[Event]:
    """Append that a store is gone for good; appends nothing when the ledger says so already.

    With `dry_run` nothing is appended; what would be is returned all the same.

    From then on no purge waits for it, and every attestation names it. `decision` is a reference to the decision.
    Raises RefusedError for a store that is configured, UsageError for one that the ledger does not know, or a decision
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
            f"the ledger knows of no store '{store}'", hint=did_you_mean(store, sorted(known)) or "It names none."
        )

    def decide(states: TenantStates) -> list[Event]:
        waits = any(store in one.purge.stores for one in states.incarnations.values() if one.purge)
        return [StoreRetired(store=store, decision=decision)] if waits or store not in states.retired else []

    return decide(book.states) if dry_run else book.append(decide)


def retire_keeper(book: Book, signer: str, key: str, decision: str, *, dry_run: bool = False) -> list[Event]:
    """Say that a key is no keeper's any more; returns the event, or none where it was said before.

    `signer` is this keeper's own public key. Raises RefusedError for that one, and where no keeper would be left;
    UsageError for a key that is not trusted, or a decision that is no reference.
    """
    require_reference(decision)
    if key == signer:
        raise RefusedError(
            "a keeper cannot retire itself", hint="Make the new key first, and run this where it is the keeper's."
        )
    if key not in book.trusted | book.chain.retired:
        raise UsageError(
            "nobody believes this key anyway", hint=did_you_mean(key, sorted(book.trusted)) or "See trust.keepers."
        )

    def decide(_: TenantStates) -> list[Event]:
        return [] if key in book.chain.retired else [KeeperRetired(key=key, decision=decision)]

    return decide(book.states) if dry_run else book.append(decide)


def waiting_for(states: TenantStates, store: str) -> int:
    """Return how many purges wait for a store to be seen empty."""
    purges = (one.purge for one in states.incarnations.values() if one.purge)
    return sum(1 for purge in purges if store in purge.stores - purge.absent.keys())


def _known(book: Book) -> set[str]:
    """Return every store that an entry names."""
    known = set[str]()
    for entry in book.chain.entries():
        for event in entry.events:
            known |= set(event.stores) if isinstance(event, PurgeBegan) else {getattr(event, "store", "")}
    return known - {""}
