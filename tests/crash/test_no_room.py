"""No room: for a pack in the spool, for the index, on the store. Told as what it is, and over once there is room."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from doubles.servers.postgres import Server
from doubles.stores.hooked_store import HookedStore
from doubles.stores.snapshots import look
from fix_nodes import NodeFolder
from fix_postgres import Database
from fix_regions import Region

from backupd.errors import SpoolFullError, StoreFullError
from backupd.model.ids import GenerationId, ObjectHash, Pseudonym, RepositoryId
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.backup import read
from backupd.repository.repository import Repository
from backupd.repository.state.index import Generation, Index, NewSection

ROWS = 1060


@pytest.fixture
def heavy(pg17: Server, make_database: Callable[..., Database]) -> Database:
    """Six megabytes of one tenant that do not compress, and a few rows of others."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (tenant int, said text)",
        "INSERT INTO note SELECT 1, (SELECT string_agg(md5((g * 1000 + h)::text), '') FROM generate_series(1, 200) h) "
        "FROM generate_series(1, 1000) g",
        "INSERT INTO note SELECT g % 3, 'small' FROM generate_series(1, 60) g",
        "CREATE TABLE other (tenant int)",
    )
    return database


def limited(node: NodeFolder, kilobytes: int, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The program where no file may be larger, as on a disk that has no more room."""
    command = ["sh", "-c", f'ulimit -f {kilobytes * 2}; exec "$@"', "sh", *node.command(*arguments)]
    return subprocess.run(
        command, cwd=node.folder, env=node.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )


def test_a_full_spool_is_told_as_such(node_of: Callable[..., NodeFolder], heavy: Database) -> None:
    """Exit status 9, no record, nothing left in the spool; with room again the run completes."""
    node = node_of(heavy)
    done = limited(node, 1024, "backup", "--json")
    (backup,) = json.loads(done.stdout)["backups"]
    assert (done.returncode, backup["error"]["kind"]) == (9, "SpoolFull")
    assert "spool" in backup["error"]["message"]
    assert node.looks() == []
    assert [path for path in (node.node / "spool").rglob("*") if path.is_file()] == []
    (backup,) = node.json("backup")["backups"]
    assert backup["report"]["rows"] == ROWS


def test_a_full_store_ends_the_run_once(region: Region, heavy: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many objects wait to be shipped: none is tried after the first was refused, and the reading stops."""
    monkeypatch.setattr(read, "PACK_SIZE", 1 << 20)
    tried: list[str] = []

    def refuse(method: str, name: str) -> None:
        if method == "put_new":
            tried.append(name)
            raise StoreFullError("the store has no room")

    region.tenancy = Tenancy(kind=TenancyKind.COLUMN, column="tenant")
    region.node = replace(region.node, uploaders=1)
    usual = region.store
    region.store = HookedStore(usual, refuse)
    region.repository = Repository(region.store, [region.node.signer.public])
    with pytest.raises(StoreFullError):
        region.backup(heavy)
    assert len(tried) == 1
    region.repository = Repository(usual, [region.node.signer.public])
    found = look(region.repository, region.backup(heavy).snapshot, region.identity.secret)
    assert found.record.totals.rows == ROWS


@pytest.mark.parametrize("folder", ["keyrings", "packs", "snapshots"])
def test_a_spool_that_somebody_removes_is_told_as_such(
    region: Region, heavy: Database, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """In the middle of a run: an error with a name, or a snapshot that needs nothing of it; the next run completes."""
    monkeypatch.setattr(read, "PACK_SIZE", 1 << 20)
    usual, removed = region.store, []

    def remove(method: str, name: str) -> None:
        if method == "put_new" and name.startswith(folder) and not removed:
            shutil.rmtree(region.node.spool)
            removed.append(name)

    region.tenancy = Tenancy(kind=TenancyKind.COLUMN, column="tenant")
    region.node = replace(region.node, uploaders=1)
    region.store = HookedStore(usual, remove)
    region.repository = Repository(region.store, [region.node.signer.public])
    with contextlib.suppress(SpoolFullError):
        region.backup(heavy)
    assert removed
    found = look(region.repository, region.backup(heavy).snapshot, region.identity.secret)
    assert found.record.totals.rows == ROWS


def test_a_full_disk_under_the_index_is_told_as_such(tmp_path: Path) -> None:
    """What was committed stays, what was not is not there, and with room it goes on."""
    generation = Generation(GenerationId("g"), RepositoryId("r"), bytes(32), "now", frozenset())

    def fill(index: Index) -> None:
        for number in range(1, 2000):
            section = NewSection(Pseudonym("p"), number, 1, number.to_bytes(16, "big") * 20, b"")
            index.add_pack(ObjectHash(f"{number:064x}"), 1, [], [section])

    def fill_little() -> None:
        with Index.locked(tmp_path) as index:
            index.begin(generation)
            index._file.database.execute("PRAGMA max_page_count = 100")
            fill(index)

    with pytest.raises(SpoolFullError, match="index"):
        fill_little()
    with Index.locked(tmp_path) as index:
        assert index.generation() == generation
        last = index.last_number()
        assert 0 < last < 1999
        assert (
            set(index.sections(Pseudonym("p"), Pseudonym("p"))[Pseudonym("p")])
            == {pack.id for pack in index.packs().values()}
            == set(range(1, last + 1))
        )
        index.forget_segments([Pseudonym("p")])
        for pack in index.packs():
            index.forget_pack(pack)
        fill(index)
        assert index.last_number() == 1999
