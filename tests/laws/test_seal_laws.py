"""Sealed things keep their laws for all contents."""

from __future__ import annotations

import base64
import hashlib
import io
import os

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.model.documents import LedgerHead, Record, Totals, decode_body, encode_body
from backupd.model.ids import ClassTag, GenerationId, Pseudonym, RegionName, RepositoryId, RunId, TenantTag
from backupd.model.tenancy import SegmentName
from backupd.seal import suite
from backupd.seal.container_format import DATA, MANIFEST, ContainerContext, padme
from backupd.seal.container_reader import ContainerReader
from backupd.seal.container_writer import ContainerWriter
from backupd.seal.documents import Signer, read_document
from backupd.seal.keyring import KeyringIds, KeyringWriter, Tags, parse_keyring, render_keyring
from backupd.seal.zstd import Compressor, decompress

PAIR, OTHER, SIGNER = suite.generate(), suite.generate(), Signer(os.urandom(32))
TAGS = Tags(TenantTag("7a" * 16), ClassTag("c1" * 8))
RUN = "20300101T000000Z-0a0b0c0d"
CONTEXT = ContainerContext(RepositoryId("0f" * 16), GenerationId(RUN), Pseudonym("5e" * 16))

chunk_lists = st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=6)
blocks = st.lists(st.tuples(st.sampled_from([DATA, MANIFEST]), chunk_lists), max_size=8)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def written(kind: str, content: list[tuple[int, list[bytes]]], packs: list[tuple[str, int]]) -> tuple[bytes, str]:
    out = io.BytesIO()
    writer = ContainerWriter(out, kind, CONTEXT, PAIR.public, compressor=Compressor(3), packs=packs)
    for block_kind, chunks in content:
        lengths = [len(chunk) for chunk in chunks] if block_kind == DATA else []
        writer.add(block_kind, b"".join(chunks), lengths, os.urandom(16 * len(lengths)))
        lengths.clear()  # what the caller does with its list afterwards is its own affair
        assert writer.size == len(out.getvalue())
    finished = writer.finish()
    assert finished.size == len(out.getvalue()) == writer.size
    return out.getvalue(), finished.sha256


@settings(max_examples=60, deadline=None)
@given(blocks, st.booleans(), st.lists(st.integers(0, 2**63 - 1), max_size=5))
def test_a_container_gives_back_its_blocks(content: list, is_part: bool, sizes: list[int]) -> None:
    """Whatever is put in comes out, in order, from a file whose name is its hash and whose size is padded."""
    packs = [(hashlib.sha256(bytes([at])).hexdigest(), size) for at, size in enumerate(sizes)] if is_part else []
    data, sha256 = written("part" if is_part else "pack", content, packs)
    assert hashlib.sha256(data).hexdigest() == sha256
    assert padme(len(data)) == len(data)
    reader = ContainerReader(lambda o, n: data[o : o + n], len(data), secret=PAIR.secret, context=CONTEXT, where="it")
    assert reader.packs == packs
    assert [(block.kind, reader.open_block(at)) for at, block in enumerate(reader.blocks)] == [
        (kind, b"".join(chunks)) for kind, chunks in content
    ]
    first = 0
    for block, (kind, chunks) in zip(reader.blocks, content, strict=True):
        assert block.first_chunk == first
        assert block.chunk_lengths == ([len(chunk) for chunk in chunks] if kind == DATA else [])
        first += len(block.chunk_lengths)
    assert reader.chunks == first


@given(st.integers(2, 1 << 40))
def test_padme_rounds_up_by_little(size: int) -> None:
    """A padded size is not smaller, at most 12 % larger, and padded already."""
    padded = padme(size)
    assert size <= padded <= size * 1.12 + 1
    assert padme(padded) == padded


@given(st.integers(2, 1 << 20))
def test_padme_is_monotonous(size: int) -> None:
    """A larger object is never padded to a smaller size."""
    assert padme(size) <= padme(size + 1)


@given(st.binary(max_size=100_000))
def test_a_frame_gives_back_its_content(data: bytes) -> None:
    """Decompressing what was compressed is the identity, with a limit that just fits."""
    assert decompress(Compressor(3).compress(data), len(data)) == data


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_unseal_opens_seal(info: bytes, message: bytes) -> None:
    """The message comes out with the same key and info, whatever they are."""
    sealed = suite.seal(PAIR.public, info, message)
    assert len(sealed) == len(message) + suite.SEAL_OVERHEAD
    assert suite.unseal(PAIR.secret, info, sealed) == message


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(names, names, st.none() | names), max_size=6), st.sets(st.integers(0, 5)))
def test_a_keyring_gives_back_its_keys(segments: list, shredded: set[int]) -> None:
    """Every recipient gets every key and name but those of removed lines, which read as shredded."""
    ids = KeyringIds(CONTEXT.repository, RegionName("be"), CONTEXT.generation, RunId(RUN))
    chunk_key = os.urandom(32)
    writer = KeyringWriter(ids, [PAIR.public, OTHER.public], chunk_key)
    pairs = {Pseudonym(os.urandom(16).hex()): (suite.KeyPair(os.urandom(96), os.urandom(1216)), SegmentName(*name))
             for name in segments}  # fmt: skip
    entries = [writer.add(pseudonym, pair, name, TAGS) for pseudonym, (pair, name) in pairs.items()]
    lines = render_keyring(ids, "2030-01-01T00:00:00.000000Z", writer.pieces, entries, SIGNER).split(b"\n")
    gone = {place for place in shredded if place < len(entries)}
    data = b"\n".join(line for at, line in enumerate(lines) if at - 4 not in gone)
    keyring = parse_keyring(data, [SIGNER.public], "it")
    assert keyring.ids == ids
    assert [pseudonym for pseudonym, _ in keyring.index] == list(pairs)
    assert keyring.shredded == {list(pairs)[place] for place in gone}
    for identity in (PAIR, OTHER):
        opened = keyring.open(identity.secret)
        assert opened.chunk_key == chunk_key
        assert {p: (key.secret, key.name) for p, key in opened.segments.items()} == {
            p: (pair.secret, name) for p, (pair, name) in pairs.items() if p not in keyring.shredded
        }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(names, st.dictionaries(names, json_values, max_size=4), st.integers(0, 2**63 - 1))
def test_a_document_is_its_value(label: str, unknown: dict, count: int) -> None:
    """Encoding and decoding keep every field, unknown ones too, and signing keeps the line as it is."""
    fields = set(Record.__struct_fields__)
    record = Record(
        repository=CONTEXT.repository,
        region=RegionName("be"),
        generation=CONTEXT.generation,
        run=RunId(RUN),
        database=label,
        exported="2030-01-01T00:00:00.000000Z",
        published="2030-01-01T00:00:00.000000Z",
        server=count % 1000000,
        ledger=LedgerHead(seq=count),
        parts=[(CONTEXT.segment, "ab" * 32, count)],
        totals=Totals(tables=1, rows=count, bytes=count, stored=count, added=count),
        extra={name: value for name, value in unknown.items() if name not in fields},
    )
    body = encode_body(record)
    assert b"\n" not in body
    assert body == msgspec.json.encode(msgspec.json.decode(body), order="sorted")
    assert decode_body(body, Record, "it") == record
    assert read_document(SIGNER.sign(body, "snapshot"), "snapshot", [SIGNER.public], "it") == body


@given(st.binary(max_size=50))
def test_base64_has_one_text(data: bytes) -> None:
    """The text written is the text read."""
    from backupd.seal.documents import decode_base64

    assert decode_base64(base64.b64encode(data).decode(), "it") == data
