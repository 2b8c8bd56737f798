"""A restore puts contents away in an encrypted temporary file that has no name."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from backupd.errors import DamageError, SpoolFullError
from backupd.operations.restore.contents import SealedTempFile

MARKER = b"Quillfeather & Sons "


def test_everything_comes_back() -> None:
    """Of any size, in any order, to many threads at once."""
    attic = SealedTempFile()
    data = [os.urandom(size) for size in (0, 1, 255, 256, 257, 5000, 3_000_000)] * 3
    kept = [attic.put(one) for one in data]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda bring: bring(), reversed(kept))) == data[::-1]
    attic.close()


def test_the_file_is_sealed_and_has_no_name() -> None:
    """Nothing of it is left when the process is killed, and nobody reads it before."""
    attic = SealedTempFile()
    bring = attic.put(MARKER * 100)
    file = attic._file.fileno()
    assert os.fstat(file).st_nlink == 0
    data = os.pread(file, 10_000, 0)
    assert data
    assert MARKER not in data
    os.pwrite(file, bytes([data[50] ^ 1]), 50)
    with pytest.raises(DamageError, match="altered"):
        bring()
    attic.close()


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do about it."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    attic = SealedTempFile()
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(SpoolFullError, match="temporary files"):
        attic.put(MARKER * 100)
    attic.close()
