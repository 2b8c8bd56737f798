"""Names as types of their own, so that none is passed in the place of another. Their forms are in FORMAT.md §1."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, NewType

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
SHORT_NAME = len("20300101T000000Z-") + 8
"""Characters of a snapshot's name that people are shown: 8 digits of its hash distinguish two of one second, and every
command takes them for the whole, which a terminal of 80 columns would break."""
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


_YEAR = "(?:19[7-9][0-9]|[2-8][0-9]{3})"
_LEAP_YEAR = "(?:19(?:7[26]|8[048]|9[26])|[2-8][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[357][26])00)"


def _instant(dash: str, colon: str) -> str:
    """Return the pattern of the instants of the years 1970 to 8999, to the second.

    Each is a real one, because a signed date that is none would otherwise fail wherever somebody calculates with it;
    and a configured span added to one of the last years would leave what can be represented.
    """
    days = (
        f"(?:0[13578]|1[02]){dash}(?:0[1-9]|[12][0-9]|3[01])"
        f"|(?:0[469]|11){dash}(?:0[1-9]|[12][0-9]|30)"
        f"|02{dash}(?:0[1-9]|1[0-9]|2[0-8])"
    )
    time = f"(?:[01][0-9]|2[0-3]){colon}[0-5][0-9]{colon}[0-5][0-9]"
    return f"(?:{_YEAR}{dash}(?:{days})|{_LEAP_YEAR}{dash}02{dash}29)T{time}"


STAMP_FORM: Final = rf"{_instant('-', ':')}\.[0-9]{{6}}Z"
"""Pattern of an instant as it stands in a document."""
RUN_FORM: Final = rf"{_instant('', '')}Z-[0-9a-f]{{8}}"
"""Pattern of the ids of generations, runs, keyrings and drills."""
SNAPSHOT_FORM: Final = rf"{_instant('', '')}Z-[0-9a-f]{{64}}"

_FORMS = {
    "repository": re.compile(r"[0-9a-f]{32}"),
    "region": re.compile(r"[a-z][a-z0-9-]{0,62}"),
    "generation": re.compile(RUN_FORM),
    "run": re.compile(RUN_FORM),
    "drill": re.compile(RUN_FORM),
    "pseudonym": re.compile(r"[0-9a-f]{32}"),
    "hash": re.compile(r"[0-9a-f]{64}"),
    "snapshot": re.compile(SNAPSHOT_FORM),
}


def well_formed(kind: str, text: str) -> bool:
    """Check whether `text` has the form that FORMAT.md gives ids of this kind, a key of `_FORMS`."""
    return _FORMS[kind].fullmatch(text) is not None
