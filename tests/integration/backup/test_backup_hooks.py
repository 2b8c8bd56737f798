"""Programs that run before and after a region's backup: in order, with a deadline, without secrets, and reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from doubles.node.processes import eventually
from fix_nodes import NodeFolder
from fix_postgres import Database

from backupd.errors import BackupdError
from backupd.operations.hooks import Hook, HookEvent, run_hook

NOTE = '#!/bin/sh\necho "$BACKUPD_EVENT $BACKUPD_REGION ${BACKUPD_EXIT_STATUS-}" >> "$1"\nexit "${2-0}"\n'


@pytest.fixture
def node(pg17: object, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder]) -> NodeFolder:
    database = make_database(pg17)
    database.sql("CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL)", "INSERT INTO note VALUES (1, 'a')")
    return node_of(database)


def program(folder: Path, text: str = NOTE, name: str = "hook") -> Path:
    file = folder / name
    file.write_text(text)
    file.chmod(0o755)
    return file


def configure(node: NodeFolder, **arguments: list[str]) -> None:
    config = node.node / "backupd.toml"
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in arguments.items())
    config.write_text(f"{config.read_text()}\n[regions.be.hooks]\n{lines}")


def test_hooks_run_around_a_backup(node: NodeFolder) -> None:
    """Before and after where it succeeds; before and on failure where it does not, with the exit status."""
    hook, log = program(node.folder), node.folder / "log"
    every = ("run_before", "run_after", "run_on_failure")
    configure(node, **{name: [str(hook), str(log)] for name in every})
    node.json("backup")
    assert log.read_text() == "run_before be \nrun_after be 0\n"
    log.unlink()
    (node.folder / "disk").rename(node.folder / "gone")
    assert node.run("backup").returncode == 6
    assert log.read_text() == "run_before be \nrun_on_failure be 6\n"


def test_a_hook_that_fails_before_keeps_the_backup_from_running(node: NodeFolder) -> None:
    """It is an error of the region by name, and what should happen on failure does."""
    hook, log = program(node.folder), node.folder / "log"
    configure(node, run_before=[str(hook), str(log), "3"], run_on_failure=[str(hook), str(log)])
    done = node.run("backup", "--json")
    assert done.returncode == 1
    (one,) = json.loads(done.stdout)["backups"]
    assert "run_before" in one["error"]["message"]
    assert "status 3" in one["error"]["message"]
    assert log.read_text() == "run_before be \nrun_on_failure be 1\n"
    assert node.repository().snapshots() == []


def test_an_interruption_is_a_failure_to_a_hook(node: NodeFolder) -> None:
    """What was stopped before goes on, whoever stopped the backup."""
    hook, log = program(node.folder), node.folder / "log"
    stops = program(node.folder, "#!/bin/sh\nkill -TERM $PPID\nexec sleep 60\n", "stops")
    configure(node, run_before=[str(stops)], run_on_failure=[str(hook), str(log)])
    assert node.run("backup").returncode == 130
    assert log.read_text() == "run_on_failure be 130\n"


def test_a_hook_that_fails_afterwards_is_an_error_beside_the_snapshot(node: NodeFolder) -> None:
    """The snapshot exists all the same."""
    hook = program(node.folder)
    configure(node, run_after=[str(hook), str(node.folder / "log"), "9"])
    done = node.run("backup", "--json")
    assert done.returncode == 1
    first, second = json.loads(done.stdout)["backups"]
    assert first["report"]["snapshot"] == node.repository().snapshots()[0]
    assert "run_after" in second["error"]["message"]


def test_a_hook_inherits_no_secret(tmp_path: Path) -> None:
    """Neither passwords nor the folder of credentials, nor a descriptor; only what it is meant to know."""
    out = tmp_path / "out"
    hook = program(tmp_path, f'#!/bin/sh\nenv > "{out}"\nls /proc/self/fd >> "{out}"\n')
    secrets = {"PGPASSWORD": "hunter2", "CREDENTIALS_DIRECTORY": "/run/credentials", "BACKUPD_CONFIG": "x"}
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **secrets}
    run_hook(Hook(HookEvent.BEFORE, (str(hook),), 10.0), "be", environment)
    given = out.read_text()
    assert "BACKUPD_EVENT=run_before\n" in given
    assert "BACKUPD_REGION=be\n" in given
    assert not any(word in given for word in ("hunter2", "CREDENTIALS", "BACKUPD_CONFIG"))


def test_a_hook_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    """Also one that ignores being asked."""
    pid = tmp_path / "pid"
    hook = program(
        tmp_path, f"#!/bin/sh\ntrap '' TERM\nsleep 600 &\necho $! > {pid}.new\nmv {pid}.new {pid}\nwait\nwait\n"
    )
    with pytest.raises(BackupdError, match="within 1"):
        run_hook(Hook(HookEvent.AFTER, (str(hook),), 1.0), "be", dict(os.environ), grace=0.2)
    child = int(pid.read_text())
    eventually(lambda: not _alive(child), 20)


def test_a_hook_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    """With the reason, as the system gives it."""
    with pytest.raises(BackupdError, match="No such file"):
        run_hook(Hook(HookEvent.AFTER, (str(tmp_path / "none"),), 1.0), "be", {})


def test_an_interrupted_run_takes_its_hook_with_it(tmp_path: Path) -> None:
    """Who stops backupd stops what it started."""
    pid = tmp_path / "pid"
    hook = program(tmp_path, f"#!/bin/sh\necho $$ > {pid}.new\nmv {pid}.new {pid}\nexec sleep 600\n")
    script = (
        "import sys; from backupd.cli.main import _interrupt; import signal\n"
        "from backupd.errors import InterruptedRunError\n"
        "from backupd.operations.hooks import Hook, HookEvent, run_hook\n"
        "signal.signal(signal.SIGTERM, _interrupt)\n"
        "try:\n"
        f"    run_hook(Hook(HookEvent.BEFORE, ({str(hook)!r},), 600.0), 'be', {{}})\n"
        "except InterruptedRunError:\n"
        "    sys.exit(42)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    eventually(pid.exists, 30)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 42
    child = int(pid.read_text())
    eventually(lambda: not _alive(child), 20)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("value", [["relative"], ["/nowhere/at/all"], []])
def test_hooks_that_cannot_be_run_are_faults(node: NodeFolder, value: list[str]) -> None:
    """The configuration's check says so before the night does."""
    configure(node, run_before=value)
    done = node.run("config", "check")
    assert done.returncode == 3
    assert b"regions.be.hooks.run_before" in done.stderr
