"""Names as types of their own, so that none is passed in the place of another. Their forms are in FORMAT.md §1."""

from __future__ import annotations

import re
from typing import NamedTuple, NewType

RepositoryId = NewType("RepositoryId", str)
RegionName = NewType("RegionName", str)
GenerationId = NewType("GenerationId", str)
RunId = NewType("RunId", str)
DrillId = NewType("DrillId", str)
"""The name of a drill's report: when the drill began, and 8 hex digits, as in the name of a run."""
Pseudonym = NewType("Pseudonym", str)
"""A keyed digest of a segment's tags, 32 hex digits: what a segment is called within one generation."""
ObjectHash = NewType("ObjectHash", str)
"""SHA-256 as 64 hex digits: of a whole object, or, as the name of a pack, of its header."""
SnapshotName = NewType("SnapshotName", str)
"""The file name of a record: `<time>-<hash of the record>`."""
Fingerprint = NewType("Fingerprint", str)
"""The first 32 hex digits of SHA-256 of a recipient's public key."""
TenantId = NewType("TenantId", str)
"""A keyed digest of a tenant's name, 32 hex digits: the ledger names the tenant by it (FORMAT.md §9)."""
TenantTag = NewType("TenantTag", str)
"""A keyed digest of a tenant's incarnation within one generation, 32 hex digits."""
ClassTag = NewType("ClassTag", str)
"""A keyed digest of a data class within one generation, 16 hex digits."""
DatabaseTag = NewType("DatabaseTag", str)
"""A keyed digest of a database's real name within one generation, 16 hex digits."""
ObjectName = NewType("ObjectName", str)
"""A path on a store, relative to the region's folder, `/`-separated, never starting with a slash."""


class SegmentTags(NamedTuple):
    """The digests of a segment's tenant, class and database, which the tenant key relates to their names."""

    tenant: TenantTag
    data_class: ClassTag
    database: DatabaseTag


_FORMS = {
    "repository": re.compile(r"[0-9a-f]{32}"),
    "region": re.compile(r"[a-z][a-z0-9-]{0,62}"),
    "generation": re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}"),
    "run": re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}"),
    "drill": re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}"),
    "pseudonym": re.compile(r"[0-9a-f]{32}"),
    "hash": re.compile(r"[0-9a-f]{64}"),
    "snapshot": re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{64}"),
}


def well_formed(kind: str, text: str) -> bool:
    """Check whether `text` has the form that FORMAT.md gives ids of this kind, a key of `_FORMS`."""
    return _FORMS[kind].fullmatch(text) is not None
