"""The format that writer and reader of containers share, FORMAT.md §6: labels, limits, clear header, padding. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from backupd.errors import DamageError
from backupd.model.ids import GenerationId, ObjectHash, Pseudonym, RepositoryId
from backupd.model.text import UnreadableError, from_json
from backupd.seal import suite
from backupd.seal.documents import check_format

MAGIC: Final[Mapping[str, bytes]] = {"pack": b"BKPDPACK", "part": b"BKPDPART"}
END: Final = b"BKPDEND1"
DATA_KEY_INFO: Final = b"backupd/1 data key "
DATA, MANIFEST, TRAILER = 1, 2, 3
TRAILER_INDEX: Final = (1 << 32) - 1
"""The trailer's place in nonces: it is known before the trailer is read."""
CHUNK_ID_SIZE: Final = 16

HEADER_LIMIT: Final = 64 << 20
TRAILER_LIMIT: Final = 64 << 20
BLOCK_LIMIT: Final = 16 << 20
"""Upper limit of a block's content in bytes."""
CIPHERTEXT_LIMIT: Final = BLOCK_LIMIT + (128 << 10)
"""Upper limit of a block's ciphertext in bytes: zstandard's worst case for content it cannot compress, and the tag."""
CONTAINER_LIMIT: Final = 1 << 30

CLEAR_START: Final = 12
"""Bytes of the magic and of the header's length."""
SEALED_KEY_SIZE: Final = suite.KEY_SIZE + suite.SEAL_OVERHEAD
SMALLEST: Final = CLEAR_START + SEALED_KEY_SIZE + suite.TAG_SIZE + 4 + len(END)


@dataclass(frozen=True, slots=True)
class ContainerContext:
    """The repository, generation and segment that a container belongs to."""

    repository: RepositoryId
    generation: GenerationId
    segment: Pseudonym


@dataclass(frozen=True, slots=True)
class Header:
    """The clear part of a container, readable without a key."""

    kind: str
    """The kind of container: `pack` or `part`."""
    context: ContainerContext
    container: str
    packs: list[tuple[ObjectHash, int]]
    """The other containers of a part, with their sizes in bytes."""
    raw: bytes
    """Magic, length and header as they stand in the file: every seal of this container is bound to them."""


_Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]


class _Fields(msgspec.Struct, frozen=True):
    format: int
    repository: _Hex32
    generation: Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}\Z")]
    segment: _Hex32
    id: _Hex32
    packs: (
        list[
            tuple[
                Annotated[ObjectHash, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")],
                Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)],
            ]
        ]
        | None
    ) = None


def header_length(prefix: bytes, where: str) -> int:
    """Return the size of a container's clear part in bytes, read from its first `CLEAR_START` bytes.

    Raises DamageError.
    """
    if prefix[:8] not in MAGIC.values():
        raise DamageError(f"'{where}' is neither a pack nor a part")
    if len(prefix) < CLEAR_START:
        raise DamageError(f"'{where}' is cut short")
    length = int.from_bytes(prefix[8:CLEAR_START], "little")
    if length > HEADER_LIMIT:
        raise DamageError(f"the header of '{where}' is larger than allowed")
    return CLEAR_START + length


def read_header(prefix: bytes, where: str) -> Header:
    """Parse a container's clear part, from at least its first `header_length` bytes; this needs no key.

    Raises DamageError, and RefusedError for a format this program does not read.
    """
    raw = prefix[: header_length(prefix, where)]
    if len(raw) < header_length(prefix, where):
        raise DamageError(f"'{where}' is cut short")
    try:
        fields = from_json(raw[CLEAR_START:], _Fields)
    except UnreadableError as error:
        raise DamageError(f"the header of '{where}' cannot be read") from error
    check_format(fields.format, where)
    kind = "pack" if raw[:8] == MAGIC["pack"] else "part"
    if (fields.packs is None) != (kind == "pack"):
        raise DamageError(f"the header of '{where}' cannot be read")
    context = ContainerContext(
        RepositoryId(fields.repository), GenerationId(fields.generation), Pseudonym(fields.segment)
    )
    return Header(kind, context, fields.id, list(fields.packs or ()), raw)


def block_aad(bound: bytes, index: int, kind: int) -> bytes:
    """Return the additional data that a block is sealed with; `bound` is SHA-256 of the container's clear part."""
    return b"backupd/1 block " + bound + index.to_bytes(4, "little") + bytes((kind, kind == TRAILER))


def padme(size: int) -> int:
    """Return the smallest size of the Padmé set that is at least `size` (Nikitin et al. 2019); `size` is at least 2."""
    exponent = size.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    step = 1 << low_bits
    return (size + step - 1) & -step
