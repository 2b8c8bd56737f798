"""A random database taken through everything, and compared: with what SQL selects, and with pg_dump and pg_restore."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import psycopg
from doubles.paths import RECOVER
from doubles.servers.postgres import Server, quoted

from backupd.cli.main import main
from lib.corpus.compare import dumped
from lib.corpus.recipe import CHECKOUT, Recipe
from lib.corpus.trial import StepFailedError, Trial
from lib.random_databases.database import DatabaseMaker, row_texts

PURGED = 2
"""The tenant who is restored alone, and then purged."""
_ENTRY = "[[regions.be.databases.app.tables]]\nmatch = [{}]\n{}\n"
_RENAME = "ALTER DATABASE {} RENAME TO {}"


class RefusedError(Exception):
    """The backup was refused, as it should be: one tenant may have several spellings."""


class RandomTrial(Trial):
    """The steps; each leaves what it finds wrong in `faults`."""

    def __init__(self, seed: int, server: Server, folder: Path, *, every: bool = False) -> None:
        """Every fourth seed takes each of the slow steps, or every seed all of them."""
        super().__init__(Recipe(f"r{seed}", "random", "", ""), server, folder, lambda _: None)
        self.seed, self.every = seed, every
        self.faults: list[str] = []
        self.as_pg_restore = 0
        """How many restored databases differ from the source just as pg_restore's does."""

    def go(self) -> None:
        self.folder.mkdir()
        slow = (self.files, self.recover, self.drill, self.damage)
        chosen = [step for number, step in enumerate(slow) if self.every or self.seed % len(slow) == number]
        for step in (self.make, self.map, self.back_up, self.again, self.restore, self.one, *chosen, self.purge):
            try:
                step()
            except RefusedError:
                return
            except StepFailedError as failure:
                self.faults.append(f"{step.__name__}: {failure}")
                if step in (self.make, self.map, self.back_up):
                    return
        verdicts = {self.result.drill: "pass", self.result.damaged: "noticed"}
        self.faults += [
            note for found, good in verdicts.items() if found not in ("", good) for note in self.result.notes
        ]

    def make(self) -> None:
        self.server.create_database(self.database)
        self.maker = DatabaseMaker(self.seed, self.server, self.database)
        self.made = self.maker.run()
        objects = self.server.sql(self.database, "SELECT oid FROM pg_largeobject_metadata")
        grants = [f"GRANT SELECT ON LARGE OBJECT {oid} TO backupd" for (oid,) in objects]
        self.server.sql(self.database, *grants, "ANALYZE")
        self._keys()

    def map(self) -> None:
        """Paste what is proposed, and follow a table's first key where a person is asked."""
        line = self.made.tenancy
        self._configure(line)
        if self.made.kind in ("none", "schema"):
            return
        if self.made.tenant_type == "numeric" or self.made.tenant_type.endswith("citext"):
            self._backupd("init", "be")
            self._backupd("backup", "be", statuses=(5,))
            raise RefusedError
        entries = [_ENTRY.format(_toml(one), "shared = true") for one in self.made.shared]
        known = {f"{one.schema}.{one.name}": one for one in self.made.tables if one.owner or one.follows}
        for name, table in known.items():
            if self.made.kind == "table" and table.owner and not table.primary:
                entries.append(_ENTRY.format(_toml(_pattern(name)), f"column = {_toml(table.owner)}"))
        self._configure("\n".join([line, *entries]))
        block = self._backupd("tenancy", "be", "--toml", statuses=(0, 5)).splitlines()
        entries += [one for one in block if not one.startswith("#") and one not in ("tables = [", "]")]
        self._configure("\n".join([line, *entries]))
        for name in sorted({one["table"] for one in self._lines() if not one["mapped"]}):
            way = f"path = [{_toml(known[name].names[0])}]" if name in known else "shared = true"
            entries.append("\n" + _ENTRY.format(_toml(_pattern(name)), way))
        self._configure("\n".join([line, *entries]))
        wrong = [one["table"] for one in self._lines() if one["route"] == "shared" and one["table"] in known]
        self.faults += [f"map: shared, and a tenant's: {name}" for name in wrong]

    def again(self) -> None:
        """Change something and back up a second time, for every other seed."""
        if self.seed % 2:
            return
        with self.server.connect(self.database) as self.maker.connection:
            for table in self.made.tables:
                self.maker.fill(table)
                self.maker.take(f"DELETE FROM {table.place} WHERE hashtext(ctid::text) % 10 = 0")
        self._backupd("backup", "be")

    def restore(self) -> None:
        self.source = dumped(self.server, self.database)
        self._restore("restored")
        self._compare_rows("restored", None)
        self._compare_text("restored")

    def one(self) -> None:
        """Restore one tenant alone: its rows come back, and those that are nobody's."""
        if self.made.kind != "none":
            name = self.made.tenant_name(self.server, self.database, PURGED)
            self._restore("one", "--without-broken-keys", "--tenant", name)
            self._compare_rows("one", [PURGED, 0])

    def files(self) -> None:
        identity = ("--identity", "ops.identity", "--passphrase-file", "passphrase")
        self._backupd("restore", "files", "be", "app", "--target-dir", "files", *identity)
        self._load(self.folder / "files", "files")

    def recover(self) -> None:
        identity = ("--identity", "ops.identity", "--passphrase-file", "passphrase")
        done = subprocess.run(
            [sys.executable, RECOVER, "store/be", *identity, "--out", "recovered"],
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise StepFailedError(done.stderr[-700:])
        self._load(max(path.parent for path in (self.folder / "recovered").glob("**/README.txt")), "recovered")

    def purge(self) -> None:
        if self.made.kind != "none":
            name = self.made.tenant_name(self.server, self.database, PURGED)
            self._backupd("tenant", "erase", "--yes", "--", "be", name)
            self._restore("purged", "--without-broken-keys")
            self._compare_rows("purged", [0, *(tenant for tenant in self.made.tenants if tenant != PURGED)])

    def clean(self) -> None:
        """Drop the databases and the roles."""
        for (name,) in self.server.sql("postgres", "SELECT datname FROM pg_database WHERE datname ^@ 'corpus_r'"):
            self.server.drop_database(name)
        for role in self.made.roles:
            self.server.sql("postgres", f"DROP OWNED BY {quoted(role)}", f"DROP ROLE {quoted(role)}")

    def _load(self, folder: Path, step: str) -> None:
        """Run README.txt's commands, which make a database of the source's name."""
        kept, name = f"{self.database}_kept", f"{self.database}_{step}"
        self.server.sql("postgres", _RENAME.format(quoted(self.database), quoted(kept)))
        commands = re.findall(r"^  (.+)$", (folder / "README.txt").read_text(), re.MULTILINE)
        server = {"PGHOST": str(self.server.sockets), "PGPORT": str(self.server.port), "PGUSER": "postgres"}
        said = subprocess.run(
            ["bash", "-e"],
            input="\n".join(commands),
            check=False,
            capture_output=True,
            text=True,
            env=server | {"PATH": f"{self.server.bin}:{os.environ['PATH']}"},
        )
        if self.server.sql("postgres", f"SELECT 1 FROM pg_database WHERE datname = '{self.database}'"):
            self.server.sql("postgres", _RENAME.format(quoted(self.database), quoted(name)))
        self.server.sql("postgres", _RENAME.format(quoted(kept), quoted(self.database)))
        if said.returncode:
            raise StepFailedError(said.stderr[-900:])
        self._compare_rows(step, None)
        self._compare_text(step)

    def _compare_rows(self, step: str, whose: Sequence[int] | None) -> None:
        """Name the tables that have not just the rows of these tenants, 0 being nobody; None stands for all rows."""
        for table in self.made.tables:
            condition = "true" if whose is None else " OR ".join(self.made.rows_of(table, one) for one in whose)
            expected = row_texts(self.server, self.database, table.place, condition)
            try:
                seen = row_texts(self.server, f"{self.database}_{step}", table.place)
            except psycopg.errors.UndefinedTable:
                seen = []  # as the schema of another tenant is
            if seen != expected:
                lacks, has = ([one[:150] for one in left][:2] for left in _apart(expected, seen))
                counts = f"{len(seen)} rows for {len(expected)}"
                self.faults.append(f"{step}: {table.place}: {counts}: lacks {lacks}, has {has}")

    def _compare_text(self, step: str) -> None:
        """Compare pg_dump's text with the source's, and where it differs with what pg_restore makes."""
        ours = dumped(self.server, f"{self.database}_{step}")
        if ours.same(self.source):
            return
        plain, archive = f"{self.database}_plain", self.folder / "plain.dump"
        self.server.create_database(plain)
        dump = [self.server.bin / "pg_dump", "-Fc", "-f", archive, "-d", self.server.conninfo(self.database)]
        subprocess.run(dump, check=True, capture_output=True)
        load = [self.server.bin / "pg_restore", "-d", self.server.conninfo(plain), archive]
        said = subprocess.run(load, check=False, capture_output=True, text=True)
        theirs = dumped(self.server, plain)
        self.server.drop_database(plain)
        if ours.same(theirs):
            self.as_pg_restore += 1
            return
        self.faults += [f"{step}: text: {line}" for line in theirs.difference(ours)[:12]]
        self.faults += [f"{step}: pg_restore said: {line}" for line in said.stderr.splitlines()[:4]]

    def _backupd(self, *arguments: str, statuses: Sequence[int] = (0,)) -> str:
        """Run one command in a fork of this process, which has imported everything."""
        said, errors = self.folder / "said", self.folder / "errors"
        child = os.fork()
        if not child:
            os._exit(self._in_fork(arguments, said, errors))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in statuses:
            words = " ".join((errors.read_text() or said.read_text()).split())
            raise StepFailedError(f"backupd {' '.join(arguments[:2])} ended with status {status}: {words[-900:]}")
        return said.read_text()

    def _in_fork(self, arguments: Sequence[str], said: Path, errors: Path) -> int:
        status = 99
        os.chdir(self.folder)
        os.environ.update(BACKUPD_CONFIG="backupd.toml", PYTHONPATH=str(CHECKOUT))
        with said.open("w") as sys.stdout, errors.open("w") as sys.stderr, Path(os.devnull).open() as sys.stdin:
            for number, file in enumerate((sys.stdin, sys.stdout, sys.stderr)):
                os.dup2(file.fileno(), number)
            try:
                status = main(arguments)
            except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
                traceback.print_exc()
        return status


def _apart(expected: Sequence[str], seen: Sequence[str]) -> tuple[list[str], list[str]]:
    ours, theirs = set(seen), set(expected)
    return [one for one in expected if one not in ours], [one for one in seen if one not in theirs]


def _toml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'


def _pattern(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
