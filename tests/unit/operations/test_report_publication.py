"""Reports reach the ledger and every store once, whatever breaks on the way."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from doubles.samples.reports import BE, REPOSITORY, START, checks, drill_id, sample
from doubles.stores.faulty_store import FaultyStore, gone
from doubles.stores.hooked_store import HookedStore
from fix_clock import FAR

from backupd.clock import SystemClock
from backupd.errors import BackupdError, DamageError, StoreGoneError
from backupd.model.documents import RepositoryInfo
from backupd.model.ledger import Observed
from backupd.model.report import CheckName, Report
from backupd.model.text import stamp
from backupd.operations.ledger import Book, LedgerPlace
from backupd.operations.reports import Gathered, Published, ReportDesk, gather, publish_report, publish_waiting
from backupd.planning.drill_reports import drill_events
from backupd.repository import layout
from backupd.repository.repository import Repository
from backupd.seal.documents import Signer
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore


class Killed(BaseException):
    """The process ended here."""


class Later(SystemClock):
    """After every drill of these tests."""

    def now(self) -> datetime:
        return START + timedelta(days=365)


def killed() -> BaseException:
    return Killed()


@dataclass
class Machine:
    """One keeper and its two stores; every `desk` is that of a new process."""

    folder: Path
    signer: Signer = field(default_factory=lambda: Signer(os.urandom(32)))
    own: str = "own"
    """The folder that is this machine's."""

    def __post_init__(self) -> None:
        (self.folder / self.own).mkdir(parents=True)
        if (self.folder / "disk").exists():
            return
        for name in ("disk", "attic"):
            info = RepositoryInfo(
                repository=REPOSITORY, region=BE, created=stamp(START), signers=[self.signer.public], keepers=[]
            )
            Repository(self.store(name), None).put_info(info, self.signer)

    def store(self, name: str) -> Store:
        return DirectoryStore(self.folder / (f"{self.own}/{name}" if name == "waiting" else name))

    def desk(self, **stores: Store) -> ReportDesk:
        opened = {name: stores.get(name, self.store(name)) for name in ("disk", "attic")}
        trusted = frozenset({self.signer.public})
        copy = DirectoryStore(self.folder / self.own / "ledger")
        place = LedgerPlace(BE, REPOSITORY, opened, copy, trusted, Later(), self.signer, FAR)
        repositories = {name: Repository(store, trusted, trusted) for name, store in opened.items()}
        return ReportDesk(Book(place), repositories, self.signer, stores.get("waiting", self.store("waiting")))

    def publish(self, report: Report, **stores: Store) -> Published:
        return publish_report(self.desk(**stores), report)

    def gathered(self) -> Gathered:
        desk = self.desk()
        desk.book.sync(from_start=True)
        return gather(desk.book, desk.stores)

    def waiting(self) -> list[str]:
        return [info.name for info in self.store("waiting").list(layout.ObjectName(""))]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def clean(machine: Machine, *numbers: int) -> None:
    """Every store has these reports, in this order, as the ledger tells; nothing waits."""
    found = machine.gathered()
    assert found.faults == ()
    assert [one.drill for one in found.filed] == [drill_id(number) for number in numbers]
    assert machine.waiting() == []


def test_a_report_is_told_and_put_on_every_store(machine: Machine) -> None:
    """Each names the one before it, and the ledger tells its hash, verdict and snapshot."""
    bad = sample(1, checks=checks(failed=(CheckName.EQUALITY,)))
    first, second = machine.publish(sample(0)), machine.publish(bad)
    assert first.stores == ("disk", "attic")
    assert (first.report.previous, first.report.performer) == (None, machine.signer.public)
    assert second.report.previous is not None
    assert second.report.previous.sha256 == first.sha256
    desk = machine.desk()
    desk.book.sync()
    assert [(event.report, event.verdict) for event in drill_events(desk.book.chain.entries())] == [
        (first.sha256, "pass"),
        (second.sha256, "fail"),
    ]
    assert machine.store("attic").get(layout.report_name(bad.drill)) == second.document
    clean(machine, 0, 1)


def test_a_store_out_of_reach_gets_its_reports_later(machine: Machine) -> None:
    """With the next report, from whichever store has them; no machine has to remember."""
    away = HookedStore(machine.store("attic"), before=lambda *_: _raise())
    assert machine.publish(sample(0), attic=away).stores == ("disk",)
    assert machine.gathered().faults
    machine.publish(sample(1))
    clean(machine, 0, 1)


def test_a_report_waits_while_no_store_can_be_reached(machine: Machine) -> None:
    """It is not lost, and not told; the next one goes behind it."""
    away = {name: HookedStore(machine.store(name), before=lambda *_: _raise()) for name in ("disk", "attic")}
    desk = machine.desk(**away)
    with pytest.raises(StoreGoneError):
        publish_report(desk, sample(0))
    assert machine.waiting() == [f"{drill_id(0)}.json"]
    machine.publish(sample(1))
    clean(machine, 0, 1)


def _raise() -> None:
    raise gone()


@pytest.mark.parametrize("where", ["disk", "attic", "waiting"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [gone, killed])
def test_cut_off_anywhere_the_next_one_finishes(tmp_path: Path, where: str, after: bool, error: object) -> None:
    """Every call to every store fails in its turn, before or behind its effect; nothing is lost, doubled or forked."""
    calls = 0
    for at in range(1, 99):
        machine = Machine(tmp_path / str(at))
        machine.publish(sample(0))
        faulty = FaultyStore(machine.store(where), at, after=after, error=error)
        with suppress(BackupdError, Killed):
            machine.publish(sample(1), **{where: faulty})
        calls = len(faulty.calls)
        waited = machine.waiting() or drill_id(1) in {one.drill for one in machine.gathered().filed}
        machine.publish(sample(2))
        clean(machine, *([0, 1, 2] if waited else [0, 2]))
        # Only a report of which not even the first write was done may be lost; whoever drilled was told.
        assert waited or (where == "waiting" and faulty.calls[-1] == "put_new")
        if calls < at:
            break
    assert 2 <= calls < 98


@pytest.mark.parametrize("at", ["disk", "attic"])
def test_a_report_in_the_ledger_is_put_although_the_state_folder_is_gone(machine: Machine, at: str) -> None:
    """It is nowhere else then: the ledger would tell for good of a report that no store ever gets."""
    machine.publish(sample(0))

    def removed(method: str, name: str) -> None:
        if method == "put_new" and name.startswith("ledger/"):
            shutil.rmtree(machine.folder / machine.own)

    store = HookedStore(machine.store(at), **{"after" if at == "disk" else "before": removed})
    with pytest.raises(StoreGoneError, match="own' is not there"):  # the fault itself is told
        machine.publish(sample(1), **{at: store})
    (machine.folder / machine.own).mkdir()
    machine.publish(sample(2))
    clean(machine, 0, 1, 2)


def test_two_machines_at_once_make_one_chain(machine: Machine) -> None:
    """Who finds the ledger grown names the newer report, not the one it saw."""
    machine.publish(sample(0))
    busy: list[str] = []

    def meanwhile(method: str, name: str) -> None:
        if method == "put_new" and name.startswith("ledger/") and not busy:
            busy.append(name)
            Machine(machine.folder, machine.signer, "other").publish(sample(1))

    done = machine.publish(sample(2), disk=HookedStore(machine.store("disk"), before=meanwhile))
    assert busy
    assert done.report.previous is not None
    assert done.report.previous.drill == drill_id(1)
    clean(machine, 0, 1, 2)


def test_other_events_between_reports_change_nothing(machine: Machine) -> None:
    """Only `drilled` counts for what comes before."""
    first = machine.publish(sample(0))
    desk = machine.desk()
    desk.book.sync()
    desk.book.append(lambda _: [Observed(store="disk", snapshots=[])])
    assert publish_report(desk, sample(1)).report.previous.sha256 == first.sha256
    clean(machine, 0, 1)


def test_a_report_that_contradicts_itself_is_not_published(machine: Machine) -> None:
    """It would be told as damage for ever; neither is one of another repository."""
    desk = machine.desk()
    desk.book.sync()
    for wrong in (sample(0, verdict="fail"), sample(0, repository="ab" * 16)):
        with pytest.raises(BackupdError, match=r"contradicts itself|another repository"):
            publish_report(desk, wrong)
    assert machine.waiting() == []
    assert publish_waiting(desk) == []
    clean(machine)


def test_a_report_that_lies_there_already_is_not_overwritten(machine: Machine) -> None:
    """Somebody's file in its place is damage, and is told; the ledger and the other store have the right one."""
    path = machine.folder / "attic" / layout.report_name(drill_id(0))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a report")
    assert machine.publish(sample(0)).stores == ("disk",)
    assert path.read_bytes() == b"not a report"
    found = machine.gathered()
    assert {fault.place for fault in found.faults} == {"attic"}
    assert [one.drill for one in found.filed] == [drill_id(0)]


def test_another_report_of_the_same_drill_is_refused(machine: Machine) -> None:
    """The ledger's word stands; the second is not put anywhere, and stands in nobody's way."""
    machine.publish(sample(0))
    with pytest.raises(DamageError, match="the ledger tells of another report"):
        machine.publish(sample(0, machine="elsewhere"))
    machine.publish(sample(1))
    clean(machine, 0, 1)


def test_where_stores_disagree_the_ledgers_report_is_shown(machine: Machine) -> None:
    """A report put anew by somebody with the key shows as a fault of that store."""
    done = machine.publish(sample(0))
    path = machine.folder / "attic" / layout.report_name(drill_id(0))
    path.chmod(0o600)
    other = Machine(machine.folder / "elsewhere", machine.signer).publish(sample(0, machine="elsewhere"))
    path.write_bytes(other.document)
    found = machine.gathered()
    assert [(fault.place, fault.drill) for fault in found.faults] == [("attic", drill_id(0))]
    assert found.filed[0].sha256 == done.sha256
    assert found.documents[drill_id(0)] == done.document


def test_a_region_is_gathered_without_the_store_that_is_away(machine: Machine) -> None:
    """It is told of; with none left it is an error."""
    machine.publish(sample(0))
    away = HookedStore(machine.store("attic"), before=lambda *_: _raise())
    desk = machine.desk(attic=away)
    desk.book.sync()
    found = gather(desk.book, desk.stores)
    assert (found.faults, set(found.unreached), len(found.filed)) == ((), {"attic"}, 1)
    assert found.begins == START
    desk.book.unreached["disk"] = StoreGoneError("away")
    with pytest.raises(StoreGoneError):
        gather(desk.book, desk.stores)
