"""Containers and keyrings made by hand: FORMAT.md spelled out a second time, with every piece open to be made wrong.

Uses the primitives only, not the production writers, so that the good cases check those as well.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zstandard

from backupd.seal import suite
from backupd.seal.documents import Signer

REPOSITORY, SEGMENT = "0f" * 16, "5e" * 16
GENERATION, RUN = "20300101T000000Z-0a0b0c0d", "20300102T030405Z-0a0b0c0d"
TRAILER_INDEX = (1 << 32) - 1
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


@dataclass
class Craft:
    """One container; each `Change` is applied to the piece of its name."""

    pair: suite.KeyPair
    magic: bytes = b"BKPDPACK"
    header: Change = same
    raw_header: Change = same
    data_key: Change = same
    plain: list[tuple[int, bytes, list[int]]] = field(
        default_factory=lambda: [(1, b"one row\nand more\n", [8, 9]), (1, b"a third\n", [8]), (2, b"{}\n", [])]
    )
    blocks: Change = same
    """The list of sealed blocks."""
    content: Change = frame
    """A block's content to what is sealed."""
    listing: Change = same
    trailer: Change = same
    """The trailer's plain text: Z, frame, zeros."""
    sealed_trailer: Change = same
    foot: Change = same
    whole: Change = same
    label: bytes = b"backupd/1 block "

    def bytes(self) -> bytes:
        fields = {"format": 1, "generation": GENERATION, "id": "1d" * 16, "repository": REPOSITORY, "segment": SEGMENT}
        if self.magic == b"BKPDPART":
            fields["packs"] = [["ab" * 32, 12345]]
        header = self.raw_header(json.dumps(self.header(fields), separators=(",", ":")).encode())
        clear = self.magic + len(header).to_bytes(4, "little") + header
        self._bound = hashlib.sha256(clear).digest()
        key = bytes(range(32))
        self._aead = suite.Aead(key)
        sealed_key = suite.seal(self.pair.public, b"backupd/1 data key " + self._bound, key)
        sealed = [self._seal(at, kind, self.content(data)) for at, (kind, data, _) in enumerate(self.plain)]
        start = clear + self.data_key(sealed_key) + b"".join(self.blocks(list(sealed)))
        return self.whole(start + self._tail(len(start), [len(block) for block in sealed]))

    def _tail(self, before: int, lengths: list[int]) -> bytes:
        blocks = [
            [kind, length, len(data), chunks] for (kind, data, chunks), length in zip(self.plain, lengths, strict=True)
        ]
        ids = bytes(16 * sum(len(chunks) for _, _, chunks in self.plain))
        listing = self.listing({"blocks": blocks, "ids": base64.b64encode(ids).decode()})
        packed = frame(listing if isinstance(listing, bytes) else json.dumps(listing).encode())
        bare = before + 4 + len(packed) + 16 + 12
        plain = self.trailer(len(packed).to_bytes(4, "little") + packed + bytes(padme(bare) - bare))
        sealed = self.sealed_trailer(self._seal(TRAILER_INDEX, 3, plain))
        return sealed + self.foot(len(sealed).to_bytes(4, "little") + b"BKPDEND1")

    def _seal(self, index: int, kind: int, plain: bytes) -> bytes:
        aad = self.label + self._bound + index.to_bytes(4, "little") + bytes((kind, kind == 3))
        return self._aead.seal(index.to_bytes(12, "big"), plain, aad)


@dataclass
class CraftKeyring:
    """One keyring with two segments, sealed to `recipient`."""

    recipient: suite.KeyPair
    signer: Signer
    segments: list[suite.KeyPair]
    body: Change = same
    lines: Change = same
    """The list of lines, without newlines."""

    def bytes(self) -> bytes:
        file_key, info = bytes(range(32)), f"backupd/1 keyring {REPOSITORY} {GENERATION} {RUN}".encode()
        aead, name = suite.Aead(file_key), suite.fingerprint(self.recipient.public)
        wrap = suite.seal(self.recipient.public, info, file_key)
        chunk_key = aead.seal(b"\xff" * 12, bytes(32), b"backupd/1 chunk key")
        sealed = [self._segment(aead, at, pair) for at, pair in enumerate(self.segments)]
        entries = [
            [pseudonym(at), hashlib.sha256(pair.public).hexdigest(), hashlib.sha256(entry).hexdigest()]
            for at, (pair, entry) in enumerate(zip(self.segments, sealed, strict=True))
        ]
        ids = {"repository": REPOSITORY, "region": "be", "generation": GENERATION, "run": RUN}
        body = {"kind": "keyring", "format": 1, "features": [], **ids, "created": "2030-01-02T03:04:05.000000Z"}
        body |= {"chunk_key": hashlib.sha256(chunk_key).hexdigest(), "entries": entries}
        body |= {"tags": [["7a" * 16, "c1" * 8] for _ in entries]}
        document = self.signer.sign(json.dumps(self.body(body)).encode(), "keyring").decode().splitlines()
        check = hashlib.sha256(name.encode() + wrap).hexdigest()
        lines = [
            *document,
            json.dumps({"wraps": [{"recipient": name, "sealed": text(wrap)}], "check": check}),
            json.dumps({"chunk_key": text(chunk_key)}),
            *(
                json.dumps({"segment": pseudonym(at), "index": at, "sealed": text(entry)})
                for at, entry in enumerate(sealed)
            ),
        ]
        return "".join(f"{line}\n" for line in self.lines(lines)).encode()

    def _segment(self, aead: suite.Aead, index: int, pair: suite.KeyPair) -> bytes:
        tenant = None if index == 0 else f"tenant {index}"
        fields = {"secret": text(pair.secret), "database": "app", "class": "uploaded", "tenant": tenant}
        label = b"backupd/1 segment " + pseudonym(index).encode()
        return aead.seal(index.to_bytes(12, "big"), json.dumps(fields).encode(), label)


def pseudonym(index: int) -> str:
    return f"{index:032x}"


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()
