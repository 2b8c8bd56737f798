"""scripts/package: installed, upgraded, removed and purged by dpkg beside a running systemd; built the same twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doubles.node.systemd_machine import INSIDE, SystemdMachine
from doubles.paths import ROOT
from fix_systemd import install

pytestmark = pytest.mark.timeout(900)

STATE = ("/var/lib/backupd", "/var/spool/backupd")
IDLE = "[Service]\nType=simple\nExecStart=\nExecStart=/bin/sleep inf\nWatchdogSec=0\n"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two revisions, with the libraries of the tests in place of those that a network would bring."""
    folder = tmp_path_factory.mktemp("packages")
    return {revision: build(folder, revision) for revision in ("1", "2")}


def build(folder: Path, revision: str) -> Path:
    environment = {**os.environ, "BACKUPD_PYTHON": sys.executable, "BACKUPD_PACKAGES": f"{INSIDE}/packages"}
    options = ("--python", PYTHON, "--revision", revision, "--out", str(folder))
    command = [str(ROOT / "scripts" / "package"), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.splitlines()[-1])


def dpkg(machine: SystemdMachine, *arguments: str, check: bool = True) -> str:
    """Run dpkg without other packages' triggers: man-db's would read every page of this machine again."""
    done = machine.run("dpkg", "--no-triggers", *arguments, check=check)
    return (done.stdout + done.stderr).decode()


def put(machine: SystemdMachine, package: Path) -> str:
    """Copy a package into the machine; returns where it lies there."""
    shutil.copyfile(package, machine.path(f"/srv/{package.name}"))
    return f"/srv/{package.name}"


def ours(machine: SystemdMachine) -> list[str]:
    places = ("/etc", "/opt", "/usr", "/var/lib", "/var/spool", "/run")
    found = machine.text("find", *places, "-iname", "*backupd*", "!", "-path", "/var/lib/dpkg/*", check=False)
    return [path for path in found.splitlines() if "/srv/" not in path]


def test_installed_upgraded_removed_and_purged(bare_machine: SystemdMachine, packages: dict[str, Path]) -> None:
    """What ran runs again with the new version; what was edited stays; a purge leaves what nobody can make again."""
    before = set(ours(bare_machine))
    dpkg(bare_machine, "--install", put(bare_machine, packages["1"]))

    assert bare_machine.text("backupd", "--version").startswith("backupd ")
    shown = bare_machine.text("stat", "--format=%U:%G %a %n", "/etc/backupd/backupd.toml", *STATE).splitlines()
    assert shown == [
        "root:backupd 640 /etc/backupd/backupd.toml",
        "backupd:backupd 700 /var/lib/backupd",
        "backupd:backupd 700 /var/spool/backupd",
    ]
    assert bare_machine.text("man", "--where", "backupd-restore-database").startswith("/usr/share/man/man1/")
    asked = 'complete --do-complete "backupd snapsh"'
    assert bare_machine.text("fish", "--command", asked).startswith("snapshots\t")
    units = ("backupd.service", "backupd@be.service", "backupd-keeper.service", "backupd-drill.service")
    assert bare_machine.run("systemd-analyze", "verify", *units).stderr == b""

    idle = bare_machine.path("/etc/systemd/system/backupd.service.d")
    idle.mkdir()
    (idle / "idle.conf").write_text(IDLE)
    bare_machine.run("systemctl", "daemon-reload")
    bare_machine.run("systemctl", "enable", "--now", "backupd.service")
    first = bare_machine.shown("backupd.service")["MainPID"]
    config = bare_machine.path("/etc/backupd/backupd.toml")
    edited = config.read_text() + "# ours\n"  # a line more makes the example somebody's
    config.write_text(edited)
    bare_machine.path("/etc/backupd/credentials/node/tenant.key").write_text("secret\n")
    bare_machine.path("/var/lib/backupd/index").write_text("state\n")

    dpkg(bare_machine, "--install", put(bare_machine, packages["2"]))

    after = bare_machine.wait_for("backupd.service", lambda shown: shown["ActiveState"] == "active")
    assert after["MainPID"] not in (first, "0")
    assert config.read_text() == edited
    assert bare_machine.path("/var/lib/backupd/index").exists()

    dpkg(bare_machine, "--remove", "backupd")

    assert bare_machine.shown("backupd.service")["ActiveState"] == "inactive"
    assert bare_machine.path("/var/lib/backupd/index").exists()
    assert not bare_machine.path("/opt/backupd").exists()
    assert bare_machine.run("which", "backupd", check=False).returncode != 0

    said = dpkg(bare_machine, "--purge", "backupd")

    assert "Left, as nobody can make them again: /etc/backupd/backupd.toml" in said
    left = {"/etc/backupd", "/etc/backupd/backupd.toml", "/etc/systemd/system/backupd.service.d"}
    assert set(ours(bare_machine)) - before == left
    assert bare_machine.path("/etc/backupd/credentials/node/tenant.key").exists()
    assert "backupd" not in bare_machine.path("/etc/passwd").read_text()
    assert "backupd" not in bare_machine.path("/etc/group").read_text()


def test_nothing_is_left_where_nobody_put_anything(bare_machine: SystemdMachine, packages: dict[str, Path]) -> None:
    """The example goes with the rest."""
    before = ours(bare_machine)
    dpkg(bare_machine, "--install", put(bare_machine, packages["1"]))
    assert "Left" not in dpkg(bare_machine, "--purge", "backupd")
    assert ours(bare_machine) == before


def test_script_and_package_do_not_mix(bare_machine: SystemdMachine, packages: dict[str, Path]) -> None:
    """Each refuses where the other has installed, and says what to do."""
    install(bare_machine)
    place = put(bare_machine, packages["1"])
    assert "scripts/install --remove" in dpkg(bare_machine, "--install", place, check=False)
    assert bare_machine.text("backupd", "--version").startswith("backupd ")

    install(bare_machine, "--remove")
    dpkg(bare_machine, "--install", place)
    assert "apt-get remove backupd" in install(bare_machine, check=False)


def test_the_same_checkout_gives_the_same_bytes(packages: dict[str, Path], tmp_path: Path) -> None:
    """Whoever builds it can compare it."""
    again = build(tmp_path, "1")
    assert again.name == packages["1"].name
    assert again.read_bytes() == packages["1"].read_bytes()
