"""A word put into rows, names and secrets is found nowhere: looked for while backups run and fail, and afterwards."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doubles.node.processes import arguments, descendants, environment
from doubles.samples.saga_table import RULE, saga_table
from doubles.servers.postgres import Server, quoted
from fix_nodes import NodeFolder
from fix_postgres import Database, unique

from backupd.seal import keyfiles

WORD = "Zyxomma"
"""In every value that must not show, and in nothing else."""
PASSPHRASE = f"{WORD} petiolatum"
TENANCY = """
tenancy = { kind = "column", column = "tenant", role_pattern = "customer_(?P<tenant>.+)" }
[[regions.be.databases.app.tables]]
match = ["*.own"]
shared = true
"""


class Watcher:
    """Looks at everything a run leaves to be seen, over and over while it runs."""

    database: Database
    reader: str

    def __init__(self, node: NodeFolder) -> None:
        self.node = node
        self.found: set[str] = set()
        self.seen: set[str] = set()
        self._over = threading.Event()

    def run(self, *command: str, status: int = 0) -> str:
        """The program's output, after it ended as expected; looked at like everything else."""
        process = subprocess.Popen(
            self.node.command(*command),
            cwd=self.node.folder,
            env=self.node.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        watching = threading.Thread(target=self._watch, args=(process.pid,))
        watching.start()
        printed, _ = process.communicate(timeout=120)
        self._over.set()
        watching.join()
        self._over.clear()
        self.look("output", printed)
        self.look_at_files()
        assert process.returncode == status, printed.decode()
        return printed.decode()

    def look(self, where: str, data: bytes) -> None:
        self.seen.add(where)
        if WORD.lower().encode() in data.lower():
            self.found.add(where)

    def look_at_files(self) -> None:
        """All that lies on the node and on the store, but for the secrets' own files."""
        for folder in (self.node.node, self.node.folder / "disk"):
            for path in _files_of(folder):
                self.look("file name", str(path.relative_to(folder)).encode())
                if path.is_file() and path.name not in {"pgpass", "pass"}:
                    self.look(str(path.relative_to(self.node.folder).parts[:2]), _bytes_of(path))

    def _watch(self, pid: int) -> None:
        while not self._over.is_set():
            for child in [pid, *descendants(pid)]:
                name = Path(arguments(child).split(b"\0")[0].decode(errors="replace") or "?").name
                self.look(f"arguments of {name}", arguments(child))
                self.look(f"environment of {name}", environment(child))
            self.look_at_files()
            time.sleep(0.005)


def _files_of(folder: Path) -> list[Path]:
    """Of a folder in which others come and go: looked at again until none went meanwhile."""
    while True:
        try:
            return list(folder.rglob("*"))
        except FileNotFoundError:
            continue


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def secretive(
    pg15: Server, make_database: Callable[..., Database], make_role: Callable[..., str], node: NodeFolder
) -> Iterator[Watcher]:
    """A database whose name, schema, roles, tenants, rows and password hold the word; large objects, too."""
    database = make_database(pg15, name=unique(f"{WORD}_app"))
    password = f"{WORD}-of-the-database"
    reader = make_role(pg15, f"LOGIN BYPASSRLS PASSWORD '{password}'", name=unique("reader"))
    pg15.sql("postgres", f"GRANT pg_read_all_data TO {quoted(reader)}")
    tenant_role = make_role(pg15, "NOLOGIN", name=unique(f"customer_{WORD}"))
    database.sql(
        f'CREATE SCHEMA "{WORD} schema"',
        f'CREATE TABLE "{WORD} schema".own (x text)',
        f"INSERT INTO \"{WORD} schema\".own SELECT '{WORD} ' || g FROM generate_series(1, 100) g",
        f'GRANT USAGE ON SCHEMA "{WORD} schema" TO {quoted(tenant_role)}',
        f'CREATE TABLE note (tenant text, said text, "{WORD}" int)',
        f"INSERT INTO note SELECT '{WORD} ' || g % 5, '{WORD} ' || g, g FROM generate_series(1, 50000) g",
        "INSERT INTO note SELECT 'big', repeat(md5(g::text), 1000), g FROM generate_series(1, 2500) g",
        f"CREATE FUNCTION secret() RETURNS text LANGUAGE sql AS $$ SELECT '{WORD}' $$",
        f"COMMENT ON TABLE note IS '{WORD}'",
        "GRANT SELECT ON LARGE OBJECT " + str(_large_object(database)) + f" TO {quoted(reader)}",
        "ANALYZE",
    )
    passfile = node.node / "pgpass"
    passfile.touch(mode=0o600)
    passfile.write_text(f"127.0.0.1:{pg15.port}:*:{reader}:{password}\n")
    # The configuration may name the database and the role; nothing that is made from it may.
    service = node.folder / "service.conf"
    service.write_text(f"[app]\nhost=127.0.0.1\nport={pg15.port}\ndbname={database.name}\nuser={reader}\n")
    node.configure(database, TENANCY + RULE, dsn="service=app", passfile=f'passfile = "{passfile}"')
    config = (node.node / "backupd.toml").read_text()
    config = config.replace('dsn = "service=app"', f'service = "app"\nservicefile = "{service}"')
    (node.node / "backupd.toml").write_text(config)
    (node.folder / "pass").write_text(PASSPHRASE + "\n")
    (node.folder / "pass").chmod(0o600)
    keyfiles.write_identity(node.folder / "ops.identity", "ops", node.pair, PASSPHRASE)
    watcher = Watcher(node)
    watcher.database, watcher.reader = database, reader
    watcher.run("init", "be")
    yield watcher
    pg15.drop_database(database.name)


def _large_object(database: Database) -> int:
    ((number,),) = database.sql(f"SELECT lo_from_bytea(0, '{WORD} object')")
    return int(number)


def test_nothing_of_a_backup_shows(secretive: Watcher) -> None:
    """Not in the spool while it fills, state, store, output, nor in arguments or environments of any child."""
    for options in ((), ("--json",)):
        secretive.run("backup", *options)
    secretive.run("snapshots", "be")
    secretive.run("snapshots", "be", "--json")
    key = ("--identity", "ops.identity", "--passphrase-file", "pass")
    secretive.run("verify", "--read-data", "all", *key)
    secretive.run("key", "check", *key)
    assert secretive.found == set()
    names = " ".join(secretive.seen)
    for wanted in ("('node', 'spool')", "('node', 'state')", "('disk', 'be')", "of psql", "of pg_dump", "of python"):
        assert wanted in names, f"{wanted} was never looked at"


def test_what_is_looked_for_is_there_to_be_found(secretive: Watcher) -> None:
    """The identity opens it: a test that looked for the wrong word would find nothing either."""
    secretive.run("backup")
    (found,) = secretive.node.looks()
    plain = [data for one in found.segments.values() for data in (*one.tables.values(), *one.files.values())]
    assert sum(WORD.encode() in data for data in plain) > 5
    assert any(WORD in str(name.tenant) for name in found.segments)


def test_a_word_that_shows_is_found(secretive: Watcher) -> None:
    """Given as an argument, it is in the arguments, and in what is said of them; a file of the node with it is seen."""
    secretive.run("backup", WORD, status=2)
    assert {"arguments of python", "output"} <= secretive.found
    (secretive.node.node / "state").mkdir(exist_ok=True)
    (secretive.node.node / "state" / "leak").write_text(WORD)
    secretive.look_at_files()
    assert "('node', 'state')" in secretive.found


FAULTS = {
    "code": saga_table(
        f"RAISE EXCEPTION '{WORD} %', $1 USING DETAIL = '{WORD}', HINT = '{WORD}'", name=f"{WORD} saga", word=WORD
    ),
    "null tenant": (f"INSERT INTO note VALUES (NULL, '{WORD}', 1)",),
    "unmapped table": (f'CREATE TABLE "{WORD} table" (x text)',),
    "not readable": (
        f'CREATE SCHEMA "{WORD} private"',
        f'CREATE TABLE "{WORD} private".own (x text)',
        "REVOKE pg_read_all_data FROM {reader}",
    ),
    "locked": (),
}


TOLD = {
    "code": "SQLSTATE P0001",
    "null tenant": "has no tenant (its tenant column",
    "unmapped table": "1 table is not covered",
    "not readable": "cannot read",
    "locked": "somebody else has locked the table with oid",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("option", ["", "--json"])
def test_errors_do_not_quote(secretive: Watcher, fault: str, option: str, pg15: Server) -> None:
    """PostgreSQL's own words would: each of these makes it quote a row or a name."""
    database = secretive.database
    reader = secretive.reader
    with pg15.connect(database.name) as blocker:
        for statement in FAULTS[fault]:
            database.sql(statement.replace("{reader}", reader))
        if fault == "locked":
            config = secretive.node.node / "backupd.toml"
            text = config.read_text().replace("workers = 2", 'workers = 2\nlock_timeout = "1s"')
            config.write_text(f'{text}\n[daemon]\ndeadline = "2s"\n')  # it tries again for half of that
            blocker.execute(f'BEGIN; LOCK TABLE "{WORD} schema".own')
        status = {"null tenant": 5, "unmapped table": 5}.get(fault, 4)
        printed = secretive.run("backup", *filter(None, [option]), status=status)
        blocker.execute("ROLLBACK")
    assert TOLD[fault] in printed
    assert secretive.found == set()


def test_errors_of_a_restore_do_not_quote(
    secretive: Watcher, pg15: Server, postgres_of: Callable[[int], Server]
) -> None:
    """A constraint that fails on the way back, and a server that does not know a name, are told by their codes."""
    database = secretive.database
    # Valid where it is, as the function was another then; not so where it is made anew.
    database.sql(
        "CREATE FUNCTION agreeable(text) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true'",
        "ALTER TABLE note ADD CONSTRAINT agreed CHECK (public.agreeable(said))",
        "CREATE OR REPLACE FUNCTION agreeable(text) RETURNS bool IMMUTABLE LANGUAGE sql "
        f"AS $$ SELECT $1 !~ '{WORD}' $$",
    )
    secretive.run("backup")
    key = ("--identity", "ops.identity", "--passphrase-file", "pass")
    target = pg15.conninfo(unique("restored"))
    for option in ((), ("--json",)):
        assert "23514" in secretive.run("restore", "database", "be", "app", "--target", target, *key, *option, status=4)
    assert secretive.found == set()


def test_a_wrong_passphrase_is_not_told(secretive: Watcher) -> None:
    """Neither the right nor the wrong one."""
    (secretive.node.folder / "wrong").write_text(f"{WORD} wrong\n")
    (secretive.node.folder / "wrong").chmod(0o600)
    secretive.run("backup")
    key = ("--identity", "ops.identity", "--passphrase-file", "wrong")
    for option in ((), ("--json",)):
        assert "passphrase" in secretive.run("verify", "--read-data", "all", *key, *option, status=8)
    assert secretive.found == set()
    assert os.environ.get("BACKUPD_PASSPHRASE") is None
