"""Parsers of bytes from outside: whatever they are given, they read it as it is or refuse it, within bounded memory."""

from __future__ import annotations

import tracemalloc

import pytest
from fuzz_parsers import PARSERS, FuzzedParser
from fuzz_seeds import seeds
from hostile_bytes import inputs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ALLOWED = 8 << 20
"""Bytes that a parser may take beside some times its input: blocks have their own limit."""
TIMES = 60
LENGTH = 1 << 15
"""Bytes of a long input."""

ALL = pytest.mark.parametrize("name", sorted(PARSERS))


@ALL
def test_a_parser_accepts_a_seed(name: str) -> None:
    """Some input is sound, so that all the others are not refused for the same reason."""
    assert any(PARSERS[name](seed) for seed in seeds()[name])


@ALL
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_parser_reads_or_refuses(name: str, data: st.DataObject) -> None:
    """Nothing but the documented error escapes, and what is read is written back as the same bytes."""
    parser = PARSERS[name]
    parser(data.draw(inputs(seeds()[name], text=parser.text)))


@ALL
def test_a_parser_takes_bounded_memory(name: str) -> None:
    """Seeds repeated, lengthened and with huge numbers inside take memory in proportion to their own size."""
    parser = PARSERS[name]
    for data in hostile(seeds()[name]):
        assert peak(parser, data) <= ALLOWED + TIMES * len(data)


def hostile(sound: list[bytes]) -> list[bytes]:
    huge = (b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"9" * 4000)
    found = [
        seed[:at] + piece + seed[at + 4 :]
        for seed in sound[:6]
        for piece in huge
        for at in range(0, min(len(seed), 64), 4)
    ]
    found += [seed * (1 + LENGTH // max(len(seed), 1)) for seed in sound[:6]]
    return [*found, *(byte * LENGTH for byte in (b"\n", b"[", b"\0", b"\xff"))]


def peak(parser: FuzzedParser, data: bytes) -> int:
    tracemalloc.start()
    try:
        parser(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
