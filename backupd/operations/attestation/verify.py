"""Verify an attestation away from any store: its signatures, that it does not contradict itself, and that the ledger
agrees with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from backupd.errors import DamageError, RefusedError
from backupd.model.attestation import KIND, Attestation, AttestedRestore, decode_attestation
from backupd.model.ids import ObjectHash
from backupd.model.ledger import Attested, Event, PurgeBegan
from backupd.model.text import counted, parse_stamp, stamp
from backupd.planning.attestation import PurgeEvidence, purge_evidence, restores_since
from backupd.planning.incarnations import IncarnationKey
from backupd.repository.ledger import Chain
from backupd.seal.documents import Signed, read_document, signatures_of, signed_alone

_LEDGER_HINT = "The attestation and this ledger do not tell the same story; believe neither before you know why."


@dataclass(frozen=True, slots=True)
class Signatory:
    """The key behind one good signature of a document."""

    key: str
    """The public key, 64 hex digits."""
    fingerprint: str
    role: Literal["performer", "other"]
    trusted: bool
    """Whether the key is one that the verifier trusts."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An attestation that was found right, with what was checked and what was not."""

    attestation: Attestation
    sha256: ObjectHash
    """Hash of the document as the keeper issued it, which is the hash in the ledger."""
    signatures: tuple[Signatory, ...]
    checked: tuple[str, ...]
    not_checked: tuple[str, ...]
    later_restores: tuple[AttestedRestore, ...] = ()
    """Restores in the region that the ledger records since it was signed."""


def verify_attestation(
    document: bytes, trusted: Collection[str], chain: Chain | None, where: str = "attestation"
) -> Verdict:
    """Check an attestation that a trusted keeper (64 hex digits each) must have signed, and compare it with `chain`.

    `chain` is a ledger whose own signatures and links were checked. Raises DamageError when anything is wrong,
    RefusedError when the ledger records that the purge began again after it.
    """
    attestation = decode_attestation(read_document(document, KIND, trusted, where), where)
    read_document(document, KIND, {attestation.performer} & set(trusted), where)
    signed = signatures_of(document, KIND, where)
    if not all(one.good for one in signed):
        raise DamageError(f"a signature of '{where}' is wrong")
    sha256 = ObjectHash(hashlib.sha256(signed_alone(document, attestation.performer, KIND, where)).hexdigest())
    for fault in _faults(attestation):
        raise DamageError(f"'{where}' contradicts itself: {fault}")
    checked, later = ["every signature", "the dates agree with each other"], []
    if chain is not None:
        checked += _against(attestation, sha256, chain, where)
        later = list(restores_since(chain.entries(attestation.ledger.seq), parse_stamp(attestation.began)))
    signatories = tuple(_signatories(signed, attestation, trusted))
    return Verdict(attestation, sha256, signatories, tuple(checked), tuple(_left(chain)), tuple(later))


def _signatories(signed: list[Signed], attestation: Attestation, trusted: Collection[str]) -> Iterator[Signatory]:
    for one in signed:
        role: Literal["performer", "other"] = "performer" if one.key == attestation.performer else "other"
        yield Signatory(one.key, one.fingerprint, role, one.key in trusted)


def _left(chain: Chain | None) -> Iterator[str]:
    if chain is None:
        yield "the ledger, because none was given: --ledger takes a copy of the region's folder"
    yield "the stores as they are now"


def _faults(one: Attestation) -> Iterator[str]:
    """Yield each contradiction within the document (FORMAT.md §13). Time stamps compare as texts."""
    if not one.stores:
        yield "it names no store"
    for store in one.stores:
        if not one.began <= min(store.shredded, store.cleared) <= store.absent:
            yield f"store '{store.store}' was found empty before the purge was done"
        if not max(store.shredded, store.cleared) <= store.observed <= one.issued:
            yield f"store '{store.store}' was not looked at between the last removal and the signature"
        if store.late != (store.absent > one.due):
            yield f"store '{store.store}' is wrong about being late"
    for copy in one.copies:
        if copy.until > one.issued:
            yield f"a copy '{copy.copy}' may have lived when it was signed"
    if one.late != any(store.late for store in one.stores):
        yield "it is wrong about being late"


def _against(one: Attestation, sha256: ObjectHash, chain: Chain, where: str) -> Iterator[str]:
    if (one.repository, one.region) != (chain.repository, chain.region):
        raise DamageError(f"'{where}' is of another repository than the ledger", hint=_LEDGER_HINT)
    chain.require(one.ledger, where)
    facts = purge_evidence(
        list(chain.entries())[: one.ledger.seq], IncarnationKey(one.tenant, one.incarnation, one.scope)
    )
    different = "the purge" if facts is None else next(_different(one, facts), None)
    if different is not None:
        raise DamageError(f"the ledger does not tell what '{where}' says of {different}", hint=_LEDGER_HINT)
    after = _events_after(one, chain)
    if not any(isinstance(event, Attested) and event.attestation == sha256 for event in after):
        raise DamageError(f"the ledger does not tell of '{where}' being issued", hint=_LEDGER_HINT)
    if any(isinstance(event, PurgeBegan) for event in after):
        raise RefusedError(
            f"the ledger tells that more of the tenant was found after '{where}' was signed",
            hint="Ask for a new attestation.",
        )
    yield f"the ledger, {counted(len(chain.links), 'entry')} from the first on, each signed by a trusted keeper"
    yield f"entry {one.ledger.seq} is the one the attestation saw"
    yield "the ledger tells the same dates, segments, stores, holds and restores, and of this document"


def _different(one: Attestation, facts: PurgeEvidence) -> Iterator[str]:
    clock, purge = facts.clock, facts.purge
    dates = clock.cause, clock.to, *map(stamp, (clock.since, clock.deadline, facts.due, clock.purge_by, purge.began))
    if dates != (one.cause, one.to, one.since, one.deadline, one.due, one.purge_by, one.began):
        yield "its dates"
    if {(key.generation, key.segment) for key in one.keys} != purge.segments:
        yield "the segments"
    if not purge.stores <= {store.store for store in one.stores}:
        yield "the stores"
    if facts.retired_but({store.store for store in one.stores}) != one.retired:
        yield "stores that were declared gone"
    for store in one.stores:
        instants = purge.shredded.get(store.store), purge.cleared.get(store.store), purge.absent.get(store.store)
        told_there = [stamp(at[0] if isinstance(at, tuple) else at) for at in instants if at is not None]
        if told_there != [store.shredded, store.cleared, store.absent]:
            yield f"store '{store.store}'"
    if (list(facts.holds), list(facts.restores)) != (one.holds, one.restores):
        yield "holds and restores"


def _events_after(one: Attestation, chain: Chain) -> list[Event]:
    """Return the events of this very incarnation behind the entry that the attestation saw."""
    key = IncarnationKey(one.tenant, one.incarnation, one.scope)
    return [
        event
        for entry in chain.entries(one.ledger.seq)
        for event in entry.events
        if isinstance(event, Attested | PurgeBegan)
        and IncarnationKey(event.tenant, event.incarnation, event.scope) == key
    ]
