"""The store fails at every call of a small backup, before or after its effect: no record without its content, ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import count
from pathlib import Path

import pytest
from doubles.servers.postgres import Server
from doubles.stores.faulty_store import FaultyStore
from doubles.stores.hooked_store import HookedStore
from doubles.stores.snapshots import Look, look
from fix_postgres import Database
from fix_regions import Region, make_region

from backupd.clock import SystemClock
from backupd.errors import StoreFullError, StoreGoneError
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.backup import read
from backupd.operations.verify import Scope, Tools, verify
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.store.base import Store

BY_COLUMN = Tenancy(kind=TenancyKind.COLUMN, column="tenant")
ROWS = 5500
ERRORS: dict[str, Callable[[], BaseException]] = {
    "gone": lambda: StoreGoneError("the connection broke on purpose"),
    "full": lambda: StoreFullError("the store is full on purpose"),
}


@pytest.fixture
def small(pg17: Server, make_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch) -> Database:
    """Four tenants, one of them with several packs."""
    monkeypatch.setattr(read, "PACK_SIZE", 20_000)
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (tenant int, said text)",
        "INSERT INTO note SELECT g % 4, md5(g::text) FROM generate_series(1, 3000) g",
        "INSERT INTO note SELECT 1, repeat(md5(g::text), 30) FROM generate_series(1, 2500) g",
    )
    return database


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[Region]:
    """New regions, one after another, each with a store and a node of its own; calls come in one order."""

    def make() -> Iterator[Region]:
        for number in count():
            folder = tmp_path / str(number)
            folder.mkdir()
            region = make_region(folder)
            yield replace(region, tenancy=BY_COLUMN, node=replace(region.node, workers=1, uploaders=1))

    return make()


def on(region: Region, store: Store) -> Region:
    """The same region, reached through another store."""
    return replace(region, store=store, repository=Repository(store, [region.node.signer.public]))


def cut(region: Region, database: Database, number: int, *, after: bool = False, error: str = "gone") -> bool:
    """A backup whose call of this number fails, and it with it; False when it made fewer calls."""
    store = FaultyStore(region.store, number, after=after, error=ERRORS[error])
    try:
        on(region, store).backup(database)
    except type(ERRORS[error]()):
        pass
    assert list(region.node.spool.glob("*")) == []
    return len(store.calls) >= number


def looks(region: Region) -> list[Look]:
    """Everything that has a record, read to its last byte; verify is clean besides."""
    repository = Repository(region.store, [region.node.signer.public])
    with CheckedState(region.folder / "verified.sqlite") as checked:
        scope = Scope(Fraction(1), region.identity.secret)
        result = verify(repository, checked, scope, Tools(SystemClock(), region.folder))
    assert (result.findings, result.leftovers, result.foreign) == ((), (), ())
    return [look(repository, snapshot, region.identity.secret) for snapshot in repository.snapshots()]


def number_of_rows(found: Look) -> int:
    return sum(map(len, found.rows("public.note").values()))


@pytest.mark.parametrize(
    ("after", "error"),
    [(False, "gone"), (True, "gone"), (False, "full")],
    ids=["gone-before", "gone-after", "full"],
)
def test_every_call_of_a_first_backup_may_fail(
    regions: Iterator[Region], small: Database, after: bool, error: str
) -> None:
    """Each failure is told and leaves the store valid; the run after it completes."""
    for number in count(1):
        region = next(regions)
        # How many packs there are depends on the generation's key, so the end shows only when it is reached.
        if not cut(region, small, number, after=after, error=error):
            break
        assert [number_of_rows(found) for found in looks(region)] in ([], [ROWS])
        region.backup(small)
        assert {number_of_rows(found) for found in looks(region)} == {ROWS}
    assert number > 12


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_call_of_a_later_backup_may_fail(regions: Iterator[Region], small: Database, after: bool) -> None:
    """Cut after cut on one node, with changes in between: earlier snapshots stay whole, and the last run completes."""
    region = next(regions)
    region.backup(small)
    change = "UPDATE note SET said = md5(said) WHERE ctid = (SELECT min(ctid) FROM note)"
    number = 0
    for number in count(1):
        small.sql(change)
        store = FaultyStore(region.store, number, after=after)
        try:
            on(region, store).backup(small)
        except StoreGoneError:
            continue
        assert len(store.calls) <= number  # the last one takes the run's mark away, and may fail
        break
    assert number > 5
    assert {number_of_rows(found) for found in looks(region)} == {ROWS}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_node_that_is_cut_again_and_again_gets_there(regions: Iterator[Region], small: Database, after: bool) -> None:
    """Each run is cut one call later than the last, and goes on from what that one published."""
    region = next(regions)
    for number in count(1):
        store = FaultyStore(region.store, number, after=after)
        try:
            on(region, store).backup(small)
        except StoreGoneError:
            looks(region)
            continue
        break
    assert {number_of_rows(found) for found in looks(region)} == {ROWS}


def test_published_packs_are_not_sent_again(regions: Iterator[Region], small: Database) -> None:
    """A cut at any call costs what was under way: every pack published before it is part of the next snapshot."""
    whole = HookedStore(next(regions).store)
    for number in range(1, 1000):
        region = next(regions)
        whole = HookedStore(region.store)
        store = FaultyStore(whole, number)
        try:
            on(region, store).backup(small)
        except StoreGoneError:
            pass
        else:
            break
        before = {name for name in whole.put if name.endswith(".pack")}
        report = on(region, whole).backup(small)
        found = look(region.repository, report.snapshot, region.identity.secret)
        needed = {name for one in found.segments.values() for name, _ in one.sections}
        assert before <= needed
        assert report.sent <= sum(size for name, size in whole.put.items() if name not in before)
    assert len([name for name in whole.put if name.endswith(".pack")]) > 1


def test_the_chain_holds_every_record(regions: Iterator[Region], small: Database) -> None:
    """Also that of a run that published its record and never learnt of it, and not one that was never published."""
    region = next(regions)
    region.backup(small)

    def fail(_method: str, name: str) -> None:
        if name.startswith("snapshots/"):
            raise StoreGoneError("the connection broke on purpose")

    for hooks in ({"after": fail}, {"before": fail}, {"after": fail}):
        small.sql("DELETE FROM note WHERE ctid = (SELECT min(ctid) FROM note)")
        for _ in range(2):
            with pytest.raises(StoreGoneError):
                on(region, HookedStore(region.store, **hooks)).backup(small)
        region.backup(small)
    records = {name: region.repository.record(name) for name in region.repository.snapshots()}
    by_time = sorted(records, key=lambda name: records[name].published)
    assert [records[name].previous for name in by_time] == [None, *by_time[:-1]]
    assert len(by_time) == 8
