"""Seal a store's keyrings to other recipients, one after the other, in steps that can be interrupted anywhere.

1. Write the new recipients into the ledger: from then on either set of recipients is right.
2. Replace the recipients' line of every keyring that is sealed to others, and read the keyring again.
3. Look again for new keyrings and new purges; then write into the ledger that it is done.

Entries stay as they are, to the byte: somebody who opened a keyring once knows its segments' keys for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from backupd.errors import DamageError, KeyRefusedError, ObjectMissingError, RefusedError
from backupd.model.ids import Fingerprint, ObjectName
from backupd.model.ledger import Event, RekeyBegan, Rekeyed, SegmentRef
from backupd.operations.keeper.keyrings import replace_keyring
from backupd.operations.keeper.purge import check_shrunk
from backupd.operations.keeper.removal import shred
from backupd.operations.keeper.types import Keeper
from backupd.operations.phases import Phases
from backupd.planning.ledger_facts import rekeyed_to
from backupd.repository import layout
from backupd.repository.state.keyring_cache import KeyringCache
from backupd.seal import suite
from backupd.seal.keyring import Keyring, with_wraps
from backupd.trace import Progress

_LOOKS = 5
"""Passes over the keyrings at most: backups under way may add keyrings for the old recipients."""


@dataclass(slots=True)
class Rekeying:
    """The state of one store's keyrings after a run or, for a dry run, before one."""

    store: str
    recipients: tuple[Fingerprint, ...]
    """Fingerprints of the wanted recipients."""
    keyrings: int = 0
    """Keyrings that the store lists."""
    already: int = 0
    """Keyrings that were sealed to the recipients before."""
    rekeyed: int = 0
    """Keyrings that were replaced now or, in a dry run, would be."""
    unopened: list[ObjectName] = field(default_factory=list)
    """Keyrings that are sealed to others and that the identity does not open."""
    damaged: list[str] = field(default_factory=list)
    """Sentences about keyrings that cannot be believed."""

    @property
    def done(self) -> bool:
        return not self.unopened and not self.damaged


def preview_rekey(keeper: Keeper, store: str, recipients: Sequence[bytes], secret: bytes | None) -> Rekeying:
    """Return what `rekey` would do, without writing.

    Without an identity's secret, the identity is assumed to open all.
    """
    found = _begun(store, recipients)
    for keyring in _keyrings(keeper, store, found):
        if _sealed_to(keyring, found):
            found.already += 1
        elif secret is None or suite.fingerprint(suite.public_of(secret)) in keyring.wraps:
            found.rekeyed += 1
        else:
            found.unopened.append(ObjectName(keyring.where))
    return found


def rekey(keeper: Keeper, store: str, recipients: Sequence[bytes], secret: bytes) -> Rekeying:
    """Seal every keyring of a store to `recipients` (public keys) and nobody else, with an identity that opens them.

    Keyrings that cannot be believed or opened stay as they are, and are returned. Raises DamageError when a keyring
    lost lines that no purge took, RefusedError for no recipient or a ledger this machine may not write, the store's
    errors.
    """
    if not recipients:
        raise RefusedError("there is no recipient", hint="Name one at least under `recipients`.")
    keeper.book.require_dates()
    done = _begun(store, recipients)
    with Phases(keeper.clock, keeper.trace, store).phase("rekeying", unit="keyrings"):
        purged = _purged(keeper)
        with KeyringCache.opened(keeper.cache_path(store), keeper.repository, keeper.tags) as cache:
            check_shrunk(keeper, store, cache, keeper.stores[store], {})  # the passes report what is unsound
            if any(not _sealed_to(keyring, done) for keyring in _keyrings(keeper, store, done)):
                keeper.book.append(lambda _: _intent(keeper, done))
                keeper.book.give(store)
            for _ in range(_LOOKS):
                if not _pass(keeper, cache, (recipients, secret), done):
                    break
            # A purge may have run meanwhile, and a mark grown old: what it took from keyrings is taken again.
            keeper.book.sync()
            shred(keeper, store, cache, _purged(keeper) - purged).require()
        if done.done:
            event = Rekeyed(store=store, recipients=list(done.recipients), keyrings=done.rekeyed)
            keeper.book.append(lambda _: [event] if done.rekeyed or _unfinished(keeper, done) else [])
    return done


def _pass(keeper: Keeper, cache: KeyringCache, keys: tuple[Sequence[bytes], bytes], done: Rekeying) -> int:
    """Rekey every keyring that is listed now; returns how many were replaced."""
    before = done.rekeyed
    done.already = 0
    for keyring in _keyrings(keeper, done.store, done):
        if _sealed_to(keyring, done):
            done.already += 1
            continue
        try:
            after, size = _put(keeper, done, keyring, keys)
        except KeyRefusedError:
            done.unopened.append(ObjectName(keyring.where))
        except DamageError as error:
            done.damaged.append(error.message)
        except ObjectMissingError:
            continue  # expired meanwhile, with its generation
        else:
            cache.note(after, size)
            done.rekeyed += 1
            keeper.trace.emit(Progress("rekeying", done.store, done.rekeyed))
    done.already -= before
    return done.rekeyed - before


def _put(keeper: Keeper, done: Rekeying, keyring: Keyring, keys: tuple[Sequence[bytes], bytes]) -> tuple[Keyring, int]:
    recipients, secret = keys
    keyring.file_key(secret)  # before any mark

    def change(data: bytes, standing: Keyring) -> bytes:
        return with_wraps(data, standing, secret, recipients)

    _, after, size = replace_keyring(keeper, done.store, ObjectName(keyring.where), change, _check_lines)
    if not _sealed_to(after, done):
        raise DamageError(f"'{keyring.where}' was replaced, and is not sealed to those it was sealed to")
    return after, size


def _check_lines(keyring: Keyring, other: Keyring) -> None:
    """Raise DamageError unless only the recipients differ: no key may go, and none may come back."""
    if (other.ids, other.index, other.sealed) != (keyring.ids, keyring.index, keyring.sealed):
        raise DamageError(f"'{keyring.where}' would not keep its keys as they are")


def _keyrings(keeper: Keeper, store: str, found: Rekeying) -> Iterator[Keyring]:
    """Yield each readable keyring of the store, oldest first; note the others in place of the pass before."""
    repository = keeper.stores[store]
    listed = sorted(info.name for info in repository.store.list(layout.KEYRINGS))
    names = [name for name in listed if layout.place_of(name).kind is layout.ObjectKind.KEYRING]
    found.keyrings, found.unopened, found.damaged = len(names), [], []
    for name in names:
        try:
            keyring = repository.keyring(name)
        except (DamageError, RefusedError) as error:
            found.damaged.append(error.message)
        except ObjectMissingError:
            found.keyrings -= 1
        else:
            yield keyring


def _intent(keeper: Keeper, done: Rekeying) -> list[Event]:
    wanted = frozenset(done.recipients)
    wanted_before = rekeyed_to(keeper.book.chain.entries(), done.store)
    return (
        []
        if wanted_before and wanted_before[-1] == wanted
        else [RekeyBegan(store=done.store, recipients=list(done.recipients))]
    )


def _unfinished(keeper: Keeper, done: Rekeying) -> bool:
    """Check whether the last entry about the store's recipients says that a rekeying began."""
    events = [
        event
        for entry in keeper.book.chain.entries()
        for event in entry.events
        if isinstance(event, RekeyBegan | Rekeyed) and event.store == done.store
    ]
    return bool(events) and isinstance(events[-1], RekeyBegan)


def _purged(keeper: Keeper) -> frozenset[SegmentRef]:
    purges = (one.purge for one in keeper.book.states.incarnations.values() if one.purge)
    return frozenset(ref for purge in purges for ref in purge.segments)


def _begun(store: str, recipients: Sequence[bytes]) -> Rekeying:
    return Rekeying(store, tuple(sorted({suite.fingerprint(public) for public in recipients})))


def _sealed_to(keyring: Keyring, wanted: Rekeying) -> bool:
    return keyring.wraps.keys() == frozenset(wanted.recipients)
