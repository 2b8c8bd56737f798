"""What the packer does with each chunk, and in how little memory tens of thousands of sections wait."""

from __future__ import annotations

import gc
import os
import random
from pathlib import Path

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
from backupd.rows.packer import MOST_ROWS, WORTHWHILE, Pack, Packer, PackerPorts, PackerSettings, RunKey, SectionJob
from backupd.seal.pack import PackContext
from backupd.seal.section_writer import SectionWriter
from backupd.seal.suite import Buffer
from backupd.seal.zstd import Compressor

NUMBER = 40
RUN = RunId("20300101T000000Z-0a0b0c0d")
CONTEXT = PackContext(RepositoryId("0f" * 16), GenerationId(RUN))
TAGS = SegmentTags(TenantTag("1" * 32), ClassTag("2" * 16), DatabaseTag("3" * 16))


class NotingCompressor(Compressor):
    """One that remembers what it was given."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.given: list[bytes] = []

    def compress(self, data: Buffer) -> bytes:
        self.given.append(bytes(data))
        return super().compress(data)


def place(keys: list[RunKey]) -> None:
    for at, key in enumerate(keys):
        key.keyring, key.place = RUN, at


def job(number: int, *, last: bool) -> SectionJob:
    key = RunKey(Pseudonym(f"{number:032x}"), TAGS, "uploaded", "Quillfeather & Sons", number.to_bytes(32))
    return SectionJob(key, 1, [] if last else [b"one row\n"], b"" if last else os.urandom(16), b"", last)


def writers() -> int:
    """Each has a cipher and a digest of its own, two kilobytes outside of what Python counts."""
    gc.collect()
    return sum(isinstance(one, SectionWriter) for one in gc.get_objects())


def test_a_section_takes_a_writer_only_while_it_is_sealed(tmp_path: Path) -> None:
    """Neither before there is enough to seal, nor while it waits for its pack, which then has all of them."""
    packs: list[Pack] = []
    packer = Packer(PackerSettings(CONTEXT, tmp_path, 0, 1 << 30), Compressor(1), PackerPorts(place, packs.append))
    before = writers()
    packer.add([job(number, last=False) for number in range(NUMBER)])
    assert writers() == before
    packer.add([job(number, last=True) for number in range(NUMBER)])
    assert writers() == before
    packer.close()
    (pack,) = packs
    assert [section.pseudonym for section in pack.sections] == [f"{number:032x}" for number in range(NUMBER)]
    assert pack.size == pack.path.stat().st_size


def test_a_pack_is_made_before_the_sections_that_wait_take_much_memory(tmp_path: Path) -> None:
    """However small they are: each takes 1.6 KB here, and as much in the parent once it hears of the pack."""
    assert MOST_ROWS <= 8192
    packs: list[Pack] = []
    packer = Packer(PackerSettings(CONTEXT, tmp_path, 0, 1 << 30), Compressor(1), PackerPorts(place, packs.append))
    for number in range(MOST_ROWS):
        assert not packs
        packer.add([job(number, last=False), job(number, last=True)])
    assert [len(pack.sections) for pack in packs] == [MOST_ROWS]
    packer.close()


def test_nothing_is_compressed_twice(tmp_path: Path) -> None:
    """Small pieces wait as they came, and every chunk goes through the compressor once, in its section's order."""
    choice = random.Random(7)
    keys = [RunKey(Pseudonym(f"{n:032x}"), TAGS, "uploaded", "Quillfeather & Sons", bytes([n]) * 32) for n in range(30)]
    chunks: dict[int, list[bytes]] = {number: [] for number in range(len(keys))}
    jobs = []
    for turn in range(6):
        for number, key in enumerate(keys):
            piece = [b"%d of %d\n" % (turn, number) * choice.choice([1, 50, WORTHWHILE // 4])]
            chunks[number] += piece
            jobs.append(SectionJob(key, 1, piece, bytes(16), b"", last=False))
    jobs += [SectionJob(key, 1, [], b"", b"the manifest", last=True) for key in keys]
    packs: list[Pack] = []
    compressor = NotingCompressor(1)
    packer = Packer(PackerSettings(CONTEXT, tmp_path, 0, 1 << 30), compressor, PackerPorts(place, packs.append))

    packer.add(jobs)
    packer.close()

    for number, pieces in chunks.items():
        given = b"".join(one for one in compressor.given if b" of %d\n" % number in one)
        assert given.removesuffix(b"the manifest") == b"".join(pieces)
    size = sum(len(b"".join(pieces)) + len(b"the manifest") for pieces in chunks.values())
    assert sum(map(len, compressor.given)) == size
    assert sum(len(pack.sections) for pack in packs) == len(keys)
