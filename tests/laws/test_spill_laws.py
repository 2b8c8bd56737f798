"""Chunks of more segments than memory holds: wherever they end up, every span's runs lead to exactly its bytes."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupd.errors import BackupdError, DamageError
from backupd.model.ids import GenerationId, Pseudonym, RepositoryId
from backupd.rows import spill
from backupd.rows.dedup import ChunkSinks, ContainerSettings, Deduplicator, OpenSpan, PendingLimits, Segment
from backupd.rows.known_chunks import NothingKnown
from backupd.rows.packer import Pack, Packer
from backupd.rows.protocol import Spilled, unpack_span
from backupd.rows.spill import Residue, ResiduesBySegment, Spill, merged
from backupd.seal import suite
from backupd.seal.container_format import ContainerContext
from backupd.seal.container_reader import ContainerReader
from backupd.seal.zstd import Compressor

MARKER = b"Quillfeather & Sons"
PAIR = suite.generate()
KEY = bytes(32)
REPOSITORY, GENERATION = RepositoryId("0" * 32), GenerationId("20260101T000000Z-00000000")


class Outcome(NamedTuple):
    packs: dict[int, list[bytes]]
    """Chunks by container."""
    spilled: Spilled
    spans: dict[str, tuple[bytes, list[int]]]
    """What was put in, and its runs."""
    whose: dict[int, str]


def context(pseudonym: str) -> ContainerContext:
    return ContainerContext(REPOSITORY, GENERATION, Pseudonym(pseudonym))


def opened(pack: Pack) -> list[bytes]:
    data = pack.path.read_bytes()
    reader = ContainerReader(
        lambda at, length: data[at : at + length],
        len(data),
        secret=PAIR.secret,
        context=context(pack.pseudonym),
        where="a pack",
    )
    assert reader.ids == pack.ids
    chunks = []
    for index, block in enumerate(reader.blocks):
        content, at = reader.open_block(index), 0
        for length in block.chunk_lengths:
            chunks.append(content[at : at + length])
            at += length
    return chunks


def deduplicated(folder: Path, limits: PendingLimits, stream: list[tuple[int, bytes]]) -> Outcome:
    finished: list[Pack] = []
    packer = Packer(context, folder, Compressor(1), finished.append)
    numbers = iter(range(-1, -1_000_000, -1))
    making = ContainerSettings(KEY, lambda: next(numbers), lambda _: PAIR.public)
    dedup = Deduplicator(making, NothingKnown(), ChunkSinks(packer, Spill(folder / "0.spill"), limits))
    spans: dict[int, OpenSpan] = {}
    put: defaultdict[int, bytes] = defaultdict(bytes)
    for number, chunk in stream:
        span = spans.setdefault(number, OpenSpan(Segment(f"{number:032x}")))
        dedup.take(span, chunk, 0)
        put[number] += chunk
    spilled = dedup.close()
    assert len({pack.container for pack in finished}) == len(finished)
    return Outcome(
        {pack.container: opened(pack) for pack in finished},
        spilled,
        {f"{n:032x}": (put[n], list(unpack_span(span.close()[1]).runs)) for n, span in spans.items()},
        {pack.container: pack.pseudonym for pack in finished},
    )


def assert_exact(outcome: Outcome) -> None:
    chunks, whose = dict(outcome.packs), dict(outcome.whose)
    found = ResiduesBySegment([outcome.spilled])
    for pseudonym in sorted(outcome.spans):
        for residue in found.of(pseudonym):
            assert residue.container not in outcome.packs
            chunks.setdefault(residue.container, []).extend(residue.chunks)
            whose[residue.container] = pseudonym
    for pseudonym, (put, runs) in outcome.spans.items():
        back = []
        for container, first, count in zip(runs[::3], runs[1::3], runs[2::3], strict=True):
            assert whose[container] == pseudonym
            back += chunks[container][first : first + count]
        assert b"".join(back) == put


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything a thousandth of its size."""
    monkeypatch.setattr("backupd.rows.dedup.BLOCK_SIZE", 1500)
    monkeypatch.setattr("backupd.rows.dedup.SMALL_BLOCK", 300)
    monkeypatch.setattr("backupd.rows.dedup.MOST_SPILLED", 4000)
    monkeypatch.setattr(spill, "_BLOCK", 400)


@pytest.mark.usefixtures("small")
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1 << 30), count=st.integers(1, 30), skew=st.floats(1, 4), room=st.sampled_from([700, 1 << 20])
)
def test_every_run_leads_to_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, skew: float, room: int
) -> None:
    """Few and many segments, even and skewed, with a spill that suffices and one that is packed again and again."""
    dice = random.Random(seed)
    stream = [(int(count * dice.random() ** skew), dice.randbytes(dice.randint(1, 500))) for _ in range(400)]
    limits = PendingLimits(pending=4000, pack=9000, open=room)
    assert_exact(deduplicated(tmp_path_factory.mktemp("spool"), limits, stream))


@pytest.mark.usefixtures("small")
def test_a_small_segment_makes_no_pack(tmp_path: Path) -> None:
    """However often memory is full, what there is of a small segment is in the spill when its worker ends."""
    stream = [(number, bytes([number, turn]) * 50) for turn in range(30) for number in range(40)]
    outcome = deduplicated(tmp_path, PendingLimits(4000, 9000, 1 << 20), stream)
    assert outcome.packs == {}
    assert len(outcome.spilled.runs) > 20
    assert_exact(outcome)


@pytest.mark.usefixtures("small")
def test_a_spill_has_no_more_runs_than_can_be_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much room there is on the disk: of each run a block is in memory later."""
    monkeypatch.setattr("backupd.rows.dedup.MOST_RUNS", 7)
    stream = [(number, bytes([number, turn]) * 50) for turn in range(30) for number in range(40)]
    outcome = deduplicated(tmp_path, PendingLimits(4000, 9000, 1 << 40), stream)
    assert len(outcome.spilled.runs) <= 7
    assert outcome.packs
    assert_exact(outcome)


@pytest.mark.usefixtures("small")
def test_a_spill_holds_no_plain_bytes(tmp_path: Path) -> None:
    """A word that stands in every chunk is not in the file, nor is a pseudonym or the key."""
    deduplicated(tmp_path, PendingLimits(4000, 9000, 1 << 20), [(n % 9, MARKER + bytes([n])) for n in range(250)])
    data = (tmp_path / "0.spill").read_bytes()
    assert MARKER not in data
    assert b"0" * 20 not in data


def test_a_spill_that_was_altered_is_noticed(tmp_path: Path) -> None:
    """One bit of the file changed, or one block put in another's place: nothing is read from it."""
    written = Spill(tmp_path / "spill")
    written.add_run([Residue("a", -1, [b"x" * 40_000], bytes(16)), Residue("b", -2, [b"y" * 40_000], bytes(16))])
    path = tmp_path / "spill"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamageError):
        list(merged([written.written()]))
    path.unlink()
    with pytest.raises(BackupdError, match="the spool cannot be read"):
        list(merged([written.written()]))


def test_residues_come_in_the_order_they_were_added(tmp_path: Path) -> None:
    """Segment by segment over all runs of all files; within a segment file by file and run by run."""
    files = []
    for number in range(2):
        one = Spill(tmp_path / f"{number}.spill")
        for run in range(3):
            one.add_run([Residue(name, number, [bytes([run])], bytes(16)) for name in "abc"])
        files.append(one.written())
    found = [(residue.pseudonym, residue.container, residue.chunks[0][0]) for residue in merged(files)]
    assert found == [(name, number, run) for name in "abc" for number in range(2) for run in range(3)]
