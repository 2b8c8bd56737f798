"""One command restores all databases of a region: a failure is reported with its database, the others are restored."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from doubles.servers.postgres import Server, running
from fix_nodes import BY_COLUMN, NodeFolder
from fix_postgres import Database

from backupd.seal.keyfiles import write_identity

TENANT = "Zebrafish"
"""Part of every tenant's name, and of its database's: nothing printed may hold it."""
OWN = """
[regions.be.databases.own]
dsn = "{dsn}"
tenancy = {{ kind = "database", database_pattern = 'of_(?P<tenant>[A-Za-z0-9]+)' }}
[regions.be.databases.later]
dsn = "{dsn}"
tenancy = {{ kind = "none", unclassified = "shared" }}
"""
NOTE = "CREATE TABLE note AS SELECT {} AS id, '{}' AS tenant"


class Whole:
    """A node that has backed a region up: one database of all tenants, two of one each, and one that is not there."""

    def __init__(self, node: NodeFolder, server: Server) -> None:
        self.node, self.server = node, server
        self.printed = ""
        write_identity(node.folder / "id", "ops", node.pair, "pass")
        (node.folder / "pass").write_text("pass\n")

    def run(self, *arguments: str, status: int = 0) -> str:
        command, *rest = arguments
        done = self.node.run("restore", command, "be", *rest, "--identity", "id", "--passphrase-file", "pass")
        self.printed += (done.stdout + done.stderr).decode()
        assert done.returncode == status, self.printed
        return done.stdout.decode() + done.stderr.decode()

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", status=status).split("\n")[0])

    def names(self) -> set[str]:
        return {name for (name,) in self.server.sql("postgres", "SELECT datname FROM pg_database")}

    @property
    def target(self) -> str:
        return f"host={self.server.sockets} port={self.server.port} user=postgres"


@pytest.fixture
def whole(node: NodeFolder) -> Iterator[Whole]:
    with running(17) as server:
        for number in (1, 2):
            server.create_database(f"of_{TENANT}{number}")
            server.sql(f"of_{TENANT}{number}", NOTE.format(number, "b"))
        node.configure(Database(server, "app"), BY_COLUMN)
        config = node.node / "backupd.toml"
        config.write_text(config.read_text() + OWN.format(dsn=server.conninfo()))
        node.json("init", "be")
        # Before there is a database that is nobody's.
        node.json("backup", "be", "--database", "own")
        server.create_database("app")
        server.sql("app", NOTE.format(1, "a"), f"INSERT INTO note VALUES (2, '{TENANT}3')", "CREATE ROLE owner_of_note")
        server.sql("app", "ALTER TABLE note OWNER TO owner_of_note")
        node.json("backup", "be", "--database", "app")
        yield Whole(node, server)


def found(answer: Any, key: str) -> list[tuple[str, bool, bool]]:
    """Label, whether it is one of several, and whether `key` came of it."""
    return [(one["database"], one["member"] is not None, bool(one.get(key))) for one in answer["databases"]]


ALL = [("app", False, True), ("own", True, True), ("own", True, True)]


def test_a_region_is_restored_as_far_as_it_can_be(whole: Whole) -> None:
    """Each database beside its own; one that is missing makes the status; nothing done is done again, what failed is
    tried again, and what is new is a new restore."""
    answer = whole.json("region", "--target", whole.target, status=2)
    assert found(answer, "report") == ALL
    assert answer["missing"] == ["later"]
    names = {"app_restored", f"of_{TENANT}1_restored", f"of_{TENANT}2_restored"}
    assert names <= whole.names()
    for name in names:
        rows = whole.server.sql(name, "SELECT * FROM note ORDER BY 1")
        assert rows == whole.server.sql(name.removesuffix("_restored"), "SELECT * FROM note ORDER BY 1")

    whole.server.drop_database("app_restored")
    whole.server.drop_database(f"of_{TENANT}2_restored")
    whole.server.create_database(f"of_{TENANT}2_restored")
    at = answer["again"]
    again = whole.json("region", "--target", whole.target, "--snapshot", at, status=10)
    assert sorted(found(again, "done_before")) == sorted([*ALL[1:2], ("app", False, False), ("own", True, False)])
    assert [one["error"]["kind"] for one in again["databases"] if "error" in one] == ["Refused"]
    assert found(again, "report")[0] == ALL[0]

    told = whole.run("region", "--target", whole.target, "--snapshot", at, status=10)
    assert "be/app of" in told
    assert "restored by an earlier run, left as it is" in told
    assert (
        "2 of 4 databases of be are restored\n  to go on with the same snapshots: the same command with --snapshot"
        in told
    )
    assert "be/later: there is no snapshot of it at that time" in told

    whole.node.json("backup", "be", "--database", "app")
    newer = whole.run("region", "--target", whole.target, "--suffix", "_2", status=2)
    assert (newer.count("restored own of"), 'as "app_2"' in newer) == (2, True)
    assert TENANT not in whole.printed


def test_a_region_on_paper(whole: Whole, pg17: Server) -> None:
    """What would be done is told for each database, for people, for programs and to be kept; nothing is made.

    So is what a server lacks, by name.
    """
    before = whole.names()
    plan = whole.run("preview", "--target", pg17.conninfo(), status=2)
    assert plan.count("\nown (") == 2
    assert "3 databases: " in plan
    assert plan.count("missing   role") == plan.count("owner_of_note") == 1
    answer = whole.json("preview", status=2)
    assert [one["plan"]["rows"] for one in answer["databases"]] == [2, 1, 1]
    assert "--restorer wants a DATABASE" in whole.run("preview", "--restorer", "restorer", status=2)
    script = whole.run("preview", "app", "--target", whole.target, "--restorer", "restorer")
    statements = [line.split()[:3] for line in script.splitlines() if line.startswith(("CREATE ", "GRANT "))]
    assert statements == [["CREATE", "ROLE", '"restorer"'], ["GRANT", '"owner_of_note"', "TO"]]
    assert "--role-map postgres=restorer" in script
    assert TENANT not in whole.printed
    book = whole.run("runbook", status=2)
    for words in ("RUNBOOK: all databases of region be", "later: no snapshot", "--globals --analyze", "recover store"):
        assert words in book
    assert f"--snapshot {answer['again']}" in book
    renames = [
        shlex.split(line) for line in whole.run("runbook", "app").split("\n") if line.strip().startswith("psql ")
    ]
    assert [words[1] for words in renames] == ["host=SERVER dbname=postgres user=postgres"] * 2
    assert [words[3] for words in renames] == [
        'ALTER DATABASE "app" RENAME TO "app_before"',
        'ALTER DATABASE "app_restored" RENAME TO "app"',
    ]
    for line in (book + whole.run("runbook", "app")).split("\n"):
        if line.strip().startswith("backupd "):
            # An option that is not known is refused before help is given.
            assert whole.node.run(*shlex.split(line)[1:], "--help").returncode == 0, line
    assert whole.names() == before
    name = answer["databases"][0]["snapshot"][:25]
    assert "a snapshot is of one database, not of a region" in whole.run("preview", "--snapshot", name, status=2)
    assert "no snapshot of the region fits" in whole.run("preview", "--snapshot", "2020-01-01", status=2)
    assert TENANT not in whole.printed


def test_a_region_as_plain_files(whole: Whole, tmp_path: Path) -> None:
    """A folder for each database; the second run does what the first could not, and no more."""
    out = tmp_path / "out"
    (out / "app").mkdir(parents=True)
    first = whole.json("files", "--target-dir", str(out), status=10)
    assert found(first, "report") == [("app", False, False), *ALL[1:]]
    assert {path.name for path in out.iterdir()} == {"app", f"own-of_{TENANT}1", f"own-of_{TENANT}2"}
    (out / "app").rmdir()
    second = whole.json("files", "--target-dir", str(out), "--snapshot", first["again"], status=2)
    assert found(second, "report") == [ALL[0], ("own", True, False), ("own", True, False)]
    assert (out / "app" / "MANIFEST.json").exists()
    assert TENANT not in whole.printed


def test_damage_of_one_database_does_not_stop_the_others(whole: Whole) -> None:
    """Its status is that of damage, and the object is named; a record that cannot be believed is told, too."""
    repository = whole.node.repository()
    label = {repository.record(name).database: name for name in repository.snapshots()}
    record = repository.record(label["app"])
    folder = whole.node.folder / "disk" / "be" / "packs" / record.generation
    for sha256, _, _ in record.packs:
        broken = folder / f"{sha256}.pack"
        broken.chmod(0o600)
        broken.write_bytes(b"x" + broken.read_bytes()[1:])
    answer = whole.json("region", "--target", whole.target, status=7)
    assert found(answer, "report") == [("app", False, False), *ALL[1:]]
    place = whole.node.folder / "disk" / "be" / "snapshots"
    (path,) = (path for path in place.rglob("*") if path.name.startswith(label["app"][:25]))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"app", b"apq", 1))
    answer = whole.json("region", "--target", whole.target, "--suffix", "_x", status=7)
    assert (answer["missing"], len(answer["unreadable"])) == (["app", "later"], 1)
    assert found(answer, "report") == ALL[1:]


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder other users can reach, with a short path."""
    folder = Path("/tmp") / f"kept-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o711)
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def shell(command: str) -> None:
    subprocess.run(["sh", "-c", command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_region_in_a_scratch_server_that_stays(whole: Whole, reachable: Path) -> None:
    """Running, without an address, with every database and role; what is printed stops and removes it."""
    look = reachable / "look"
    answer = whole.json("scratch", "--target-dir", str(look), "--keep", status=2)
    assert found(answer, "report") == ALL
    kept = answer["scratch"]
    with psycopg.connect(f"{kept['connect']} dbname=postgres") as connection:
        names = {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}
        shown = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())
    assert {"app", f"of_{TENANT}1", f"of_{TENANT}2"} <= names
    assert (shown["listen_addresses"], shown["fsync"], shown["full_page_writes"]) == ("", "on", "on")
    assert [path.name for path in reachable.iterdir()] == ["look"]
    shell(kept["stop"])
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"{kept['connect']} dbname=postgres")
    shell(kept["remove"])
    assert list(reachable.iterdir()) == []
    assert TENANT not in whole.printed


def test_one_database_in_a_scratch_server_to_be_started(whole: Whole, reachable: Path) -> None:
    """It is stopped; the commands that are printed start it, reach it, stop it and remove it. A folder that exists is
    refused, and a restore that fails leaves none."""
    look = reachable / "look"
    told = whole.run("scratch", "app", "--target-dir", str(look))
    lines = {line.strip().partition(":")[0]: line.partition(":")[2].strip() for line in told.split("\n")}
    assert "stopped; it is shut in with its files" in told
    shell(lines["start it"])
    query = "SELECT count(*), min(tableowner) FROM note, pg_tables WHERE tablename = $$note$$"
    rows = subprocess.run(
        ["sh", "-c", f"PATH={whole.server.bin}:{os.environ['PATH']} {lines['connect']} -XAtc '{query}'"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert rows.stdout == "2|owner_of_note\n"
    shell(lines["stop it"])
    assert "exists already" in whole.run("scratch", "app", "--target-dir", str(look), status=10)
    shell(lines["remove"])
    whole.run("scratch", "app", "--target-dir", str(look), "--table", "public.none", status=2)
    assert "too long" in whole.run("scratch", "app", "--target-dir", str(reachable / ("x" * 90)), status=10)
    assert list(reachable.iterdir()) == []
