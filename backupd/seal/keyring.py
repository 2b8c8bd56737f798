"""Keyrings, FORMAT.md §5: the segment keys that one run created, each sealed so that it can be removed alone.

A writer holds the file key for one run only. It makes values (`KeyringPieces`, `KeyringEntry`) that may be stored on
disk, and rendered by a later process that can open none of them. A reader without a key sees which segments are listed
and which are shredded; an identity opens the keys.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import msgspec

from backupd.errors import DamageError, KeyRefusedError
from backupd.model.ids import ClassTag, Fingerprint, GenerationId, Pseudonym, RegionName, RepositoryId, RunId, TenantTag
from backupd.model.tenancy import SegmentName
from backupd.model.text import UnreadableError, from_json
from backupd.seal import suite
from backupd.seal.documents import Signer, check_size, decode_base64, read_signed

CHUNK_KEY_NONCE = b"\xff" * suite.NONCE_SIZE
CHUNK_KEY_LABEL = b"backupd/1 chunk key"


@dataclass(frozen=True, slots=True)
class KeyringIds:
    """The names of the run whose keyring it is."""

    repository: RepositoryId
    region: RegionName
    generation: GenerationId
    run: RunId

    def info(self) -> bytes:
        """Return the label under which the file key is sealed to a recipient."""
        return f"backupd/1 keyring {self.repository} {self.generation} {self.run}".encode()


@dataclass(frozen=True, slots=True)
class KeyringPieces:
    """The two lines of a keyring that do not depend on its entries."""

    wraps: str
    chunk_key: str
    chunk_key_hash: str
    """Hex SHA-256 of the sealed chunk key; it is signed with the index."""


class Tags(NamedTuple):
    """The digests of a segment's tenant and class, which the tenant key relates to their names (FORMAT.md §9)."""

    tenant: TenantTag
    data_class: ClassTag


@dataclass(frozen=True, slots=True)
class KeyringEntry:
    """The place of one segment in the index, and its sealed line."""

    index: int
    pseudonym: Pseudonym
    public_hash: str
    """Hex SHA-256 of the segment's public key."""
    sealed_hash: str
    """Hex SHA-256 of the sealed bytes in `line`."""
    line: str
    tags: Tags


@dataclass(frozen=True, slots=True)
class SegmentKey:
    """The key that opens one segment's containers of one generation."""

    secret: bytes = field(repr=False)
    name: SegmentName = field(repr=False)


class SealedSegment(msgspec.Struct, frozen=True):
    """The plain text of an entry: the secret half in base64, and the segment's name."""

    secret: str
    database: str
    data_class: str = msgspec.field(name="class")
    tenant: str | None


class KeyringWriter:
    """Sealer of one run's segment keys; the file key is forgotten with it."""

    def __init__(
        self,
        ids: KeyringIds,
        recipients: Sequence[bytes],
        chunk_key: bytes,
        *,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Prepare a keyring for `recipients`, which are public keys.

        Raises ValueError when there is none, because nobody could then read the backup.
        """
        if not recipients:
            raise ValueError("a keyring needs a recipient")
        file_key = random(suite.KEY_SIZE)
        self._aead = suite.Aead(file_key)
        self.entries = 0
        """Number of entries added so far."""
        self.ids = ids
        sealed = self._aead.seal(CHUNK_KEY_NONCE, chunk_key, CHUNK_KEY_LABEL)
        self.pieces = KeyringPieces(
            wraps=wraps_line(ids, recipients, file_key),
            chunk_key=_line({"chunk_key": _text(sealed)}),
            chunk_key_hash=hashlib.sha256(sealed).hexdigest(),
        )

    def add(self, pseudonym: Pseudonym, pair: suite.KeyPair, name: SegmentName, tags: Tags) -> KeyringEntry:
        """Seal one segment's secret half; the entry takes the next place in the index."""
        index = self.entries
        self.entries += 1  # before sealing: a place, and with it a nonce, is never used twice
        plain = msgspec.json.encode(SealedSegment(_text(pair.secret), name.database, name.data_class, name.tenant))
        sealed = self._aead.seal(suite.nonce(index), plain, entry_label(pseudonym))
        return KeyringEntry(
            index=index,
            pseudonym=pseudonym,
            public_hash=hashlib.sha256(pair.public).hexdigest(),
            sealed_hash=hashlib.sha256(sealed).hexdigest(),
            line=_line({"segment": pseudonym, "index": index, "sealed": _text(sealed)}),
            tags=tags,
        )


def render_keyring(
    ids: KeyringIds, created: str, pieces: KeyringPieces, entries: Iterable[KeyringEntry], signer: Signer
) -> bytes:
    """Join the lines of a keyring to the whole file, and sign its index; `created` is a stamp.

    Raises ValueError unless the entries are all of the run's, in the order in which they were added.
    """
    listed = list(entries)
    if [entry.index for entry in listed] != list(range(len(listed))):
        raise ValueError("entries are not complete and in order")
    body = {
        "kind": "keyring",
        "format": 1,
        "features": [],
        "repository": ids.repository,
        "region": ids.region,
        "generation": ids.generation,
        "run": ids.run,
        "created": created,
        "chunk_key": pieces.chunk_key_hash,
        "entries": [[entry.pseudonym, entry.public_hash, entry.sealed_hash] for entry in listed],
        "tags": [entry.tags for entry in listed],
    }
    document = signer.sign(msgspec.json.encode(body, order="sorted"), "keyring")
    lines = [pieces.wraps, pieces.chunk_key, *(entry.line for entry in listed)]
    return document + "".join(f"{line}\n" for line in lines).encode()


def entry_label(pseudonym: Pseudonym) -> bytes:
    """Return the label under which a segment's line is sealed."""
    return b"backupd/1 segment " + pseudonym.encode()


def wraps_check(wraps: Iterable[tuple[Fingerprint, bytes]]) -> str:
    """Return the check by which a reader without a key finds a flipped bit in the wraps, which no signature covers."""
    return hashlib.sha256(b"".join(recipient.encode() + sealed for recipient, sealed in wraps)).hexdigest()


def wraps_line(ids: KeyringIds, recipients: Iterable[bytes], file_key: bytes) -> str:
    """Return the line that lets these recipients (public keys), and nobody else, open the keyring."""
    wraps = [(suite.fingerprint(key), suite.seal(key, ids.info(), file_key)) for key in recipients]
    listed = [{"recipient": recipient, "sealed": _text(sealed)} for recipient, sealed in wraps]
    return _line({"wraps": listed, "check": wraps_check(wraps)})


def _line(fields: dict[str, object]) -> str:
    return msgspec.json.encode(fields).decode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


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
    """The keys of a keyring, without the shredded ones."""

    chunk_key: bytes = field(repr=False)
    segments: Mapping[Pseudonym, SegmentKey] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keyring:
    """A keyring whose signature and lines were all checked; its keys are still sealed."""

    ids: KeyringIds
    created: str
    where: str
    index: list[tuple[Pseudonym, str]]
    """Every segment that the keyring was made for, also shredded ones, with the hex SHA-256 of its public key."""
    tags: list[Tags]
    """The tags of every place in `index`."""
    wraps: Mapping[Fingerprint, bytes] = field(repr=False)
    chunk_key: bytes = field(repr=False)
    sealed: Mapping[int, bytes] = field(repr=False)
    """Sealed keys by place in `index`; the segment of a place without one was shredded."""

    @property
    def shredded(self) -> set[Pseudonym]:
        """The segments whose keys were removed from the keyring."""
        return {pseudonym for place, (pseudonym, _) in enumerate(self.index) if place not in self.sealed}

    def open(self, identity_secret: bytes) -> OpenedKeyring:
        """Open every key that was not shredded.

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
        """Open the key under which the keyring's lines are sealed.

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
    """Parse a keyring file, and check its signature, index and every line; this needs no key.

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
    """Return a keyring file without the lines of these segments: the shredded file that replaces it.

    Raises DamageError for a line that cannot be read. The signature stays as it is, because it covers the index only.
    """
    lines = data.split(b"\n")
    try:
        kept = [line for line in lines[4:-1] if from_json(line, _Entry).segment not in segments]
    except UnreadableError as error:
        raise DamageError(f"'{where}' holds a line that cannot be read") from error
    return b"\n".join([*lines[:4], *kept, b""])


def with_wraps(data: bytes, keyring: Keyring, identity_secret: bytes, recipients: Sequence[bytes]) -> bytes:
    """Return the keyring file `data`, parsed as `keyring`, sealed to these recipients (public keys) and no others.

    Raises what `Keyring.open` does. No other line changes: entries are sealed under the file key, which stays.
    """
    keyring.open(identity_secret)  # a keyring that does not open must not be sealed again as if it did
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
