"""Sections, packs and keyrings made by hand: FORMAT.md spelled out a second time, every piece open to be made wrong.

Uses the primitives only, not the production writers, so that the good cases check those as well.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zstandard

from backupd.seal import suite
from backupd.seal.documents import Signer

REPOSITORY, SEGMENT, NUMBER = "0f" * 16, "5e" * 16, 7
GENERATION, RUN = "20300101T000000Z-0a0b0c0d", "20300102T030405Z-0a0b0c0d"
KEY = bytes(range(100, 132))
TRAILER_PLACE = (1 << 32) - 1
Change = Callable[[Any], Any]


def same(value: Any) -> Any:
    return value


def flip(at: int) -> Change:
    """A bit flipped; `at` may count from the end."""

    def change(data: bytes) -> bytes:
        place = at % len(data)
        return data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :]

    return change


def frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data)


def padme(size: int) -> int:
    exponent = size.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-size // step) * step


def integers(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


@dataclass
class Craft:
    """One section; each `Change` is applied to the piece of its name."""

    plain: list[tuple[list[bytes], bytes]] = field(
        default_factory=lambda: [([b"one row\n", b"and more\n"], b""), ([b"a third\n"], b'["facts",'), ([], b"{}]\n")]
    )
    """The chunks of each block, and its piece of the manifest."""
    content: Change = frame
    """A block's content to what is sealed."""
    blocks: Change = same
    """The list of sealed blocks."""
    listing: Change = same
    """The list of each block's three numbers."""
    chunks: Change = same
    """The list of all chunks' lengths."""
    trailer: Change = same
    """The trailer's plain text with its padding."""
    sealed_trailer: Change = same
    foot: Change = same
    whole: Change = same
    label: str = f"backupd/2 section {REPOSITORY} {GENERATION} {SEGMENT}"
    number: int = NUMBER
    key: bytes = KEY
    first: int = 0
    """What the first block is counted as."""

    def bytes(self) -> bytes:
        self._aead = suite.Aead(self.key)
        contents = [b"".join(chunks) + manifest for chunks, manifest in self.plain]
        sealed = [self._seal(at + self.first, self.content(data)) for at, data in enumerate(contents)]
        listing = [
            [len(block), len(content), len(chunks)]
            for block, content, (chunks, _) in zip(sealed, contents, self.plain, strict=True)
        ]
        lengths = [len(chunk) for chunks, _ in self.plain for chunk in chunks]
        start = b"".join(self.blocks(list(sealed)))
        return self.whole(start + self._tail(len(start), self.listing(listing), self.chunks(lengths)))

    def _tail(self, before: int, listing: list[list[int]], lengths: list[int]) -> bytes:
        plain = integers(len(listing), *(number for block in listing for number in block), *lengths)
        bare = before + len(plain) + 16 + 4
        plain = self.trailer(plain + bytes(padme(bare) - bare))
        sealed = self.sealed_trailer(self._seal(TRAILER_PLACE, plain))
        return sealed + self.foot(integers(len(sealed)))

    def _seal(self, place: int, plain: bytes) -> bytes:
        nonce = self.number.to_bytes(4, "big") + bytes(4) + place.to_bytes(4, "big")
        return self._aead.seal(nonce, plain, self.label.encode())


@dataclass
class CraftPack:
    """One pack of four sections of three segments, the third of which is gone."""

    magic: bytes = b"BKPDPACK"
    head: Change = same
    """The header's JSON as an object."""
    text: Change = same
    """The header's JSON as it is written."""
    rows: Change = same
    """The list of rows, each a list of the six members."""
    table: Change = same
    """The bytes of all rows."""
    header: Change = same
    """Magic, length, JSON and table."""
    there: Change = same
    """The map."""

    def bytes(self) -> bytes:
        head = {
            "features": [],
            "format": 2,
            "generation": GENERATION,
            "keyrings": [RUN, "20300103T030405Z-0a0b0c0d"],
            "repository": REPOSITORY,
        }
        written = self.text(json.dumps(self.head(head), sort_keys=True, separators=(",", ":")).encode())
        table = self.table(b"".join(struct.pack("<16sHIIQ32s", *row) for row in self.rows(sections())))
        text = written + b"\n" + table
        return self.header(self.magic + integers(len(text)) + text) + self.there(b"\x0b")


def sections() -> list[list[Any]]:
    """The rows of a pack: pseudonym, keyring, place, number, length, SHA-256."""
    places = [(1, 1), (1, 2), (2, 1), (3, 9)]
    return [
        [bytes.fromhex(pseudonym(segment)), at % 2, at, number, 100 + at, hashlib.sha256(bytes([at])).digest()]
        for at, (segment, number) in enumerate(places)
    ]


@dataclass
class CraftKeyring:
    """One keyring with two segments, sealed to `recipient`."""

    recipient: suite.KeyPair
    signer: Signer
    body: Change = same
    table: Change = same
    """The index's bytes."""
    lines: Change = same
    """The list of lines, without newlines."""

    def bytes(self) -> bytes:
        file_key, info = bytes(range(32)), f"backupd/2 keyring {REPOSITORY} {GENERATION} {RUN}".encode()
        aead, name = suite.Aead(file_key), suite.fingerprint(self.recipient.public)
        wrap = suite.seal(self.recipient.public, info, file_key)
        sealed = [self._line(aead, at) for at in range(2)]
        table = b"".join(
            struct.pack(
                "<16s16sHH16s", bytes.fromhex(pseudonym(at)), b"z" * 16, at, 0, hashlib.sha256(line).digest()[:16]
            )
            for at, line in enumerate(sealed)
        )
        ids = {"repository": REPOSITORY, "region": "be", "generation": GENERATION, "run": RUN}
        body = {"kind": "keyring", "format": 2, "features": [], **ids, "created": "2030-01-02T03:04:05.000000Z"}
        body |= {"classes": ["c1" * 8, "c2" * 8], "databases": ["db" * 8], "entries": text(self.table(table))}
        document = self.signer.sign(json.dumps(self.body(body)).encode(), "keyring").decode().splitlines()
        check = hashlib.sha256(name.encode() + wrap).hexdigest()
        lines = [
            *document,
            json.dumps({"wraps": [{"recipient": name, "sealed": text(wrap)}], "check": check}),
            *(json.dumps([at, text(line)]) for at, line in enumerate(sealed)),
        ]
        return "".join(f"{line}\n" for line in self.lines(lines)).encode()

    def _line(self, aead: suite.Aead, place: int) -> bytes:
        name = ["app", "uploaded", None if place == 0 else f"tenant {place}"]
        label = b"backupd/2 segment " + pseudonym(place).encode()
        return aead.seal(place.to_bytes(12, "big"), segment_key(place) + json.dumps(name).encode(), label)


def segment_key(place: int) -> bytes:
    return bytes([place + 1]) * 32


def pseudonym(index: int) -> str:
    return f"{index:032x}"


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()
