"""scripts/install: again and again the same, never over what somebody wrote, and taken off as it was put on."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from doubles.node.systemd_machine import INSIDE, SystemdMachine
from doubles.paths import ROOT
from fix_systemd import install

pytestmark = pytest.mark.timeout(900)

UNITS = "/usr/local/lib/systemd/system"
STATE = ("/var/lib/backupd", "/var/spool/backupd")
IDLE = "[Service]\nType=simple\nExecStart=\nExecStart=/bin/sleep inf\nWatchdogSec=0\n"


def owned(machine: SystemdMachine, *paths: str) -> list[str]:
    return machine.text("stat", "--format=%U:%G %a %n", *paths).splitlines()


def found(machine: SystemdMachine) -> list[str]:
    """Every file of ours, with its time."""
    folders = (UNITS, "/usr/local/sbin", "/etc/backupd", "/opt/backupd")
    chosen = ("-path", "*backupd*", "-type", "f", "!", "-name", "*.pyc", "-printf", "%p %T@\\n")
    return sorted(machine.text("find", *folders, *chosen).splitlines())


def test_installing_again_changes_nothing(bare_machine: SystemdMachine) -> None:
    """The first time puts everything and says what is next; the second finds nothing to do."""
    first = install(bare_machine)
    assert "systemctl enable --now backupd.service" in first
    assert owned(bare_machine, "/etc/backupd/backupd.toml", "/etc/backupd/credentials", *STATE) == [
        "root:backupd 640 /etc/backupd/backupd.toml",
        "root:root 700 /etc/backupd/credentials",
        "backupd:backupd 700 /var/lib/backupd",
        "backupd:backupd 700 /var/spool/backupd",
    ]
    assert bare_machine.text("backupd", "--version").startswith("backupd ")
    before = found(bare_machine)
    assert any(line.startswith("/opt/backupd/lib/python") for line in before)

    second = install(bare_machine, "--upgrade")

    assert "nothing was changed" in second
    assert "put  " not in second
    assert found(bare_machine) == before


def test_what_was_edited_stays(bare_machine: SystemdMachine) -> None:
    """Configuration, credentials and edited units outlive upgrades, and taking it off; state goes on request only."""
    install(bare_machine)
    config, unit = bare_machine.path("/etc/backupd/backupd.toml"), bare_machine.path(f"{UNITS}/backupd.service")
    secret = bare_machine.path("/etc/backupd/credentials/node/store.key")
    config.write_text("# ours\n")
    secret.write_text("secret\n")
    unit.write_text(unit.read_text().replace("Nice=5", "Nice=6"))
    bare_machine.path("/var/lib/backupd/index").write_text("state\n")
    bare_machine.path(f"{UNITS}/backupd-keeper.service").unlink()

    said = install(bare_machine)

    assert "backupd.service, which was edited; the new one is" in said
    assert config.read_text() == "# ours\n"
    assert "Nice=6" in unit.read_text()
    assert "Nice=5" in unit.with_name("backupd.service.new").read_text()
    assert f"put     {UNITS}/backupd-keeper.service" in said
    assert "nothing was changed" not in said

    said = install(bare_machine, "--remove")

    assert "backupd.service, which was edited" in said
    assert secret.read_text() == "secret\n"
    assert config.read_text() == "# ours\n"
    assert bare_machine.path("/var/lib/backupd/index").exists()
    left = bare_machine.text("find", "/opt/backupd", "/usr/local", "-name", "*backupd*", check=False).split()
    assert left == [f"{UNITS}/backupd.service"]


def test_man_pages_and_completion_are_put_where_they_are_looked_for(bare_machine: SystemdMachine) -> None:
    """They are found, an older version's go with an upgrade, and nothing of them is left when all is taken off."""
    said = install(bare_machine)

    assert "man pages below /usr/local/share/man" in said
    for page, section in (("backupd", 1), ("backupd-key-generate", 1), ("backupd.toml", 5)):
        found = bare_machine.text("man", "--where", page).strip()
        assert bare_machine.text("realpath", found) == f"/usr/local/share/man/man{section}/{page}.{section}\n"
    asked = 'complete --do-complete "backupd snapsh"'
    assert bare_machine.text("fish", "--command", asked).startswith("snapshots\t")
    loaded = bare_machine.text("bash", "-c", "source /usr/local/share/bash-completion/completions/backupd; complete -p")
    assert loaded == "complete -F _backupd backupd\n"
    assert "_backupd" in bare_machine.text("zsh", "-c", "autoload -U compinit; compinit -u; echo $_comps[backupd]")

    manifest = bare_machine.path("/usr/local/lib/backupd/files.sha256")
    old = bare_machine.path("/usr/local/share/man/man1/backupd-old.1")
    old.write_text("of a command that is no more\n")
    digest = hashlib.sha256(old.read_bytes()).hexdigest()
    manifest.write_text(f"{manifest.read_text()}{digest}  /usr/local/share/man/man1/backupd-old.1\n")
    assert "removed /usr/local/share/man/man1/backupd-old.1" in install(bare_machine)
    assert not old.exists()

    said = install(bare_machine, "--remove")

    assert "man pages below /usr/local/share/man" in said
    assert bare_machine.text("find", "/usr/local", "/etc/fish", "-name", "*backupd*").split() == []


def test_state_is_removed_for_a_word_only(bare_machine: SystemdMachine) -> None:
    """Neither an empty answer nor another one will do; keys and configuration stay in any case."""
    install(bare_machine)
    bare_machine.path("/var/lib/backupd/index").write_text("state\n")
    command = (f"{INSIDE}/checkout/scripts/install", "--remove", "--purge-state")

    for answer in (b"", b"yes\n"):
        assert bare_machine.run(*command, check=False, given=answer).returncode == 1
        assert bare_machine.path("/var/lib/backupd/index").exists()
    bare_machine.run(*command, given=b"remove the state\n")

    assert not any(bare_machine.path(folder).exists() for folder in STATE)
    assert bare_machine.path("/etc/backupd/backupd.toml").exists()


def test_an_upgrade_has_what_ran_run_again(bare_machine: SystemdMachine) -> None:
    """Units that are active go on with the new program; others stay as they were."""
    install(bare_machine)
    for unit in ("backupd.service", "backupd-keeper.service"):
        folder = bare_machine.path(f"/etc/systemd/system/{unit}.d")
        folder.mkdir()
        (folder / "idle.conf").write_text(IDLE)
    bare_machine.run("systemctl", "daemon-reload")
    bare_machine.run("systemctl", "start", "backupd.service")
    first = bare_machine.shown("backupd.service")["MainPID"]

    assert "nothing was changed" in install(bare_machine)
    assert bare_machine.shown("backupd.service")["MainPID"] == first
    bare_machine.path("/usr/local/lib/backupd/wheels.sha256").write_text("of an older program\n")
    assert "started backupd.service" in install(bare_machine)

    shown = bare_machine.wait_for("backupd.service", lambda shown: shown["ActiveState"] == "active")
    assert shown["MainPID"] not in (first, "0")
    assert bare_machine.shown("backupd-keeper.service")["ActiveState"] == "inactive"

    install(bare_machine, "--remove")
    assert bare_machine.shown("backupd.service")["ActiveState"] == "inactive"


def test_another_systems_folder_is_filled_but_for_the_program(tmp_path: Path) -> None:
    """With --root, units, users and folders are put there, and this machine is left alone; the program is named."""
    (tmp_path / "etc").mkdir()

    said = run_here("--root", str(tmp_path))

    assert f"chroot {tmp_path}" in said.stdout
    assert (tmp_path / UNITS.lstrip("/") / "backupd-drill.service").exists()
    assert "backupd-drill" in (tmp_path / "etc" / "passwd").read_text()
    assert (tmp_path / "var/spool/backupd").stat().st_uid != 0
    assert not (tmp_path / "opt").exists()
    assert "nothing was changed" in run_here("--root", str(tmp_path)).stdout

    run_here("--root", str(tmp_path), "--remove")
    assert not (tmp_path / UNITS.lstrip("/") / "backupd-drill.service").exists()
    assert (tmp_path / "etc/backupd/backupd.toml").exists()


def test_only_root_installs() -> None:
    """Anybody else is told so, with the command that does it, before anything happens."""
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash")
    prefix = nobody if os.geteuid() == 0 else ("bash",)

    done = subprocess.run([*prefix, str(ROOT / "scripts" / "install")], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == "install: only root can install. Run: sudo scripts/install\n"


def run_here(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([ROOT / "scripts" / "install", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
