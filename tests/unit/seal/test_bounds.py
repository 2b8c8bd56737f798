"""What a store shows takes a bounded part of memory before anything vouches for it, as counted by Python."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import tracemalloc
from array import array
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgspec
import pytest
from doubles.paths import RECOVER

from backupd.errors import DamageError
from backupd.model.documents import EXTRA_LIMIT, Record, decode_body
from backupd.seal.documents import LIMITS, SIGNATURES_LIMIT, Signer, read_document
from backupd.seal.section_format import MOST_BLOCKS, MOST_CHUNKS, Trailer

MIB = 1 << 20
SIGNER = Signer(bytes(range(32)))
BODY = b'{"features":[],"format":2,"kind":"snapshot"}'


def peak(call: Callable[[], Any]) -> int:
    """The most bytes that were allocated at once while `call` ran, above what there was before."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(call: Callable[[], Any], match: str) -> int:
    def caught() -> None:
        with pytest.raises(DamageError, match=match):
            call()

    return peak(caught)


def test_a_line_of_signatures_is_taken_apart_only_if_it_is_short() -> None:
    """Nobody signed it: a line of a hundred thousand strangers is refused by its length, and by name."""
    claim = b'{"key":"%b","signature":""},' % (b"0" * 64)
    line = b'{"signatures":[' + claim * 80_000 + b"]}"
    document = BODY + b"\n" + line + b"\n"
    assert len(document) < LIMITS["snapshot"]
    used = refused(
        lambda: read_document(document, "snapshot", {SIGNER.public}, "snapshots/x"),
        rf"signatures of 'snapshots/x' take more than the {SIGNATURES_LIMIT} bytes",
    )
    assert used < 2 * len(document)


def test_many_signatures_are_read() -> None:
    """Three hundred people may countersign."""
    claims = [msgspec.json.encode({"key": f"{n:064x}", "signature": "A" * 88}) for n in range(300)]
    own = SIGNER.sign(BODY, "snapshot").split(b"\n")[1].removeprefix(b'{"signatures":[').removesuffix(b"]}")
    document = BODY + b'\n{"signatures":[' + b",".join([*claims, own]) + b"]}\n"
    assert read_document(document, "snapshot", {SIGNER.public}, "snapshots/x") == BODY


def trailer(blocks: int, chunks: int) -> bytes:
    lengths = array("I", [20, 10, 0]) * blocks
    lengths[2] = chunks
    numbers = array("I", [blocks]) + lengths + array("I", bytes(4 * chunks))
    return numbers.tobytes()


def test_a_trailer_lists_so_many_blocks_and_chunks() -> None:
    """More are refused before they are taken apart; the most take as much memory as a section of our own."""
    blocks, chunks = trailer(1_000_000, 0), trailer(1, 4_000_000)
    what = "lists more than"
    assert refused(lambda: Trailer.decode(blocks, "s").places(20_000_000, "s"), f"{what} {MOST_BLOCKS} blocks") < MIB
    assert refused(lambda: Trailer.decode(chunks, "s").places(20, "s"), f"{what} {MOST_CHUNKS} chunks") < MIB
    most = trailer(MOST_BLOCKS, MOST_CHUNKS)
    assert peak(lambda: Trailer.decode(most, "s").places(20 * MOST_BLOCKS, "s")) < 40 * MIB


def record(**changes: Any) -> bytes:
    ranges = [number for first in range(1_000, 120_000, 2) for number in (first, 1)]
    fields = {
        "kind": "snapshot",
        "format": 2,
        "features": [],
        "repository": "0" * 32,
        "region": "be",
        "generation": "20300101T000000Z-00000000",
        "run": "20300101T000000Z-00000000",
        "database": "app",
        "member": None,
        "exported": "2030-01-01T00:00:00.000000Z",
        "published": "2030-01-01T00:00:00.000000Z",
        "server": 170_000,
        "previous": None,
        "ledger": {"seq": 1, "head": "0" * 64},
        "packs": [(f"{number:064x}", ranges, []) for number in range(4)],
        "totals": {"tables": 1, "rows": 1, "bytes": 1, "stored": 1, "added": 1},
    }
    return msgspec.json.encode({**fields, **changes})


def test_a_record_takes_some_times_its_bytes() -> None:
    """The largest one allowed so takes a bit more than a hundred megabytes, whatever it says."""
    data = record()
    assert peak(lambda: decode_body(data, Record, "snapshots/x")) < 8 * len(data)
    assert 8 * LIMITS["snapshot"] <= 128 * MIB


def test_unknown_fields_are_kept_and_bounded() -> None:
    """What nobody here knows may not take more than what everybody knows."""
    kept = decode_body(record(extra=[1], newer={"a": "b"}), Record, "snapshots/x")
    assert kept.extra == {"extra": [1], "newer": {"a": "b"}}
    nested = msgspec.json.encode([[]] * (EXTRA_LIMIT // 3 + 1))
    data = record(newer=msgspec.Raw(nested), packs=[])
    used = refused(lambda: decode_body(data, Record, "snapshots/x"), f"more than {EXTRA_LIMIT} bytes in fields")
    assert used < 4 * len(data)


@pytest.fixture(scope="module")
def recover() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("recover_script", str(RECOVER))
    spec = importlib.util.spec_from_loader("recover_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_recover_has_the_same_bounds(recover: ModuleType) -> None:
    """It reads the same store, in the same hands."""
    assert {kind: LIMITS[kind] for kind in recover.DOCUMENT_LIMITS} == recover.DOCUMENT_LIMITS
    assert (recover.SIGNATURES_LIMIT, recover.MOST_BLOCKS, recover.MOST_CHUNKS) == (
        SIGNATURES_LIMIT,
        MOST_BLOCKS,
        MOST_CHUNKS,
    )


def test_recover_takes_no_unsigned_lines_apart(recover: ModuleType) -> None:
    """Neither of a document nor of a keyring: a million short lines are looked at when somebody vouched for them."""
    lines = b"ab\n" * 1_000_000
    for read in (
        lambda: recover.read_document(lines, "snapshot", {SIGNER.public}, "x"),
        lambda: recover.Keyring(lines, {SIGNER.public}, "x"),
    ):

        def caught(read: Callable[[], Any] = read) -> None:
            with pytest.raises(recover.DamageError):
                read()

        assert peak(caught) < 4 * len(lines)
