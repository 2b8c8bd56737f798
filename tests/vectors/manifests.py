"""Cases of manifests, FORMAT.md §7: what a section holds behind its chunks, read as a whole section."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from case import Case
from crafting import GENERATION, KEY, NUMBER, REPOSITORY, SEGMENT, Craft, text
from expecting import OK, case, damage

CHUNKS = [b"1\ta\n", b"2\tb\n3\t\\N\n", b"archive"]
"""The chunks of the section: two of rows, and one of a file."""


def digest(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


ROWS = CHUNKS[0] + CHUNKS[1]
TABLE: list[Any] = ["table", 3, "public", "t", ["id", 'a "name"']]
SPANS = [[1, 4, digest(CHUNKS[0])], [2, 9, digest(CHUNKS[1])]]
RUNS = [NUMBER, 0, 2]
FILE = ["file", "ddl", 7, digest(CHUNKS[2]), [NUMBER, 2, 1]]
SEQUENCES: list[Any] = ["sequences", [["public", "s", -(2**63), True], ["public", "r", 7, False]]]
FACTS: list[Any] = ["facts", {"server_version": 170010, "tables": [["public", "t", 3]], "later": {"a": [None, 1.5]}}]
ALL = [TABLE, ["rows", 3, SPANS, RUNS], FILE, SEQUENCES, FACTS]


def lines_of(*lines: list[Any]) -> bytes:
    return b"".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for line in lines)


def manifests() -> Iterator[Case]:
    unreadable, runs = damage("the manifest of"), damage("the manifest of")
    apart = [["rows", 3, SPANS, [NUMBER, 0, 1]], ["more", [NUMBER, 1, 1]]]
    changes: list[tuple[str, str, dict[str, str], bytes]] = [
        ("manifest-good", "nothing", OK, lines_of(*ALL)),
        ("manifest-none", "nothing; a section without a manifest", OK, b""),
        ("manifest-more", "nothing; runs that are continued", OK, lines_of(TABLE, *apart)),
        ("manifest-more-nothing", "nothing; a continuation without runs", OK, lines_of(TABLE, ALL[1], ["more", []])),
        ("manifest-members", "nothing; members that are not known", OK, lines_of([*TABLE, {"a": 1}], [*FILE, 5])),
        (
            "manifest-escaped",
            "nothing; characters written as escapes",
            OK,
            lines_of(TABLE).replace(b"public", rb"\u0070ubli\u00e9"),
        ),
        ("manifest-nothing-there", "nothing; a table without rows", OK, lines_of(TABLE, ["rows", 3, [], []])),
        ("manifest-no-newline", "the last line has no newline", unreadable, lines_of(*ALL)[:-1]),
        ("manifest-empty-line", "an empty line", unreadable, lines_of(TABLE) + b"\n"),
        ("manifest-two-values", "two values on a line", unreadable, lines_of(TABLE)[:-1] + lines_of(FACTS)),
        ("manifest-not-json", "a line that is not JSON", unreadable, b"[table]\n"),
        ("manifest-utf8", "a byte that is not UTF-8", unreadable, lines_of(TABLE).replace(b"public", b"\xffpublic")),
        (
            "manifest-surrogate",
            "half of a surrogate pair",
            unreadable,
            lines_of(TABLE).replace(b"pub", b"\xed\xa0\x80"),
        ),
        ("manifest-object", "a line that is an object", unreadable, b'{"table":3}\n'),
        ("manifest-nested", "lists nested 100,000 deep", unreadable, b"[" * 100_000 + b"\n"),
        ("manifest-long-line", "a line of 1 MiB", unreadable, lines_of(["facts", {"a": "b" * (1 << 20)}])),
        ("manifest-more-first", "a continuation of nothing", unreadable, lines_of(["more", RUNS])),
        ("manifest-more-table", "a continuation of a definition", unreadable, lines_of(TABLE, ["more", RUNS])),
        ("manifest-table-number", "a table's number is text", unreadable, lines_of(["table", "3", "public", "t", []])),
        (
            "manifest-table-negative",
            "a table's number is negative",
            unreadable,
            lines_of(["table", -1, "public", "t", []]),
        ),
        ("manifest-table-cut", "a definition without columns", unreadable, lines_of(TABLE[:4])),
        ("manifest-table-columns", "a column's name is a number", unreadable, lines_of([*TABLE[:4], [1]])),
        ("manifest-rows-cut", "rows without runs", unreadable, lines_of(TABLE, ["rows", 3, SPANS])),
        ("manifest-span-cut", "a span without its hash", unreadable, lines_of(TABLE, ["rows", 3, [[3, 13]], RUNS])),
        ("manifest-runs-pairs", "runs that are not triples", runs, lines_of(TABLE, ["rows", 3, SPANS, [NUMBER, 0]])),
        (
            "manifest-runs-negative",
            "a run from before the first chunk",
            runs,
            lines_of(TABLE, ["rows", 3, SPANS, [NUMBER, -1, 2]]),
        ),
        ("manifest-runs-text", "runs as text", runs, lines_of(TABLE, ["rows", 3, SPANS, "7,0,2"])),
        (
            "manifest-runs-huge",
            "a number of 5,000 digits",
            runs,
            lines_of(TABLE, ["rows", 3, SPANS, []]).replace(b"[]]", b"[" + b"9" * 5000 + b",0,1]]"),
        ),
        ("manifest-file-cut", "a file without its hash and runs", unreadable, lines_of(FILE[:3])),
        ("manifest-file-name", "a file's name is a number", unreadable, lines_of(["file", 5, *FILE[2:]])),
        (
            "manifest-sequence-text",
            "a sequence's value is text",
            unreadable,
            lines_of(["sequences", [["s", "q", "1", True]]]),
        ),
        (
            "manifest-sequence-called",
            "whether it was called is a number",
            unreadable,
            lines_of(["sequences", [["s", "q", 1, 1]]]),
        ),
        ("manifest-sequence-cut", "a sequence without its value", unreadable, lines_of(["sequences", [["s", "q"]]])),
    ]
    fields = {"key": text(KEY), "repository": REPOSITORY, "generation": GENERATION, "segment": SEGMENT}
    for name, about, expected, lines in changes:
        craft = Craft([(CHUNKS, lines[:40]), *([([], lines[40:])] if lines[40:] else [])])
        plain = entries(lines) if expected is OK else b""
        yield case(name, about, "manifest", expected, {**fields, "number": str(NUMBER)}, craft.bytes(), plain)


def entries(lines: bytes) -> bytes:
    """What a reader finds: the lines with continuations joined, and without members that it does not know."""
    found: list[list[Any]] = []
    for kind, *members in map(json.loads, lines.splitlines()):
        if kind == "more":
            found[-1][-1] += members[0]
        else:
            found.append([kind, *members[: {"table": 4, "rows": 3, "file": 4, "sequences": 1, "facts": 1}[kind]]])
    return "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in found).encode()
