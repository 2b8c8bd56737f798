"""The names of segments: the tags and the pseudonym of a tenant's rows in one data class, FORMAT.md §9. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from backupd.model.ids import ClassTag, DatabaseTag, GenerationId, Pseudonym, SegmentTags, TenantId
from backupd.seal.tags import TenantTags


class NewestIncarnation(NamedTuple):
    """The newest incarnation of a tenant in one scope, as the ledger has it."""

    incarnation: int
    purged: bool


class NamedSegment(NamedTuple):
    """A segment's pseudonym in one generation, and the tags it follows from."""

    pseudonym: Pseudonym
    tags: SegmentTags


@dataclass(frozen=True)
class SegmentNames:
    """The names of one database's segments in one generation. For several threads."""

    tags: TenantTags = field(repr=False)
    generation: GenerationId
    database: str
    """The database's real name."""
    own_clocks: Collection[str]
    """Data classes with an incarnation of their own."""
    incarnations: Mapping[str, NewestIncarnation]
    """Tenants whom the ledger does not leave in their first incarnation, by `incarnation_key`."""
    _common: dict[str, tuple[ClassTag, DatabaseTag]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def of(self, data_class: str, tenant: str | None) -> NamedSegment | None:
        """Return a segment's names; None when the tenant was purged and did not come back: nothing of it is kept."""
        tags = self.tags
        who, incarnation = tags.tenant_id(tenant), 0
        if tenant is not None:
            scope = data_class if data_class in self.own_clocks else ""
            newest = self.incarnations.get(incarnation_key(who, scope))
            if newest is not None and newest.purged:
                return None
            # A tenant that comes back gets new segments: nothing is added to those of its old incarnation.
            incarnation = 1 if newest is None else newest.incarnation
        found = SegmentTags(tags.tenant_tag(self.generation, who, incarnation), *self._tags_of_all(data_class))
        return NamedSegment(tags.pseudonym(self.generation, found), found)

    def _tags_of_all(self, data_class: str) -> tuple[ClassTag, DatabaseTag]:
        """Return the tags that all tenants' segments have in common."""
        found = self._common.get(data_class)
        if found is None:
            tags, generation = self.tags, self.generation
            found = tags.class_tag(generation, data_class), tags.database_tag(generation, self.database)
            self._common[data_class] = found
        return found


def incarnation_key(tenant: TenantId, scope: str) -> str:
    """Return a tenant's key in `SegmentNames.incarnations`; the scope is a data class, or empty for all others."""
    return f"{tenant} {scope}"
