"""Chunks of more segments than memory holds: wherever they end up, every span's runs lead to exactly its bytes."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupd.errors import SpoolFullError
from backupd.model.ids import (
    ClassTag,
    DatabaseTag,
    GenerationId,
    Pseudonym,
    RepositoryId,
    RunId,
    SegmentTags,
    TenantTag,
)
from backupd.rows import block_spool
from backupd.rows.block_spool import BlockSpool
from backupd.rows.dedup import Deduplicator, DedupSettings, OpenSpan, Segment
from backupd.rows.known_chunks import NothingKnown
from backupd.rows.packer import Pack, Packer, PackerPorts, PackerSettings, RunKey
from backupd.rows.protocol import unpack_span
from backupd.rows.segment_names import NamedSegment
from backupd.seal.pack import PackContext, PresenceMap, read_header
from backupd.seal.section_format import SectionContext
from backupd.seal.section_reader import SectionReader
from backupd.seal.zstd import Compressor

MARKER = b"Quillfeather & Sons"
CONTEXT = PackContext(RepositoryId("0" * 32), GenerationId("20260101T000000Z-00000000"))
TAGS = SegmentTags(TenantTag("1" * 32), ClassTag("2" * 16), DatabaseTag("3" * 16))
KEYRING = RunId("20260101T000000Z-00000001")
FIRST, STEP, PACK_SIZE = 101, 3, 9000


class Outcome(NamedTuple):
    packs: list[Pack]
    sections: dict[tuple[Pseudonym, int], tuple[list[bytes], bytes]]
    """Chunks and manifest of each section."""
    spans: dict[str, tuple[bytes, list[int]]]
    """What was put in, and its runs."""


class Bench:
    """A deduplicator and its packer, without a parent."""

    def __init__(self, folder: Path, pending: int = 4000, room: int = 1 << 30) -> None:
        self._keys: dict[Pseudonym, RunKey] = {}
        self._packs: list[Pack] = []
        ports = PackerPorts(self._place, self._packs.append)
        self._packer = Packer(PackerSettings(CONTEXT, folder, 0, PACK_SIZE), Compressor(1), ports)
        made = DedupSettings(bytes(32), FIRST, STEP, pending, room)
        self.dedup = Deduplicator(made, NothingKnown(), self._packer)
        self.spans: dict[int, OpenSpan] = {}
        self.put: defaultdict[int, bytes] = defaultdict(bytes)
        self.blocks: list[int] = []
        """The number of blocks of each section, once they are opened."""

    def _place(self, keys: list[RunKey]) -> None:
        for key in keys:
            assert self._keys.setdefault(key.pseudonym, key) is key, "a key was given two places"
            key.keyring, key.place = KEYRING, len(self._keys)

    def take(self, number: int, chunk: bytes) -> None:
        if number not in self.spans:
            names = NamedSegment(Pseudonym(f"{number:032x}"), TAGS)
            self.spans[number] = OpenSpan(Segment("uploaded", None, names))
        self.dedup.take(self.spans[number], chunk, 0)
        self.put[number] += chunk

    def end(self, manifests: dict[int, bytes]) -> Outcome:
        jobs = [job for n, text in manifests.items() for job in self.dedup.close_section(self.spans[n].segment, text)]
        self.dedup.pass_on(jobs)
        self.dedup.close()
        spans = {f"{n:032x}": (self.put[n], list(unpack_span(span.close()[1]).runs)) for n, span in self.spans.items()}
        sections = dict(found for pack in self._packs for found in self._opened(pack))
        return Outcome(self._packs, sections, spans)

    def _opened(self, pack: Pack) -> list[tuple[tuple[Pseudonym, int], tuple[list[bytes], bytes]]]:
        data = pack.path.read_bytes()
        header = read_header(data, "a pack")
        there = PresenceMap.read(header, data[len(header.raw) :][: header.map_size], "a pack")
        assert (header.sha256, len(data), there.pack_size) == (pack.name, pack.size, pack.size)
        found = []
        for place, (row, said) in enumerate(zip(header.rows, pack.sections, strict=True)):
            section = data[there.offsets[place] : there.offsets[place + 1]]
            key = self._keys[row.segment]
            assert (row.segment, row.number, row.length) == said[:3]
            assert (row.keyring, row.place) == (key.keyring, key.place)
            context = SectionContext(*vars_of(CONTEXT), row.segment, row.number)
            reader = SectionReader(sliced(section), len(section), key=key.key, context=context, where="it")
            assert len(said.ids) == 16 * reader.chunks
            self.blocks.append(len(reader.blocks))
            manifest = b"".join(reader.manifest())
            assert said.manifest == bool(manifest)
            found.append(((row.segment, row.number), (chunks_of(reader), manifest)))
        return found


def sliced(data: bytes) -> Callable[[int, int], bytes]:
    return lambda at, size: data[at : at + size]


def vars_of(context: PackContext) -> tuple[RepositoryId, GenerationId]:
    return context.repository, context.generation


def chunks_of(reader: SectionReader) -> list[bytes]:
    chunks = []
    for index, block in enumerate(reader.blocks):
        content, at = reader.open_block(index), 0
        for length in block.chunk_lengths:
            chunks.append(content[at : at + length])
            at += length
    return chunks


def assert_exact(outcome: Outcome) -> None:
    assert len(outcome.sections) == sum(len(pack.sections) for pack in outcome.packs), "a number was given twice"
    assert all((number - FIRST) % STEP == 0 for _, number in outcome.sections)
    for pseudonym, (put, runs) in outcome.spans.items():
        back = []
        for section, first, count in zip(runs[::3], runs[1::3], runs[2::3], strict=True):
            back += outcome.sections[Pseudonym(pseudonym), section][0][first : first + count]
        assert b"".join(back) == put


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything a thousandth of its size."""
    monkeypatch.setattr("backupd.rows.dedup.BLOCK_SIZE", 1500)
    monkeypatch.setattr("backupd.rows.dedup.SMALLEST_SECTION", 1200)
    monkeypatch.setattr("backupd.rows.dedup.LARGEST_SECTION", 9000)
    monkeypatch.setattr("backupd.rows.dedup.OPEN_SECTIONS", 40_000)
    monkeypatch.setattr("backupd.rows.dedup.MANIFEST_PIECE", 700)
    monkeypatch.setattr("backupd.rows.packer.WORTHWHILE", 600)
    monkeypatch.setattr(block_spool, "FILE_SIZE", 5000)


@pytest.mark.usefixtures("small")
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1 << 30), count=st.integers(1, 30), skew=st.floats(1, 4), room=st.sampled_from([7000, 1 << 20])
)
def test_every_run_leads_to_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, skew: float, room: int
) -> None:
    """Few and many segments, even and skewed, with a spool that suffices and one that is full again and again."""
    dice = random.Random(seed)
    folder = tmp_path_factory.mktemp("spool")
    bench = Bench(folder, room=room)
    for _ in range(400):
        bench.take(int(count * dice.random() ** skew), dice.randbytes(dice.randint(1, 500)))
    manifests = {n: dice.randbytes(dice.choice([1, 300, 2000])) for n in bench.spans if dice.random() < 0.7}
    outcome = bench.end(manifests)
    assert_exact(outcome)
    found = {segment: text for (segment, _), (_, text) in outcome.sections.items() if text}
    assert found == {f"{n:032x}": text for n, text in manifests.items()}
    assert {path.suffix for path in folder.iterdir()} <= {".pack"}, "blocks were left in the spool"


@pytest.mark.usefixtures("small")
def test_small_additions_are_compressed_together(tmp_path: Path) -> None:
    """Forty segments, of which memory holds a few bytes each: their blocks are as large as they are worth it."""
    bench = Bench(tmp_path, pending=400, room=1 << 20)
    for turn in range(20):
        for number in range(40):
            bench.take(number, bytes([number, turn]) * 25)
    outcome = bench.end({})
    assert_exact(outcome)
    assert bench.blocks == [2] * 40


@pytest.mark.usefixtures("small")
def test_a_small_segment_has_one_section(tmp_path: Path) -> None:
    """However often memory is full, and though it then is sealed in several blocks."""
    bench = Bench(tmp_path, room=1 << 20)
    for turn in range(20):
        for number in range(40):
            bench.take(number, bytes([number, turn]) * 15)
    outcome = bench.end({})
    assert_exact(outcome)
    assert len(outcome.sections) == 40


@pytest.mark.usefixtures("small")
def test_a_large_segment_is_shipped_while_it_is_read(tmp_path: Path) -> None:
    """Packs are finished long before the end, and hold no more than they should."""
    bench = Bench(tmp_path)
    dice = random.Random(1)
    for _ in range(300):
        bench.take(1, dice.randbytes(400))
    outcome = bench.end({1: b"m"})
    assert_exact(outcome)
    assert len(outcome.packs) > 4
    assert all(pack.size < 3 * PACK_SIZE for pack in outcome.packs)


@pytest.mark.usefixtures("small")
def test_the_spool_holds_no_plain_bytes(tmp_path: Path) -> None:
    """A word that stands in every chunk is in no file, nor is a tenant's name or a key."""
    bench = Bench(tmp_path)
    for n in range(250):
        bench.take(n % 9, MARKER + bytes([n]))
    packs = bench.end({1: MARKER}).packs
    keys = [key.key for key in bench._keys.values()]
    for path in [pack.path for pack in packs]:
        data = path.read_bytes()
        assert MARKER not in data
        assert not any(key in data for key in keys)


def test_a_spools_files_go_when_all_in_them_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any order; a file that is still written to goes when the next one is begun."""
    monkeypatch.setattr(block_spool, "FILE_SIZE", 100)
    spool = BlockSpool(tmp_path, "0")
    extents = [spool.append(bytes([n]) * 40) for n in range(9)]
    assert len(list(tmp_path.iterdir())) == 3
    for n in (2, 0, 1):
        assert spool.take(extents[n]) == bytes([n]) * 40
    assert len(list(tmp_path.iterdir())) == 2
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_spool_that_was_cut_short_is_noticed(tmp_path: Path) -> None:
    """By whoever wanted the bytes."""
    spool = BlockSpool(tmp_path, "0")
    extent = spool.append(b"x" * 100)
    next(tmp_path.iterdir()).write_bytes(b"x" * 10)
    with pytest.raises(SpoolFullError, match="cut short"):
        spool.take(extent)
    spool.close()
