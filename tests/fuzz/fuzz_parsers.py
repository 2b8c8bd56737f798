"""Every parser of bytes from outside, each behind one function: parse, and compare with what it is written back to.

A function takes any bytes. It returns when they were read and what was read is the same bytes again, or when they were
refused by the documented error; whatever else it raises is a fault. `test_fuzz_parsers.py` runs all of them under
hypothesis, and `scripts/fuzz` under atheris.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from backupd.config.document import ConfigDocument, ConfigPart, read_document
from backupd.config.load import parse, parse_document
from backupd.errors import (
    ConfigError,
    DamageError,
    KeyRefusedError,
    RefusedError,
    SourceError,
    StoreError,
)
from backupd.model.attestation import decode_attestation, encode_attestation
from backupd.model.documents import Record, RepositoryInfo, decode_body, encode_body
from backupd.model.ids import GenerationId, ObjectName, Pseudonym, RepositoryId
from backupd.model.ledger import LedgerEntry, decode_entry, encode_entry
from backupd.model.manifest import FactsEntry, RowsEntry
from backupd.model.ranges import from_ranges, to_mask, to_ranges
from backupd.model.report import decode_report, encode_report
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.model.text import compact, parse_stamp, stamp
from backupd.planning.incarnations import fold
from backupd.planning.ledger_facts import explain_absences
from backupd.planning.mapping.names import NamePatterns
from backupd.planning.restore import Planner
from backupd.planning.selection import time_of
from backupd.postgres.schema.archive import ArchiveReader, join_archive, pack_entry, unpack_entries
from backupd.postgres.schema.dump import only_large_objects
from backupd.postgres.schema.ownership import divide_archive, divide_globals
from backupd.repository import layout
from backupd.repository.manifests import encode_entries, read_entries
from backupd.rows.tenant_chunker import Chunker
from backupd.seal import escrow, keyfiles, suite
from backupd.seal.documents import (
    Signer,
    two_lines,
    with_signature,
)
from backupd.seal.documents import (
    read_document as read_signed_document,
)
from backupd.seal.keyring import parse_keyring, without_lines
from backupd.seal.pack import PackHeader, PresenceMap, header_length, make_header, read_header
from backupd.seal.section_format import BLOCK_LIMIT, TRAILER_PLACE, SectionContext, Trailer, block_nonce
from backupd.seal.section_reader import SectionReader
from backupd.seal.section_writer import SectionWriter
from backupd.seal.zstd import Compressor, decompress
from backupd.store import server
from backupd.store.names import components, flat, unflat
from backupd.store.sftp import wire

SIGNER = Signer(bytes(range(32)))
OTHER = Signer(bytes(range(1, 33)))
PAIR = suite.generate()
KEY = bytes(range(100, 132))
GENERATION = "20300101T000000Z-0a0b0c0d"
CONTEXT = SectionContext(RepositoryId("0f" * 16), GenerationId(GENERATION), Pseudonym("5e" * 16), 7)
SCHEMAS = Tenancy(TenancyKind.SCHEMA, schema_pattern=r"t_(?P<tenant>\w+)", role_pattern=r"t_(?P<tenant>\w+)")
PATTERNS = NamePatterns(SCHEMAS, "app")
SHIFT = timedelta(days=36_500)
"""By what a date may be moved by whoever plans with it: a century, far above every configured span."""


@dataclass(frozen=True)
class FuzzedParser:
    """One parser: its name, what it may refuse bytes by, and how to run it."""

    name: str
    run: Callable[[bytes], None]
    refusals: tuple[type[Exception], ...]
    text: bool = False
    """Whether the bytes are text, so that text is what is tried most."""

    def __call__(self, data: bytes) -> bool:
        """Run it over these bytes; False when they were refused."""
        with suppress(*self.refusals):
            self.run(data)
            return True
        return False


PARSERS: dict[str, FuzzedParser] = {}


def parser(
    *refusals: type[Exception], text: bool = False
) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    def add(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
        name = run.__name__.replace("_", "-")
        PARSERS[name] = FuzzedParser(name, run, refusals, text)
        return run

    return add


DOCUMENT = (DamageError, RefusedError)
DATES = frozenset(
    [
        "absent",
        "at",
        "before",
        "began",
        "cleared",
        "created",
        "deadline",
        "due",
        "exported",
        "finished",
        "issued",
        "newest",
        "observed",
        "oldest",
        "published",
        "purge_by",
        "released",
        "review",
        "scheduled",
        "shredded",
        "since",
        "started",
        "until",
    ]
)
"""Members of documents that are instants."""


def check_dates(value: Any) -> None:
    """Every date in something that was decoded is one to calculate with."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            inner = getattr(value, name)
            if isinstance(inner, str) and name in DATES:
                check_date(inner)
            elif name not in {"extra", "profile"}:
                check_dates(inner)
    elif isinstance(value, list | tuple):
        for one in value:
            check_dates(one)


def check_date(text: str) -> None:
    instant = parse_stamp(text)
    assert stamp(instant) == text
    assert compact(instant)[:4] == text[:4]
    assert instant - SHIFT < instant < instant + SHIFT


def check_body(body: bytes, kind: str, decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]) -> Any:
    """A signed body decodes to a value that encodes to a body of the same value, the same bytes if they were ours."""
    document = SIGNER.sign(body, kind)
    value = decode(read_signed_document(document, kind, [SIGNER.public], "it"))
    again = encode(value)
    assert decode(again) == value
    assert encode(decode(again)) == again
    check_dates(value)
    return value


@parser(*DOCUMENT)
def document(data: bytes) -> None:
    body, line = two_lines(data, "it")
    assert body + b"\n" + line + b"\n" == data
    assert read_signed_document(data, "snapshot", [SIGNER.public], "it") == body
    signed = with_signature(data, OTHER, "snapshot", "it")
    assert read_signed_document(signed, "snapshot", [OTHER.public], "it") == body


@parser(*DOCUMENT, text=True)
def record(data: bytes) -> None:
    found: Record = check_body(data, "snapshot", lambda body: decode_body(body, Record, "it"), encode_body)
    for _, manifests, others in found.packs:
        for ranges in (manifests, others):
            with suppress(ValueError):
                assert to_ranges(from_ranges(ranges, 4096)) == ranges
                assert to_mask(ranges, 4096).bit_count() == sum(ranges[1::2])
    assert found.segments >= 0


@parser(*DOCUMENT, text=True)
def repository_info(data: bytes) -> None:
    check_body(data, "repository", lambda body: decode_body(body, RepositoryInfo, "it"), encode_body)


@parser(*DOCUMENT, text=True)
def ledger_entry(data: bytes) -> None:
    entry: LedgerEntry = check_body(data, "ledger", lambda body: decode_entry(body, "it"), encode_entry)
    states = fold([entry, entry])
    for one in states.incarnations.values():
        if one.clock is not None:
            assert states.deadline(one) >= one.clock.deadline
    explain_absences([entry], None)


@parser(*DOCUMENT, text=True)
def attestation(data: bytes) -> None:
    check_body(data, "attestation", lambda body: decode_attestation(body, "it"), encode_attestation)


@parser(*DOCUMENT, text=True)
def report(data: bytes) -> None:
    check_body(data, "report", lambda body: decode_report(body, "it"), encode_report)


@parser(*DOCUMENT)
def keyring(data: bytes) -> None:
    found = parse_keyring(data, [SIGNER.public], "it")
    assert without_lines(data, found, ()) == data
    check_date(found.created)
    assert parse_keyring(without_lines(data, found, found.segments), [SIGNER.public], "it").shredded == found.segments


@parser(*DOCUMENT, KeyRefusedError, text=True)
def keyring_body(data: bytes) -> None:
    """The first line of a keyring, signed, with nothing behind it but the wraps of nobody."""
    empty = b'{"wraps":[],"check":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}\n'
    keyring(SIGNER.sign(data, "keyring") + empty)


@parser(*DOCUMENT)
def pack(data: bytes) -> None:
    length = header_length(data[:12], "it")
    header = read_header(data, "it")
    assert header.raw == data[:length]
    assert make_header(header.context, header.rows).raw == _with_all_keyrings(header)
    there = PresenceMap.read(header, data[length : length + header.map_size], "it")
    assert PresenceMap.of(header, there.there) == there
    assert there.without(()) == there
    assert length + header.map_size <= there.pack_size <= PresenceMap.full(header).pack_size


def _with_all_keyrings(header: PackHeader) -> bytes:
    """The header as `make_header` writes it: its keyrings sorted, and none of which it lists no section."""
    start = msgspec.json.decode(header.raw[12:].partition(b"\n")[0])
    used = sorted({row.keyring for row in header.rows})
    return header.raw if start["keyrings"] == used else make_header(header.context, header.rows).raw


def reader_of(data: bytes) -> SectionReader:
    return SectionReader(lambda at, size: data[at : at + size], len(data), key=KEY, context=CONTEXT, where="it")


@parser(DamageError)
def section(data: bytes) -> None:
    reader = reader_of(data)
    for index in range(len(reader.blocks)):
        assert len(reader.open_block(index)) == reader.blocks[index].content


@parser(DamageError)
def trailer(data: bytes) -> None:
    """A trailer that whoever has the key sealed, behind some bytes that it calls blocks."""
    found = Trailer.decode(data, "it")
    assert data.rstrip(b"\0") == found.encode().rstrip(b"\0")
    assert len(found.encode()) <= len(data)
    sealed = suite.Aead(KEY).seal(block_nonce(CONTEXT.number, TRAILER_PLACE), data, CONTEXT.label())
    start = sum(found.lengths[::3])
    whole = sealed + len(sealed).to_bytes(4, "little")
    read = lambda at, size: whole[at - start :][:size]  # noqa: E731  # what stands before is not asked for
    reader = SectionReader(read, start + len(whole), key=KEY, context=CONTEXT, where="it")
    assert reader.chunks == len(found.chunks)


@parser(DamageError)
def frame(data: bytes) -> None:
    assert len(decompress(data, BLOCK_LIMIT >> 4)) <= BLOCK_LIMIT >> 4


@parser(DamageError, RefusedError, text=True)
def manifest(data: bytes) -> None:
    writer = SectionWriter(CONTEXT, KEY)
    half = len(data) // 2
    pieces = [piece for piece in (data[:half], data[half:]) if piece]
    sealed = b"".join(writer.add((), Compressor(1), piece) for piece in pieces) + writer.finish()
    entries = list(read_entries(reader_of(sealed)))
    planner = Planner(decode_body(SEED_RECORD, Record, "it"))
    lines = b"".join(encode_entries(entries))
    writer = SectionWriter(CONTEXT, KEY)
    sealed = (writer.add((), Compressor(1), lines) if lines else b"") + writer.finish()
    again = list(read_entries(reader_of(sealed)))
    if not any(isinstance(entry, FactsEntry) for entry in entries):
        assert again == entries
    for entry in entries:
        if isinstance(entry, RowsEntry):
            assert entry.rows >= 0 <= entry.bytes
    planner.define(entries, "it")
    planner.add(0, entries, "it", structure=True)
    planner.plan()


SEED_RECORD = msgspec.json.encode(
    {
        "kind": "snapshot",
        "format": 2,
        "features": [],
        "repository": "0f" * 16,
        "region": "be",
        "generation": GENERATION,
        "run": GENERATION,
        "database": "app",
        "member": None,
        "exported": "2030-01-02T03:04:05.678901Z",
        "published": "2030-01-02T03:05:00.000000Z",
        "server": 170000,
        "previous": None,
        "ledger": {"seq": 3, "head": "ab" * 32},
        "packs": [["ab" * 32, [0, 2, 5, 1], [3, 1]], ["cd" * 32, [], [3, 4]]],
        "totals": {"tables": 1, "rows": 2, "bytes": 4, "stored": 400, "added": 5},
    },
    order="sorted",
)


def _key_file(data: bytes) -> Path:
    """A file that nobody else reads, in memory."""
    path = Path("/it")
    return type("_InMemory", (type(path),), {"open": lambda *_: io.BytesIO(data)})(path)


@parser(ConfigError, text=True)
def recipient(data: bytes) -> None:
    found = keyfiles.read_recipient(_key_file(data))
    assert len(found.public) == suite.PUBLIC_SIZE


@parser(ConfigError, KeyRefusedError, text=True)
def identity(data: bytes) -> None:
    """The passphrase is not stretched, which takes its time; the numbers for it were checked before."""

    def quick(_: bytes, salt: bytes, *, n: int, r: int, p: int) -> bytes:
        assert 128 * n * r <= 1 << 30
        assert n * r * p <= 1 << 25
        return KEY

    with patch.object(suite, "stretch", quick):
        pair = keyfiles.read_identity(_key_file(data), "words")
    assert suite.public_of(pair.secret) == pair.public


@parser(KeyRefusedError, text=True)
def share(data: bytes) -> None:
    words = data.decode(errors="replace").split()
    found = escrow.parse(words, "it")
    assert list(found.words) == [word.lower() for word in words]
    with suppress(KeyRefusedError):
        escrow.combine([found])


@parser(ConfigError, text=True)
def config(data: bytes) -> None:
    """A configuration in one file; every key of it has its line."""
    try:
        text = data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        return
    found = ConfigDocument("it", (ConfigPart("it", text),))
    raw, places, _ = found.merged()
    assert set(_paths(raw)) <= places.keys()
    parse(text, "it")


def _paths(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*above, key)
        yield from _paths(inner, (*above, key))


@parser(ConfigError, text=True)
def config_file(data: bytes) -> None:
    """The main file on a disk, which may name others or be a bundle of them."""
    parse_document(read_document(_key_file(data)))


@parser(StoreError)
def sftp_reply(data: bytes) -> None:
    kind, body = data[0] if data else 0, data[1:]
    with suppress(wire.ProtocolError):
        extensions = wire.decode_version(kind, body)
        assert sum(
            8 + len(name.encode(errors="surrogateescape")) + len(value) for name, value in extensions.items()
        ) <= len(body)
    number, reply = wire.decode_reply(kind, body)
    assert body.startswith(number.to_bytes(4, "big"))
    match reply:
        case wire.Handle(value) | wire.Data(value):
            assert body[4:] == len(value).to_bytes(4, "big") + value
        case wire.NameReply(entries):
            for name, _ in entries:
                with suppress(StoreError):
                    layout.place_of(ObjectName("/".join(components(name))))
                assert wire.remove(name).payload[4:] in body
        case wire.Extended(value):
            for decode in (wire.decode_limits, wire.decode_statvfs):
                with suppress(wire.ProtocolError):
                    assert min(decode(value)) >= 0


@parser(StoreError)
def sftp_stream(data: bytes) -> None:
    framer, rest = wire.Framer(), data
    for at in range(0, len(data), 7):
        for kind, body in framer.feed(data[at : at + 7]):
            packet = (1 + len(body)).to_bytes(4, "big") + bytes([kind]) + body
            assert rest.startswith(packet)
            rest = rest[len(packet) :]


@parser(StoreError, text=True)
def server_output(data: bytes) -> None:
    """What a store's own commands print, and what it calls its snapshots."""
    for algorithm in ("sha256", "sha1", "md5"):
        digest = server.parse_digest(data, algorithm)
        assert digest is None or digest.encode() in data.lower()
    space = server.parse_quota(data)
    assert space is None or 0 <= space.free <= max(space.total, space.free)
    shown = server.oldest_first(data.decode("utf-8", "surrogateescape").splitlines())
    for one in shown:
        with suppress(StoreError):
            assert server.folder_of(one) == one.name


@parser(StoreError, text=True)
def object_name(data: bytes) -> None:
    """A name that a store lists: legal and known, or refused or foreign."""
    name = ObjectName(data.decode("utf-8", "surrogateescape"))
    place = layout.place_of(name)
    if place.snapshot is not None:
        check_date(stamp(time_of(place.snapshot)))
    if place.generation is not None and place.snapshot is not None:
        assert layout.record_name(place.generation, place.snapshot) == name
    components(name)
    assert "+" in name or unflat(flat(name)) == name


@parser(ValueError)
def copy_rows(data: bytes) -> None:
    """COPY's stream divided by tenant: each row, once, in order, wherever the stream was cut."""
    step = 1 + 16 * (data[0] if data else 0)
    chunker = Chunker(routed=True, mask=1, seed=7, limit=4096)
    cuts = [cut for at in range(0, len(data), step) for cut in chunker.feed(data[at : at + step])] + chunker.finish()
    found: defaultdict[bytes | None, bytearray] = defaultdict(bytearray)
    for cut in cuts:
        found[cut.tenant] += cut.data
    wanted: defaultdict[bytes | None, bytearray] = defaultdict(bytearray)
    for line in data.split(b"\n")[:-1]:
        tenant, _, row = line.partition(b"\t")
        wanted[tenant] += row + b"\n"
    assert found == wanted


@parser(SourceError)
def archive(data: bytes) -> None:
    """pg_dump's archive: taken apart, its pieces make the archive again, but for its time."""
    reader = ArchiveReader(io.BytesIO(data).read)
    entries = list(reader.entries())
    joined = join_archive(reader.head, [(entry.ordinal, entry.raw) for entry in entries])
    again = ArchiveReader(io.BytesIO(joined).read)
    assert (again.head, list(again.entries())) == (reader.head, entries)
    assert joined.endswith(b"".join(entry.raw for entry in entries))
    assert sum(len(entry.raw) for entry in entries) <= len(data)
    divide_archive(io.BytesIO(data).read, PATTERNS)
    written = io.BytesIO()
    only_large_objects(io.BytesIO(data).read, written.write)
    assert len(written.getvalue()) <= len(data) + 100


@parser(DamageError)
def ddl_file(data: bytes) -> None:
    entries = list(unpack_entries(data))
    assert b"".join(pack_entry(ordinal, raw) for ordinal, raw in entries) == data


@parser(DamageError)
def archive_head(data: bytes) -> None:
    """The file `ddl-head` of a snapshot, which whoever signed the record may have made up."""
    joined = join_archive(data, [(1, b"an entry")])
    assert joined.startswith(data)
    assert joined.endswith(b"an entry")


@parser(text=True)
def globals_sql(data: bytes) -> None:
    divide_globals(data.decode(errors="surrogateescape"), PATTERNS)
