"""What the packer does with each chunk, however small the pieces in which a section's chunks come."""

from __future__ import annotations

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
from backupd.rows.packer import WORTHWHILE, Pack, Packer, PackerPorts, PackerSettings, RunKey, SectionJob
from backupd.seal.pack import PackContext
from backupd.seal.suite import Buffer
from backupd.seal.zstd import Compressor

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
