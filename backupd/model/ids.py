"""Names as types, so that one cannot be handed over for another. Forms are in FORMAT.md §1."""

from __future__ import annotations

import re
from typing import NewType

RepositoryId = NewType("RepositoryId", str)
RegionName = NewType("RegionName", str)
GenerationId = NewType("GenerationId", str)
RunId = NewType("RunId", str)
DrillId = NewType("DrillId", str)
"""When a restore drill began and 8 hex, like a run's: the name of its report."""
Pseudonym = NewType("Pseudonym", str)
ObjectHash = NewType("ObjectHash", str)
"""SHA-256 of a whole object, 64 hex: the name of packs and parts."""
SnapshotName = NewType("SnapshotName", str)
"""`<time>-<hash of the record>`: the file name of a record."""
Fingerprint = NewType("Fingerprint", str)
"""First 32 hex of SHA-256 of a recipient's public key."""
TenantId = NewType("TenantId", str)
"""A keyed digest of a tenant's name, 32 hex: stands for it in the ledger (FORMAT.md §9)."""
TenantTag = NewType("TenantTag", str)
"""Stands for a tenant's incarnation within one generation, 32 hex."""
ClassTag = NewType("ClassTag", str)
"""Stands for a data class within one generation, 16 hex."""
ObjectName = NewType("ObjectName", str)
"""A path on a store, relative to the region's folder, `/`-separated, never starting with one."""

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
    """Whether `text` has the form FORMAT.md gives ids of this kind."""
    return _FORMS[kind].fullmatch(text) is not None
