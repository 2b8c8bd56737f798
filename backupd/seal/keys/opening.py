"""Reading keyrings, FORMAT.md §5: what is listed, what was shredded, and, with an identity, the keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import msgspec

from backupd.errors import DamageError, KeyRefusedError
from backupd.model.ids import (
    ClassTag,
    Fingerprint,
    GenerationId,
    Pseudonym,
    RegionName,
    RepositoryId,
    RunId,
    TenantTag,
)
from backupd.model.jsontext import UnreadableError, from_json
from backupd.model.tenancy import SegmentName
from backupd.seal import suite
from backupd.seal.documents import check_size, decode_base64, read_signed
from backupd.seal.keys.keyring import (
    CHUNK_KEY_LABEL,
    CHUNK_KEY_NONCE,
    KeyringIds,
    SealedSegment,
    SegmentKey,
    Tags,
    entry_label,
    wraps_check,
    wraps_line,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_Hex16 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
_Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
_Hex64 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Stamped = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}\Z")]


class _Body(msgspec.Struct, frozen=True):
    repository: _Hex32
    region: str
    generation: _Stamped
    run: _Stamped
    created: str
    chunk_key: _Hex64
    entries: list[tuple[_Hex32, _Hex64, _Hex64]]
    tags: list[tuple[_Hex32, _Hex16]]


class _Wrap(msgspec.Struct, frozen=True):
    recipient: _Hex32
    sealed: str


class _Wraps(msgspec.Struct, frozen=True):
    wraps: list[_Wrap]
    check: _Hex64


class _ChunkKey(msgspec.Struct, frozen=True):
    chunk_key: str


class _Entry(msgspec.Struct, frozen=True):
    segment: _Hex32
    index: int
    sealed: str


@dataclass(frozen=True, slots=True)
class OpenedKeyring:
    """A keyring's keys, less the shredded ones."""

    chunk_key: bytes = field(repr=False)
    segments: Mapping[Pseudonym, SegmentKey] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keyring:
    """A keyring whose signature and every line were checked; still sealed."""

    ids: KeyringIds
    created: str
    where: str
    index: list[tuple[Pseudonym, str]]
    """Every segment the keyring was made for, with the hex SHA-256 of its public key; shredded ones too."""
    tags: list[Tags]
    """Of every place in `index`."""
    wraps: Mapping[Fingerprint, bytes] = field(repr=False)
    chunk_key: bytes = field(repr=False)
    sealed: Mapping[int, bytes] = field(repr=False)
    """By place in `index`; a place without is a shredded segment."""

    @property
    def shredded(self) -> set[Pseudonym]:
        return {pseudonym for place, (pseudonym, _) in enumerate(self.index) if place not in self.sealed}

    def open(self, identity_secret: bytes) -> OpenedKeyring:
        """Every key that was not shredded.

        Raises KeyRefusedError, naming the recipients, when the identity is not one of them, and DamageError.
        """
        cipher = suite.Aead(self.file_key(identity_secret))
        try:
            chunk_key = cipher.open(CHUNK_KEY_NONCE, self.chunk_key, CHUNK_KEY_LABEL)
            segments = {
                self.index[place][0]: self._segment(place, cipher.open(*self._sealed_at(place)))
                for place in self.sealed
            }
        except (suite.NotAuthenticError, ValueError) as error:
            raise DamageError(f"the keys in '{self.where}' are not authentic") from error
        return OpenedKeyring(chunk_key, segments)

    def file_key(self, identity_secret: bytes) -> bytes:
        """The key under which the keyring's lines are sealed.

        Raises KeyRefusedError, naming the recipients, when the identity is not one of them, and DamageError.
        """
        recipient = suite.fingerprint(suite.public_of(identity_secret))
        if recipient not in self.wraps:
            raise KeyRefusedError(
                f"the identity {recipient} does not open '{self.where}'",
                hint=f"It is sealed to {', '.join(self.wraps) or 'nobody'}.",
            )
        try:
            file_key = suite.unseal(identity_secret, self.ids.info(), self.wraps[recipient])
            suite.Aead(file_key)
        except (suite.NotAuthenticError, ValueError) as error:
            raise DamageError(f"the keys in '{self.where}' are not authentic") from error
        return file_key

    def _sealed_at(self, place: int) -> tuple[bytes, bytes, bytes]:
        return suite.nonce(place), self.sealed[place], entry_label(self.index[place][0])

    def _segment(self, place: int, plain: bytes) -> SegmentKey:
        entry = from_json(plain, SealedSegment)
        secret = decode_base64(entry.secret, self.where)
        if len(secret) != suite.SECRET_SIZE:
            raise DamageError(f"'{self.where}' holds a key of a wrong length for segment {self.index[place][0]}")
        return SegmentKey(secret, SegmentName(entry.database, entry.data_class, entry.tenant))


def parse_keyring(data: bytes, trusted: Collection[str], where: str) -> Keyring:
    """A keyring file with its signature, index and every line checked; needs no key.

    Raises DamageError naming `where`, and RefusedError for a format or feature this program does not know.
    """
    check_size(len(data), "keyring", where)
    lines = data.split(b"\n")
    if len(lines) < 5 or lines.pop():
        raise DamageError(f"'{where}' is cut short")
    try:
        body = from_json(read_signed(lines[0], lines[1], "keyring", trusted, where), _Body)
        wraps = from_json(lines[2], _Wraps)
        chunk_key = from_json(lines[3], _ChunkKey).chunk_key
        entries = [from_json(line, _Entry) for line in lines[4:]]
    except UnreadableError as error:
        raise DamageError(f"'{where}' holds a line that cannot be read") from error
    if len(body.tags) != len(body.entries):
        raise DamageError(f"'{where}' has not as many tags as entries")
    return Keyring(
        ids=_ids(body),
        created=body.created,
        where=where,
        index=[(Pseudonym(pseudonym), public_hash) for pseudonym, public_hash, _ in body.entries],
        tags=[Tags(TenantTag(tenant), ClassTag(data_class)) for tenant, data_class in body.tags],
        wraps=_checked_wraps(wraps, where),
        chunk_key=_matching(chunk_key, body.chunk_key, where),
        sealed=_checked_entries(entries, body.entries, where),
    )


def without_lines(data: bytes, segments: Collection[Pseudonym], where: str) -> bytes:
    """A keyring file less the lines of these segments: what a shred puts in its place.

    Raises DamageError for a line that cannot be read. The signature stays as it is, for it covers the index only.
    """
    lines = data.split(b"\n")
    try:
        kept = [line for line in lines[4:-1] if from_json(line, _Entry).segment not in segments]
    except UnreadableError as error:
        raise DamageError(f"'{where}' holds a line that cannot be read") from error
    return b"\n".join([*lines[:4], *kept, b""])


def with_wraps(data: bytes, keyring: Keyring, identity_secret: bytes, recipients: Sequence[bytes]) -> bytes:
    """The keyring file `data`, parsed as `keyring`, sealed to these recipients (public keys) and no others.

    Raises what `Keyring.open` does. No other line changes: entries are sealed under the file key, which stays.
    """
    keyring.open(identity_secret)  # what does not open must not be sealed to anybody as if it did
    lines = data.split(b"\n")
    lines[2] = wraps_line(keyring.ids, recipients, keyring.file_key(identity_secret)).encode()
    return b"\n".join(lines)


def _ids(body: _Body) -> KeyringIds:
    return KeyringIds(
        RepositoryId(body.repository), RegionName(body.region), GenerationId(body.generation), RunId(body.run)
    )


def _checked_wraps(line: _Wraps, where: str) -> dict[Fingerprint, bytes]:
    wraps = [(Fingerprint(wrap.recipient), decode_base64(wrap.sealed, where)) for wrap in line.wraps]
    if wraps_check(wraps) != line.check:
        raise DamageError(f"the recipients' line of '{where}' does not match its check")
    return dict(wraps)


def _checked_entries(entries: list[_Entry], index: list[tuple[str, str, str]], where: str) -> dict[int, bytes]:
    sealed: dict[int, bytes] = {}
    before = -1
    for entry in entries:
        if not before < entry.index < len(index) or index[entry.index][0] != entry.segment:
            raise DamageError(f"'{where}' holds a line for segment {entry.segment} its index does not list there")
        sealed[entry.index] = _matching(entry.sealed, index[entry.index][2], where)
        before = entry.index
    return sealed


def _matching(text: str, expected: str, where: str) -> bytes:
    data = decode_base64(text, where)
    if hashlib.sha256(data).hexdigest() != expected:
        raise DamageError(f"a sealed line of '{where}' does not match its signed index")
    return data
