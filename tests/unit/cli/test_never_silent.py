"""No command leaves a terminal silent while it waits for a store or a database that does not answer."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
from doubles.paths import ROOT
from doubles.samples.example_config import SIGNING_SEED, TENANT_KEY

from backupd.cli import application, progress, waiting_line
from backupd.cli.command_tree import command_tree
from backupd.errors import BackupdError, StoreGoneError
from backupd.seal import keyfiles, suite
from backupd.wiring import context

IDENTITY = "--identity {folder}/ops.identity --passphrase-file {folder}/passphrase"
TARGET = "--target 'host={folder} dbname=new'"
SERVER = "--target 'host={folder}'"
WAITING = {
    "key check": f"ch {IDENTITY}",
    "key rotate": f"ch {IDENTITY}",
    "config check": "--connect",
    "init": "ch",
    "tenancy": "ch",
    "backup": "ch",
    "snapshots": "ch",
    "info": "ch",
    "ls": f"ch {IDENTITY}",
    "diff": "ch latest latest",
    "verify": "ch",
    "restore database": f"ch app {TARGET} {IDENTITY}",
    "restore region": f"ch {SERVER} {IDENTITY}",
    "restore in-place": f"ch app --tenant 5 {TARGET} {IDENTITY}",
    "restore files": f"ch app --target-dir {{folder}}/files {IDENTITY}",
    "restore scratch": f"ch app --target-dir {{folder}}/scratch {IDENTITY}",
    "restore preview": f"ch app {IDENTITY}",
    "restore runbook": f"ch app {IDENTITY}",
    "restore clean": SERVER,
    "status": "ch",
    "doctor": "",
    "tenant list": "ch",
    "tenant show": "ch 5",
    "tenant where": "ch 5",
    "tenant unsubscribe": "ch 5",
    "tenant resubscribe": "ch 5",
    "tenant erase": "ch 5",
    "tenant hold": "ch 5 CASE-1 --review 2040-05-01",
    "tenant release": "ch 5 CASE-1",
    "tenant move": "ch 5 --to be",
    "tenant attest": "ch 5",
    "tenant sync": "ch",
    "purge": "ch",
    "expire": "ch",
    "plan": "ch",
    "ingest": "ch",
    "replicate": "ch --from away --to other",
    "store accept": "away --reason OPS-1",
    "ledger show": "ch",
    "ledger verify": "ch",
    "ledger retire": "ch gone --decision OPS-1",
    "ledger retire-keeper": f"ch {'ab' * 32} --decision OPS-1",
    "ledger redate": "ch --decision OPS-1",
    "drill": "ch",
    "report list": "ch",
    "report show": "ch latest",
    "report verify": "ch",
    "report export": "ch --out {folder}/export",
}
ALONE = {
    "key generate", "key escrow split", "key escrow combine", "config example", "config show", "attest countersign",
    "attest verify", "attest page", "manual", "completion",
    "setup",  # asks, at a terminal, and counts the seconds of each look (test_setup)
    "daemon",  # is no command for a terminal
}  # fmt: skip
MORE = """
[keeper]
signing_key_file = "{folder}/keeper.key"

[drill]
identity = "{folder}/ops.identity"
passphrase_file = "{folder}/passphrase"

[stores.other]
kind = "sftp"
host = "127.0.0.1"
port = 2
user = "nobody"
key = "{folder}/store.key"
host_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1vQ2hhcmFjdGVyc1RvRmlsbFRoaXJ0eVR3b0J5"]
path = "backupd"
location = "there"
ingest = true
keeper_user = "keeper"

[regions.ch.lifecycle.query]
database = "app"
sql = "SELECT 1 AS tenant, NULL::date AS unsubscribed_at, NULL::date AS erase_requested_at"
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Hanging:
    """What does not answer until something was drawn, and then is away."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.waited = 0
        self.silent: list[str] = []

    def wait(self, what: str) -> None:
        """Wait until the terminal shows more than it did; note it when that does not come."""
        self.waited += 1
        shown, until = len(self.terminal.getvalue()), time.monotonic() + 10
        while len(self.terminal.getvalue()) == shown:
            if time.monotonic() > until:
                self.silent.append(what)
                return
            threading.Event().wait(0.01)

    def store(self, *_: object) -> NoReturn:
        self.wait("store")
        raise StoreGoneError("away")

    def database(self, *_: object, **__: object) -> NoReturn:
        self.wait("database")
        raise psycopg.OperationalError("timeout expired")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of the transcripts, for a keeper that drills, with two stores and a database out of reach."""
    tmp_path = tmp_path_factory.mktemp("silent")
    pair = suite.generate()
    for name in ("ops", "escrow"):
        keyfiles.write_recipient(tmp_path / f"{name}.recipient", keyfiles.Recipient(name, pair.public))
    keyfiles.write_identity(tmp_path / "ops.identity", "ops", pair, "a passphrase")
    keeper = keyfiles.write_signer(tmp_path / "keeper.key")
    texts = {"signing.key": SIGNING_SEED.hex(), "tenant.key": TENANT_KEY.hex(), "passphrase": "a passphrase"}
    for name, text in {**texts, "store.key": "none"}.items():
        (tmp_path / name).write_text(f"{text}\n")
        (tmp_path / name).chmod(0o600)
    base = (ROOT / "tests" / "cli" / "base.toml").read_text() + MORE.replace("{folder}", "<folder>")
    base = base.replace("[trust]\n", f'[trust]\nkeepers = ["{keeper.public}"]\n')
    base = base.replace('stores = ["away"]', 'stores = ["away", "other"]')
    (tmp_path / "backupd.toml").write_text(base.replace("<folder>", str(tmp_path)))
    return tmp_path


@pytest.fixture
def hanging(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Hanging:
    """Stores and databases that do not answer, and a terminal that is drawn on sooner than for people."""
    hanging = Hanging(Terminal())
    monkeypatch.setenv("BACKUPD_CONFIG", str(folder / "backupd.toml"))
    monkeypatch.setattr(context, "_open_sftp_store", hanging.store)
    monkeypatch.setattr(psycopg, "connect", hanging.database)
    monkeypatch.setattr(progress, "_SILENT", 0.0)
    monkeypatch.setattr(progress, "_BEAT", 0.01)
    monkeypatch.setattr(waiting_line, "_SECOND", 0.01)
    monkeypatch.setattr(waiting_line, "_SILENT", 0)
    return hanging


def test_each_command_is_known_to_wait_or_not() -> None:
    """A new command is put into one of the two lists."""
    commands = {one.name for one in command_tree(application.build()).every() if not one.below}
    assert commands == WAITING.keys() | ALONE
    assert not WAITING.keys() & ALONE


@pytest.mark.parametrize("command", WAITING)
def test_a_terminal_shows_that_something_is_waited_for(
    command: str, folder: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as a store or a database is asked; afterwards the error says what was in the way."""
    streams = {"stdin": io.StringIO(), "stdout": io.StringIO(), "stderr": hanging.terminal}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    arguments = [*command.split(), *shlex.split(WAITING[command].format(folder=folder))]
    with contextlib.suppress(BackupdError):
        application.build()(arguments, prog_name="backupd", standalone_mode=False)
    assert hanging.waited
    assert hanging.silent == []
