"""The sweep's own checks can fail, and a fault strikes the call that it names, and later ones where it is to stay."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from doubles.paths import RECOVER, ROOT
from doubles.stores.checker import Checker


@pytest.fixture
def modules(monkeypatch):
    """The sweep's own modules, which find each other as `lib`."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return {
        name: importlib.import_module(f"lib.sweep.{name}") for name in ("case", "faults", "invariants", "log", "report")
    }


@pytest.fixture
def found(modules, tmp_path):
    """What is wrong with a small store after something was done to it."""
    checker = Checker(tmp_path)
    recover = importlib.import_module("lib.soak.oracle").load(RECOVER)

    def after(change=lambda _: None):
        change(checker.root)
        try:
            return list(modules["invariants"].form_faults(checker.root, recover))
        except recover.RecoverError as error:
            return [str(error)]

    return after


def first(root: Path, pattern: str) -> Path:
    path = min(root.glob(pattern))
    path.chmod(0o600)
    return path


def cut(root):
    path = first(root, "packs/*/*.pack")
    path.write_bytes(path.read_bytes()[:-1])


def flip(root):
    path = first(root, "packs/*/*.pack")
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))


def put_besides(root):
    (root / "packs" / "note.txt").write_text("left by somebody")


def shred(root):
    path = first(root, "keyrings/*/*.keyring")
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:3]) + b"\n")


def test_a_sound_store_has_no_fault(found):
    """What is said of the damaged ones below is not said of every store."""
    assert found() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (cut, "is not as long as its header"),
        (flip, "does not have its hash"),
        (put_besides, "has no place in the format"),
        (shred, "is cut short|is not in its keyring"),
        (lambda root: first(root, "keyrings/*/*.keyring").unlink(), "names a keyring that is not there"),
        (lambda root: first(root, "packs/*/*.pack").unlink(), "is needed by a record, and the pack is not there"),
    ],
    ids=["cut", "flipped", "foreign", "shredded", "no keyring", "no pack"],
)
def test_every_broken_invariant_is_named(found, change, says):
    """By a checker that shares no code with what wrote the store."""
    wrong = found(change)
    assert any(part in one for one in wrong for part in says.split("|")), wrong


@pytest.mark.parametrize(
    ("kind", "raised"),
    [("error", [2]), ("full", [2, 4]), ("cut", [2, 3, 4]), ("short", [4]), ("lost-reply", [2])],
)
def test_a_fault_strikes_its_call_and_stays_where_it_is_to_stay(modules, kind, raised):
    """Calls 1, 2 and 4 put something, call 3 reads; a part that was written is no error of the call itself."""
    trip, met, done = modules["faults"].Trip("main", modules["faults"].Fault("main", "store", 2, kind), ""), [], []
    for number, manner in enumerate(("put", "put", "any", "put"), start=1):
        try:
            trip.call("store", manner, "x", lambda at=number: done.append(at), lambda *_: OSError(), lambda: None)
        except OSError:
            met.append(number)
    assert met == raised
    assert (2 in done) == (kind == "lost-reply")


def test_the_cases_of_a_call_follow_from_what_it_does(modules):
    """A call that reads is not tried with a full disk, and every kind there is can be met by some call."""
    faults = modules["faults"]
    assert "full" not in faults.Call("main", "store", "any", "get").kinds
    met = {kind for manners in faults.BY_PORT.values() for kinds in manners.values() for kind in kinds.split()}
    assert met == set(faults.KINDS)
    assert str(faults.Fault("main", "store", 2, "cut", "get")) == "main:store:2:cut (get)"
    assert faults.Fault.parse("main:store:2:cut (get)") == faults.Fault("main", "store", 2, "cut")


def test_every_beginning_of_a_sweep_has_as_much_as_it_can_of_everything(modules):
    """One case of each kind at each sort of call before the second of any, in an order that the seed draws."""
    faults = modules["faults"]
    many = [faults.Fault("main", "state", number, "full", "mkdir") for number in range(1, 60)]
    few = [faults.Fault("main", port, 1, kind, "x") for port in ("store", "spool") for kind in ("full", "kill", "cut")]
    order = faults.spread(many + few, "7 purge")
    assert {fault.what for fault in order[:7]} == {"mkdir", "x"}
    assert set(order[:7]) >= set(few)
    assert sorted(order, key=str) == sorted(many + few, key=str)
    assert faults.spread(many + few, "7 purge") == order != faults.spread(many + few, "8 purge")


def test_a_worker_under_the_sweep_loads_little(modules):
    """Of backupd nothing but its own program: starts of processes are most of what a case takes."""
    code = "import sys, lib.sweep.disks; print(*[name for name in sys.modules if name.split('.')[0] == 'backupd'])"
    path = os.pathsep.join(map(str, (ROOT, ROOT / "scripts", ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("command", "struck"),
    [
        (["/bin/sh", "-c", "exit 3"], False),
        ([sys.executable, "-I", "-S", "/x/jail.py", "run", json.dumps({"command": ["/bin/initdb", "-D", "x"]})], True),
        ([sys.executable, "-I", "-S", "/x/jail.py", "run", json.dumps({"command": ["/bin/true"]})], False),
        (["/usr/bin/pg_dump", "--version"], True),
    ],
    ids=["shell", "initdb in a jail", "true in a jail", "pg_dump"],
)
def test_programs_of_postgresql_are_struck_in_a_jail_too(modules, monkeypatch, command, struck):
    """A drill's server and what makes it run in one; what is no program of PostgreSQL's does not count."""
    disks = importlib.import_module("lib.sweep.disks")
    monkeypatch.setattr(subprocess, "Popen", subprocess.Popen)
    trip = modules["faults"].Trip("main", modules["faults"].Fault("main", "postgres", 1, "error"), "")
    disks.sweep_programs(trip)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        pass
    assert trip.blown == struck
    if struck:
        assert (process.args, process.returncode) == (["/bin/false"], 1)


def test_the_table_has_a_row_for_each_operation(modules):
    """The same cells as text and as Markdown."""
    report = modules["report"]
    row = report.Row(
        "backup", dict.fromkeys(modules["faults"].PORTS, 7), cases=99, run=12, sorts=5, tried=4, wrong=["a case"]
    )
    assert list(report.markdown([row]))[2] == "| backup | 7 | 7 | 7 | 7 | 7 | 5 | 4 | 99 | 12 | 1 | 0 |"
    assert list(report.table([row]))[1].split() == ["backup", *["7"] * 5, "5", "4", "99", "12", "1", "0"]


def test_what_came_of_cases_is_kept_so_that_a_sweep_goes_on(modules, tmp_path):
    """Of a case that was run again, the last counts; a table of all runs can be printed from the file alone."""
    log, fault = modules["log"].Log(tmp_path / "log"), modules["faults"].Fault
    case = modules["case"].Case
    assert log.done("purge") == set()
    wanted = [fault("main", "store", number, "cut", what) for number in range(1, 21) for what in ("get", "list")]
    log.counted("purge", dict.fromkeys(modules["faults"].PORTS, 3), wanted)
    log.ended(case("purge", fault("main", "store", 2, "cut", "get"), status=6, wrong=["it\nhangs"]))
    log.ended(case("purge", fault("main", "store", 3, "cut", "get"), status=6, again=0, waited=True, wrong=["lost"]))
    log.ended(case("purge", fault("main", "store", 2, "cut", "get"), status=6))
    assert log.done("purge") == {"main:store:2:cut", "main:store:3:cut"}
    assert log.done("expire") == set()
    (row,) = log.rows(["expire", "purge"])
    assert row.cells == ["purge", *["3"] * 5, "2", "1", "40", "2", "1", "1"]
    assert row.wrong == ["purge main:store:3:cut (get): status 6, then 0\n  lost"]
