"""An interruption is no error: whatever collects errors, tries again or goes on with the next store lets it pass."""

import ast
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

import backupd
from backupd.cli.commands import drill, keeper, store
from backupd.clock import SystemClock
from backupd.errors import BackupdError, InterruptedRunError, StoreGoneError
from backupd.model.report import CheckName
from backupd.operations.backup import region
from backupd.operations.drill import run
from backupd.operations.drill.checks.run import DrillChecks
from backupd.operations.drill.types import DrillRequest
from backupd.operations.keeper import ingest
from backupd.operations.keeper.purge import _Isolated
from backupd.operations.preflight import check_source, check_store
from backupd.operations.restore.region import restore_region
from backupd.operations.restore.run import note_restore
from backupd.operations.status.region import book_of, region_facts
from backupd.postgres.scratch import watch
from backupd.postgres.source import preflight
from backupd.store.retry import Patience

PACKAGE = Path(backupd.__file__).parent


def stopped(*_: object, **__: object) -> NoReturn:
    """What the signal's handler does, in the middle of whatever is being done."""
    raise InterruptedRunError("stopped by SIGTERM")


class Anything:
    """Stands for whatever has no part in the loop."""

    def __getattr__(self, _: str) -> Any:
        return Anything()

    def __call__(self, *_: object, **__: object) -> Any:
        return Anything()


class Interrupting:
    """Whatever is called on it is interrupted."""

    def __getattr__(self, _: str) -> Any:
        return stopped


class KeeperContext(Anything):
    """What commands that go over a keeper's regions and stores ask the configuration for."""

    clock = SystemClock()

    def regions(self, _: object) -> list[str]:
        return ["be"]

    def stores_of(self, *_: object) -> list[str]:
        return ["disk"]


def target(opening: Any) -> region.BackupTarget:
    job = SimpleNamespace(source=None, tenancy=None, label="app")
    node = SimpleNamespace(clock=SystemClock())
    return region.BackupTarget("be", "disk", opening, None, None, (job,), node)


def opening_a_store(_: pytest.MonkeyPatch) -> None:
    list(region.back_up([target(stopped)]))


def finding_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region, "find_members", stopped)
    list(region.back_up([target(Anything)]))


def backing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region, "find_members", lambda *_: [None])
    monkeypatch.setattr(region, "backup", stopped)
    list(region.back_up([target(Anything)]))


def trying_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backupd.operations.preflight.find_members", stopped)
    check_source(None, None)


def trying_a_store(_: pytest.MonkeyPatch) -> None:
    check_store(Interrupting(), None)


def finding_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find_programs", stopped)
    check = object.__new__(preflight._Check)
    check._connection = SimpleNamespace(info=SimpleNamespace(server_version=170000))
    check._source = Anything()
    list(check.version())


def drilling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run._Drill, "run", stopped)
    world = SimpleNamespace(clock=SystemClock(), random=bytes)
    with suppress(AttributeError, TypeError):  # what follows when a report is made of it
        run.drill(DrillRequest(), Anything(), world)


def checking_in_a_drill(_: pytest.MonkeyPatch) -> None:
    checking = object.__new__(DrillChecks)
    checking.checks = {}
    checking._make(CheckName.EQUALITY, stopped)


def purging(_: pytest.MonkeyPatch) -> None:
    with _Isolated({}, "disk"):
        stopped()


def reading_the_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backupd.operations.status.region.read_ledger", lambda _: None)
    monkeypatch.setattr("backupd.operations.status.region._ledger_facts", lambda *_: stopped())
    with suppress(AttributeError, TypeError):  # what follows when the interruption was taken for the store's error
        book = SimpleNamespace(unreached={}, chain=Anything())
        region_facts(book, [SimpleNamespace(repository=Interrupting(), name="disk")], Anything())


def reading_the_own_ledger(_: pytest.MonkeyPatch) -> None:
    book_of(Interrupting(), "be", (), SystemClock())


def noting_a_restore(_: pytest.MonkeyPatch) -> None:
    world = SimpleNamespace(note=stopped, override="", trace=Anything())
    note_restore(SimpleNamespace(snapshot="s"), SimpleNamespace(purpose="other"), world)


def restoring_a_region(_: pytest.MonkeyPatch) -> None:
    list(restore_region([SimpleNamespace()], stopped))


def a_phase_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server was stopped for a limit at the same time: the interruption is what ended the run."""

    def exceeded(_server: object, _phase: object, _limits: object, _ended: object, broken: list[BackupdError]) -> None:
        broken.append(BackupdError("too large"))

    monkeypatch.setattr(watch, "_watch", exceeded)
    with watch.limited(Anything(), "load", Anything()):
        stopped()


def trying_a_store_again(_: pytest.MonkeyPatch) -> None:
    calls = iter((StoreGoneError, InterruptedRunError))

    def call() -> NoReturn:
        raise next(calls)("gone")

    clock = SimpleNamespace(monotonic=SystemClock().monotonic, sleep=lambda _: None)
    Patience(clock, 60, lambda low, _: low).attempt(call)


def expiring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "load_context", lambda *_: KeeperContext())
    monkeypatch.setattr("backupd.wiring.keeper.open_sole_keeper", lambda *_: nullcontext())
    monkeypatch.setattr(keeper, "_expire", stopped)
    keeper.expire(None, as_json=True)


def ingesting_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "load_context", lambda *_: KeeperContext())
    monkeypatch.setattr("backupd.wiring.keeper.handoff_stores", lambda *_: ["disk"])
    monkeypatch.setattr("backupd.wiring.keeper.adopt_repositories", lambda *_: [])
    monkeypatch.setattr("backupd.wiring.keeper.open_keeper", lambda *_: nullcontext())
    monkeypatch.setattr(ingest, "ingest", stopped)
    keeper.ingest(None, as_json=True)


def verifying(_: pytest.MonkeyPatch) -> None:
    store._verify(Interrupting(), ("be", "disk"), None, None)


def publishing_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backupd.wiring.keeper.keeper_signer", stopped)
    drill._published(Anything(), "be", None, None)


LOOPS = (
    opening_a_store,
    finding_members,
    backing_up,
    trying_a_source,
    trying_a_store,
    finding_programs,
    drilling,
    checking_in_a_drill,
    purging,
    reading_the_facts,
    reading_the_own_ledger,
    noting_a_restore,
    restoring_a_region,
    a_phase_within_limits,
    trying_a_store_again,
    expiring,
    ingesting_objects,
    verifying,
    publishing_a_report,
)


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_an_interruption_passes_through(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the run wherever it comes: it is not counted as the store's, the database's or the check's fault."""
    with pytest.raises(InterruptedRunError):
        loop(monkeypatch)


def catching_everything(tree: ast.AST) -> list[ast.ExceptHandler]:
    """The handlers that would catch an interruption."""
    wide = {"BaseException", "EndingError", "InterruptedRunError"}
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or wide & {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)})
    ]


HANDED_ON = {
    "parallel.py",
    "repository/uploader.py",
    "rows/packer_process.py",
    "rows/worker.py",
    "cli/main.py",
}
"""Threads and processes that hand what ended them to whoever waits, and the one place that prints the end of a run."""


def test_nothing_else_catches_one_without_raising_it_again() -> None:
    """The family's handlers cannot, as it is no member; so only those for every exception are left to look at."""
    assert not issubclass(InterruptedRunError, Exception)
    silent = set()
    for path in PACKAGE.rglob("*.py"):
        for handler in catching_everything(ast.parse(path.read_text())):
            last = handler.body[-1]
            if not (isinstance(last, ast.Raise) and last.exc is None):
                silent.add(str(path.relative_to(PACKAGE)))
    assert silent == HANDED_ON
