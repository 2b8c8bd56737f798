"""A backup whose objects are gone from the store makes a full copy that restores, and names the reason."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from doubles.servers.database_diff import contents
from doubles.servers.postgres import Server
from doubles.stores.hooked_store import HookedStore
from doubles.stores.segments import take_out
from fix_postgres import Database
from fix_regions import Region

from backupd.clock import SystemClock
from backupd.errors import DamageError
from backupd.model.ids import ObjectHash
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.backup import BackupReport
from backupd.repository.layout import place_of
from backupd.repository.repository import Repository
from backupd.store.sftp import open_sftp
from backupd.trace import Warned

BY_COLUMN = Tenancy(kind=TenancyKind.COLUMN, column="tenant")
ROWS = 3_000


@pytest.fixture
def database(pg17: Server, make_database: Callable[..., Database]) -> Database:
    """Six tenants."""
    made = make_database(pg17)
    made.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL, said text)",
        f"INSERT INTO note SELECT g, g % 6, md5(g::text) || md5((-g)::text) FROM generate_series(1, {ROWS}) g",
        "ANALYZE",
    )
    return made


@dataclass
class Kept:
    """A region, and where its store's objects lie on this machine."""

    region: Region
    root: Path

    def objects(self, folder: str) -> list[Path]:
        return sorted(path for path in (self.root / folder).rglob("*") if path.is_file())

    def copied(self, to: Path) -> Path:
        shutil.copytree(self.root, to, symlinks=True)
        return to

    def put_back(self, copy: Path) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(copy, self.root, symlinks=True)

    def warnings(self) -> list[str]:
        warned = (event.message for event in self.region.events.seen if isinstance(event, Warned))
        return [message for message in warned if "generation" in message]


@pytest.fixture(params=["directory", "sftp"])
def kept(request: pytest.FixtureRequest, region: Region) -> Iterator[Kept]:
    """The region on a directory, and the same behind a real SSH server."""
    region.tenancy = BY_COLUMN
    if request.param == "directory":
        hooked = HookedStore(region.store)
        region.store, region.repository = hooked, Repository(hooked, [region.node.signer.public])
        yield Kept(region, region.folder / "store" / "be")
        return
    account, target_of = request.getfixturevalue("sshd"), request.getfixturevalue("target_of")
    shutil.copytree(region.folder / "store" / "be", account.home / "be")
    store = HookedStore(open_sftp(target_of(account), SystemClock()))
    region.store, region.repository = store, Repository(store, [region.node.signer.public])
    yield Kept(region, account.home / "be")
    store.close()


@pytest.fixture
def equal(database: Database, restored: Callable[..., Database]) -> Callable[[BackupReport], None]:
    """Restore a snapshot completely and compare every row with the database's."""

    def check(report: BackupReport) -> None:
        copy = restored(database.server, snapshot=report.snapshot)
        assert contents(copy.server, copy.name, ordered=False) == contents(
            database.server, database.name, ordered=False
        )

    return check


def test_a_backup_after_a_keyring_was_lost_restores(
    kept: Kept, database: Database, equal: Callable[[BackupReport], None]
) -> None:
    """It is a full copy under keys of its own, reported as that, and the backup after it adds to it."""
    first = kept.region.backup(database)
    database.sql("INSERT INTO note SELECT g, 7, 'new' FROM generate_series(10001, 10050) g")
    second = kept.region.backup(database)
    keyrings = kept.objects("keyrings")
    assert len(keyrings) >= 2
    keyrings[0].unlink()
    kept.region.events.seen.clear()
    third = kept.region.backup(database)
    assert (first.generation, first.missing, second.missing) == (second.generation, 0, 0)
    assert (third.generation != second.generation, third.missing) == (True, 1)
    assert any("1 keyring" in message and second.generation in message for message in kept.warnings())
    equal(third)
    database.sql("UPDATE note SET said = 'changed' WHERE id = 17")
    kept.region.events.seen.clear()
    fourth = kept.region.backup(database)
    assert (fourth.generation, fourth.missing, kept.warnings()) == (third.generation, 0, [])
    equal(fourth)


@pytest.mark.parametrize("new_keys", [True, False], ids=["new-keys", "new-rows"])
def test_a_backup_after_the_store_was_put_back_restores(
    kept: Kept, database: Database, equal: Callable[[BackupReport], None], tmp_path: Path, new_keys: bool
) -> None:
    """The last two backups are gone from the store, whether they had made keys or only added rows."""
    kept.region.backup(database)
    copy = kept.copied(tmp_path / "copy")
    for number in (1, 2):
        tenant = 10 + number if new_keys else number
        database.sql(
            f"INSERT INTO note SELECT g, {tenant}, md5(g::text) FROM generate_series({number}0001, {number}0400) g"
        )
        last = kept.region.backup(database)
    kept.put_back(copy)
    database.sql("UPDATE note SET said = 'since' WHERE id = 100")
    report = kept.region.backup(database)
    assert report.generation != last.generation
    assert report.missing > 0
    equal(report)
    equal(kept.region.backup(database))


def test_a_backup_after_a_pack_was_lost_restores(
    kept: Kept, database: Database, equal: Callable[[BackupReport], None]
) -> None:
    """As with keyrings; an object that was cut short is as good as lost."""
    first = kept.region.backup(database)
    victim = max(kept.objects("packs"), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1])
    report = kept.region.backup(database)
    assert (report.generation != first.generation, report.missing) == (True, 1)
    equal(report)


@pytest.mark.parametrize("kept", ["directory"], indirect=True)
def test_a_backup_after_a_section_was_lost_restores(
    kept: Kept, database: Database, equal: Callable[[BackupReport], None]
) -> None:
    """Its pack is there, and whole by its map; no ledger says why it lacks the section."""
    first = kept.region.backup(database)
    victim = max(kept.objects("packs"), key=lambda path: path.stat().st_size)
    pack = kept.region.repository.pack(first.generation, ObjectHash(victim.stem))
    take_out(kept.region.store, pack, [len(pack.header.rows) - 1])
    report = kept.region.backup(database)
    assert (report.generation != first.generation, report.missing) == (True, 1)
    equal(report)


@pytest.mark.parametrize("folder", ["keyrings", "packs"])
def test_what_is_lost_while_a_backup_reads_gets_no_record(
    kept: Kept, database: Database, equal: Callable[[BackupReport], None], folder: str
) -> None:
    """No record refers to what is gone; the next backup is a full copy, and says so."""
    first = kept.region.backup(database)
    before = kept.region.repository.snapshots()
    victim, store = kept.objects(folder)[0], kept.region.store

    def lose(method: str, name: str) -> None:
        if method == "list" and name.startswith("packs/"):
            listings.append(name)
            if len(listings) == 2:
                victim.unlink()

    listings: list[str] = []
    database.sql("INSERT INTO note VALUES (10001, 9, 'new')")
    assert isinstance(store, HookedStore)
    store.before = lose
    with pytest.raises(DamageError, match="the store lacks"):
        kept.region.backup(database)
    store.before = lambda *_: None
    assert kept.region.repository.snapshots() == before
    report = kept.region.backup(database)
    assert report.generation != first.generation
    equal(report)


def test_a_backup_lists_the_store_twice_whatever_it_relies_on(kept: Kept, database: Database) -> None:
    """Keyrings are looked at by their folder, never one by one."""
    for tenant in range(10, 14):
        database.sql(f"INSERT INTO note VALUES ({tenant}0001, {tenant}, 'new')")
        kept.region.backup(database)
    assert len(kept.objects("keyrings")) >= 4
    store, calls = kept.region.store, list[tuple[str, str]]()
    assert isinstance(store, HookedStore)
    store.before = lambda method, name: calls.append((method, name))
    report = kept.region.backup(database)
    listed = [name for method, name in calls if method == "list" and name.startswith(("keyrings", "packs"))]
    assert sorted(listed) == sorted(2 * [f"keyrings/{report.generation}", f"packs/{report.generation}"])
    assert not [name for method, name in calls if method in ("stat", "get") and name.startswith("keyrings")]


def test_a_state_folder_put_back_from_the_middle_of_a_backup(
    kept: Kept, database: Database, equal: Callable[[BackupReport], None], tmp_path: Path
) -> None:
    """A machine's own snapshot, taken while a backup ran: what that backup published since counts as published."""
    region, store, copy = kept.region, kept.region.store, tmp_path / "state-copied"
    once = threading.Lock()

    def snapshot(method: str, name: str) -> None:
        if method == "put_new" and place_of(name).kind.value == "keyring" and once.acquire(blocking=False):
            shutil.copytree(region.node.state, copy)

    assert isinstance(store, HookedStore)
    store.before = snapshot
    region.backup(database)
    store.before = lambda *_: None
    assert copy.exists()
    for _ in range(2):
        shutil.rmtree(region.node.state)
        shutil.copytree(copy, region.node.state)
        database.sql("INSERT INTO note SELECT max(id) + 1, 20, 'new' FROM note")
        equal(region.backup(database))


def test_two_copies_of_one_state_go_on_by_themselves(
    kept: Kept, database: Database, equal: Callable[[BackupReport], None], tmp_path: Path
) -> None:
    """Both give the same numbers to sections of the same segments: each record names its own, and each restores."""
    region = kept.region
    region.backup(database)
    shutil.copytree(region.node.state, tmp_path / "state-copied")
    database.sql("UPDATE note SET said = 'here' WHERE tenant = 2")
    one = region.backup(database)
    equal(one)
    shutil.rmtree(region.node.state)
    shutil.copytree(tmp_path / "state-copied", region.node.state)
    database.sql("UPDATE note SET said = 'there' WHERE tenant = 2")
    other = region.backup(database)
    assert (one.generation, other.missing) == (other.generation, 0)
    equal(other)
