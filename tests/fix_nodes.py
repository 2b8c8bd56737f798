"""A node as it is installed: configuration, keys and folders on disk, and its command line in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from doubles.paths import ROOT, TESTS
from doubles.stores.snapshots import Look, look
from fix_postgres import Database

from backupd.repository.repository import Repository
from backupd.seal import keyfiles, suite
from backupd.seal.documents import Signer
from backupd.seal.keyfiles import write_signer
from backupd.seal.tags import write_tenant_key
from backupd.store.directory import DirectoryStore

CONFIG = """
recipients = ["{node}/ops.recipient"]
[node]
name = "test"
state_dir = "{node}/state"
spool_dir = "{node}/spool"
signing_key_file = "{node}/signing.key"
tenant_key_file = "{node}/tenant.key"
workers = 2
client_dirs = ["{programs}"]
[trust]
signers = ["{signer}"]
{stores}
[regions.be]
locations = ["here"]
stores = {names}
[regions.be.databases.app]
dsn = "{dsn}"
{passfile}
{tenancy}
"""
DISK = """
[stores.disk]
kind = "directory"
path = "{folder}/disk"
location = "here"
"""
BY_COLUMN = 'tenancy = { kind = "column", column = "tenant" }'


@dataclass
class NodeFolder:
    """`node` holds all that the machine has, and nothing else does; the identity lies outside of it."""

    folder: Path
    pair: suite.KeyPair
    signer: Signer

    @property
    def node(self) -> Path:
        return self.folder / "node"

    def configure(self, database: Database, tenancy: str = BY_COLUMN, **changes: str) -> None:
        """For one database under the label `app` in region `be`; further keywords fill the other gaps of CONFIG."""
        fields = {
            "node": self.node,
            "programs": database.server.bin,
            "signer": self.signer.public,
            "stores": DISK.format(folder=self.folder),
            "names": '["disk"]',
            "dsn": database.conninfo,
            "passfile": "",
            "tenancy": tenancy,
        }
        (self.node / "backupd.toml").write_text(CONFIG.format(**(fields | changes)))

    def become_keeper(self, more: str = "") -> Signer:
        """Make a keeper's key, which `[trust]` names, and add `[keeper]` and these lines to the configuration."""
        signer = write_signer(self.node / "keeper.key")
        config = self.node / "backupd.toml"
        text = config.read_text().replace("[trust]\n", f'[trust]\nkeepers = ["{signer.public}"]\n')
        config.write_text(f'{text}\n[keeper]\nsigning_key_file = "{self.node}/keeper.key"\n{more}')
        return signer

    def write_identity(self) -> None:
        """Write `ops.identity`, and the file `passphrase` that opens it."""
        (self.folder / "passphrase").write_text("a passphrase\n")
        keyfiles.write_identity(self.folder / "ops.identity", "ops", self.pair, "a passphrase")

    def command(self, *arguments: str, module: Sequence[str] = ("backupd",)) -> list[str]:
        return [sys.executable, "-m", *module, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        path = f"{ROOT}:{TESTS}"
        return {"PATH": os.environ["PATH"], "PYTHONPATH": path, "BACKUPD_CONFIG": str(self.node / "backupd.toml")}

    def run(self, *arguments: str, module: Sequence[str] = ("backupd",)) -> subprocess.CompletedProcess[bytes]:
        """Whatever its exit status is."""
        if "backup" in arguments:
            self._outwait()
        return subprocess.run(
            self.command(*arguments, module=module),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=200,
        )

    def _outwait(self) -> None:
        """Snapshots of one second are in no order that tests could rely on."""
        records = self.folder / "disk" / "be" / "snapshots"
        while any(records.glob(f"*/{datetime.now(UTC):%Y%m%dT%H%M%SZ}-*")):
            time.sleep(0.05)

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return json.loads(done.stdout)

    def repository(self) -> Repository:
        return Repository(DirectoryStore(self.folder / "disk" / "be"), [self.signer.public])

    def looks(self) -> list[Look]:
        """Every snapshot on the disk, read to its last byte."""
        repository = self.repository()
        return [look(repository, name, self.pair.secret) for name in repository.snapshots()]


def on_terminal(node: NodeFolder, answer: str, *arguments: str) -> tuple[int, str]:
    """Run the command where somebody types the answer; return its exit status and all that it printed."""
    ours, its = pty.openpty()
    try:
        os.write(ours, answer.encode())
        done = subprocess.run(
            node.command(*arguments),
            cwd=node.folder,
            env=node.environment,
            stdin=its,
            capture_output=True,
            check=False,
            timeout=200,
        )
    finally:
        os.close(ours)
        os.close(its)
    return done.returncode, (done.stdout + done.stderr).decode()


@pytest.fixture
def node(tmp_path: Path) -> NodeFolder:
    """Keys, folders and an empty disk."""
    pair = suite.generate()
    (tmp_path / "node").mkdir()
    (tmp_path / "disk").mkdir()
    keyfiles.write_recipient(tmp_path / "node" / "ops.recipient", keyfiles.Recipient("ops", pair.public))
    write_tenant_key(tmp_path / "node" / "tenant.key")
    return NodeFolder(tmp_path, pair, write_signer(tmp_path / "node" / "signing.key"))


@pytest.fixture
def node_of(node: NodeFolder) -> Callable[..., NodeFolder]:
    """The node, configured for a database and with its repository made."""

    def make(database: Database, tenancy: str = BY_COLUMN, **changes: str) -> NodeFolder:
        node.configure(database, tenancy, **changes)
        node.json("init", "be")
        return node

    return make
