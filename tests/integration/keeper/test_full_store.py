"""A store that is full to its last byte is emptied through itself: the keeper gives up its ballast first."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from doubles.servers.postgres import Server
from doubles.stores.hooked_store import HookedStore
from fix_nodes import NodeFolder
from fix_postgres import Database

from backupd.cli.main import main
from backupd.errors import StoreFullError
from backupd.model.ids import ObjectName
from backupd.repository.layout import ObjectKind, place_of
from backupd.store.ballast import SIZE, SMALLEST, BallastedStore, lay_ballast
from backupd.store.base import Space, put_document
from backupd.store.directory import DirectoryStore
from backupd.store.names import BALLAST


class SmallDisk:
    """The disk of a store's folder, which has room for so many bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.room = 1 << 40

    @property
    def used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have stores in the folder see this disk's room."""

        def space(store: DirectoryStore) -> Space | None:
            return Space(max(0, self.room - self.used), self.room) if store.root.is_relative_to(self.folder) else None

        monkeypatch.setattr(DirectoryStore, "space", space)


@pytest.fixture
def disk(
    pg17: Server,
    make_database: Callable[..., Database],
    node_of: Callable[..., NodeFolder],
    monkeypatch: pytest.MonkeyPatch,
) -> SmallDisk:
    """The disk of a node that is a keeper, too, after a backup; commands run in this process."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text, said text)",
        "INSERT INTO note SELECT g, 't' || g % 3, repeat(md5(g::text), 3) FROM generate_series(1, 300) g",
    )
    node = node_of(database)
    node.become_keeper()
    node.json("backup")
    disk = SmallDisk(node.folder / "disk")
    for name, value in node.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(node.folder)
    disk.limit(monkeypatch)
    return disk


def test_a_full_store_is_emptied_through_itself(disk: SmallDisk, capsys: pytest.CaptureFixture[str]) -> None:
    """Not a byte is free, and yet a tenant is erased and snapshots expire; with room the ballast comes back.

    What a run does not need of it comes back in any case: backups would use it, and the next run would have none.
    """
    ballast = disk.folder / "be" / BALLAST
    assert main(["expire", "be", "--yes"]) == 0
    assert ballast.stat().st_size == SIZE
    disk.room = disk.used
    assert main(["tenant", "erase", "be", "t1", "--yes", "--json"]) == 0, capsys.readouterr()
    answer = json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))
    assert answer["tenant"]["state"] == "cleared"
    assert not ballast.exists()
    for _ in range(3):
        disk.room = max(disk.used, disk.room - SIZE // 8)  # as a backup uses what is free
        assert main(["purge", "be", "--yes"]) == 0
        assert SMALLEST <= ballast.stat().st_size < SIZE
    disk.room = disk.used
    assert main(["expire", "be", "--yes"]) == 0
    disk.room = disk.used + 100 * SIZE
    assert main(["expire", "be", "--yes"]) == 0
    assert ballast.stat().st_size == SIZE


def test_it_is_given_up_once_and_only_where_there_is_no_room(tmp_path: Path) -> None:
    """Whatever is written: a second refusal is the store's own; and the ballast makes no room for itself."""
    inner = HookedStore(DirectoryStore(tmp_path / "be"))
    store, tried = BallastedStore(inner), list[str]()
    lay_ballast(store, os.urandom)
    assert place_of(BALLAST).kind is ObjectKind.BALLAST
    put_document(store, ObjectName("ledger/a"), b"there is room")
    assert inner.stat(BALLAST)

    def refuse(method: str, name: str) -> None:
        if method in ("put_new", "replace", "recompose"):
            tried.append(f"{method} {name}")
            raise StoreFullError("the store has no room")

    inner.before = refuse
    for _ in range(2):
        with pytest.raises(StoreFullError):
            put_document(store, ObjectName("ledger/b"), b"there is none")
    assert tried == ["put_new ledger/b"] * 3
    assert inner.stat(BALLAST) is None
    lay_ballast(store, os.urandom)
    assert tried[3:] == ["put_new ballast"] * 5  # ever less, and then none
