"""Keyrings, FORMAT.md §5: the segment keys of one run, each sealed so that it can be removed alone.

A writer holds the file key only until the keyring is published, and a segment's key only until its section is sealed. A
reader without a key sees which segments are listed, whose they are to the holder of the tenant key, and which are
shredded; an identity opens the keys.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

import msgspec

from backupd.errors import DamageError, KeyRefusedError
from backupd.model.ids import (
    RUN_FORM,
    STAMP_FORM,
    ClassTag,
    DatabaseTag,
    Fingerprint,
    GenerationId,
    Pseudonym,
    RegionName,
    RepositoryId,
    RunId,
    SegmentTags,
)
from backupd.model.tenancy import SegmentName
from backupd.model.text import UnreadableError, from_json
from backupd.seal import suite
from backupd.seal.documents import FORMAT, Signer, check_size, decode_base64, read_signed
from backupd.seal.keyring_lines import ENTRY, KeyringIndex, SealedLines, SlicedBytes

_HASH_SIZE: Final = 16
"""Bytes of a sealed line's SHA-256 that the index holds: nobody can find another line with the same ones."""


@dataclass(frozen=True, slots=True)
class KeyringIds:
    """The names of a keyring: of its repository, region and generation, and its own id."""

    repository: RepositoryId
    region: RegionName
    generation: GenerationId
    run: RunId

    def info(self) -> bytes:
        """Return the label under which the file key is sealed to a recipient."""
        return f"backupd/2 keyring {self.repository} {self.generation} {self.run}".encode()


@dataclass(frozen=True, slots=True)
class SegmentKey:
    """The key that opens the sections that one run added of one segment."""

    key: bytes = field(repr=False)
    name: SegmentName = field(repr=False)


class KeyringWriter:
    """A keyring in the making: segments' keys are sealed as they are added; `render` gives the whole file."""

    def __init__(
        self, ids: KeyringIds, recipients: Sequence[bytes], *, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        """Prepare a keyring for `recipients`, which are public keys.

        Raises ValueError when there is none, because nobody could then read the backup.
        """
        if not recipients:
            raise ValueError("a keyring needs a recipient")
        file_key = random(suite.KEY_SIZE)
        self._aead = suite.Aead(file_key)
        self.ids = ids
        self._wraps = wraps_line(ids, recipients, file_key)
        self._segments: set[Pseudonym] = set()
        self._table = bytearray()
        self._classes: dict[ClassTag, int] = {}
        self._databases: dict[DatabaseTag, int] = {}
        self._lines: list[str] = []

    @property
    def entries(self) -> int:
        """Number of entries added so far."""
        return len(self._lines)

    def add(self, segment: Pseudonym, key: bytes, name: SegmentName, tags: SegmentTags) -> int:
        """Seal one segment's key of this run; returns its place. Raises ValueError for a segment that is in already."""
        if segment in self._segments:
            raise ValueError("a keyring lists a segment once")
        self._segments.add(segment)
        place = len(self._lines)
        plain = key + msgspec.json.encode((name.database, name.data_class, name.tenant))
        sealed = self._aead.seal(suite.nonce(place), plain, entry_label(segment))
        self._lines.append(f'[{place},"{_text(sealed)}"]')
        self._table += ENTRY.pack(
            bytes.fromhex(segment),
            bytes.fromhex(tags.tenant),
            self._classes.setdefault(tags.data_class, len(self._classes)),
            self._databases.setdefault(tags.database, len(self._databases)),
            hashlib.sha256(sealed).digest()[:_HASH_SIZE],
        )
        return place

    def render(self, created: str, signer: Signer) -> bytes:
        """Join the lines to the whole file, and sign its index; `created` is a stamp."""
        body = {
            "kind": "keyring",
            "format": FORMAT,
            "features": [],
            "repository": self.ids.repository,
            "region": self.ids.region,
            "generation": self.ids.generation,
            "run": self.ids.run,
            "created": created,
            "classes": list(self._classes),
            "databases": list(self._databases),
            "entries": _text(bytes(self._table)),
        }
        document = signer.sign(msgspec.json.encode(body, order="sorted"), "keyring")
        return document + "".join(f"{line}\n" for line in (self._wraps, *self._lines)).encode()


def entry_label(segment: Pseudonym) -> bytes:
    """Return the label under which a segment's line is sealed."""
    return b"backupd/2 segment " + segment.encode()


def wraps_check(wraps: Iterable[tuple[Fingerprint, bytes]]) -> str:
    """Return the check by which a reader without a key finds a flipped bit in the wraps, which no signature covers."""
    return hashlib.sha256(b"".join(recipient.encode() + sealed for recipient, sealed in wraps)).hexdigest()


def wraps_line(ids: KeyringIds, recipients: Iterable[bytes], file_key: bytes) -> str:
    """Return the line that lets these recipients (public keys), and nobody else, open the keyring; each stands once."""
    wraps = [(suite.fingerprint(key), suite.seal(key, ids.info(), file_key)) for key in dict.fromkeys(recipients)]
    listed = [{"recipient": recipient, "sealed": _text(sealed)} for recipient, sealed in wraps]
    return msgspec.json.encode({"wraps": listed, "check": wraps_check(wraps)}).decode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


_Hex16 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
_Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
_Hex64 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Stamped = Annotated[str, msgspec.Meta(pattern=rf"\A{RUN_FORM}\Z")]


class _Body(msgspec.Struct, frozen=True):
    repository: _Hex32
    region: str
    generation: _Stamped
    run: _Stamped
    created: Annotated[str, msgspec.Meta(pattern=rf"\A{STAMP_FORM}\Z")]
    classes: list[_Hex16]
    databases: list[_Hex16]
    entries: str


class _Wrap(msgspec.Struct, frozen=True):
    recipient: _Hex32
    sealed: str


class _Wraps(msgspec.Struct, frozen=True):
    wraps: list[_Wrap]
    check: _Hex64


@dataclass(frozen=True, slots=True)
class Keyring:
    """A keyring whose signature and lines were all checked; its keys are still sealed."""

    ids: KeyringIds
    created: str
    where: str
    index: KeyringIndex
    wraps: Mapping[Fingerprint, bytes] = field(repr=False)
    sealed: SealedLines = field(repr=False)
    """Sealed keys by place in `index`; the segment of a place without one was shredded."""

    @property
    def segments(self) -> set[Pseudonym]:
        """Every segment that the keyring lists, also shredded ones."""
        return {segment for segment, _ in self.index}

    @property
    def shredded(self) -> set[Pseudonym]:
        """The segments whose keys were removed from the keyring."""
        return {segment for place, (segment, _) in enumerate(self.index) if place not in self.sealed}

    @property
    def size(self) -> int:
        """Bytes of the index and the lines."""
        return self.index.size + self.sealed.size

    def moved(self, keep: Callable[[bytes], SlicedBytes]) -> Keyring:
        """Return the same keyring, whose index and lines lie where `keep` puts them: a generation has a hundred MB."""
        return replace(self, index=self.index.moved(keep), sealed=self.sealed.moved(keep))

    def open(self, identity_secret: bytes) -> OpenedKeyring:
        """Open the file key; each segment's key is opened as it is asked for.

        Raises KeyRefusedError, naming the recipients, when the identity is not one of them, and DamageError.
        """
        return OpenedKeyring(self, self.file_key(identity_secret))

    def file_key(self, identity_secret: bytes) -> bytes:
        """Open the key under which the keyring's lines are sealed.

        Raises KeyRefusedError, naming the recipients, when the identity is not one of them, and DamageError.
        """
        recipient = suite.fingerprint(suite.public_of(identity_secret))
        if recipient not in self.wraps:
            raise KeyRefusedError(
                f"the identity {recipient} does not open '{self.where}'",
                hint=f"It is sealed to {', '.join(self.wraps) or 'nobody'}. Bring one of these identities; with it, "
                "`backupd key rotate` seals what is there to the recipients of today.",
            )
        try:
            file_key = suite.unseal(identity_secret, self.ids.info(), self.wraps[recipient])
            suite.Aead(file_key)
        except (suite.NotAuthenticError, ValueError) as error:
            raise DamageError(f"the keys in '{self.where}' are not authentic") from error
        return file_key


class OpenedKeyring:
    """The keys of a keyring, for who has its file key: a keyring may hold a thousand, and few are wanted."""

    __slots__ = ("_cipher", "_keyring")

    def __init__(self, keyring: Keyring, file_key: bytes) -> None:
        self._keyring = keyring
        self._cipher = suite.Aead(file_key)

    def __repr__(self) -> str:
        return f"OpenedKeyring({self._keyring.where})"

    def key(self, place: int) -> SegmentKey:
        """Open the key in a place that is not shredded. Raises DamageError."""
        keyring, segment = self._keyring, self._keyring.index[place][0]
        try:
            plain = self._cipher.open(suite.nonce(place), keyring.sealed[place], entry_label(segment))
            name = from_json(plain[suite.KEY_SIZE :], tuple[str, str, str | None])
        except (suite.NotAuthenticError, UnreadableError) as error:
            raise DamageError(f"the key of segment {segment} in '{keyring.where}' is not authentic") from error
        return SegmentKey(plain[: suite.KEY_SIZE], SegmentName(*name))

    def check(self) -> None:
        """Open every key that is not shredded, and forget it. Raises DamageError."""
        for place in self._keyring.sealed:
            self.key(place)


def parse_keyring(data: bytes, trusted: Collection[str], where: str) -> Keyring:
    """Parse a keyring file, and check its signature, index and every line; this needs no key.

    Raises DamageError naming `where`, and RefusedError for a format or feature this program does not know.
    """
    check_size(len(data), "keyring", where)
    first = data.split(b"\n", 3)
    if len(first) < 4 or not data.endswith(b"\n"):
        raise DamageError(f"'{where}' is cut short")
    try:
        body = from_json(read_signed(first[0], first[1], "keyring", trusted, where), _Body)
        wraps = from_json(first[2], _Wraps)
        index, hashes = _index(body, where)
        # No signature covers the rest: a million lines would take twenty times their bytes before one is looked at.
        if data.count(b"\n") > 3 + len(index):
            raise DamageError(f"'{where}' has more lines than its index lists keys")
        entries = [from_json(line, tuple[int, str]) for line in first[3].split(b"\n")[:-1]]
    except UnreadableError as error:
        raise DamageError(f"'{where}' holds a line that cannot be read") from error
    return Keyring(
        ids=KeyringIds(
            RepositoryId(body.repository), RegionName(body.region), GenerationId(body.generation), RunId(body.run)
        ),
        created=body.created,
        where=where,
        index=index,
        wraps=_checked_wraps(wraps, where),
        sealed=SealedLines(_checked_entries(entries, hashes, where)),
    )


def without_lines(data: bytes, keyring: Keyring, segments: Collection[Pseudonym]) -> bytes:
    """Return the keyring file `data`, parsed as `keyring`, without the lines of these segments.

    The signature stays as it is, because it covers the index only.
    """
    lines = data.split(b"\n")
    there = zip(lines[3:-1], keyring.sealed, strict=True)
    kept = [line for line, place in there if keyring.index[place][0] not in segments]
    return b"\n".join([*lines[:3], *kept, b""])


def with_wraps(data: bytes, keyring: Keyring, identity_secret: bytes, recipients: Sequence[bytes]) -> bytes:
    """Return the keyring file `data`, parsed as `keyring`, sealed to these recipients (public keys) and no others.

    Raises what `Keyring.open` does. No other line changes: entries are sealed under the file key, which stays.
    """
    keyring.open(identity_secret).check()  # a keyring that does not open must not be sealed again as if it did
    lines = data.split(b"\n")
    lines[2] = wraps_line(keyring.ids, recipients, keyring.file_key(identity_secret)).encode()
    return b"\n".join(lines)


def _index(body: _Body, where: str) -> tuple[KeyringIndex, list[bytes]]:
    """Return the segments of the index with their tags, and the hash of each one's sealed line."""
    table = decode_base64(body.entries, where)
    if len(table) % ENTRY.size:
        raise DamageError(f"the index of '{where}' cannot be read")
    entries = list(ENTRY.iter_unpack(table))
    if any(entry[2] >= len(body.classes) or entry[3] >= len(body.databases) for entry in entries):
        raise DamageError(f"the index of '{where}' cannot be read")
    if len({entry[0] for entry in entries}) != len(entries):
        raise DamageError(f"the index of '{where}' lists a segment twice")
    return KeyringIndex(table, body.classes, body.databases), [entry[4] for entry in entries]


def _checked_wraps(line: _Wraps, where: str) -> dict[Fingerprint, bytes]:
    wraps = [(Fingerprint(wrap.recipient), decode_base64(wrap.sealed, where)) for wrap in line.wraps]
    if wraps_check(wraps) != line.check:
        raise DamageError(f"the recipients' line of '{where}' does not match its check")
    return dict(wraps)


def _checked_entries(entries: list[tuple[int, str]], hashes: list[bytes], where: str) -> Iterator[tuple[int, bytes]]:
    before = -1
    for place, text in entries:
        if not before < place < len(hashes):
            raise DamageError(f"'{where}' holds a line that its index does not list there")
        data = decode_base64(text, where)
        if hashlib.sha256(data).digest()[:_HASH_SIZE] != hashes[place]:
            raise DamageError(f"a sealed line of '{where}' does not match its signed index")
        yield place, data
        before = place
