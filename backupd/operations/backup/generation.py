"""The generation that a run adds to, and what the ledger says about its tenants' rows."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from backupd.errors import RefusedError
from backupd.model.documents import LedgerHead
from backupd.model.ids import Fingerprint, GenerationId, Pseudonym, RegionName
from backupd.model.ledger import ExpiryBegan, PurgeBegan
from backupd.model.text import compact, parse_stamp, stamp
from backupd.planning.incarnations import TenantStates, fold
from backupd.repository.ledger import Chain, read_chain
from backupd.repository.own_ledger import read_own
from backupd.repository.repository import Repository
from backupd.repository.state.index import Generation, Index
from backupd.rows.segment_names import NewestIncarnation, SegmentNames, incarnation_key
from backupd.seal import suite
from backupd.seal.tags import TenantTags
from backupd.store.server import server_time
from backupd.trace import Warned

if TYPE_CHECKING:
    from backupd.operations.backup.types import Node


def new_id(now: datetime, random: Callable[[int], bytes]) -> str:
    """Return a new id for a generation or a run."""
    return f"{compact(now)}-{random(4).hex()}"


def current_generation(index: Index, repository: Repository, node: Node) -> Generation:
    """Return the generation to add to: a new one when there is none, or it is too old or of other recipients.

    Somebody who opened a keyring knows its segments' keys for good: only new keys exclude former recipients from later
    snapshots. A generation begun on another repository is not continued either. Raises RefusedError when the store has
    no repository.
    """
    if not repository.exists():
        raise RefusedError("there is no repository on this store", hint="Make one with `backupd init REGION`.")
    known = index.generation()
    if known is None or (known.repository, known.recipients) != (repository.info().repository, _recipients(node)):
        return new_generation(index, repository, node)
    if _is_over(known, node.clock.now(), node) and _is_time(known, repository, node):
        return new_generation(index, repository, node)
    return known


def _is_over(known: Generation, now: datetime, node: Node, tolerance: timedelta = timedelta(0)) -> bool:
    return not -tolerance <= now - parse_stamp(known.started) < node.generation_length


def _is_time(known: Generation, repository: Repository, node: Node) -> bool:
    """Check whether the store's clock, too, says that a generation is over: a wrong clock would cost a full copy."""
    theirs, now = server_time(repository.store, node.random), node.clock.now()
    if abs(theirs - now) <= node.clock_tolerance or _is_over(known, theirs, node, node.clock_tolerance):
        return True
    node.trace.emit(
        Warned(
            f"this machine's clock says {stamp(now)}, the store's clock says {stamp(theirs)}",
            "One of them is wrong. By the store's, the generation that this backup adds to is not over, so it goes on.",
        )
    )
    return False


def new_generation(index: Index, repository: Repository, node: Node) -> Generation:
    """Begin a generation; the index forgets all others."""
    now = node.clock.now()
    fresh = Generation(
        id=GenerationId(new_id(now, node.random)),
        repository=repository.info().repository,
        chunk_key=node.random(suite.KEY_SIZE),
        started=stamp(now),
        recipients=_recipients(node),
    )
    index.begin(fresh)
    return fresh


def _recipients(node: Node) -> frozenset[Fingerprint]:
    return frozenset(suite.fingerprint(public) for public in node.recipients)


def keyed_tag(generation: Generation, *parts: str | list[str]) -> bytes:
    """Return a name for the index that cannot be reversed without the generation's chunk key."""
    return hmac.digest(generation.chunk_key, msgspec.json.encode(parts), "sha256")


def digest(key: bytes, text: bytes) -> bytes:
    """Return a keyed digest of the text, so that the index reveals nothing of a manifest's content."""
    return hmac.digest(key, hashlib.sha256(text).digest(), "sha256")


@dataclass(frozen=True, slots=True)
class LedgerStanding:
    """The ledger as one backup sees it."""

    region: RegionName
    chain: Chain = field(repr=False)
    tags: TenantTags = field(repr=False)
    states: TenantStates = field(repr=False)
    own_clocks: frozenset[str]
    """Data classes with an incarnation of their own."""

    @property
    def head(self) -> LedgerHead:
        return self.chain.head

    def names(self, generation: GenerationId, database: str) -> SegmentNames:
        """Return the names of a database's segments; the database is given by its real name."""
        incarnations = {
            incarnation_key(tenant, scope): NewestIncarnation(incarnation.key.incarnation, incarnation.purged)
            for tenant, scope in {(key.tenant, key.scope) for key in self.states.incarnations}
            if (incarnation := self.states.current(tenant, scope)).purged or incarnation.key.incarnation > 1
        }
        return SegmentNames(self.tags, generation, database, self.own_clocks, incarnations)

    def purged(self, generation: GenerationId) -> set[Pseudonym]:
        """Return the segments of a generation whose purge has begun."""
        purges = (one.purge for one in self.states.incarnations.values() if one.purge)
        return {pseudonym for purge in purges for place, pseudonym in purge.segments if place == generation}

    def removals_since(self, seq: int) -> bool:
        """Check whether entries behind number `seq` speak of anything that may have gone from a store."""
        return any(
            isinstance(event, ExpiryBegan | PurgeBegan) for entry in self.chain.entries(seq) for event in entry.events
        )


def read_standing(repository: Repository, node: Node, region: RegionName) -> LedgerStanding:
    """Read the ledger from the store, and copy it to this node's own copy.

    Raises DamageError when the store's is not the continuation of what this node knows.
    """
    own = read_own(node.ledger, Chain(region, repository.info().repository), repository.keepers)
    # What no keeper signed is no entry: keepers remove it, and `verify` tells of it.
    chain, _ = read_chain(repository.store, own.chain, repository.keepers, strays=[])
    own.mend(node.ledger, chain)
    return LedgerStanding(region, chain, node.tags, fold(chain.entries()), node.own_clocks)
