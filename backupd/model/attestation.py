"""The deletion attestation as a value, FORMAT.md §13: what was observed of one incarnation's end, without any name."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from backupd.model.documents import Codec, LedgerHead
from backupd.model.ids import (
    RUN_FORM,
    SNAPSHOT_FORM,
    STAMP_FORM,
    GenerationId,
    Pseudonym,
    RegionName,
    RepositoryId,
    RunId,
    SnapshotName,
    TenantId,
)
from backupd.model.ledger import WHOLE, Reference

KIND: Final = "attestation"

_Hex64 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Stamp = Annotated[str, msgspec.Meta(pattern=rf"\A{STAMP_FORM}\Z")]
_Generation = Annotated[GenerationId, msgspec.Meta(pattern=rf"\A{RUN_FORM}\Z")]
_Pseudonym = Annotated[Pseudonym, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
_Keyring = Annotated[RunId, msgspec.Meta(pattern=rf"\A{RUN_FORM}\Z")]
_Snapshot = Annotated[SnapshotName, msgspec.Meta(pattern=rf"\A{SNAPSHOT_FORM}\Z")]
_Label = Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
_Shown = Annotated[str, msgspec.Meta(max_length=255)]
"""A name as a store shows it."""
Code = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{1,63}\Z")]
"""A word that stands for a sentence of FORMAT.md §13; a word written by a later program may be unknown here."""

METHODS: Final = ("cryptographic-erase", "sections-taken-out", "absence-listed", "store-snapshots-looked-into")
"""What was done on each store, in this order; the first as NIST SP 800-88 defines it."""
NOT_CLAIMED: Final = ("media-sanitization", "wrapping-keys")
"""Claims that a reader of NIST SP 800-88 might expect here, and that are not made."""
NOT_COVERED: Final = (
    "live-database",
    "node-spools",
    "node-indexes",
    "keyring-copies-elsewhere",
    "store-snapshots-not-shown",
    "restored-databases",
    "statutory-records",
    "other-regions",
)
"""Copies that no attestation covers."""
RETIRED: Final = "retired-stores"
DECLARED: Final = "declared-copies"
"""Copies that are not covered either, where there are any: what somebody declared of them is under `retired` and
`copies`."""


class StoreProof(msgspec.Struct, frozen=True, kw_only=True):
    """One store: what was done there and when, and when it was last looked at."""

    store: _Label
    location: _Label
    shredded: _Stamp
    """The time of the ledger's entry, as are the next two fields: since then no keyring here holds a key of the
    incarnation."""
    cleared: _Stamp
    absent: _Stamp
    """Since then nothing was found here, in the store's own snapshots neither."""
    late: bool
    """Whether `absent` is later than the day on which it was due."""
    observed: _Stamp
    """When the store was looked at for this attestation, which is after the last removal there."""
    snapshots: list[_Shown]
    """The store's own snapshots that were looked into then; empty when the store showed none."""
    keyrings: list[str]
    """Objects that list a key of the incarnation, none of which holds one any more: the copies of keys this store had.
    """
    methods: list[Code]


class DestroyedSegment(msgspec.Struct, frozen=True, kw_only=True):
    """One segment, and the keyrings that had its keys: one for each run that added to it."""

    generation: _Generation
    segment: _Pseudonym
    keyrings: list[_Keyring]
    """Ids of the keyrings whose signed index lists the segment, sorted; empty where they have expired."""
    stores: list[_Label]
    """Stores with a keyring that lists it."""


class AttestedHold(msgspec.Struct, frozen=True, kw_only=True):
    """A hold on the tenant between the beginning of its clock and this attestation."""

    hold: Reference
    since: _Stamp
    review: _Stamp
    released: _Stamp | None
    due: _Stamp | None


class AttestedRestore(msgspec.Struct, frozen=True, kw_only=True):
    """A restore in the region since the purge began; the ledger's entry says for what purpose."""

    seq: Annotated[int, msgspec.Meta(ge=1)]
    at: _Stamp
    snapshot: _Snapshot
    override: Reference | None


class RetiredStore(msgspec.Struct, frozen=True, kw_only=True):
    """A store of the region that was declared gone and is no longer configured: nobody looked at it."""

    store: _Label
    at: _Stamp
    """The time of the ledger's entry that declares it gone."""
    decision: Reference
    purging: bool
    """Whether the purge had begun there."""


class DeclaredCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of copy of whole stores that the configuration declares: declared, not observed."""

    copy: _Label
    kept: Annotated[int, msgspec.Meta(ge=0)]
    """Seconds that such a copy lives at most."""
    until: _Stamp
    """By then the last copy that may have held a key or an object was gone, if the declaration is true."""


class Attestation(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an attestation document."""

    kind: str = KIND
    format: int = 2
    features: list[str] = []
    repository: Annotated[RepositoryId, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    region: Annotated[RegionName, msgspec.Meta(pattern=r"\A[a-z][a-z0-9-]{0,62}\Z")]
    tenant: Annotated[TenantId, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    incarnation: Annotated[int, msgspec.Meta(ge=1)]
    scope: Annotated[str, msgspec.Meta(max_length=63)] = WHOLE
    apart: list[_Label]
    """Data classes with dates of their own, which this attestation does not cover; only where the scope is ""."""
    cause: Code
    """The kind of the ledger's event that set the dates."""
    to: _Label | None
    """The region that the tenant moved to; only where the cause is `moved`."""
    since: _Stamp
    deadline: _Stamp
    due: _Stamp
    """The deadline, or the later day that the release of a hold left."""
    purge_by: _Stamp
    began: _Stamp
    """When the purge began."""
    late: bool
    """Whether any store was late."""
    stores: list[StoreProof]
    retired: list[RetiredStore] = []
    copies: list[DeclaredCopy] = []
    keys: list[DestroyedSegment]
    holds: list[AttestedHold]
    restores: list[AttestedRestore]
    residual: Literal["none"]
    not_claimed: list[Code]
    not_covered: list[Code]
    ledger: LedgerHead
    """The ledger at the time of signing, read and compared on every store from its first entry."""
    issued: _Stamp
    performer: _Hex64
    """The public key of the keeper that signed this."""
    verify: str = "backupd attest verify FILE --keeper KEY --ledger FOLDER"


_CODEC: Final = Codec(KIND, Attestation)
encode_attestation = _CODEC.encode
decode_attestation = _CODEC.decode
