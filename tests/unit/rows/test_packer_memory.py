"""Tens of thousands of sections wait for their pack, each in little memory."""

from __future__ import annotations

import gc
import os
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
from backupd.rows.packer import MOST_ROWS, Pack, Packer, PackerPorts, PackerSettings, RunKey, SectionJob
from backupd.seal.pack import PackContext
from backupd.seal.section_writer import SectionWriter
from backupd.seal.zstd import Compressor

NUMBER = 40
RUN = RunId("20300101T000000Z-0a0b0c0d")
CONTEXT = PackContext(RepositoryId("0f" * 16), GenerationId(RUN))
TAGS = SegmentTags(TenantTag("1" * 32), ClassTag("2" * 16), DatabaseTag("3" * 16))


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
