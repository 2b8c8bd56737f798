"""The ledger's entries as values, FORMAT.md §10: what happened to tenants and snapshots, without any name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from backupd.model.documents import Codec
from backupd.model.ids import (
    RUN_FORM,
    SNAPSHOT_FORM,
    STAMP_FORM,
    DrillId,
    Fingerprint,
    GenerationId,
    Pseudonym,
    RegionName,
    RepositoryId,
    SnapshotName,
    TenantId,
)

_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Hex16 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
_Hex64 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Stamp = Annotated[str, msgspec.Meta(pattern=rf"\A{STAMP_FORM}\Z")]
_Tenant = Annotated[TenantId, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
_Generation = Annotated[GenerationId, msgspec.Meta(pattern=rf"\A{RUN_FORM}\Z")]
_Pseudonym = Annotated[Pseudonym, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
MOST_SNAPSHOTS: Final = 100_000
"""Snapshots that one event names at most: an entry of more could become too large to be read."""
_Snapshot = Annotated[SnapshotName, msgspec.Meta(pattern=rf"\A{SNAPSHOT_FORM}\Z")]
_Drill = Annotated[DrillId, msgspec.Meta(pattern=rf"\A{RUN_FORM}\Z")]
_Recipient = Annotated[Fingerprint, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
_Label = Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
"""A configured name: of a store, a class, a region, or the label of a database."""
REFERENCE = r"[A-Za-z0-9][A-Za-z0-9._/#-]{0,63}"
Reference = Annotated[str, msgspec.Meta(pattern=rf"\A{REFERENCE}\Z")]
"""The number of a ticket or a decision; never a sentence, because a sentence would name people."""
SegmentRef: TypeAlias = tuple[_Generation, _Pseudonym]

WHOLE = ""
"""The scope of an incarnation that covers every data class without a clock of its own."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """One thing that happened; subclasses add what it was about."""


class _OfIncarnation(_Event, frozen=True, kw_only=True):
    """An event about one incarnation of a tenant, in all classes or in one class that has a clock of its own."""

    tenant: _Tenant
    incarnation: Annotated[int, msgspec.Meta(ge=1)]
    scope: Annotated[str, msgspec.Meta(max_length=63)] = WHOLE


class _Dated(_OfIncarnation, frozen=True, kw_only=True):
    """An event that starts or changes the clock of an incarnation."""

    since: _Stamp
    """T0, when the clock starts."""
    deadline: _Stamp
    """The deadline D, by which no copy holds a byte any more."""
    purge_by: _Stamp
    """The latest purge P* that can keep the deadline."""
    by: Literal["command", "query"] = "command"
    """Who set the dates. When the query no longer lists a tenant, that cancels only what the query began."""


class Unsubscribed(_Dated, frozen=True, kw_only=True, tag="unsubscribed"):
    """The tenant unsubscribed, and is purged by its deadline."""


class ErasureRequested(_Dated, frozen=True, kw_only=True, tag="erasure-requested"):
    """Somebody requested to erase the tenant, which is purged without the grace."""


class Moved(_Dated, frozen=True, kw_only=True, tag="moved"):
    """The tenant lives in another region from now on, and is purged here."""

    to: _Label


class Resubscribed(_OfIncarnation, frozen=True, kw_only=True, tag="resubscribed"):
    """The tenant came back before the purge: its dates are cancelled."""


class Returned(_OfIncarnation, frozen=True, kw_only=True, tag="returned"):
    """The tenant came back after the purge; `incarnation` is the number of its new incarnation."""


class Held(_Event, frozen=True, kw_only=True, tag="held"):
    """A hold on the tenant: nothing of it is purged until the hold is released."""

    tenant: _Tenant
    hold: Reference
    review: _Stamp


class Released(_Event, frozen=True, kw_only=True, tag="released"):
    """A hold on the tenant ended."""

    tenant: _Tenant
    hold: Reference
    due: _Stamp
    """By then nothing is left of what the hold kept, if the tenant's own date has passed."""


class PurgeBegan(_OfIncarnation, frozen=True, kw_only=True, tag="purge-began"):
    """The intent to purge: from here on these segments may be missing anywhere."""

    segments: list[SegmentRef]
    """All segments that were found of the incarnation, or those found since."""
    stores: list[_Label]
    """Every store that must be cleared."""


class Shredded(_OfIncarnation, frozen=True, kw_only=True, tag="shredded"):
    """No keyring on this store holds a key of the incarnation's segments; each keyring was read again afterwards."""

    store: _Label
    keyrings: _Count
    """Number of keyrings that were replaced."""


class Cleared(_OfIncarnation, frozen=True, kw_only=True, tag="cleared"):
    """The packs on this store were listed, and hold no section of the incarnation's segments."""

    store: _Label
    objects: _Count
    """Number of packs from which sections were taken out."""
    bytes: _Count
    """Bytes of the sections that were taken out of them."""


class Absent(_OfIncarnation, frozen=True, kw_only=True, tag="absent"):
    """The store's own snapshots were looked into: none holds a section or a key of the incarnation's segments."""

    store: _Label
    snapshots: list[str]
    """Names of the snapshots that were looked into."""


class Attested(_OfIncarnation, frozen=True, kw_only=True, tag="attested"):
    """The deletion of the incarnation was attested."""

    attestation: _Hex64
    """SHA-256 of the attestation's document."""


class ExpiryBegan(_Event, frozen=True, kw_only=True, tag="expiry-began"):
    """The intent to expire: from here on these records, and what only they refer to, may be missing on this store."""

    store: _Label
    snapshots: list[_Snapshot]


class ClassExpired(_Event, frozen=True, kw_only=True, tag="class-expired"):
    """The intent to expire a data class: its sections may be missing on a store if only older snapshots need them."""

    store: _Label
    generation: _Generation
    class_tag: _Hex16
    before: _Stamp
    """Only sections that no snapshot exported at or after this instant refers to may be missing."""


class Expired(_Event, frozen=True, kw_only=True, tag="expired"):
    """An expiry ended; what it removed was listed again and is absent."""

    store: _Label
    snapshots: _Count
    objects: _Count
    """Number of objects that were removed, and of packs from which sections were taken out."""
    bytes: _Count
    """Bytes of these objects, and of the sections that were taken out of packs."""


class Reduced(_Event, frozen=True, kw_only=True, tag="reduced"):
    """An expired snapshot was reduced to the sections that a hold keeps, under a record of its own."""

    store: _Label
    snapshot: _Snapshot
    into: _Snapshot


class Verified(_Event, frozen=True, kw_only=True, tag="verified"):
    """Every byte that these snapshots need on this store was read and was right."""

    store: _Label
    snapshots: list[_Snapshot]


class Observed(_Event, frozen=True, kw_only=True, tag="observed"):
    """The store's own snapshots were listed."""

    store: _Label
    snapshots: list[str]


class Restored(_Event, frozen=True, kw_only=True, tag="restored"):
    """A snapshot was restored."""

    snapshot: _Snapshot
    purpose: _Label
    override: Reference | None = None
    """The number of the decision that allowed a place where the region's data may not usually be restored."""


class Drilled(_Event, frozen=True, kw_only=True, tag="drilled"):
    """A restore drill ended, with this verdict and report."""

    drill: _Drill
    report: _Hex64
    """SHA-256 of the report's document. The report calls the one of the preceding `drilled` event its previous one."""
    verdict: Literal["pass", "fail", "error"]
    snapshot: _Snapshot | None = None
    """Null when the drill ended before it had chosen a snapshot."""


class StoreRetired(_Event, frozen=True, kw_only=True, tag="store-retired"):
    """The store is gone for good, or nobody can look at it again: declared, not seen. Purges no longer wait for it."""

    store: _Label
    decision: Reference


class KeeperRetired(_Event, frozen=True, kw_only=True, tag="keeper-retired"):
    """The holder of this key is no keeper any more: entries behind this one are not believed because of it."""

    key: _Hex64
    """The public key, in hex."""
    decision: Reference


class Misdated(_Event, frozen=True, kw_only=True, tag="misdated"):
    """A clock was wrong and dated these entries ahead, so that later entries may be dated before them."""

    entries: Annotated[list[Annotated[int, msgspec.Meta(ge=1)]], msgspec.Meta(min_length=1)]
    """Sequence numbers of the misdated entries."""
    decision: Reference


class RekeyBegan(_Event, frozen=True, kw_only=True, tag="rekey-began"):
    """The intent to rekey: from here on keyrings on this store may be sealed to these recipients."""

    store: _Label
    recipients: list[_Recipient]


class Rekeyed(_Event, frozen=True, kw_only=True, tag="rekeyed"):
    """Every keyring that was listed on this store is sealed to these recipients, and was read again."""

    store: _Label
    recipients: list[_Recipient]
    keyrings: _Count
    """Number of keyrings that this run replaced."""


class Replicated(_Event, frozen=True, kw_only=True, tag="replicated"):
    """Snapshots were copied to this store from another one, each after all that it needs."""

    store: _Label
    origin: _Label
    snapshots: list[_Snapshot]
    objects: _Count
    bytes: _Count


Event: TypeAlias = (
    Unsubscribed
    | ErasureRequested
    | Moved
    | Resubscribed
    | Returned
    | Held
    | Released
    | PurgeBegan
    | Shredded
    | Cleared
    | Absent
    | Attested
    | ExpiryBegan
    | ClassExpired
    | Expired
    | Reduced
    | Verified
    | Observed
    | Restored
    | Drilled
    | StoreRetired
    | KeeperRetired
    | Misdated
    | RekeyBegan
    | Rekeyed
    | Replicated
)
IncarnationEvent: TypeAlias = (
    Unsubscribed
    | ErasureRequested
    | Moved
    | Resubscribed
    | Returned
    | PurgeBegan
    | Shredded
    | Cleared
    | Absent
    | Attested
)


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The body of one entry: events that were decided together."""

    kind: str = "ledger"
    format: int = 2
    features: list[str] = []
    repository: Annotated[RepositoryId, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    region: Annotated[RegionName, msgspec.Meta(pattern=r"\A[a-z][a-z0-9-]{0,62}\Z")]
    seq: Annotated[int, msgspec.Meta(ge=1)]
    previous: _Hex64 | None
    """SHA-256 of the preceding entry; null for the first."""
    at: _Stamp
    events: list[Event]


def kind_of(event: Event) -> str:
    """Return the name of an event's kind in the ledger, such as `drilled`."""
    return str(event.__struct_config__.tag)


_CODEC: Final = Codec("ledger entry", LedgerEntry)
encode_entry = _CODEC.encode
decode_entry = _CODEC.decode
"""Decodes an entry. An event this program does not know is damage: otherwise a deletion could be overlooked."""


def in_entries(names: Sequence[SnapshotName]) -> list[list[SnapshotName]]:
    """Return snapshots in parts that one entry holds each, at least one: a thief of a node can make any number."""
    return [list(names[at : at + MOST_SNAPSHOTS]) for at in range(0, max(1, len(names)), MOST_SNAPSHOTS)]
