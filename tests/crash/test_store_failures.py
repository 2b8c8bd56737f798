"""The store fails at every call of a small backup, before or after its effect: no record without its content, ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import pytest
from doubles.faulty_store import FaultyStore
from doubles.postgres import Server
from doubles.snapshots import look
from fix_postgres import Database
from fix_regions import Region

from backupd.catalog.checked import Checked
from backupd.catalog.repository import Repository
from backupd.clock import SystemClock
from backupd.errors import ObjectExistsError, StoreError, StoreFullError, StoreGoneError
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.backup import reading
from backupd.operations.verify import Scope, Tools, verify
from backupd.store.base import Store

BY_COLUMN = Tenancy(kind=TenancyKind.COLUMN, column="tenant")
ERRORS: dict[str, Callable[[], BaseException]] = {
    "gone": lambda: StoreGoneError("the connection broke on purpose"),
    "full": lambda: StoreFullError("the store is full on purpose"),
    "exists": lambda: ObjectExistsError("there is something on purpose"),
    "refused": lambda: StoreError("the store refused on purpose"),
}


@pytest.fixture
def small(pg17: Server, make_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch) -> Database:
    """Three tenants, one of them with more than a pack."""
    monkeypatch.setattr(reading, "PACK_SIZE", 1 << 18)
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (tenant int, said text)",
        "INSERT INTO note SELECT g % 3, md5(g::text) FROM generate_series(1, 3000) g",
        "INSERT INTO note SELECT 1, repeat(md5(g::text), 30) FROM generate_series(1, 1500) g",
    )
    return database


class Sweep:
    """One database backed up over and over onto fresh stores that fail at the next call each time."""

    def __init__(self, region: Region, database: Database) -> None:
        self.region = replace(region, tenancy=BY_COLUMN, node=replace(region.node, workers=1, shippers=1))
        self.inner = region.store
        self.database = database

    def on(self, store: Store) -> Region:
        return replace(self.region, store=store, repository=Repository(store, [self.region.node.signer.public]))

    def at(self, number: int, *, after: bool, error: Callable[[], BaseException]) -> FaultyStore:
        """A backup whose call of this number fails. Its calls, whether it got that far or not."""
        store = FaultyStore(self.inner, number, after=after, error=error)
        region = self.on(store)
        try:
            region.backup(self.database)
        except StoreError as failed:
            assert "on purpose" in str(failed)
        else:
            assert len(store.calls) < number, "a failed call was overlooked"
        assert list(region.node.spool.iterdir()) == []
        self.check(rows=4500)
        return store

    def check(self, rows: int) -> None:
        """Everything that has a record is whole, and opens."""
        region = self.on(self.inner)
        with Checked(region.folder / "verified.sqlite") as checked:
            scope = Scope(Fraction(1), region.identity.secret)
            result = verify(Repository(self.inner, [region.node.signer.public]), checked, scope, tools(region))
        assert result.findings == ()
        assert result.leftovers == ()
        for snapshot in region.repository.snapshots():
            found = look(region.repository, snapshot, region.identity.secret)
            assert sum(map(len, found.rows("public.note").values())) == rows

    def completes(self) -> set[str]:
        """The next run; what lay on the store before it and is in its snapshot."""
        region = self.on(self.inner)
        before = {path.stem for path in region.folder.glob("store/be/segments/*/*/*.pack")}
        report = region.backup(self.database)
        found = look(region.repository, report.snapshot, region.identity.secret)
        return before & {name for one in found.segments.values() for name in one.containers}


def tools(region: Region) -> Tools:
    return Tools(SystemClock(), region.folder)


@pytest.fixture
def sweep(region: Region, small: Database) -> Sweep:
    return Sweep(region, small)


def numbers(sweep: Sweep) -> Iterator[int]:
    """Of the calls that a whole first backup makes."""
    store = FaultyStore(sweep.inner)
    region = sweep.on(store)
    other = replace(region, node=replace(region.node, state=region.folder / "other", spool=region.folder / "spool2"))
    other.backup(sweep.database)
    return iter(range(1, len(store.calls) + 1))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_call_of_a_first_backup_may_fail(sweep: Sweep, after: bool) -> None:
    """Each failure leaves the store valid; the node goes on from there, and the run after the last one completes."""
    for number in numbers(sweep):
        sweep.at(number, after=after, error=ERRORS["gone"])
    sweep.completes()
    sweep.check(rows=4500)


@pytest.mark.parametrize("name", ["full", "exists", "refused"])
def test_every_call_may_fail_in_every_way(sweep: Sweep, name: str) -> None:
    """A full store, a name that is taken and a refusal are told, and leave the same."""
    for number in numbers(sweep):
        sweep.at(number, after=False, error=ERRORS[name])
    sweep.completes()
    sweep.check(rows=4500)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_call_of_a_later_backup_may_fail(sweep: Sweep, after: bool) -> None:
    """On top of snapshots that are whole, with changes to publish, these stay whole."""
    first = sweep.on(sweep.inner).backup(sweep.database)
    sweep.database.sql("INSERT INTO note SELECT g % 4, md5('new' || g) FROM generate_series(1, 400) g")
    number = 1
    while True:
        store = FaultyStore(sweep.inner, number, after=after, error=ERRORS["gone"])
        region = sweep.on(store)
        try:
            region.backup(sweep.database)
        except StoreGoneError:
            names = region.repository.snapshots()
            assert first.snapshot in names
        else:
            break
        number += 1
        sweep.database.sql("UPDATE note SET said = md5(said) WHERE ctid = (SELECT min(ctid) FROM note)")
    assert number > 5
    region = sweep.on(sweep.inner)
    with Checked(region.folder / "verified.sqlite") as checked:
        result = verify(region.repository, checked, Scope(Fraction(1), region.identity.secret), tools(region))
    assert result.findings == ()
    last = look(region.repository, region.repository.snapshots()[-1], region.identity.secret)
    assert sum(map(len, last.rows("public.note").values())) == 4900


def test_published_packs_are_not_sent_again(sweep: Sweep) -> None:
    """A cut at any call costs what was under way, not what was published: the next snapshot is made of it."""
    for number in numbers(sweep):
        store = sweep.at(number, after=False, error=ERRORS["gone"])
        put = store.calls[: number - 1].count("put_new")
        kept = sweep.completes()
        assert put <= len(kept) + 8
    assert kept


def test_the_chain_holds_every_record(sweep: Sweep) -> None:
    """Also that of a run that published its record and never learnt of it."""
    first = sweep.on(sweep.inner).backup(sweep.database)
    store = FaultyStore(sweep.inner)
    sweep.on(store).backup(sweep.database)
    last_put = len(store.calls) - store.calls[::-1].index("put_new")
    sweep.at(last_put, after=True, error=ERRORS["gone"])
    region = sweep.on(sweep.inner)
    assert len(region.repository.snapshots()) == 3
    region.backup(sweep.database)
    records = {name: region.repository.record(name) for name in region.repository.snapshots()}
    followed = {record.previous for record in records.values()}
    assert followed - {None} == set(records) - {region.repository.snapshots()[-1]}
    assert records[first.snapshot].previous is None
