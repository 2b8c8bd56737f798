"""Sound and broken inputs that fuzzing starts from, by parser: the vectors, and what production code writes."""

from __future__ import annotations

import base64
import hashlib
import struct
import tempfile
from collections import defaultdict
from functools import cache
from pathlib import Path
from unittest.mock import patch

import msgspec
from doubles.paths import TESTS
from doubles.samples import attestation_pages, reports
from doubles.samples.archive_bytes import integer, text
from doubles.samples.example_config import EXAMPLE
from fuzz_parsers import CONTEXT, GENERATION, KEY, SEED_RECORD, SIGNER

from backupd.model.attestation import encode_attestation
from backupd.model.report import encode_report
from backupd.seal import escrow, suite
from backupd.seal.keyfiles import write_identity
from backupd.seal.section_writer import SectionWriter
from backupd.seal.zstd import Compressor

_BY_READER = {
    "section": "section",
    "pack": "pack",
    "document": "document",
    "identity": "identity",
    "keyring": "keyring",
}
_STAMP = "2030-01-02T03:04:05.678901Z"
_SNAPSHOT = "20300102T030405Z-" + "ef" * 32
_LIFE = {"tenant": "7e" * 16, "incarnation": 1, "scope": ""}
_DATES = {"since": _STAMP, "deadline": _STAMP, "purge_by": _STAMP, "by": "command"}
_EVENTS = [
    {"event": "unsubscribed", **_LIFE, **_DATES},
    {"event": "moved", **_LIFE, **_DATES, "to": "ch"},
    {"event": "held", "tenant": "7e" * 16, "hold": "T-1", "review": _STAMP},
    {"event": "purge-began", **_LIFE, "segments": [[GENERATION, "5e" * 16]], "stores": ["zurich"]},
    {"event": "shredded", **_LIFE, "store": "zurich", "keyrings": 1},
    {"event": "absent", **_LIFE, "store": "zurich", "snapshots": ["daily_2030-01-02"]},
    {"event": "released", "tenant": "7e" * 16, "hold": "T-1", "due": _STAMP},
    {"event": "class-expired", "store": "zurich", "generation": GENERATION, "class_tag": "c1" * 8, "before": _STAMP},
    {"event": "expiry-began", "store": "zurich", "snapshots": [_SNAPSHOT]},
    {"event": "drilled", "drill": GENERATION, "report": "ab" * 32, "verdict": "pass", "snapshot": _SNAPSHOT},
    {"event": "store-retired", "store": "zurich", "decision": "T-2"},
    {"event": "keeper-retired", "key": "ab" * 32, "decision": "T-3"},
    {"event": "rekeyed", "store": "zurich", "keyrings": 1, "recipients": ["7e" * 16]},
]


@cache
def seeds() -> dict[str, list[bytes]]:
    """The inputs of every parser."""
    found: defaultdict[str, list[bytes]] = defaultdict(list)
    for path in sorted((TESTS / "vectors" / "cases").glob("*.txt")):
        head, _, body = path.read_text().partition("\n\n")
        fields = dict(line.split(": ", 1) for line in head.splitlines())
        if fields["reader"] in _BY_READER:
            found[_BY_READER[fields["reader"]]].append(base64.b64decode(body))
    found["record"] = [SEED_RECORD]
    found["ledger-entry"] = [_entry()]
    found["repository-info"] = [_info()]
    found["attestation"] = [encode_attestation(attestation_pages.sample())]
    found["report"] = [encode_report(reports.sample())]
    found["keyring-body"] = [one.partition(b"\n")[0] for one in found["keyring"][:6]]
    found["document"].append(SIGNER.sign(SEED_RECORD, "snapshot"))
    found["recipient"] = list(found["identity"])
    found["identity"].append(_identity())
    found["manifest"] = [_manifest()]
    found["trailer"] = [struct.pack("<9I", 2, 10, 20, 1, 12, 30, 2, 5, 6) + struct.pack("<I", 7) + bytes(40), bytes(24)]
    found["frame"] = [Compressor(3).compress(data) for data in (b"", b"content " * 50, bytes(1 << 21))]
    found["section"].append(_section())
    found["share"] = [" ".join(one.words).encode() for one in escrow.split(bytes(range(96)), 3, 2)]
    found["config"] = [EXAMPLE.encode(), (TESTS / "cli" / "base.toml").read_bytes(), b'[a]\n"b c" = [1, {d = 2}]\n']
    found["config-file"] = [b'{"bundle":[["a.toml","x = 1"]]}', b'include = ["conf.d/*.toml"]\n', *found["config"][:1]]
    found["sftp-reply"] = list(_replies())
    found["sftp-stream"] = [b"".join(struct.pack(">I", len(one)) + one for one in _replies())]
    found["server-output"] = [
        b"a" * 64 + b"  x\n",
        b"sha256 (x) = " + b"0" * 64,
        b"Disk quotas for user x (uid 7):\n  File  blocks  quota  limit\n  /dev/a  1.5M  20G  30.1G  5\n",
        b"daily_2026-11-20\nautosnap_2026-11-20_14:25:01_daily\n",
    ]
    found["object-name"] = [
        f"snapshots/{GENERATION}/{_SNAPSHOT}".encode(),
        f"keyrings/{GENERATION}/{GENERATION}.keyring".encode(),
        f"runs/{GENERATION}/{'ab' * 32}.pack".encode(),
        b"ledger/0000000001.json",
        b"incoming/node-1/packs+x",
        f"reports/{GENERATION}.json".encode(),
    ]
    found["copy-rows"] = [b"a\t1\n\\N\t2\nb\t3\ta\\tb\na\t4\n", b"no tab\n\n\t\n"]
    found["archive"] = [_archive(version) for version in ((1, 14), (1, 15), (1, 16))]
    found["ddl-file"] = [struct.pack("<II", 3, 5) + b"entry" + struct.pack("<II", 9, 0)]
    found["archive-head"] = [_archive((1, 16))[:80], b"PGDMP" + bytes([1, 16, 0, 4, 8, 1, 0])]
    globals_sql = (
        b"CREATE ROLE t_a;\nCOMMENT ON ROLE t_a IS 'x; -- ''t_b''';\nALTER ROLE t_a SET x TO E'\\\\';\n"
        b'GRANT t_b TO staff GRANTED BY "t_A";\n\\restrict abc\nDO $a$ ; $a$;\n'
    )
    found["globals-sql"] = [globals_sql]
    return dict(found)


def _entry() -> bytes:
    head = {"kind": "ledger", "format": 2, "features": [], "repository": "0f" * 16, "region": "be"}
    return msgspec.json.encode(
        {**head, "seq": 3, "previous": "ab" * 32, "at": _STAMP, "events": _EVENTS}, order="sorted"
    )


def _info() -> bytes:
    head = {"kind": "repository", "format": 2, "features": [], "repository": "0f" * 16, "region": "be"}
    more = {"created": _STAMP, "signers": [SIGNER.public], "keepers": [], "profile": {"fsync": True}}
    return msgspec.json.encode({**head, **more}, order="sorted")


def _manifest() -> bytes:
    digest = base64.b64encode(hashlib.sha256(b"1\n2\n").digest()).decode()
    lines: list[list[object]] = [
        ["table", 3, "public", "t", ["a", "b"]],
        ["rows", 3, [[2, 4, digest]], [1, 0, 1]],
        ["more", [2, 5, 7]],
        ["file", "ddl-head", 4, digest, [1, 0, 1]],
        ["sequences", [["public", "s", 9, True]]],
        [
            "facts",
            {
                "server_version": 170010,
                "tables": [["public", "t", 2]],
                "settings": {"a": "b"},
                "database": {"name": "app"},
                "extensions": [["e", "1", "public"]],
                "refresh": [["s", "v"]],
                "ranks": [4],
                "collations": [["s", "c", "icu", None]],
            },
        ],
    ]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def _identity() -> bytes:
    """An identity file whose passphrase is taken for stretched to `KEY`."""
    with tempfile.TemporaryDirectory() as folder, patch.object(suite, "stretch", lambda *_, **__: KEY):
        path = Path(folder) / "identity"
        write_identity(path, "ops", suite.generate(), "words")
        return path.read_bytes()


def _section() -> bytes:
    writer, compressor = SectionWriter(CONTEXT, KEY), Compressor(3)
    return writer.add([b"one\n", b"two\n"], compressor, b"a manifest") + writer.finish()


def _replies() -> list[bytes]:
    def text(value: bytes) -> bytes:
        return struct.pack(">I", len(value)) + value

    number, attributes = struct.pack(">I", 7), struct.pack(">IQII", 0x5, 10, 0o100644, 0)[:16]
    return [
        b"\x02" + struct.pack(">I", 3) + text(b"limits@openssh.com") + text(b"1"),
        b"\x65" + number + struct.pack(">I", 2) + text(b"No such file") + text(b"en"),
        b"\x66" + number + text(b"handle"),
        b"\x67" + number + text(b"data" * 20),
        b"\x68" + number + struct.pack(">I", 2) + 2 * (text(b"name") + text(b"-rw-r--r-- name") + attributes),
        b"\x69" + number + attributes,
        b"\xc9" + number + struct.pack(">11Q", *range(1, 12)),
    ]


def _archive(version: tuple[int, int]) -> bytes:
    def entry(number: int, description: str, tag: str, definition: str, *needs: int) -> bytes:
        kind = integer(114) if version >= (1, 16) else b""
        return b"".join(
            [
                integer(number),
                integer(0),
                text("1259"),
                text("16384"),
                text(tag),
                text(description),
                integer(2),
                text(definition),
                text("DROP"),
                text(None),
                text("t_a"),
                text(""),
                text(None),
                kind,
                text("owner"),
                text("false"),
                *(text(str(need)) for need in needs),
                text(None),
                b"\x03",
                struct.pack("<Q", 0),
            ]
        )

    entries = [
        entry(1, "SCHEMA", "t_a", "CREATE SCHEMA t_a;"),
        entry(2, "TABLE", "t", "CREATE TABLE t_a.t (a int);", 1),
        entry(3, "ACL", "TABLE t", "GRANT ALL ON TABLE t TO t_a;\nGRANT ALL ON TABLE t TO t_b;\n", 2, 1),
        entry(4, "BLOBS", "1..2", ""),
    ]
    compression = b"\x00" if version >= (1, 15) else integer(0)
    head = b"PGDMP" + bytes([*version, 0, 4, 8, 1]) + compression + b"".join(map(integer, (1, 2, 3, 4, 5, 126, 0)))
    return head + text("app") + text("17.1") + text("17.1") + integer(len(entries)) + b"".join(entries)
