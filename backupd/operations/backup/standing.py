"""What the ledger means to a backup: which incarnation a tenant's rows are of, and whose must not be kept any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.catalog.ledger import Chain, read_chain
from backupd.model.stored.ledger import WHOLE, ExpiryBegan, PurgeBegan
from backupd.planning.lifecycle.lives import TenantStates, fold
from backupd.seal.keys.keyring import Tags

if TYPE_CHECKING:
    from collections.abc import Callable

    from backupd.catalog.repository import Repository
    from backupd.model.ids import GenerationId, Pseudonym, RegionName
    from backupd.model.stored.documents import LedgerHead
    from backupd.model.tenancy import SegmentName
    from backupd.operations.backup.values import Node
    from backupd.planning.lifecycle.lives import Incarnation
    from backupd.seal.keys.tags import TenantTags


@dataclass(frozen=True, slots=True)
class LedgerStanding:
    """The ledger as one backup sees it."""

    region: RegionName
    chain: Chain = field(repr=False)
    tags: TenantTags = field(repr=False)
    lives: TenantStates = field(repr=False)
    own_clocks: frozenset[str]
    """Classes with a life of their own."""

    @property
    def head(self) -> LedgerHead:
        return self.chain.head

    def excluded(self, name: SegmentName) -> bool:
        """Whether the tenant was purged and did not come back: its rows are not backed up again."""
        return name.tenant is not None and self._life(name).purged

    def incarnation(self, name: SegmentName) -> int:
        """Of the tenant whose rows they are, in their class; 0 for nobody's."""
        return 0 if name.tenant is None else self._life(name).key.incarnation

    def tags_of(self, generation: GenerationId, name: SegmentName) -> Tags:
        tenant = self.tags.tenant_id(name.tenant)
        return Tags(
            self.tags.tenant_tag(generation, tenant, self.incarnation(name)),
            self.tags.class_tag(generation, name.data_class),
        )

    def purged_tags(self, generation: GenerationId) -> Callable[[Tags], bool]:
        """Tells of a segment's tags whether they are of a life that is purged, or being so."""
        own = {self.tags.class_tag(generation, name): name for name in self.own_clocks}
        gone = {
            (self.tags.tenant_tag(generation, key.tenant, key.incarnation), key.scope)
            for key, life in self.lives.lives.items()
            if life.purged
        }
        return lambda tags: (tags.tenant, own.get(tags.data_class, WHOLE)) in gone

    def purged(self, generation: GenerationId) -> set[Pseudonym]:
        """Segments of a generation that are purged, or being so."""
        purges = (life.purge for life in self.lives.lives.values() if life.purge)
        return {pseudonym for purge in purges for place, pseudonym in purge.segments if place == generation}

    def removals_since(self, seq: int) -> bool:
        """Whether entries behind `seq` speak of anything that may have gone from a store."""
        return any(
            isinstance(event, ExpiryBegan | PurgeBegan) for entry in self.chain.entries(seq) for event in entry.events
        )

    def _life(self, name: SegmentName) -> Incarnation:
        scope = name.data_class if name.data_class in self.own_clocks else WHOLE
        return self.lives.current(self.tags.tenant_id(name.tenant), scope)


def read_standing(repository: Repository, node: Node, region: RegionName) -> LedgerStanding:
    """Read the ledger from the store, onto this node's own copy of it.

    Raises DamageError when the store's is not the continuation of what this node knows.
    """
    known, _ = read_chain(node.ledger, Chain(region, repository.info().repository), repository.keepers)
    chain, _ = read_chain(repository.store, known, repository.keepers)
    chain.copy_to(node.ledger, len(known.links))
    return LedgerStanding(region, chain, node.tags, fold(chain.entries()), node.own_clocks)
