"""One tenant leaves every backup, and nobody else notices."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from doubles.servers.postgres import Server
from doubles.stores.snapshots import look
from fix_keeper import DAY, KeeperRegion
from fix_postgres import Database

from backupd.errors import DamageError, RefusedError
from backupd.model.ids import Pseudonym
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.keeper.purge import Purging
from backupd.planning import lifecycle
from backupd.planning.incarnations import State
from backupd.planning.lifecycle import ClockDates
from backupd.repository.keys import SecretKeys
from backupd.seal.container_format import ContainerContext
from backupd.seal.container_reader import ContainerReader

BY_COLUMN = Tenancy(kind=TenancyKind.COLUMN, column="tenant")


@pytest.fixture
def crowd(pg17: Server, make_database: Callable[..., Database]) -> Database:
    """Eight tenants with a hundred notes each."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL, said text)",
        "INSERT INTO note SELECT g, g % 8, md5(g::text) FROM generate_series(1, 800) g",
        "ANALYZE",
    )
    return database


def files(folder: Path) -> dict[str, str]:
    """Every file on a store with its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def erase(keeper_region: KeeperRegion, tenant: str) -> None:
    now = keeper_region.clock.now()
    dates = ClockDates(now, now + 3 * DAY, now)
    keeper_region.book.append(lambda lives: lifecycle.erase(lives, keeper_region.tenant(tenant), dates))


def test_a_purge_takes_one_tenant_and_nothing_else(keeper_region: KeeperRegion, crowd: Database) -> None:
    """Its folders and keyring lines go, in every generation; every other file but those keyrings stays as it is."""
    region, folder = keeper_region.region, keeper_region.region.folder / "store"
    region.tenancy = BY_COLUMN
    first = region.backup(crowd)
    region.node = type(region.node)(**{**_fields(region.node), "generation_length": timedelta(0)})
    second = region.backup(crowd)
    assert first.generation != second.generation
    doomed = {
        look(region.repository, report.snapshot, region.identity.secret).of("3").pseudonym for report in (first, second)
    }
    before = files(folder)
    erase(keeper_region, "3")
    (done,) = keeper_region.purge(keeper_region.life("3"))
    after = files(folder)
    assert (done.keyrings, done.absent) == (2, True)
    assert keeper_region.book.states.incarnations[keeper_region.life("3")].state is State.CLEARED
    gone = set(before.keys() - after.keys())
    assert gone
    assert all(any(f"/{one}/" in name for one in doomed) for name in gone)
    changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    assert len(changed) == 2
    assert all(name.endswith(".keyring") for name in changed)
    assert all("/ledger/" in name for name in after.keys() - before.keys())
    for report in (first, second):
        keys = region.repository.open_keys(
            region.identity.secret, [region.repository.record(report.snapshot).generation]
        )
        assert sum(keys.shredded(segment) for segment in doomed) == 1
        assert len(keys) == 8  # seven tenants and the structure


def test_a_purged_tenant_is_not_backed_up_again_until_it_returns(keeper_region: KeeperRegion, crowd: Database) -> None:
    """Rows the application has not purged yet are left out and counted; a new incarnation has nothing of the old."""
    region = keeper_region.region
    region.tenancy = BY_COLUMN
    old = look(region.repository, region.backup(crowd).snapshot, region.identity.secret).of("3").pseudonym
    erase(keeper_region, "3")
    keeper_region.purge(keeper_region.life("3"))
    again = look(region.repository, region.backup(crowd).snapshot, region.identity.secret)
    assert "3" not in {name.tenant for name in again.segments}
    keeper_region.book.append(lambda lives: lifecycle.resubscribe(lives, keeper_region.tenant("3")))
    back = look(region.repository, region.backup(crowd).snapshot, region.identity.secret)
    assert back.of("3").pseudonym != old
    assert len(back.rows("public.note")["3"]) == 100
    assert keeper_region.purge(keeper_region.life("3"))[0].objects == 0


def test_who_is_not_due_is_not_purged(keeper_region: KeeperRegion, crowd: Database) -> None:
    """Active, marked before its date, or held: refused, and nothing is written."""
    region = keeper_region.region
    region.tenancy = BY_COLUMN
    region.backup(crowd)
    now = keeper_region.clock.now()
    dates = ClockDates(now, now + 180 * DAY, now + 100 * DAY)
    for prepare in (
        lambda _: [],
        lambda lives: lifecycle.unsubscribe(lives, keeper_region.tenant("3"), dates),
        lambda lives: lifecycle.hold(lives, keeper_region.tenant("3"), "CASE-1", now + 30 * DAY),
    ):
        keeper_region.book.append(prepare)
        before = files(region.folder / "store")
        with pytest.raises(RefusedError, match="not due"):
            keeper_region.purge(keeper_region.life("3"))
        assert files(region.folder / "store") == before
    keeper_region.clock.by = 101 * DAY
    with pytest.raises(RefusedError, match="not due"):
        keeper_region.purge(keeper_region.life("3"))


def test_a_clock_that_differs_from_the_stores_stops_a_purge(keeper_region: KeeperRegion, crowd: Database) -> None:
    """Nothing is removed by a machine whose clock is a month ahead."""
    region = keeper_region.region
    region.tenancy = BY_COLUMN
    region.backup(crowd)
    erase(keeper_region, "3")
    keeper_region.clock.by = 30 * DAY
    before = files(region.folder / "store")
    with pytest.raises(RefusedError, match="clock of store 'disk'"):
        keeper_region.purge(keeper_region.life("3"))
    assert set(before.items()) <= set(files(region.folder / "store").items())


def test_a_key_somebody_else_removed_is_an_alarm(keeper_region: KeeperRegion, crowd: Database) -> None:
    """The tripwire: a keyring that shrank without a purge stops the keeper."""
    region = keeper_region.region
    region.tenancy = BY_COLUMN
    region.backup(crowd)
    with Purging(keeper_region.keeper) as purging:
        assert purging.errors == {}
    (path,) = (region.folder / "store").rglob("*.keyring")
    lines = path.read_bytes().splitlines(keepends=True)
    path.chmod(0o600)
    path.write_bytes(b"".join(lines[:-1]))
    with Purging(keeper_region.keeper) as purging:
        assert isinstance(purging.errors["disk"], DamageError)
        assert "no purge of it" in purging.errors["disk"].message


def test_the_stores_own_snapshots_are_waited_out(keeper_region: KeeperRegion, crowd: Database) -> None:
    """Absence is told only when no snapshot of the store holds an object or a key any more."""
    region = keeper_region.region
    region.tenancy = BY_COLUMN
    report = region.backup(crowd)
    snapshots = region.folder / "store" / ".zfs" / "snapshot"
    kept = snapshots / f"daily_{datetime.now(UTC):%Y-%m-%d}" / "be"
    shutil.copytree(region.folder / "store" / "be", kept)
    erase(keeper_region, "3")
    (done,) = keeper_region.purge(keeper_region.life("3"))
    assert (done.absent, done.waits_for) == (False, (kept.parent.name,))
    assert keeper_region.book.states.incarnations[keeper_region.life("3")].purge.absent == {}
    # What is left there opens with the identity, until it is gone: so it must not be called unreadable everywhere.
    generation = region.repository.record(report.snapshot).generation
    stale = list(kept.rglob("*.keyring"))
    assert stale
    assert SecretKeys({generation: region.repository.keyrings(generation)}, region.identity.secret)
    shutil.rmtree(kept.parent)
    (done,) = keeper_region.purge(keeper_region.life("3"))
    assert (done.absent, done.waits_for, done.objects) == (True, (), 0)
    assert keeper_region.book.states.incarnations[keeper_region.life("3")].purge.absent["disk"][1] == ()


def _fields(node: object) -> dict[str, object]:
    return {name: getattr(node, name) for name in type(node).__dataclass_fields__}  # type: ignore[attr-defined]


def test_no_key_that_is_left_opens_what_was_kept_elsewhere(keeper_region: KeeperRegion, crowd: Database) -> None:
    """With every identity and a full copy of the store from before: once its keyrings are gone, its packs are noise.

    The positive control: with that copy's keyrings, every one of them opens.
    """
    region, live = keeper_region.region, keeper_region.region.folder / "store" / "be"
    region.tenancy = BY_COLUMN
    report = region.backup(crowd)
    record = region.repository.record(report.snapshot)
    doomed = look(region.repository, report.snapshot, region.identity.secret).of("3").pseudonym
    copy = region.folder / "copy"
    shutil.copytree(live, copy)
    before = region.repository.open_keys(region.identity.secret, [record.generation])
    secret = before[Pseudonym(doomed)].secret
    packs = [path for path in copy.rglob("*.p*") if path.parent.name == doomed]
    assert packs
    context = ContainerContext(record.repository, record.generation, Pseudonym(doomed))

    def opens(path: Path, key: bytes) -> bool:
        data = path.read_bytes()
        try:
            ContainerReader(
                lambda at, length: data[at : at + length], len(data), secret=key, context=context, where=path.name
            )
        except DamageError:
            return False
        return True

    assert all(opens(path, secret) for path in packs)
    erase(keeper_region, "3")
    keeper_region.purge(keeper_region.life("3"))
    after = region.repository.open_keys(region.identity.secret, [record.generation])
    assert Pseudonym(doomed) not in after
    with pytest.raises(RefusedError, match="was shredded"):
        after[Pseudonym(doomed)]
    left = [after[pseudonym].secret for pseudonym in after] + [region.identity.secret]
    assert len(left) == 9
    assert not any(opens(path, key) for path in packs for key in left)
    assert not any(doomed in str(path) for path in live.rglob("*"))
    kept = [path for path in (region.folder / "state").rglob("*") if path.is_file()]
    assert not any(secret in path.read_bytes() for path in kept)
