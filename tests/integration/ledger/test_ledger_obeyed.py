"""Readers obey the ledger: what was purged does not come back, and what the ledger does not explain is missed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from doubles.servers.postgres import Server
from fix_clock import TickingClock
from fix_keeper import DAY, KeeperRegion, ruled
from fix_postgres import Database, unique
from fix_recover import Recover
from fix_regions import Events

from backupd.clock import SystemClock
from backupd.errors import DamageError, RefusedError, StoreGoneError, UsageError
from backupd.model.ids import SnapshotName
from backupd.model.ledger import Restored
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.expiry.run import Expiry
from backupd.operations.restore import RestoreEnvironment, RestoreReport, RestoreRequest, restore
from backupd.operations.verify import Scope, Tools, Verification, note_proven, verify
from backupd.planning import lifecycle
from backupd.planning.ledger_facts import proven_on
from backupd.planning.lifecycle import ClockDates
from backupd.planning.retention import RetentionPolicy
from backupd.planning.verify import parse_share
from backupd.repository.ledger import list_entries
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.repository.state.keyring_cache import KeyringCache
from backupd.seal.keyfiles import write_identity
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore
from backupd.trace import Warned

BY_COLUMN = Tenancy(kind=TenancyKind.COLUMN, column="tenant")
TENANTS = [str(number) for number in range(5)]


class Reading:
    """A keeper's region with five tenants of twenty notes each, backed up once."""

    def __init__(self, keeper_region: KeeperRegion, crowd: Database, folder: Path) -> None:
        self.keeper_region, self.crowd, self.folder = keeper_region, crowd, folder
        self.region = keeper_region.region
        self.region.tenancy = BY_COLUMN
        self.events = Events()
        self.snapshot = self.region.backup(crowd).snapshot

    def purge(self, tenant: str) -> None:
        keeper_region, now = self.keeper_region, self.keeper_region.clock.now()
        keeper_region.book.append(
            lambda states: lifecycle.erase(states, keeper_region.tenant(tenant), ClockDates(now, now + 3 * DAY, now))
        )
        keeper_region.purge(keeper_region.incarnation(tenant))

    def copy(self, name: str) -> Path:
        """All that is on the store now."""
        return Path(shutil.copytree(self.region.folder / "store" / "be", self.folder / name))

    def repository(self, root: Path | None = None) -> Repository:
        store = self.region.store if root is None else DirectoryStore(root)
        return Repository(store, self.region.repository.signers, self.region.repository.keepers)

    def verify(self, root: Path | None = None, share: str = "all", *, opened: bool = True) -> Verification:
        identity = self.region.identity.secret if opened else None
        with CheckedState(self.folder / f"checked-{root.name if root else ''}.sqlite") as checked:
            tools = Tools(TickingClock(), self.folder, threads=2, store="disk")
            return verify(self.repository(root), checked, Scope(parse_share(share), identity), tools)

    @contextmanager
    def restored(
        self, root: Path | None = None, own: Store | None = None, **changes: Any
    ) -> Iterator[tuple[RestoreReport, Database]]:
        server = self.crowd.server
        database = Database(server, unique("obeyed"))
        world = RestoreEnvironment(self.region.identity.secret, SystemClock(), self.events, os.urandom, "disk", own)
        world = replace(world, **{key: changes.pop(key) for key in ("note",) if key in changes})
        request = RestoreRequest("app", "latest", self.region.source(server), database.name, jobs=2)
        try:
            yield restore(replace(request, **changes), self.repository(root), world), database
        finally:
            server.drop_database(database.name)

    def recovered(self, recover: Recover, root: Path, *more: object) -> tuple[int, str, set[str]]:
        """Exit status, what it said, and the tenants it wrote."""
        key, secret, out = self.folder / "id", self.folder / "pass", self.folder / unique("out")
        if not key.exists():
            write_identity(key, "ops", self.region.identity, "pass")
            secret.write_text("pass\n")
        keeper = "--keeper", self.keeper_region.keeper.signer.public
        result = recover(root, "--identity", key, "--passphrase-file", secret, "--out", out, *keeper, *more)
        return result.returncode, result.stderr, {path.name.split("-")[2] for path in out.glob("app/tenant-*")}


NOTES = "SELECT tenant::text, count(*), md5(string_agg(id || said, ',' ORDER BY id)) FROM note GROUP BY 1 ORDER BY 1"


def notes(database: Database) -> dict[str, tuple[int, str]]:
    return {tenant: (number, digest) for tenant, number, digest in database.sql(NOTES)}


@pytest.fixture
def reading(
    keeper_region: KeeperRegion, pg17: Server, make_database: Callable[..., Database], tmp_path: Path
) -> Reading:
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL, said text)",
        "INSERT INTO note SELECT g, g % 5, md5(g::text) FROM generate_series(1, 100) g",
        "ANALYZE",
    )
    return Reading(keeper_region, database, tmp_path)


def test_a_purge_is_kept_by_all_readers_of_an_old_copy(reading: Reading, recover: Recover) -> None:
    """A full copy from before the purge, with all keys and bytes, and today's ledger: one tenant is absent, and the
    others' rows are equal."""
    old = reading.copy("old")
    assert reading.verify(old).clean
    reading.purge("3")
    now = reading.copy("now")
    shutil.copytree(now / "ledger", old / "ledger", dirs_exist_ok=True)
    source = notes(reading.crowd)
    others = {tenant: said for tenant, said in source.items() if tenant != "3"}
    for root, unpurged in ((now, 0), (old, 1)):
        found = reading.verify(root)
        assert (len(found.findings), found.purged, found.unpurged) == (unpurged, 1, unpurged)
        assert all("an older copy was put back" in finding.message for finding in found.findings)
        assert found.proven == (reading.snapshot,)
        with reading.restored(root) as (report, database):
            assert notes(database) == others
            assert (report.purged, report.aged, report.exact, report.rows) == (1, 0, False, 80)
            assert not report.noted
        status, told, tenants = reading.recovered(recover, root)
        assert (status, tenants) == (0, set(TENANTS) - {"3"}), told
        assert "left out, as purged: 1 segment" in told


def test_the_same_removal_without_the_ledger_is_damage_to_all_readers(reading: Reading, recover: Recover) -> None:
    """The positive control: keys and objects gone, and no entry that says why."""
    reading.purge("3")
    root = reading.copy("robbed")
    shutil.rmtree(root / "ledger")
    found = reading.verify(root)
    assert found.findings
    (segment,) = {finding.segment for finding in found.findings}
    with pytest.raises(DamageError, match=f"of segment {segment} is missing") as damage, reading.restored(root):
        pass
    assert damage.value.exit_code == 7
    status, told, _ = reading.recovered(recover, root)
    assert (status, f"{segment}" in told) == (7, True)
    status, _, tenants = reading.recovered(recover, root, "--keep-going")
    assert (status, tenants) == (7, set(TENANTS) - {"3"})


def test_a_tenant_that_returned_is_restored(reading: Reading, recover: Recover) -> None:
    """Its new incarnation's segments are others, whatever the ledger says of the old ones'."""
    reading.purge("3")
    reading.keeper_region.book.append(lambda states: lifecycle.resubscribe(states, reading.keeper_region.tenant("3")))
    reading.region.backup(reading.crowd)
    assert reading.verify().clean
    with reading.restored() as (report, database):
        assert notes(database) == notes(reading.crowd)
        assert (report.purged, report.exact) == (0, True)
    with reading.restored(snapshot=reading.snapshot) as (report, database):
        assert notes(database).keys() == set(TENANTS) - {"3"}
    assert reading.recovered(recover, reading.copy("now"))[2] == set(TENANTS)


def test_a_ledger_behind_the_snapshot_stops_it(reading: Reading, recover: Recover) -> None:
    """Entries were cut off that the record's writer saw: what they purged would come back."""
    old = reading.copy("old")
    reading.purge("3")
    time.sleep(1.05)  # `latest` goes by the second of a snapshot's name
    reading.region.backup(reading.crowd)
    now = reading.copy("now")
    for entry in sorted((now / "ledger").iterdir())[1:]:
        entry.unlink()
    found = reading.verify(now)
    assert any("the ledger ends at entry 1, but" in finding.message for finding in found.findings)
    with pytest.raises(DamageError, match="the ledger ends at entry 1, but") as damage, reading.restored(now):
        pass
    assert damage.value.hint
    status, told, tenants = reading.recovered(recover, now)
    assert (status, tenants, "--ignore-ledger" in told) == (7, set(), True)
    assert reading.recovered(recover, now, "--ignore-ledger")[0] == 0
    # The copy from before knows of nothing, and no record of its own knows better: only this machine does.
    with reading.restored(old) as (report, _):
        assert report.purged == 0
    own = DirectoryStore(reading.folder / "keeper-ledger")
    assert list_entries(own)
    with reading.restored(old, own) as (report, _):
        assert report.purged == 1, "what this machine knows is followed, though the store does not"


def test_what_is_purged_entirely_is_refused(reading: Reading) -> None:
    """A database of the purged tenant alone leaves nothing to restore, and that is no damage."""
    region, keeper_region = reading.region, reading.keeper_region
    region.label = "hosted"
    region.tenancy = Tenancy(kind=TenancyKind.DATABASE, database_pattern="(?P<tenant>.+)")
    snapshot = region.backup(reading.crowd, label="hosted", tenancy=region.tenancy).snapshot
    now = keeper_region.clock.now()
    tenant = keeper_region.tenant(reading.crowd.name)
    keeper_region.book.append(lambda states: lifecycle.erase(states, tenant, ClockDates(now, now + 3 * DAY, now)))
    keeper_region.purge(keeper_region.incarnation(reading.crowd.name))
    assert reading.verify().clean
    with pytest.raises(RefusedError, match="everything in snapshot"):
        reading.restored(label="hosted", snapshot=snapshot).__enter__()
    with pytest.raises(UsageError, match="fits"):
        reading.restored(label="hosted", member=reading.crowd.name).__enter__()


def expire(reading: Reading, **rules: Any) -> None:
    """Three days on, a keeper keeps the newest snapshot of each day."""
    keeper_region = reading.keeper_region
    keeper_region.clock.by = 3 * DAY
    policy = RetentionPolicy(keep_within=timedelta(), daily=9, weekly=0, monthly=0, max_age=90 * DAY, keep_minimum=1)
    ruled(keeper_region, retention=policy, clock_tolerance=30 * DAY, **rules)
    keeper = keeper_region.keeper
    with KeyringCache.opened(keeper.cache_path("disk"), keeper.repository, keeper.tags) as census:
        expiry = Expiry(keeper, "disk", census)
        expiry.execute(expiry.plan())


def test_an_expiry_is_no_damage(reading: Reading, recover: Recover) -> None:
    """The snapshot is gone, the next one is whole; without the ledger it is missed."""
    reading.crowd.sql("UPDATE note SET said = 'new' WHERE tenant = 1")
    second = reading.region.backup(reading.crowd).snapshot
    assert len(reading.verify().proven) == 2
    before = reading.copy("before")
    expire(reading)
    assert reading.repository().snapshots() == [second]
    found = reading.verify()
    assert (found.findings, found.proven) == ((), (second,))
    with reading.restored() as (report, database):
        assert notes(database) == notes(reading.crowd)
        assert report.exact
    root = reading.copy("now")
    assert reading.recovered(recover, root)[2] == set(TENANTS)
    shutil.rmtree(root / "ledger")
    assert reading.snapshot in " ".join(finding.message for finding in reading.verify(root).findings)
    # A copy from before still has it; whoever restores it is told.
    shutil.copytree(reading.copy("again") / "ledger", before / "ledger", dirs_exist_ok=True)
    with reading.restored(before, snapshot=reading.snapshot) as (report, database):
        assert len(notes(database)) == 5
    assert any(isinstance(event, Warned) and "expired" in event.message for event in reading.events.seen)


def test_a_class_too_old_is_left_out(reading: Reading, recover: Recover) -> None:
    """Its sections are gone from a snapshot that stays: no damage, told, and the rest is restored."""
    before = reading.copy("before")
    expire(reading, max_ages={"uploaded": 1 * DAY})
    found = reading.verify()
    assert (found.findings, found.aged) == ((), 5)
    with reading.restored() as (report, database):
        assert notes(database) == {}
        assert (report.aged, report.purged, report.exact, report.rows) == (5, 0, False, 0)
    root = reading.copy("now")
    status, told, tenants = reading.recovered(recover, root)
    assert (status, tenants, "as expired with the age of their class: 5 segments" in told) == (0, set(), True)
    shutil.rmtree(root / "ledger")
    assert not reading.verify(root).clean
    with pytest.raises(DamageError), reading.restored(root):
        pass
    assert reading.recovered(recover, root)[0] == 7
    # Too old is no purge: where its bytes are at hand, they are restored.
    shutil.copytree(reading.copy("again") / "ledger", before / "ledger", dirs_exist_ok=True)
    with reading.restored(before) as (report, database):
        assert (report.aged, report.exact, len(notes(database))) == (0, True, 5)
    assert reading.recovered(recover, before)[2] == set(TENANTS)


def test_a_keeper_writes_down_what_is_proven(reading: Reading) -> None:
    """Once each, and only what was read to the last byte."""
    book = reading.keeper_region.book
    assert note_proven(book, "disk", reading.verify(share="none", opened=False).proven) == []
    assert note_proven(book, "disk", reading.verify(opened=False).proven) == [reading.snapshot]
    assert note_proven(book, "disk", reading.verify(share="none", opened=False).proven) == []
    reading.crowd.sql("UPDATE note SET said = 'new' WHERE tenant = 1")
    second = reading.region.backup(reading.crowd).snapshot
    assert note_proven(book, "disk", reading.verify(share="none", opened=False).proven) == []
    assert note_proven(book, "disk", reading.verify().proven) == [second]
    assert note_proven(book, "disk", reading.verify().proven) == []
    assert proven_on(book.chain.entries(), "disk") == {reading.snapshot, second}
    assert proven_on(book.chain.entries(), "elsewhere") == set()


def test_a_keeper_writes_down_what_was_restored(reading: Reading) -> None:
    """A ledger that cannot be told is a warning: the database is there."""
    book = reading.keeper_region.book

    def note(event: Restored) -> None:
        book.append(lambda _: [event])

    def fail(_: Restored) -> None:
        raise StoreGoneError("the line broke")

    with reading.restored(note=note, purpose="drill") as (report, _):
        assert report.noted
    (entry,) = book.chain.entries()
    assert entry.events == [Restored(snapshot=SnapshotName(reading.snapshot), purpose="drill")]
    with reading.restored(note=fail) as (report, database):
        assert not report.noted
        assert len(notes(database)) == 5
    assert any(isinstance(event, Warned) and "the line broke" in event.message for event in reading.events.seen)
