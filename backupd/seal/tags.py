"""Keyed digests that represent tenants, classes and databases, FORMAT.md §9.

The holder of the tenant key finds a tenant's segments by them. The digests are not secret and open nothing. Without the
key nobody can find out whose they are, or that two of them, of different generations, are of the same tenant.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from pathlib import Path

from backupd.model.ids import (
    ClassTag,
    DatabaseTag,
    GenerationId,
    Pseudonym,
    RegionName,
    SegmentTags,
    TenantId,
    TenantTag,
)
from backupd.seal.keyfiles import SECRET_SIZE, read_secret, write_secret

NOBODY = TenantId("0" * 32)
"""The id of no tenant, which shared segments have."""
_WHAT = "tenant key"
_MADE_BY = "backupd key generate --tenant-key FILE"


class TenantTags:
    """The digests of one region's tenants and classes under the deployment's tenant key."""

    __slots__ = ("key", "region")

    def __init__(self, key: bytes, region: RegionName) -> None:
        """Take the tenant key, which has 32 bytes."""
        self.key = key
        self.region = region

    def __repr__(self) -> str:
        return f"TenantTags({self.region})"

    def tenant_id(self, tenant: str | None) -> TenantId:
        """Return the ledger's id of a tenant, the same in every generation; NOBODY for None, the shared segments."""
        if tenant is None:
            return NOBODY
        return TenantId(self._digest("tenant", self.region, tenant)[:32])

    def tenant_tag(self, generation: GenerationId, tenant: TenantId, incarnation: int) -> TenantTag:
        """Return the tag of one incarnation of a tenant in a generation's keyrings."""
        return TenantTag(self._digest("tag", self.region, generation, tenant, str(incarnation))[:32])

    def class_tag(self, generation: GenerationId, data_class: str) -> ClassTag:
        """Return the tag of a data class in a generation's keyrings."""
        return ClassTag(self._digest("class", self.region, generation, data_class)[:16])

    def database_tag(self, generation: GenerationId, database: str) -> DatabaseTag:
        """Return the tag of a database, given by its real name, in a generation's keyrings."""
        return DatabaseTag(self._digest("database", self.region, generation, database)[:16])

    def pseudonym(self, generation: GenerationId, tags: SegmentTags) -> Pseudonym:
        """Return the pseudonym of the segment with these tags: no other pseudonym may stand beside them."""
        return Pseudonym(self._digest("segment", self.region, generation, *tags)[:32])

    def _digest(self, *parts: str) -> str:
        return hmac.digest(self.key, "\n".join(("backupd/2", *parts)).encode(), "sha256").hex()


def write_tenant_key(path: Path, random: Callable[[int], bytes] = os.urandom) -> None:
    """Make a tenant key, and write it to a new file.

    Raises RefusedError when `path` exists, ConfigError when it cannot be written.
    """
    write_secret(path, random(SECRET_SIZE))


def read_tenant_key(path: Path) -> bytes:
    """Read the tenant key in a file.

    Raises ConfigError when it cannot be read, is open to other users or holds something else.
    """
    return read_secret(path, _WHAT, _MADE_BY)
