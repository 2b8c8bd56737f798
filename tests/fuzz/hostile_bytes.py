"""Inputs that somebody would send on purpose: sound ones cut, bent, repeated, and with impossible values inside."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

HUGE = "9" * 5000
VALUES = [
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
    1.5,
    "",
    "x" * 300,
    "\0",
    "\ud800",
    "é",
    [],
    {},
    [[]],
    "0000-00-00T00:00:00.000000Z",
    "2030-02-30T00:00:00.000000Z",
    "9999-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00.000000Z",
    "1969-12-31T23:59:59.999999Z",
    "2030-01-02T24:60:60.000000Z",
    "20300230T000000Z-0a0b0c0d",
    "../../x",
    "AAAA",
    "AA==",
    "=",
    "e" * 64,
    "0" * 32,
]
"""Members that a document may have in the place of its own."""
RAW = [
    b"\0",
    b"\xff",
    b"\n",
    b"\r\n",
    b"\t",
    b'"',
    b"'",
    b"[",
    b"{",
    b"]",
    b"}",
    b"[" * 2000,
    b'{"a":' * 2000,
    b"=",
    b",",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\xed\xa0\x80",
    b"1e999",
    HUGE.encode(),
    b"-1",
    b"NaN",
    b"Infinity",
    b"$a$",
    b"--",
    b"/*",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\0" * 8,
    b"PGDMP",
    b"BKPDPACK",
    b"\x28\xb5\x2f\xfd",
    b"..",
    b"/",
    b"1.2.3",
    b"9" * 400,
    b"**x",
    b"2030-02-30",
    b"99999999T999999Z",
]
"""Bytes to put into the middle of others."""


@st.composite
def bent(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed after some changes of its bytes."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 6)):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + data[at + draw(st.integers(1, 40)) :]
            case 2:
                data = data[:at] + draw(st.sampled_from(RAW)) + data[at:]
            case 3:
                piece = draw(st.sampled_from(RAW))
                data = data[:at] + piece + data[at + len(piece) :]
            case 4 if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
            case 5:
                end = draw(st.integers(at, min(len(data), at + 200)))
                data = data[:end] + data[at:end] * draw(st.integers(1, 20)) + data[end:]
            case _:
                data = data[:at] + draw(st.binary(max_size=20)) + data[at:]
    return data


@st.composite
def bent_json(draw: st.DrawFn, lines: list[list[Any]]) -> bytes:
    """Lines of JSON, in which some members were replaced, removed, repeated or added."""
    found = json.loads(json.dumps(draw(st.sampled_from(lines))))
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, found)
    # Surrogates stand as escapes, as a document may hold them.
    return b"\n".join(json.dumps(line).encode() for line in found) + (b"\n" if len(found) > 1 else b"")


def _change(draw: st.DrawFn, value: Any) -> None:
    places = list(value) if isinstance(value, dict) else list(range(len(value)))
    while places:
        place = draw(st.sampled_from(places))
        inner = value[place]
        if isinstance(inner, dict | list) and inner and draw(st.integers(0, 3)):
            value, places = inner, list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            continue
        match draw(st.integers(0, 7)):
            case 0:
                del value[place]
            case 1 if isinstance(value, list):
                value.insert(place, inner)
            case 2:
                value["future" if isinstance(value, dict) else place] = deepcopy(draw(st.sampled_from(VALUES)))
            case _:
                value[place] = deepcopy(draw(st.sampled_from(VALUES)))
        return


def json_lines(seeds: list[bytes]) -> list[list[Any]]:
    """The seeds that are lines of JSON, as values."""
    found = []
    for seed in seeds:
        try:
            found.append([json.loads(line) for line in seed.decode().splitlines()])
        except ValueError:
            continue
    return [lines for lines in found if lines]


def inputs(seeds: list[bytes], *, text: bool) -> st.SearchStrategy[bytes]:
    """Everything that a parser is tried with."""
    anything = (
        st.text(max_size=200).map(lambda value: value.encode(errors="surrogateescape"))
        if text
        else st.binary(max_size=200)
    )
    kinds = [st.sampled_from(seeds), bent(seeds), anything]
    if lines := json_lines(seeds):
        kinds += [bent_json(lines)] * 3
    return st.one_of(kinds)
