"""Many keyrings take little memory, and open as they would otherwise."""

from __future__ import annotations

import gc
import os
import threading
import tracemalloc
from pathlib import Path

import pytest
from doubles.stores.hooked_store import HookedStore
from doubles.stores.small_repository import Content, Rows, SmallRepository

from backupd.errors import BackupdError
from backupd.model.ids import (
    ClassTag,
    DatabaseTag,
    GenerationId,
    Pseudonym,
    RegionName,
    RepositoryId,
    RunId,
    SegmentTags,
    TenantTag,
)
from backupd.model.tenancy import SegmentName
from backupd.repository.keyring_shelf import KeyringShelf
from backupd.repository.repository import Repository
from backupd.seal import suite
from backupd.seal.documents import Signer
from backupd.seal.keyring import Keyring, KeyringIds, KeyringWriter, parse_keyring
from backupd.store.directory import DirectoryStore

RUN = "20300101T000000Z-0a0b0c0d"
IDS = KeyringIds(RepositoryId("0f" * 16), RegionName("be"), GenerationId(RUN), RunId(RUN))
ME, SIGNER = suite.generate(), Signer(bytes(range(32)))
NUMBER = 300
TAGS = SegmentTags(TenantTag("ab" * 16), ClassTag("c1" * 8), DatabaseTag("db" * 8))


@pytest.fixture(scope="module")
def data() -> bytes:
    writer = KeyringWriter(IDS, [ME.public])
    for at in range(NUMBER):
        name = SegmentName("app", "uploaded", f"tenant {at}")
        writer.add(Pseudonym(f"{at:032x}"), at.to_bytes(32, "big"), name, TAGS)
    return writer.render("2030-01-01T00:00:00.000000Z", SIGNER)


def parsed(data: bytes) -> Keyring:
    return parse_keyring(data, [SIGNER.public], "it")


def test_a_keyring_on_the_shelf_is_the_same(data: bytes) -> None:
    """Every segment, tag and key, wherever it lies, also with several in one file."""
    keyring, shelf = parsed(data), KeyringShelf(keyring_size := parsed(data).size)
    kept = [shelf.take(parsed(data)) for _ in range(3)]
    assert keyring_size > 100 * NUMBER
    assert [one == keyring for one in kept] == [True] * 3
    for one in kept:
        assert list(one.index) == list(keyring.index)
        assert dict(one.sealed) == dict(keyring.sealed)
        assert one.open(ME.secret).key(NUMBER - 1).key == (NUMBER - 1).to_bytes(32, "big")


def test_a_hundred_keyrings_take_little_memory(data: bytes) -> None:
    """A few bytes for a line, where in memory it takes a hundred and sixty."""
    shelf, kept = KeyringShelf(0), list[Keyring]()
    shelf.take(parsed(data))
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(100):
            kept.append(shelf.take(parsed(data)))
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 20 * 100 * NUMBER
    assert len(kept[-1].sealed) == NUMBER


def test_without_room_for_files_keyrings_stay_in_memory(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk for temporary files ends no restore."""

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    assert KeyringShelf(0).take(parsed(data)).open(ME.secret).key(7).key == (7).to_bytes(32, "big")


def test_a_file_that_cannot_be_read_is_told(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do, and not as an error of the program."""

    def refuse(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    keyring = KeyringShelf(0).take(parsed(data))
    monkeypatch.setattr(os, "pread", refuse)
    with pytest.raises(BackupdError, match="temporary file cannot be read: Input/output error") as told:
        keyring.open(ME.secret).key(0)
    assert "TMPDIR" in told.value.hint


def test_the_file_is_gone_with_its_keyrings(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No name of it is ever left, and no descriptor stays open."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gc.collect()  # of other tests' files
    before = len(list(Path("/proc/self/fd").iterdir()))
    shelf = KeyringShelf(0)
    keyring = shelf.take(parsed(data))
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 1
    del shelf
    assert keyring.index[0][0] == "0" * 32
    del keyring
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_keyrings_of_a_generation_are_asked_for_together(directory_store: DirectoryStore) -> None:
    """One after another, a month of hourly runs would take a minute on a store that answers in 100 ms."""
    small, both = SmallRepository(directory_store), threading.Barrier(2)
    for row in (b"1\n", b"2\n"):
        small.snapshot({SegmentName("app", "uploaded", None): Content((Rows("public", "t", ("id",), (row,)),))})

    class Meeting(HookedStore):
        def get(self, name, offset=0, length=None):
            if name.startswith("keyrings/"):
                both.wait(timeout=20)
            return super().get(name, offset, length)

    repository = Repository(Meeting(small.store), [small.signer.public])
    assert len(repository.keyrings(small.generation)) == 2
