"""The uploader says that it still waits, and for how much, while a store takes its time."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from doubles.stores.hooked_store import HookedStore

from backupd.model.ids import ObjectHash, ObjectName
from backupd.repository.uploader import Upload, Uploader
from backupd.store.directory import DirectoryStore


def test_what_is_left_can_be_asked_for_while_it_is_published(directory_store: DirectoryStore) -> None:
    """A store that takes nothing until somebody has heard of it: nobody would without being told."""
    heard = threading.Event()
    left: list[int] = []

    def before(method: str, _name: str) -> None:
        if method == "put_new":
            assert heard.wait(60)

    data = b"x" * 1000
    with Uploader(HookedStore(directory_store, before), 1) as uploader:
        for number in range(2):
            name = ObjectName(f"packs/20260301T000000Z-00000000/{number:064x}.pack")
            sha256 = ObjectHash(hashlib.sha256(data).hexdigest())
            uploader.submit(Upload(name, data, sha256, len(data), lambda: None))

        def hear() -> None:
            left.append(uploader.spooled)
            heard.set()

        uploader.drain(hear)

    assert left[0] == 2000
    assert uploader.spooled == 0
    assert uploader.objects == 2
    assert len(list(Path(directory_store.root).rglob("*.pack"))) == 2
