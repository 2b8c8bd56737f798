"""Keyrings, FORMAT.md §5: the segment keys one run created, each sealed so that it can be removed alone.

The writer's side is here, the reader's in `opening`. A writer holds the file key for one run only. What it made are
values (`KeyringPieces`, `KeyringEntry`), which may be kept on disk and rendered by a later process that can open none.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

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
from backupd.seal import suite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from backupd.model.tenancy import SegmentName
    from backupd.seal.documents import Signer

CHUNK_KEY_NONCE = b"\xff" * suite.NONCE_SIZE
CHUNK_KEY_LABEL = b"backupd/1 chunk key"


@dataclass(frozen=True, slots=True)
class KeyringIds:
    """Which run's keyring it is."""

    repository: RepositoryId
    region: RegionName
    generation: GenerationId
    run: RunId

    def info(self) -> bytes:
        """The label under which the file key is sealed to a recipient."""
        return f"backupd/1 keyring {self.repository} {self.generation} {self.run}".encode()


@dataclass(frozen=True, slots=True)
class KeyringPieces:
    """The two lines that do not depend on the entries."""

    wraps: str
    chunk_key: str
    chunk_key_hash: str
    """Hex SHA-256 of the sealed chunk key; signed with the index."""


class Tags(NamedTuple):
    """Whose a segment is, to a holder of the tenant key (FORMAT.md §9)."""

    tenant: TenantTag
    data_class: ClassTag


@dataclass(frozen=True, slots=True)
class KeyringEntry:
    """One segment's place in the index, and its sealed line."""

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
    """What opens one segment's containers of one generation."""

    secret: bytes = field(repr=False)
    name: SegmentName = field(repr=False)


class SealedSegment(msgspec.Struct, frozen=True):
    """The plain text of an entry."""

    secret: str
    database: str
    data_class: str = msgspec.field(name="class")
    tenant: str | None


class KeyringWriter:
    """Seals the segment keys of one run; its file key is forgotten with it."""

    def __init__(
        self,
        ids: KeyringIds,
        recipients: Sequence[bytes],
        chunk_key: bytes,
        *,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`recipients` are public keys; at least one, or nobody could ever read the backup."""
        if not recipients:
            raise ValueError("a keyring needs a recipient")
        file_key = random(suite.KEY_SIZE)
        self._aead = suite.Aead(file_key)
        self.entries = 0
        """Added so far."""
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
    """The whole file; `created` is a stamp.

    Raises ValueError unless the entries are all of the run's, in the order they were added.
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
    return b"backupd/1 segment " + pseudonym.encode()


def wraps_check(wraps: Iterable[tuple[Fingerprint, bytes]]) -> str:
    """What tells a flipped bit in the wraps, which no signature covers, to a reader without a key."""
    return hashlib.sha256(b"".join(recipient.encode() + sealed for recipient, sealed in wraps)).hexdigest()


def wraps_line(ids: KeyringIds, recipients: Iterable[bytes], file_key: bytes) -> str:
    """The line that lets these recipients (public keys) open the keyring, and nobody else."""
    wraps = [(suite.fingerprint(key), suite.seal(key, ids.info(), file_key)) for key in recipients]
    listed = [{"recipient": recipient, "sealed": _text(sealed)} for recipient, sealed in wraps]
    return _line({"wraps": listed, "check": wraps_check(wraps)})


def _line(fields: dict[str, object]) -> str:
    return msgspec.json.encode(fields).decode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
