"""A machine with systemd on which backupd is installed by its own script, beside a database and an SSH store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from doubles.node import node_services
from doubles.node.systemd_machine import INSIDE, SystemdMachine, boot

from backupd.seal import keyfiles, suite
from backupd.seal.keyfiles import write_signer
from backupd.seal.tags import write_tenant_key

UNITS = ("backupd.service", "backupd@be.service", "backupd-keeper.service", "backupd-drill.service")
PASSPHRASE = "six random words of a drill"
CONFIG = """
recipients = ["/etc/backupd/drill.recipient"]
[node]
name = "booted"
signing_key_file = "credential:signing.key"
tenant_key_file = "credential:tenant.key"
[trust]
signers = ["{signing}"]
keepers = ["{keeping}"]
[keeper]
signing_key_file = "credential:keeper.key"
[drill]
identity = "credential:drill.identity"
passphrase_file = "credential:drill.passphrase"
scratch_dir = "/var/lib/backupd-drill"
[stores.offsite]
kind = "sftp"
host = "127.0.0.1"
port = {port}
user = "{user}"
key = "credential:store.key"
keeper_key = "credential:keeper-store.key"
host_keys = ["{host_key}"]
path = "{home}"
location = "here"
[regions.be]
locations = ["here"]
stores = ["offsite"]
[regions.be.databases.app]
dsn = "{dsn}"
passfile = "credential:pgpass"
tenancy = {{ kind = "column", column = "tenant" }}
"""
CREDENTIALS = {
    "node": ("signing.key", "tenant.key", "store.key", "pgpass"),
    "keeper": ("keeper.key", "tenant.key", "store.key", "keeper-store.key", "pgpass"),
    "drill": (
        *("keeper.key", "tenant.key", "store.key", "keeper-store.key", "pgpass"),
        *("drill.identity", "drill.passphrase"),
    ),
}
"""What each unit is given, and nothing else."""


def install(machine: SystemdMachine, *arguments: str, check: bool = True) -> str:
    """Run scripts/install in the machine, with the libraries of the tests in place of a network; what it said."""
    python = () if "--remove" in arguments else ("--python", machine.python)
    done = machine.run(
        f"{INSIDE}/checkout/scripts/install", *python, *arguments, check=check, BACKUPD_PACKAGES=f"{INSIDE}/packages"
    )
    return (done.stdout + done.stderr).decode()


@dataclass(frozen=True)
class Installed:
    """An installed and configured one."""

    machine: SystemdMachine
    around: dict[str, Any]
    """What doubles.node.node_services told."""

    def as_unit(self, role: str, *command: str, **options: Any) -> str:
        """What a command of backupd says when it runs as a unit would run it."""
        return self.machine.text("backupd-as", role, *command, **options)


@pytest.fixture
def bare_machine() -> Iterator[SystemdMachine]:
    """A machine of one's own, where nothing is installed."""
    yield from _booted()


@pytest.fixture(scope="module")
def booted() -> Iterator[Installed]:
    """One for a file of tests, with everything that README's *Install* and *Set up a keeper* ask for."""
    for machine in _booted():
        install(machine)
        around = machine.beside(
            *(machine.python, "-m", "doubles.node.node_services", "/srv/neighbours"),
            PYTHONPATH=f"{INSIDE}/checkout/tests:{INSIDE}/packages",
        )
        _configure(machine, around)
        yield Installed(machine, around)


def _booted() -> Iterator[SystemdMachine]:
    folder = Path(tempfile.mkdtemp(prefix="backupd-machine-"))
    try:
        machine = boot(folder)
        try:
            yield machine
        finally:
            machine.end()
    finally:
        folder.rmdir()


def _configure(machine: SystemdMachine, around: dict[str, Any]) -> None:
    etc = machine.path("/etc/backupd")
    made = etc / "made"
    made.mkdir(mode=0o700)
    pair = suite.generate()
    keyfiles.write_recipient(etc / "drill.recipient", keyfiles.Recipient("drill", pair.public))
    keyfiles.write_identity(made / "drill.identity", "drill", pair, PASSPHRASE)
    (made / "drill.passphrase").write_text(f"{PASSPHRASE}\n")
    (made / "pgpass").write_text(f"*:*:*:backupd:{node_services.PASSWORD}\n")
    (made / "store.key").write_bytes(machine.path(around["writer"]).read_bytes())
    (made / "keeper-store.key").write_bytes(machine.path(around["keeper"]).read_bytes())
    write_tenant_key(made / "tenant.key")
    signers = {"signing": write_signer(made / "signing.key"), "keeping": write_signer(made / "keeper.key")}
    for role, names in CREDENTIALS.items():
        for name in names:
            (etc / "credentials" / role / name).write_bytes((made / name).read_bytes())
    keys = {name: signer.public for name, signer in signers.items()}
    (etc / "backupd.toml").write_text(CONFIG.format(**keys, **around))
