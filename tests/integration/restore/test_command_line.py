"""The whole way on the command line: real processes, a real PostgreSQL, a real SSH store beside a directory."""

import json
import os
import subprocess
import sys

import pytest
from doubles.paths import ROOT
from doubles.servers.postgres import running

PASSPHRASE = "correct horse battery"
TENANT = "Zebrafish"
"""Part of every tenant's name, of its schema and its database: nothing printed may hold it."""

APP = (
    "CREATE TABLE account (id int PRIMARY KEY, tenant text NOT NULL)",
    "CREATE TABLE issue (id int PRIMARY KEY, account int NOT NULL REFERENCES account, title text)",
    "CREATE TABLE country (code text PRIMARY KEY)",
    "CREATE TABLE session (id int, tenant text, secret text)",
    f"INSERT INTO account SELECT n, '{TENANT}' || n % 3 FROM generate_series(1, 30) n",
    "INSERT INTO issue SELECT n, 1 + n % 30, md5(n::text) FROM generate_series(1, 5000) n",
    "INSERT INTO country VALUES ('be'), ('ch')",
    f"INSERT INTO session SELECT n, '{TENANT}1', 'hunter2' FROM generate_series(1, 9) n",
)
CONFIG = """
recipients = ["{here}/ops.recipient"]
[node]
name = "test"
state_dir = "{here}/state"
spool_dir = "{here}/spool"
signing_key_file = "{here}/signing.key"
tenant_key_file = "{here}/tenant.key"
[trust]
signers = ["{signer}"]
[stores.disk]
kind = "directory"
path = "{here}/disk"
location = "here"
[stores.away]
kind = "sftp"
host = "{ssh.host}"
port = {ssh.port}
user = "{ssh.user}"
key = "{ssh.key_file}"
host_keys = {host_keys}
path = "backupd"
location = "here"
[regions.be]
locations = ["here"]
stores = ["disk", "away"]
[regions.be.databases.app]
dsn = "{dsn}"
tenancy = {{ kind = "column", column = "tenant" }}
{rules}
[regions.be.databases.own]
dsn = "{maintenance}"
tenancy = {{ kind = "database", database_pattern = 'of_(?P<tenant>[A-Za-z0-9]+)' }}
"""
RULES = """
[[regions.be.databases.app.tables]]
match = ["public.country"]
shared = true
[[regions.be.databases.app.tables]]
match = ["public.session"]
class = "session"
[[regions.be.databases.app.tables]]
match = ["public.issue"]
path = ["issue_account_fkey"]
"""


class Program:
    """The command line in a folder of its own; remembers everything it printed."""

    def __init__(self, here):
        self.here = here
        self.printed = ""
        (here / "pass").write_text(PASSPHRASE + "\n")

    def run(self, *arguments, status=0):
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "BACKUPD_CONFIG": "backupd.toml"}
        done = subprocess.run(
            [sys.executable, "-m", "backupd", *arguments],
            cwd=self.here,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )
        self.printed += done.stdout + done.stderr
        assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *arguments, status=0):
        return json.loads(self.run(*arguments, "--json", status=status))

    def with_key(self, *arguments, status=0):
        return self.json(*arguments, "--identity", "ops.identity", "--passphrase-file", "pass", status=status)


@pytest.fixture
def story(tmp_path, pg15, make_database, make_role, sshd):
    """Keys made, configuration written, one database mapped wrongly at first."""
    program = Program(tmp_path)
    (tmp_path / "disk").mkdir()
    app = make_database(pg15)
    app.sql(*APP, "ANALYZE")
    role = make_role(pg15, "LOGIN BYPASSRLS")
    pg15.sql("postgres", f"GRANT pg_read_all_data TO {role}")
    program.run("key", "generate", "ops.identity", "--passphrase-file", "pass")
    program.run("key", "generate", "--tenant-key", "tenant.key")
    signer = program.json("key", "generate", "--signer", "signing.key")["public"]

    def write(rules, maintenance="dbname=postgres"):
        text = CONFIG.format(
            here=tmp_path,
            signer=signer,
            ssh=sshd,
            host_keys=json.dumps(list(sshd.host_keys)),
            dsn=pg15.conninfo(app.name, role),
            maintenance=maintenance,
            rules=rules,
        )
        (tmp_path / "backupd.toml").write_text(text)

    program.write = write
    program.app = app
    return program


def test_the_whole_way(story, pg15, make_database):
    """From keys to a proven restore, with what is refused on the way, and no tenant's name or row in any output."""
    story.write("")
    story.run("config", "check")
    assert "unmapped" in story.run("tenancy", "be", "--database", "app", status=5)
    story.run("init", "be")
    refused = story.json("backup", "be", "--database", "app", status=5)
    assert {one["error"]["kind"] for one in refused["backups"]} == {"Unmapped"}

    story.write(RULES)
    mapped = story.json("tenancy", "be", "--database", "app")["databases"][0]["tenancy"]["lines"]
    assert {line["table"]: line["policy"] for line in mapped} == {
        "public.account": "standard",
        "public.country": "standard",
        "public.issue": "standard",
        "public.session": "never",
    }
    first = story.json("backup", "be", "--database", "app")["backups"]
    assert [(one["store"], one["report"]["rows"]) for one in first] == [("disk", 5032), ("away", 5032)]
    story.app.sql("UPDATE issue SET title = 'changed' WHERE id = 7")
    second = story.json("backup", "be", "--database", "app")["backups"]
    assert all(one["report"]["sent"] < before["report"]["sent"] for one, before in zip(second, first, strict=True))

    listed = story.json("snapshots", "be")["regions"][0]["snapshots"]
    assert [one["totals"]["rows"] for one in listed] == [5032, 5032]
    checked = story.with_key("key", "check")["stores"]
    assert all(ring["opened"] for one in checked for ring in one["keyrings"])
    verified = story.with_key("verify", "--read-data", "all")["stores"]
    assert [(one["clean"], one["verification"]["findings"]) for one in verified] == [(True, [])] * 2

    restored = make_database(pg15)
    pg15.drop_database(restored.name)
    target = pg15.conninfo(restored.name)
    story.with_key("restore", "database", "be", "app", "--target", target, "--snapshot", listed[0]["name"][:25])
    assert restored.sql("SELECT count(*) FROM issue WHERE title = 'changed'") == [(0,)]
    story.with_key("restore", "database", "be", "app", "--target", target, status=10)
    pg15.drop_database(restored.name)
    story.with_key("restore", "database", "be", "app", "--target", target, "--store", "away")
    assert restored.sql("SELECT count(*) FROM issue WHERE title = 'changed'") == [(1,)]
    assert restored.sql("SELECT count(*) FROM session") == [(0,)]
    assert TENANT not in story.printed
    assert "hunter2" not in story.printed


def test_a_database_per_tenant_is_backed_up_without_its_name(story):
    """One label, several databases; snapshots tell them apart by a mark, and a database of nobody is refused."""
    # A server of its own: on the shared one there are databases of other tests, which come and go.
    with running(15) as server:
        server.sql("postgres", "CREATE ROLE reader LOGIN BYPASSRLS", "GRANT pg_read_all_data TO reader")
        for number in (1, 2):
            server.create_database(f"of_{TENANT}{number}")
            server.sql(f"of_{TENANT}{number}", "CREATE TABLE note AS SELECT 'mine' AS text")
        story.write(RULES, server.conninfo("postgres", "reader"))
        story.run("init", "be")
        contacts = story.json("config", "check", "--connect")["contacts"]
        backups = story.json("backup", "be", "--database", "own")["backups"]
        listed = story.json("snapshots", "be", "--store", "away")["regions"][0]["snapshots"]
        server.create_database(f"stray_{TENANT}")
        refused = story.json("backup", "be", "--database", "own", status=5)["backups"]

    assert [one["place"] for one in contacts] == ["be/app", "be/own", "be on disk", "be on away"]
    assert "error" not in {finding["severity"] for one in contacts for finding in one["findings"]}
    assert [(one["store"], one["report"]["rows"]) for one in backups] == [("disk", 1)] * 2 + [("away", 1)] * 2
    assert len({one["member"] for one in listed}) == len(listed) == 2
    assert {one["error"]["kind"] for one in refused} == {"Unmapped"}
    assert TENANT not in story.printed


def test_damage_is_told_and_stops_a_restore(story, pg15):
    """A flipped byte on one store: verify names the object and fails, restore refuses, the other store is clean."""
    story.write(RULES)
    story.run("init", "be")
    story.run("backup", "be", "--database", "app")
    pack = max((story.here / "disk").rglob("*.pa[cr][kt]"), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)

    found = story.json("verify", "be", "--read-data", "all", status=7)["stores"]
    assert [one["clean"] for one in found] == [False, True]
    assert pack.name in json.dumps(found[0])
    failed = story.with_key(
        "restore",
        "database",
        "be",
        "app",
        "--target",
        pg15.conninfo(f"{story.app.name}_never"),
        "--store",
        "disk",
        status=7,
    )
    assert pack.parent.name in failed["error"]["message"]


def test_one_store_being_down_does_not_stop_the_other(story):
    """The backup onto the store that is there is made first; the exit status tells of the one that is not."""
    story.write(RULES)
    story.run("init", "be")
    (story.here / "disk").rename(story.here / "unplugged")

    outcomes = story.json("backup", "be", "--database", "app", status=6)["backups"]

    assert [(one["store"], "error" in one) for one in outcomes] == [("away", False), ("disk", True)]
