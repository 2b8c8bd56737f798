"""`backupd setup`, asked and answered on a terminal, beside a real database and a real SSH server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from doubles.node.terminal import Terminal
from doubles.paths import ROOT
from doubles.servers import postgres
from doubles.servers.sshd import Sshd

from backupd.seal.keyfiles import read_signer

pytestmark = pytest.mark.timeout(600)

TABLES = (
    "CREATE TABLE tenant (id int PRIMARY KEY, name text)",
    "CREATE TABLE issue (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant, title text)",
    "CREATE TABLE note (id int PRIMARY KEY, issue_id int NOT NULL REFERENCES issue, body text)",
    "CREATE TABLE draft (id int PRIMARY KEY, issue_id int REFERENCES issue)",
    "CREATE TABLE country (code text PRIMARY KEY)",
    "INSERT INTO tenant SELECT n, 'tenant ' || n FROM generate_series(1, 3) n",
    "INSERT INTO issue SELECT n, 1 + n % 3, 'title' FROM generate_series(1, 30) n",
    "INSERT INTO note SELECT n, n, 'body' FROM generate_series(1, 30) n",
    "INSERT INTO draft VALUES (1, 1), (2, NULL)",
    "INSERT INTO country VALUES ('be'), ('ch')",
)
PASSWORD = "a:strange\\password"
PASSPHRASE = "six words of a test's own"
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}


@pytest.fixture(scope="module")
def server():
    with postgres.running(15) as server:
        server.create_database("app")
        server.sql("app", *TABLES)
        quoted = PASSWORD.replace("'", "''")
        server.sql("app", f"CREATE ROLE backupd LOGIN BYPASSRLS PASSWORD '{quoted}'")
        yield server


@pytest.fixture
def reading(server):
    """A role that may read everything."""
    server.sql("app", "GRANT pg_read_all_data TO backupd")
    return server


@pytest.fixture
def home(tmp_path):
    """A folder for the configuration, in the place of /etc/backupd."""
    home = tmp_path / "etc"
    home.mkdir()
    return home


def started(home: Path) -> Terminal:
    command = (sys.executable, "-m", "backupd", "--config", str(home / "backupd.toml"), "setup")
    return Terminal(home, ENVIRONMENT, *command)


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "backupd", *arguments, "--config", str(home / "backupd.toml")]
    return subprocess.run(
        command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False, timeout=120
    )


def answer_database(terminal: Terminal, server: postgres.Server, password: str = PASSWORD) -> None:
    terminal.answer("Host or folder of the socket", "127.0.0.1")
    terminal.answer("Port", str(server.port))
    terminal.answer("Database", "app")
    terminal.answer("Role [backupd]")
    terminal.answer("Password", password)


def answer_tables(terminal: Terminal) -> None:
    """Take what is proposed for each table, and look at it."""
    terminal.answer("A short name for it")
    terminal.answer("Choice [1]")
    terminal.answer("says whose a row is [tenant_id]")
    terminal.answer("The table of the tenants themselves, or none [public.tenant]")
    for table, proposed in (
        ("country", "1  shared = true"),
        ("draft", '1  path = ["issue_id"]'),
    ):
        terminal.wait_for(f"Table public.{table}: ")
        assert proposed in terminal.answer("Choice [1]")
    terminal.wait_for("public.draft: 1 of 2 rows")
    assert '1  null_tenant = "shared"' in terminal.answer("Choice [1]")
    shown = terminal.answer("Is that right? (yes or no) [yes]")
    assert re.search(r"public\.note +path \S+ > tenant_id\b", shown)
    assert 'table = "public.tenant"' in shown


def answer_until_tables(terminal: Terminal, server: postgres.Server) -> None:
    terminal.answer("Name of this machine", "node-1")
    terminal.answer("Name of the region", "be")
    answer_database(terminal, server)
    answer_tables(terminal)


def answer_sftp(terminal: Terminal, sshd: Sshd, account: object) -> None:
    """Compare the fingerprint, and do with the public key what is asked for."""
    terminal.answer("Choice [1]")
    terminal.answer("A short name for the store [offsite]", "zurich")
    terminal.answer("Where it stands", "zurich")
    terminal.answer("Host", account.host)
    terminal.answer("Port", str(account.port))
    shown = terminal.answer("Is it the same", "yes")
    keygen = ("ssh-keygen", "-l", "-f", str(sshd.base / "host_key"))
    fingerprint = subprocess.run(keygen, capture_output=True, text=True, check=True).stdout.split()[1]
    assert f"ssh-ed25519 {fingerprint}" in shown
    terminal.answer("Account", account.user)
    terminal.answer("Folder on it", "backupd")
    terminal.answer("Press Enter")
    terminal.wait_for("refused our key")
    line = re.search(r"ssh-ed25519 \S+ backupd@node-1", terminal.shown)
    assert line is not None
    with (sshd.base / "authorized_keys").open("a") as file:
        file.write(f'restrict,command="{sshd.base / "shell"}" {line[0]}\n')
    assert "public half of the store's `key`" in terminal.answer("Try again?", "yes")
    terminal.answer("Press Enter")
    terminal.wait_for("The server let us in.")


def answer_identities(terminal: Terminal) -> None:
    terminal.answer("Recipient files")
    for name in ("ops", "escrow"):
        terminal.answer(f"New passphrase of {name}.identity", PASSPHRASE)
        terminal.answer("The same again", PASSPHRASE)


def answer_rest(terminal: Terminal, folder: Path) -> None:
    answer_identities(terminal)
    terminal.answer("Is this machine the keeper, too?", "no")
    terminal.answer("Folder for what this machine remembers", str(folder / "state"))
    terminal.answer("Folder for what waits for the store", str(folder / "spool"))
    terminal.wait_for("It holds.")


def test_from_nothing_to_the_first_backup(reading, home):
    """With nothing but answers, the configuration holds, and what is backed up comes back by the identity made."""
    sshd = Sshd()
    with sshd as account, started(home) as terminal:
        answer_until_tables(terminal, reading)
        answer_sftp(terminal, sshd, account)
        answer_rest(terminal, home.parent)
        terminal.answer("and the keys?", "yes")
        assert terminal.ended() == 0

        checked = run(home, "config", "check", "--connect")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "be/app: ready" in checked.stdout
        for command in (("init", "be"), ("backup", "be"), ("verify", "be")):
            done = run(home, *command)
            assert done.returncode == 0, done.stdout + done.stderr
        assert "5 tables, 67 rows" in run(home, "backup", "be").stdout

    config = tomllib.loads((home / "backupd.toml").read_text())
    assert config["trust"]["signers"] == [read_signer(home / "signing.key").public]
    assert config["trust"]["keepers"] == [read_signer(home / "keeper.key").public]
    assert "keeper" not in config
    words = " ".join(terminal.shown.split())
    assert PASSWORD not in terminal.shown
    assert PASSPHRASE not in terminal.shown
    assert f"the keeper's public key: {config['trust']['keepers'][0]}" in words
    assert f"Now move {home}/ops.identity and {home}/escrow.identity off this machine" in words
    secrets = ("signing.key", "tenant.key", "store.key", "keeper.key", "pgpass", "ops.identity", "escrow.identity")
    assert {path.name for path in home.iterdir()} == {*secrets, "ops.recipient", "escrow.recipient", "backupd.toml"}
    assert {(home / name).stat().st_mode & 0o777 for name in secrets} == {0o600}


def test_on_an_installed_machine_secrets_go_where_the_units_take_them_from(reading, home):
    """The example of the installation is replaced, the configuration keeps its mode, and names credentials."""
    for role in ("node", "keeper"):
        (home / "credentials" / role).mkdir(parents=True)
    example = ROOT / "backupd" / "config" / "example.toml"
    (home / "backupd.toml").write_bytes(example.read_bytes())
    (home / "backupd.toml").chmod(0o640)
    with started(home) as terminal:
        answer_until_tables(terminal, reading)
        terminal.answer("Choice [1]", "2")
        terminal.answer("A short name for the store")
        terminal.answer("Where it stands", "cellar")
        terminal.answer("Folder", str(home.parent / "store"))
        terminal.wait_for("is not there: mount its disk")
        (home.parent / "store").mkdir()
        terminal.answer("Folder", str(home.parent / "store"))
        answer_identities(terminal)
        terminal.answer("Is this machine the keeper, too?", "yes")
        terminal.answer("and the keys?", "yes")
        assert terminal.ended() == 0, terminal.shown

    config = tomllib.loads((home / "backupd.toml").read_text())
    assert config["node"]["signing_key_file"] == "credential:signing.key"
    assert config["keeper"]["signing_key_file"] == "credential:keeper.key"
    assert config["regions"]["be"]["databases"]["app"]["passfile"] == "credential:pgpass"
    assert (home / "backupd.toml").stat().st_mode & 0o777 == 0o640
    found = {role: sorted(path.name for path in (home / "credentials" / role).iterdir()) for role in ("node", "keeper")}
    assert found == {"node": ["pgpass", "signing.key", "tenant.key"], "keeper": ["keeper.key", "pgpass", "tenant.key"]}
    assert (home / "credentials/keeper/tenant.key").stat().st_nlink == 1
    assert "backupd-as node init be" in terminal.shown


def test_what_is_missing_in_the_database_is_said_and_asked_again(server, home):
    """A wrong password and a role without rights are each named, with what to do; then it goes on from there."""
    server.sql("app", "REVOKE pg_read_all_data FROM backupd")
    with started(home) as terminal:
        terminal.answer("Name of this machine", "node-1")
        terminal.answer("Name of the region", "Be")
        terminal.wait_for("must be 1 to 63")
        terminal.answer("Name of the region", "be")
        answer_database(terminal, server, "wrong")
        assert "127.0.0.1" in terminal.answer("Try again?", "yes")
        for answered in ("socket [127.0.0.1]", f"Port [{server.port}]", "Database [app]", "Role [backupd]"):
            terminal.answer(answered)
        terminal.answer("Password", PASSWORD)
        assert "pg_read_all_data" in terminal.answer("Try again?", "yes")
        server.sql("app", "GRANT pg_read_all_data TO backupd")
        answer_database(terminal, server)
        answer_tables(terminal)
        terminal.wait_for("The store. Where do backups go?")


@pytest.mark.parametrize("way", ["interrupted", "end of input", "no"])
def test_nothing_is_left_of_what_was_not_finished(reading, home, way):
    """However it ends before the end, no key and no configuration is there."""
    with Sshd() as account, started(home) as terminal:
        answer_until_tables(terminal, reading)
        terminal.answer("Choice [1]")
        terminal.answer("A short name for the store [offsite]")
        terminal.answer("Where it stands", "zurich")
        terminal.answer("Host", account.host)
        terminal.answer("Port", str(account.port))
        terminal.wait_for("Is it the same")
        terminal.type({"interrupted": "\x03", "end of input": "\x04", "no": "no\n"}[way])
        status = terminal.ended()
    assert status == {"interrupted": 130, "end of input": 10, "no": 10}[way], terminal.shown
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("name", ["backupd.toml", "signing.key", "escrow.identity", "pgpass"])
def test_nothing_is_overwritten(home, name):
    """A file of one's own is refused before the first question."""
    (home / name).write_text("ours\n")
    with started(home) as terminal:
        assert terminal.ended() == 10
    assert f"{name}' exists, and setup overwrites nothing" in " ".join(terminal.shown.split())
    assert "Name of this machine" not in terminal.shown
    assert (home / name).read_text() == "ours\n"


def test_it_asks_on_a_terminal_only(home):
    """A program that calls it is told how to do without."""
    done = run(home, "setup")
    assert done.returncode == 2
    assert "setup asks questions at a terminal" in done.stderr
