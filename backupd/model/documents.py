"""The bodies of signed documents as values, FORMAT.md §3 and §4.

Nobody serialises a document on a store a second time. Fields this program does not know are kept in `extra`, so that
what it shows of a document is complete.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Sequence
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec

from backupd.errors import DamageError
from backupd.model.ids import (
    RUN_FORM,
    SNAPSHOT_FORM,
    STAMP_FORM,
    GenerationId,
    ObjectHash,
    RegionName,
    RepositoryId,
    RunId,
    SnapshotName,
    well_formed,
)
from backupd.model.text import UnreadableError, from_json

_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Hash = Annotated[ObjectHash, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Repository = Annotated[RepositoryId, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
_Region = Annotated[RegionName, msgspec.Meta(pattern=r"\A[a-z][a-z0-9-]{0,62}\Z")]
_Generation = Annotated[GenerationId, msgspec.Meta(pattern=rf"\A{RUN_FORM}\Z")]
_Run = Annotated[RunId, msgspec.Meta(pattern=rf"\A{RUN_FORM}\Z")]
_Snapshot = Annotated[SnapshotName, msgspec.Meta(pattern=rf"\A{SNAPSHOT_FORM}\Z")]
_Stamp = Annotated[str, msgspec.Meta(pattern=rf"\A{STAMP_FORM}\Z")]
_Member = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
_Signer = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]

PackRef = tuple[_Hash, Sequence[_Count], Sequence[_Count]]
"""A pack, and which of its sections a snapshot needs, as ranges: those whose manifests make the snapshot up, and others
whose chunks these manifests refer to."""

HANDED = "handed"
"""A record's field, kept in `extra`: the records that its writer handed in since `previous`, oldest first."""
MOST_HANDED: Final = 200
"""How many of the newest records that wait for a keeper a record names: with more, something else is wrong."""
REDUCED = "reduced"
"""A record's field, kept in `extra`: the name of the full record, of which a hold kept only the sections here."""
MARK = "mark"
"""A record's field, kept in `extra`: the secret whose SHA-256 the mark of its run holds."""

EXTRA_LIMIT: Final = 1 << 20
"""Upper limit of all the fields of a body that this program does not know, in bytes."""
_NO_FIELD: Final = "(unknown)"
"""A name that no document has for a field: those that this program does not know are gathered under it."""

Body = TypeVar("Body", "RepositoryInfo", "Record")
Value = TypeVar("Value", bound=msgspec.Struct)


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a snapshot, added up."""

    tables: _Count
    rows: _Count
    bytes: _Count
    """Bytes of COPY text."""
    stored: _Count
    """Bytes of every section the snapshot needs."""
    added: _Count
    """Bytes that this run added to the store."""


class LedgerHead(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger as the writer of a record saw it."""

    seq: _Count
    head: _Hash | None = None

    def __str__(self) -> str:
        """Return the text that `parse_head` reads, for people to keep."""
        return f"{self.seq}:{self.head or ''}"


def parse_head(text: str) -> LedgerHead:
    """Return the head that `str` wrote. Raises ValueError."""
    match = re.fullmatch(r"([1-9][0-9]{0,9}):([0-9a-f]{64})", text)
    if match is None:
        raise ValueError("not the head of a ledger")
    return LedgerHead(seq=int(match[1]), head=ObjectHash(match[2]))


class RepositoryInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`repository.json`: who may write here, and what the store was seen to be able to do."""

    kind: str = "repository"
    format: int = 2
    features: list[str] = []
    repository: _Repository
    region: _Region
    created: _Stamp
    signers: list[_Signer]
    keepers: list[_Signer] = []
    """Public keys whose ledger entries are believed by readers without a list of their own; empty: those of the
    signers."""
    profile: dict[str, Any] = {}
    help: dict[str, _Hash] = {}
    """SHA-256 of each file that helps without backupd, by its name: as the one who signs this put it there."""
    extra: dict[str, Any] = msgspec.field(default_factory=dict, name=_NO_FIELD)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot's list of sections; the snapshot exists exactly when its record does."""

    kind: str = "snapshot"
    format: int = 2
    features: list[str] = []
    repository: _Repository
    region: _Region
    generation: _Generation
    run: _Run
    database: str
    """The configured label of the database."""
    member: _Member | None = None
    exported: _Stamp
    published: _Stamp
    server: _Count
    """PostgreSQL's version as a number: `server_version_num`."""
    previous: _Snapshot | None = None
    ledger: LedgerHead
    packs: list[PackRef]
    totals: Totals
    extra: dict[str, Any] = msgspec.field(default_factory=dict, name=_NO_FIELD)

    @property
    def lean(self) -> Record:
        """The record for who holds many: without the fields that this program knows nothing of, which a thief makes
        large, and with ranges in a third of the memory.
        """
        known = (HANDED, MARK, REDUCED)
        packs: list[PackRef] = [
            (sha256, array("Q", manifests), array("Q", others)) for sha256, manifests, others in self.packs
        ]
        extra = {name: self.extra[name] for name in known if name in self.extra}
        return msgspec.structs.replace(self, packs=packs, extra=extra)

    @property
    def range_numbers(self) -> int:
        """Count of the numbers in its ranges of sections, two for each range."""
        return sum(len(manifests) + len(others) for _, manifests, others in self.packs)

    @property
    def follows(self) -> tuple[SnapshotName, ...]:
        """Names of records that its writer wrote before, newest first; those that it handed in may never have come."""
        handed = self.extra.get(HANDED)
        listed = handed[-MOST_HANDED:] if isinstance(handed, list) else []
        names = [SnapshotName(one) for one in listed if isinstance(one, str) and well_formed("snapshot", one)]
        return (*reversed(names), *([self.previous] if self.previous else []))

    @property
    def ended_mark(self) -> str | None:
        """The text of the mark that the record's writer alone can say is over; None when it says of none."""
        secret = self.extra.get(MARK)
        return mark_text(secret) if isinstance(secret, str) else None

    @property
    def segments(self) -> int:
        """Number of segments in the snapshot: each has one manifest."""
        return sum(count for _, manifests, _ in self.packs for count in manifests[1::2])


def mark_text(secret: str) -> str:
    """Return the text of a run's mark (FORMAT.md §11), from which nobody learns the secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def encode_body(document: RepositoryInfo | Record) -> bytes:
    """Encode a document's body as one line of JSON, keys sorted, without white space."""
    fields = msgspec.to_builtins(document)
    extra = fields.pop(_NO_FIELD)
    return msgspec.json.encode({**extra, **fields}, order="sorted")


def decode_body(body: bytes, kind: type[Body], where: str) -> Body:
    """Decode the value that a body line holds.

    Raises DamageError naming `where` when a field is missing or not of its form, so that no name read from a store
    reaches a path unchecked.
    """
    try:
        # Known fields are decoded into their own form alone: as plain values a record takes twice the memory.
        return msgspec.structs.replace(from_json(body, kind), extra=_unknown(body, kind, where))
    except (UnreadableError, msgspec.ValidationError) as error:
        raise DamageError(f"'{where}' is not a readable document", hint=f"{error}.") from error


def _unknown(body: bytes, kind: type[Body], where: str) -> dict[str, Any]:
    fields = from_json(body, dict[str, msgspec.Raw])
    unknown = {name: bytes(raw) for name, raw in fields.items() if name not in kind.__struct_encode_fields__}
    if sum(map(len, unknown.values())) > EXTRA_LIMIT:
        raise DamageError(f"'{where}' has more than {EXTRA_LIMIT} bytes in fields that this program does not know")
    return {name: from_json(raw, Any) for name, raw in unknown.items()}


class Codec(Generic[Value]):
    """Encoder and decoder for the body of one kind of signed document; unknown fields are not kept."""

    def __init__(self, kind: str, form: type[Value]) -> None:
        self._kind = kind
        self._form = form

    def encode(self, document: Value) -> bytes:
        """Encode a body as one line of JSON, keys sorted, without white space."""
        return msgspec.json.encode(document, order="sorted")

    def decode(self, body: bytes, where: str) -> Value:
        """Decode the value that a body line holds; fields this program does not know are left out.

        Raises DamageError naming `where`.
        """
        try:
            from_json(body, dict[str, Any])
            return from_json(body, self._form)
        except UnreadableError as error:
            raise DamageError(f"'{where}' is not a readable {self._kind}") from error


class HashAbility(msgspec.Struct, frozen=True):
    """A command on the store that prints an object's digest."""

    command: str
    algorithm: str


class StoreProfile(msgspec.Struct, frozen=True):
    """The abilities that a store was seen to have: part of the signed `repository.json`.

    The profile only informs. A writer looks again, and a difference is worth an alarm.
    """

    adapter: str
    """The kind of store: `sftp` or `directory`."""
    rename: str
    """How a rename behaves: `no-clobber`. A store whose renames overwrite is refused at `init`."""
    fsync: bool
    """Whether an object can be forced onto the store's disk before it is published."""
    statvfs: bool
    """Whether the store can report its free space."""
    hash: HashAbility | None
    """None: objects are verified by reading them back."""
    snapshots: str | None
    """The folder of the store's own read-only snapshots."""
    append_only: bool
    """Whether the store refused us to remove and to overwrite: a thief of this node could do neither."""
    max_write: int
    """Bytes of the longest single write."""
