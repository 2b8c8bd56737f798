"""The generation that a run adds to: its segments, their keyrings, and what the ledger says about its tenants' rows."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from backupd.errors import RefusedError
from backupd.model.documents import LedgerHead
from backupd.model.ids import Fingerprint, GenerationId, Pseudonym, RegionName, RunId
from backupd.model.ledger import WHOLE, ExpiryBegan, PurgeBegan
from backupd.model.tenancy import SegmentName
from backupd.model.text import compact, parse_stamp, stamp
from backupd.planning.incarnations import Incarnation, TenantStates, fold
from backupd.repository.layout import keyring_name
from backupd.repository.ledger import Chain, read_chain
from backupd.repository.repository import Repository
from backupd.repository.state.index import Generation, Index, KeyringPlace, KnownSegment
from backupd.seal import suite
from backupd.seal.documents import Signer
from backupd.seal.keyring import KeyringEntry, KeyringIds, KeyringPieces, KeyringWriter, Tags, render_keyring
from backupd.seal.tags import TenantTags

if TYPE_CHECKING:
    from backupd.operations.backup.types import Node

KEYRING_ENTRIES = 256
"""Entries of one keyring (about 100 KB): a purge replaces those that hold a line of the tenant, so they stay small."""


class _Head(msgspec.Struct, frozen=True):
    """The content of a keyring besides its entries, kept until it is published."""

    region: RegionName
    created: str
    pieces: KeyringPieces


@dataclass(frozen=True, slots=True)
class KeyedSegment:
    """A segment whose key pair exists, as this run uses it."""

    tag: bytes
    name: SegmentName
    segment: KnownSegment


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
    if known is not None and (known.repository, known.recipients) == (repository.info().repository, _recipients(node)):
        age = node.clock.now() - parse_stamp(known.started)
        if timedelta(0) <= age < node.generation_length:
            return known
    return new_generation(index, repository, node)


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


class Segments:
    """The segments of a generation by name: known ones, and new ones with a key pair of their own.

    A new segment's private half is sealed into the run's keyring and forgotten; its sealed entry is in the index before
    anything is sealed to its public half, so that a crash cannot leave packs nobody can open.
    """

    def __init__(self, index: Index, generation: Generation, standing: LedgerStanding, node: Node) -> None:
        self._index = index
        self._generation = generation
        self._key = generation.chunk_key
        self._standing = standing
        self._node = node
        self._writer = self._begin_keyring()
        self._by_name: dict[SegmentName, KeyedSegment] = {}

    def of(self, name: SegmentName) -> KeyedSegment:
        keyed = self._by_name.get(name)
        if keyed is None:
            # A tenant that comes back gets new segments: nothing is added to those of its old incarnation.
            incarnation = self._standing.incarnation(name)
            again = [str(incarnation)] if incarnation > 1 else []
            tag = self.tag("segment", name.database, name.data_class, name.tenant, *again)
            segment = self._index.segment(tag) or self._create(tag, name)
            keyed = self._by_name[name] = KeyedSegment(tag, name, segment)
        return keyed

    def excluded(self, name: SegmentName) -> bool:
        """Check whether nothing of the segment may be kept."""
        return self._standing.excluded(name)

    def tag(self, *parts: str | None) -> bytes:
        """Return a name for the index that cannot be reversed without the generation's chunk key."""
        return hmac.digest(self._key, msgspec.json.encode(parts), "sha256")

    def _create(self, tag: bytes, name: SegmentName) -> KnownSegment:
        if self._writer.entries >= KEYRING_ENTRIES:
            self._writer = self._begin_keyring()
        pair = suite.generate()
        pseudonym = Pseudonym(self._node.random(16).hex())
        entry = self._writer.add(pseudonym, pair, name, self._standing.tags_of(self._generation.id, name))
        self._index.add_segment(
            tag, pseudonym, pair.public, KeyringPlace(self._writer.ids.run, msgspec.json.encode(entry))
        )
        return KnownSegment(pseudonym, None, None)

    def _begin_keyring(self) -> KeyringWriter:
        node, generation = self._node, self._generation
        ids = _ids(generation, self._standing.region, RunId(new_id(node.clock.now(), node.random)))
        writer = KeyringWriter(ids, node.recipients, generation.chunk_key, random=node.random)
        head = _Head(ids.region, stamp(node.clock.now()), writer.pieces)
        self._index.runs.begin_keyring(ids.run, msgspec.json.encode(head))
        return writer


def publish_keyrings(index: Index, repository: Repository, generation: Generation, signer: Signer) -> None:
    """Put every keyring on the store that is not there yet, those of runs that crashed included."""
    for run, stored, bodies in index.runs.unpublished_keyrings():
        head = msgspec.json.decode(stored, type=_Head)
        ids = _ids(generation, head.region, run)
        entries = [msgspec.json.decode(body, type=KeyringEntry) for body in bodies]
        repository.put_keyring(ids, render_keyring(ids, head.created, head.pieces, entries, signer))
        index.runs.keyring_published(run)


def settle_keyrings(
    index: Index, there: Container[RunId], standing: LedgerStanding, repository: Repository, generation: GenerationId
) -> list[RunId]:
    """Decide about the keyrings of interrupted runs, before anything more is published.

    A keyring that is `there` was published, even if a purge has taken lines from it since. Of one that is not, a
    tenant's keys must not appear after the tenant's purge: it is dropped, and its other segments get new keys. Returns
    those that are there with other content: somebody put an older state folder back, and what was published from it is
    unknown here. Raises DamageError, RefusedError for a keyring that is there and cannot be believed.
    """
    is_purged = standing.purged_tags(generation)
    others = []
    for run, _, bodies in index.runs.unpublished_keyrings():
        entries = [msgspec.json.decode(body, type=KeyringEntry) for body in bodies]
        if run in there:
            listed = repository.keyring(keyring_name(generation, run)).index
            if {(entry.pseudonym, entry.public_hash) for entry in entries}.issubset(listed):
                index.runs.keyring_published(run)
            else:
                others.append(run)
        elif any(is_purged(entry.tags) for entry in entries):
            index.drop_keyring(run)
    return others


def _ids(generation: Generation, region: RegionName, run: RunId) -> KeyringIds:
    return KeyringIds(generation.repository, region, generation.id, run)


def digest(key: bytes, text: bytes) -> bytes:
    """Return a keyed digest of the text, so that the index reveals nothing of a part's content."""
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

    def excluded(self, name: SegmentName) -> bool:
        """Check whether the tenant was purged and did not come back: its rows are not backed up again."""
        return name.tenant is not None and self._life(name).purged

    def incarnation(self, name: SegmentName) -> int:
        """Return the incarnation of the tenant whose rows they are, in their class; 0 for nobody's."""
        return 0 if name.tenant is None else self._life(name).key.incarnation

    def tags_of(self, generation: GenerationId, name: SegmentName) -> Tags:
        tenant = self.tags.tenant_id(name.tenant)
        return Tags(
            self.tags.tenant_tag(generation, tenant, self.incarnation(name)),
            self.tags.class_tag(generation, name.data_class),
        )

    def purged_tags(self, generation: GenerationId) -> Callable[[Tags], bool]:
        """Return a function that checks whether a segment's tags are of an incarnation whose purge has begun."""
        own = {self.tags.class_tag(generation, name): name for name in self.own_clocks}
        gone = {
            (self.tags.tenant_tag(generation, key.tenant, key.incarnation), key.scope)
            for key, life in self.states.incarnations.items()
            if life.purged
        }
        return lambda tags: (tags.tenant, own.get(tags.data_class, WHOLE)) in gone

    def purged(self, generation: GenerationId) -> set[Pseudonym]:
        """Return the segments of a generation whose purge has begun."""
        purges = (life.purge for life in self.states.incarnations.values() if life.purge)
        return {pseudonym for purge in purges for place, pseudonym in purge.segments if place == generation}

    def removals_since(self, seq: int) -> bool:
        """Check whether entries behind number `seq` speak of anything that may have gone from a store."""
        return any(
            isinstance(event, ExpiryBegan | PurgeBegan) for entry in self.chain.entries(seq) for event in entry.events
        )

    def _life(self, name: SegmentName) -> Incarnation:
        scope = name.data_class if name.data_class in self.own_clocks else WHOLE
        return self.states.current(self.tags.tenant_id(name.tenant), scope)


def read_standing(repository: Repository, node: Node, region: RegionName) -> LedgerStanding:
    """Read the ledger from the store, and copy it to this node's own copy.

    Raises DamageError when the store's is not the continuation of what this node knows.
    """
    known, _ = read_chain(node.ledger, Chain(region, repository.info().repository), repository.keepers)
    chain, _ = read_chain(repository.store, known, repository.keepers)
    chain.copy_to(node.ledger, len(known.links))
    return LedgerStanding(region, chain, node.tags, fold(chain.entries()), node.own_clocks)
