"""Issue a deletion attestation: look at every store again, read every keyring that lists a key of the incarnation,
refuse while anything is open, sign, publish, and append to the ledger. In this order a crash leaves at most a document
that nobody refers to, and the next attempt issues another.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from backupd.errors import RefusedError, StoreError
from backupd.model.attestation import (
    DECLARED,
    KIND,
    METHODS,
    NOT_CLAIMED,
    NOT_COVERED,
    RETIRED,
    Attestation,
    DestroyedSegment,
    StoreProof,
    encode_attestation,
)
from backupd.model.ids import ObjectHash, ObjectName, Pseudonym, RunId
from backupd.model.ledger import WHOLE, Attested, Event, SegmentRef
from backupd.model.text import stamp
from backupd.operations.keeper.incarnation_segments import forgeries
from backupd.operations.keeper.purge import Purging
from backupd.operations.keeper.types import Keeper
from backupd.planning.attestation import (
    PurgeEvidence,
    StoreObservation,
    declared_copies,
    living_copies,
    open_items,
    purge_evidence,
)
from backupd.planning.incarnations import IncarnationKey, Purge, TenantStates
from backupd.repository import layout
from backupd.repository.incoming import all_marks
from backupd.repository.marks import LONGEST_RUN
from backupd.repository.state.keyring_cache import KeyringCache


@dataclass(frozen=True, slots=True)
class Issued:
    """An attestation as it was published."""

    attestation: Attestation
    document: bytes
    sha256: ObjectHash
    """The document's hash, by which the ledger and its name on the stores refer to it."""


def attest(keeper: Keeper, key: IncarnationKey, locations: Mapping[str, str]) -> Issued:
    """Attest that nothing of an incarnation is left on any store; `locations` says where each configured store is.

    Reads and compares the ledger on every store from its first entry, and looks at every store again; a purge that has
    begun is continued where it can be. Raises RefusedError naming every open item while anything is inferred and not
    observed, DamageError when the ledger or a keyring is not sound.
    """
    book = keeper.book
    book.sync(from_start=True)
    book.require_dates()  # the document is on the stores before its entry is
    seen = observe(keeper, key, _purge_of(book.states, key))
    facts = purge_evidence(book.chain.entries(), key)
    if facts is None:
        raise RefusedError(f"the ledger tells no dates of tenant {key.tenant}", hint="See `backupd tenant show`.")
    items = [f"the ledger on store '{name}' could not be compared" for name in sorted(book.unreached)]
    items += seen.troubles
    items += open_items(facts.purge, keeper.stores.keys(), seen.looks, keeper.clock.now())
    items += living_copies(declared_copies(facts.purge, keeper.rules.copies), keeper.clock.now())
    _refuse(key, items)
    _refuse(key, list(_strangers(keeper)))
    keys = list_keys(keeper, facts.purge.segments)
    _refuse(key, [f"'{where}' holds a key of it" for where in keys.kept])
    attestation = _composed(keeper, facts, _Evidence(seen.looks, keys, locations))
    return _published(keeper, facts, attestation)


@dataclass(frozen=True, slots=True)
class _Evidence:
    looks: Mapping[str, StoreObservation]
    keys: ListedKeys
    locations: Mapping[str, str]


def _purge_of(states: TenantStates, key: IncarnationKey) -> Purge:
    incarnation = states.incarnations.get(key)
    if incarnation is None or incarnation.purge is None:
        raise RefusedError(
            f"the purge of tenant {key.tenant} has not begun", hint="Only what was purged can be attested."
        )
    return incarnation.purge


def _refuse(key: IncarnationKey, items: list[str]) -> None:
    if items:
        raise RefusedError(
            f"tenant {key.tenant} cannot be attested yet: {'; '.join(items)}",
            hint="Only what was seen is attested. `backupd purge` goes on with what can be done, and `backupd tenant "
            "where` says by which day nothing is left: then ask again.",
        )


def _composed(keeper: Keeper, facts: PurgeEvidence, evidence: _Evidence) -> Attestation:
    clock, purge, key = facts.clock, facts.purge, facts.key
    stores = [_store(facts, name, evidence) for name in sorted(keeper.stores)]
    retired, copies = facts.retired_but(keeper.stores.keys()), declared_copies(purge, keeper.rules.copies)
    keys = evidence.keys
    return Attestation(
        repository=keeper.repository,
        region=keeper.region,
        tenant=key.tenant,
        incarnation=key.incarnation,
        scope=key.scope,
        apart=sorted(keeper.rules.own_clocks) if key.scope == WHOLE else [],
        cause=clock.cause,
        to=clock.to,
        since=stamp(clock.since),
        deadline=stamp(clock.deadline),
        due=stamp(facts.due),
        purge_by=stamp(clock.purge_by),
        began=stamp(purge.began),
        late=any(store.late for store in stores),
        stores=stores,
        retired=retired,
        copies=copies,
        keys=[
            DestroyedSegment(
                generation=ref[0],
                segment=ref[1],
                keyrings=sorted(keys.runs.get(ref, ())),
                stores=sorted(keys.stores.get(ref, ())),
            )
            for ref in sorted(purge.segments)
        ],
        holds=list(facts.holds),
        restores=list(facts.restores),
        residual="none",
        not_claimed=list(NOT_CLAIMED),
        not_covered=[*NOT_COVERED, *([RETIRED] if retired else []), *([DECLARED] if copies else [])],
        ledger=keeper.book.chain.head,
        issued=stamp(keeper.clock.now()),
        performer=keeper.signer.public,
    )


def _store(facts: PurgeEvidence, name: str, evidence: _Evidence) -> StoreProof:
    purge, look = facts.purge, evidence.looks[name]
    return StoreProof(
        store=name,
        location=evidence.locations[name],
        shredded=stamp(purge.shredded[name]),
        cleared=stamp(purge.cleared[name]),
        absent=stamp(purge.absent[name][0]),
        late=facts.late_on(name),
        observed=stamp(look.at),
        snapshots=list(look.snapshots),
        keyrings=list(evidence.keys.keyrings.get(name, [])),
        methods=list(METHODS),
    )


def _published(keeper: Keeper, facts: PurgeEvidence, attestation: Attestation) -> Issued:
    document = keeper.signer.sign(encode_attestation(attestation), KIND)
    sha256 = ObjectHash(hashlib.sha256(document).hexdigest())
    for name in sorted(keeper.stores):
        keeper.stores[name].put_document(layout.attestation_name(sha256), document)

    def decide(states: TenantStates) -> list[Event]:
        incarnation = states.incarnations.get(facts.key)
        if incarnation is None or incarnation.purge != facts.purge:
            raise RefusedError(
                f"the purge of tenant {facts.key.tenant} went on meanwhile", hint="Ask again; nothing was attested."
            )
        return [Attested(**facts.key._asdict(), attestation=sha256)]

    keeper.book.append(decide)
    return Issued(attestation, document, sha256)


@dataclass(slots=True)
class StoreObservations:
    """Every store as it was just seen."""

    looks: dict[str, StoreObservation] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    """Sentences about what could not be seen, and about runs that may still add something after the look."""


@dataclass(slots=True)
class ListedKeys:
    """The keyrings that list the keys of a purge."""

    keyrings: dict[str, list[ObjectName]] = field(default_factory=lambda: defaultdict(list))
    """Keyrings that list one of the segments, by store."""
    runs: dict[SegmentRef, set[RunId]] = field(default_factory=lambda: defaultdict(set))
    """Ids of the keyrings whose signed index lists the segment."""
    stores: dict[SegmentRef, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Stores with such a keyring."""
    kept: list[ObjectName] = field(default_factory=list)
    """Keyrings that still hold one of the keys."""


def observe(keeper: Keeper, key: IncarnationKey, purge: Purge) -> StoreObservations:
    """Continue a purge that has begun, and return how every store stands.

    Troubles with a store are returned, not raised.
    """
    seen = StoreObservations()
    for name in keeper.stores:
        try:
            seen.troubles += _late_runs(keeper, name, purge)
        except StoreError as error:
            seen.troubles.append(f"store '{name}': {error.message}")
    with Purging(keeper) as purging:
        for done in purging.purge(key):
            if done.looked_at is not None:
                seen.looks[done.store] = StoreObservation(done.looked_at, done.looked_into, done.waits_for)
        errors = (f"store '{name}': {error.message}" for name, error in purging.errors.items())
        seen.troubles = list(dict.fromkeys([*seen.troubles, *errors]))
    return seen


def list_keys(keeper: Keeper, segments: Iterable[SegmentRef]) -> ListedKeys:
    """Read every keyring that lists one of these segments.

    Raises DamageError and StoreError.
    """
    listed, wanted = ListedKeys(), sorted(segments)
    for name in sorted(keeper.stores):
        with KeyringCache.opened(keeper.cache_path(name), keeper.repository, keeper.tags) as cache:
            doomed: dict[ObjectName, set[Pseudonym]] = defaultdict(set)
            for counted in cache.find(wanted):
                doomed[counted.keyring].add(counted.pseudonym)
        for where in sorted(doomed):
            _take(listed, keeper, name, where, doomed[where])
    return listed


def _take(listed: ListedKeys, keeper: Keeper, store: str, where: ObjectName, doomed: set[Pseudonym]) -> None:
    keyring = keeper.stores[store].keyring(where)
    listed.keyrings[store].append(where)
    listed.kept += [where] if (doomed & keyring.segments) - keyring.shredded else []
    for segment in doomed & keyring.segments:
        ref = keyring.ids.generation, segment
        listed.runs[ref].add(keyring.ids.run)
        listed.stores[ref].add(store)


def _strangers(keeper: Keeper) -> Iterator[str]:
    """Yield a sentence about each keyring with segments of nobody known, which may be the tenant's."""
    for name in sorted(keeper.stores):
        with KeyringCache.opened(keeper.cache_path(name), keeper.repository, keeper.tags) as cache:
            for sentence in forgeries(name, cache.strangers()):
                yield f"{sentence}, so nobody knows whose they are (`backupd manual incidents`)"


def _late_runs(keeper: Keeper, store: str, purge: Purge) -> Iterator[str]:
    """Report runs that may not know of the purge and may still add to it.

    It must be asked before the look at the store, which then sees what they did. A run puts its mark before it reads
    the ledger: one whose mark is younger than the purge knows of it.
    """
    now, by_store = keeper.clock.now(), (purge.shredded, purge.cleared)
    told_there = max([purge.began, *(instants[store] for instants in by_store if store in instants)])
    for mark in all_marks(keeper.stores[store].store):
        run = mark.place.run
        may_not_know = mark.modified <= told_there + keeper.rules.clock_tolerance
        if run and may_not_know and now - mark.modified < LONGEST_RUN:
            yield f"run {run} on store '{store}' began before the purge, and may still add to it"
