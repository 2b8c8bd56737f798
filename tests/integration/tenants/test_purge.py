"""One tenant leaves every backup, and nobody else notices."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from doubles.servers.postgres import Server
from doubles.stores.holdings import keyring_names, opened_tenants, stored_sections
from doubles.stores.snapshots import look
from fix_keeper import DAY, KeeperRegion
from fix_postgres import Database

from backupd.errors import DamageError, RefusedError
from backupd.model.ids import ObjectName
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.keeper.purge import Purging
from backupd.planning import lifecycle
from backupd.planning.incarnations import State
from backupd.planning.lifecycle import ClockDates
from backupd.repository.packs import Section, fetch_section
from backupd.seal.section_reader import SectionReader

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
    keeper_region.book.append(lambda states: lifecycle.erase(states, keeper_region.tenant(tenant), dates))


def test_a_purge_takes_one_tenant_and_nothing_else(keeper_region: KeeperRegion, crowd: Database) -> None:
    """Its sections and keyring lines go, in every generation; every other section and file stays to the byte."""
    region, folder = keeper_region.region, keeper_region.region.folder / "store"
    region.tenancy = BY_COLUMN
    first = region.backup(crowd)
    region.node = type(region.node)(**{**_fields(region.node), "generation_length": timedelta(0)})
    second = region.backup(crowd)
    assert first.generation != second.generation
    doomed = {
        look(region.repository, report.snapshot, region.identity.secret).of("3").pseudonym for report in (first, second)
    }
    before, sections = files(folder), stored_sections(region.repository)
    theirs = {key for key in sections if key[1] in doomed}
    assert theirs
    erase(keeper_region, "3")
    (done,) = keeper_region.purge(keeper_region.incarnation("3"))
    after = files(folder)
    assert (done.keyrings, done.absent) == (2, True)
    assert keeper_region.book.states.incarnations[keeper_region.incarnation("3")].state is State.CLEARED
    assert stored_sections(region.repository) == {key: data for key, data in sections.items() if key not in theirs}
    assert before.keys() <= after.keys()
    changed = {name for name in before if before[name] != after[name]}
    rings = {name for name in keyring_names(region.repository) if region.repository.keyring(name).segments & doomed}
    assert len(rings) == 2
    assert changed == {f"be/{pack}" for pack, _, _ in theirs} | {f"be/{name}" for name in rings}
    assert all("/ledger/" in name for name in after.keys() - before.keys())
    for report in (first, second):
        record = region.repository.record(report.snapshot)
        keys = region.repository.open_keys(region.identity.secret, [record.generation])
        found = region.repository.sections(record)
        for section in found.sections.values():
            assert section.is_there == (section.row.segment not in doomed) == (not keys.shredded(section.row))
        assert len({segment for segment, _ in found.sections}) == 9  # eight tenants and the structure
    assert opened_tenants(region.repository, region.identity.secret) == {None, *map(str, range(8))} - {"3"}


def test_a_purged_tenant_is_not_backed_up_again_until_it_returns(keeper_region: KeeperRegion, crowd: Database) -> None:
    """Rows the application has not purged yet are left out and counted; a new incarnation has nothing of the old."""
    region = keeper_region.region
    region.tenancy = BY_COLUMN
    old = look(region.repository, region.backup(crowd).snapshot, region.identity.secret).of("3").pseudonym
    erase(keeper_region, "3")
    keeper_region.purge(keeper_region.incarnation("3"))
    again = look(region.repository, region.backup(crowd).snapshot, region.identity.secret)
    assert "3" not in {name.tenant for name in again.segments}
    keeper_region.book.append(lambda states: lifecycle.resubscribe(states, keeper_region.tenant("3")))
    back = look(region.repository, region.backup(crowd).snapshot, region.identity.secret)
    assert back.of("3").pseudonym != old
    assert len(back.rows("public.note")["3"]) == 100
    assert keeper_region.purge(keeper_region.incarnation("3"))[0].objects == 0


def test_who_is_not_due_is_not_purged(keeper_region: KeeperRegion, crowd: Database) -> None:
    """Active, marked before its date, or held: refused, and nothing is written."""
    region = keeper_region.region
    region.tenancy = BY_COLUMN
    region.backup(crowd)
    now = keeper_region.clock.now()
    dates = ClockDates(now, now + 180 * DAY, now + 100 * DAY)
    for prepare in (
        lambda _: [],
        lambda states: lifecycle.unsubscribe(states, keeper_region.tenant("3"), dates),
        lambda states: lifecycle.hold(states, keeper_region.tenant("3"), "CASE-1", now + 30 * DAY),
    ):
        keeper_region.book.append(prepare)
        before = files(region.folder / "store")
        with pytest.raises(RefusedError, match="not due"):
            keeper_region.purge(keeper_region.incarnation("3"))
        assert files(region.folder / "store") == before
    keeper_region.clock.by = 101 * DAY
    with pytest.raises(RefusedError, match="not due"):
        keeper_region.purge(keeper_region.incarnation("3"))


def test_a_clock_that_differs_from_the_stores_stops_a_purge(keeper_region: KeeperRegion, crowd: Database) -> None:
    """Nothing is removed by a machine whose clock is a month ahead."""
    region = keeper_region.region
    region.tenancy = BY_COLUMN
    region.backup(crowd)
    erase(keeper_region, "3")
    keeper_region.clock.by = 30 * DAY
    before = files(region.folder / "store")
    with pytest.raises(RefusedError, match="clock of store 'disk'"):
        keeper_region.purge(keeper_region.incarnation("3"))
    assert set(before.items()) <= set(files(region.folder / "store").items())


def test_a_key_somebody_else_removed_is_an_alarm(keeper_region: KeeperRegion, crowd: Database) -> None:
    """The tripwire: a keyring that shrank without a purge stops the keeper."""
    region = keeper_region.region
    region.tenancy = BY_COLUMN
    region.backup(crowd)
    with Purging(keeper_region.keeper) as purging:
        assert purging.errors == {}
    path = next((region.folder / "store").rglob("*.keyring"))
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
    (done,) = keeper_region.purge(keeper_region.incarnation("3"))
    assert (done.absent, done.waits_for) == (False, (kept.parent.name,))
    assert keeper_region.book.states.incarnations[keeper_region.incarnation("3")].purge.absent == {}
    # What is left there opens with the identity, until it is gone: so it must not be called unreadable everywhere.
    generation = region.repository.record(report.snapshot).generation
    found = set()
    for stale in kept.rglob("*.keyring"):
        name = ObjectName(f"keyrings/{generation}/{stale.name}")
        keyring = region.repository.checked_keyring(stale.read_bytes(), name)
        opened = keyring.open(region.identity.secret)
        found |= {opened.key(place).name.tenant for place in keyring.sealed}
    assert "3" in found
    shutil.rmtree(kept.parent)
    (done,) = keeper_region.purge(keeper_region.incarnation("3"))
    assert (done.absent, done.waits_for, done.objects) == (True, (), 0)
    assert keeper_region.book.states.incarnations[keeper_region.incarnation("3")].purge.absent["disk"][1] == ()


def _fields(node: object) -> dict[str, object]:
    return {name: getattr(node, name) for name in type(node).__dataclass_fields__}


def test_no_key_that_is_left_opens_what_was_kept_elsewhere(keeper_region: KeeperRegion, crowd: Database) -> None:
    """With every identity and a full copy of the store from before: once its keyrings are gone, its sections are noise.

    The positive control: with that copy's keyrings, every one of them opens.
    """
    region, live = keeper_region.region, keeper_region.region.folder / "store" / "be"
    region.tenancy = BY_COLUMN
    report = region.backup(crowd)
    record = region.repository.record(report.snapshot)
    doomed = look(region.repository, report.snapshot, region.identity.secret).of("3").pseudonym
    found = region.repository.sections(record)
    theirs = [section for section in found.sections.values() if section.row.segment == doomed]
    kept_elsewhere = {section.row: fetch_section(region.store, section) for section in theirs}
    assert theirs
    before = region.repository.open_keys(region.identity.secret, [record.generation])
    secrets = {before.of(section.row).key for section in theirs}

    def opens(section: Section, key: bytes) -> bool:
        data = kept_elsewhere[section.row]
        try:
            reader = SectionReader(
                lambda at, length: data[at : at + length],
                len(data),
                key=key,
                context=section.context,
                where=section.where,
            )
            for index in range(len(reader.blocks)):
                reader.open_block(index)
        except DamageError:
            return False
        return True

    assert all(opens(section, before.of(section.row).key) for section in theirs)
    erase(keeper_region, "3")
    keeper_region.purge(keeper_region.incarnation("3"))
    after = region.repository.open_keys(region.identity.secret, [record.generation])
    for section in theirs:
        with pytest.raises(RefusedError, match="was shredded"):
            after.of(section.row)
    others = {section.row for section in found.sections.values() if section.row.segment != doomed}
    left = [after.of(row).key for row in others] + [region.identity.secret[:32], region.identity.secret[64:]]
    assert len(left) > 9
    assert not any(opens(section, key) for section in theirs for key in left)
    for path in (path for path in live.rglob("*") if path.is_file()):
        assert not any(data in path.read_bytes() for data in kept_elsewhere.values()), path
    kept = [path for path in (region.folder / "state").rglob("*") if path.is_file()]
    assert not any(secret in path.read_bytes() for path in kept for secret in secrets)
