"""What is too little for a block waits in the spool: sealed, in order, and not for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.errors import DamageError, SpoolFullError
from backupd.rows import block_spool
from backupd.rows.loose_chunks import Loose, LooseChunks


def test_chunks_come_back_in_their_order(tmp_path: Path) -> None:
    loose_chunks, sections = LooseChunks(tmp_path, "0-loose"), [Loose() for _ in range(7)]
    put: list[list[bytes]] = [[] for _ in sections]
    for turn in range(30):
        for number, section in enumerate(sections):
            chunks = [bytes([turn, number, n]) * (n + 1) for n in range(turn % 3 + 1)]
            loose_chunks.add(section, chunks, sum(map(len, chunks)))
            put[number] += chunks
    for section, wanted in zip(sections, put, strict=True):
        assert section.size == sum(map(len, wanted))
        assert [bytes(chunk) for chunk in loose_chunks.take(section)] == wanted
    loose_chunks.close()
    assert [*tmp_path.iterdir()] == []


def test_no_row_lies_on_the_disk_as_it_is(tmp_path: Path) -> None:
    loose_chunks, section = LooseChunks(tmp_path, "0-loose"), Loose()
    loose_chunks.add(section, [b"acme\tsecret\n" * 20], 240)
    (file,) = tmp_path.iterdir()
    assert b"secret" not in file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0


def test_file_is_gone_when_all_in_it_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_spool, "FILE_SIZE", 1000)
    loose_chunks, sections = LooseChunks(tmp_path, "0-loose"), [Loose() for _ in range(40)]
    for section in sections:
        loose_chunks.add(section, [bytes(100)], 100)
    assert len([*tmp_path.iterdir()]) > 3
    for section in sections:
        loose_chunks.take(section)
    assert len([*tmp_path.iterdir()]) <= 1


def test_altered_spool_is_damage(tmp_path: Path) -> None:
    loose_chunks, section = LooseChunks(tmp_path, "0-loose"), Loose()
    loose_chunks.add(section, [b"a row\n"], 6)
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamageError, match="spool was altered"):
        loose_chunks.take(section)


def test_spool_that_was_cut_short_is_named(tmp_path: Path) -> None:
    loose_chunks, section = LooseChunks(tmp_path, "0-loose"), Loose()
    loose_chunks.add(section, [b"a row\n"], 6)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"")
    with pytest.raises(SpoolFullError, match="cut short"):
        loose_chunks.take(section)
