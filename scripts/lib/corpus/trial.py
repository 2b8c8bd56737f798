"""One application's database, taken through everything: mapped, backed up, restored, drilled, purged and compared."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from doubles.servers.postgres import Server, server_user

from lib.corpus import rows
from lib.corpus.compare import Dump, Gone, counts, dumped, without_tenant
from lib.corpus.recipe import CHECKOUT, Recipe, set_up
from lib.servers import READER

TENANTS = 3
WIDTH = 3
"""Rows a table and tenant."""


@dataclass(slots=True)
class Result:
    """What came of one application."""

    name: str
    what: str
    tables: int = 0
    rows: int = 0
    by_keys: int = 0
    """Tables mapped with the tenants' table named and nothing else."""
    proposed: int = 0
    """Tables that the proposed block maps, which is pasted as it is."""
    decided: int = 0
    """Tables about which a person decided."""
    wrong: int = 0
    """Tables that are nobody's, and that keys or the proposed block gave to tenants."""
    lines: int = 0
    """Of configuration about whose rows are whose."""
    restore: str = ""
    drill: str = ""
    damaged: str = ""
    purge: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        equal = ("equal", "as pg_restore")
        return (
            self.restore in equal
            and self.drill == "pass"
            and self.damaged == "noticed"
            and self.purge in (*equal, "none")
        )


_MAY_READ = f"""
DO $$DECLARE object oid; BEGIN FOR object IN SELECT oid FROM pg_largeobject_metadata LOOP
  EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO {READER}', object); END LOOP; END$$"""
"""Large objects have to be granted one by one."""


class Trial:
    """The steps; each leaves its word in the result, and a failed one ends the trial."""

    def __init__(self, recipe: Recipe, server: Server, folder: Path, say: Callable[[str], None]) -> None:
        self.recipe, self.server, self.folder, self.say = recipe, server, folder, say
        self.database = f"corpus_{recipe.name}"
        self.result = Result(recipe.name, recipe.what)

    def run(self) -> Result:
        steps = (self.make, self.map, self.back_up, self.restore, self.drill, self.damage, self.purge)
        for step in steps:
            began = time.monotonic()
            try:
                step()
            except StepFailedError as failure:
                self.result.notes.append(f"{step.__name__}: {failure}")
                break
            finally:
                self.say(f"{self.recipe.name}: {step.__name__} {time.monotonic() - began:.1f} s")
        return self.result

    def make(self) -> None:
        """Have tables and rows."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.server.create_database(self.database)
        set_up(self.recipe, self.environment(), self.folder / "made")
        if self.recipe.rows:
            with self.server.connect(self.database) as connection:
                filled = rows.fill(connection, TENANTS, WIDTH, self.recipe.tenants, self.recipe.column)
            if filled.empty:
                self.say(f"{self.recipe.name}: no rows in {filled.empty} of {filled.tables} tables")
        self.server.sql(self.database, _MAY_READ, "VACUUM ANALYZE")
        found = counts(self.server, self.database)
        self.result.tables, self.result.rows = len(found), sum(found.values())
        self._keys()

    def map(self) -> None:
        """Name the tenants' table, paste what is proposed, decide the rest."""
        first = self.recipe.tenancy.strip()
        self._configure(first)
        before = self._lines()
        block = self._backupd("tenancy", "be", "--toml", statuses=(0, 5)).splitlines()
        ruled = [line for line in block if not line.lstrip().startswith("#")]
        entries = [line for line in ruled if line.strip() not in ("tables = [", "]")]
        bracketed = ruled[:1] == ["tables = ["] or not ruled
        mine = [*self.recipe.decided, *self.recipe.later]
        proposed = [first, "tables = [", *entries, "]"] if bracketed else [first, *entries]
        if entries:
            self._configure("\n".join(proposed))
        between = self._lines()
        if not entries and not mine:
            final = [first]
        elif bracketed:
            final = [first, "tables = [", *entries, *(f"  {line}" for line in mine), "]"]
        else:
            final = proposed
        self.mapping = "\n".join(final)
        self._configure(self.mapping)
        after = self._lines()
        self._judge(before, between, after)
        self.result.lines = sum(
            1 for line in self.mapping.splitlines() if line.strip() and not line.strip().startswith("#")
        )
        left = sorted({line["table"] for line in after if not line["mapped"]})
        if left:
            self.say(self._backupd("tenancy", "be", "--toml", statuses=(0, 5)))
            raise StepFailedError(f"left to decide: {', '.join(left[:8])}{', …' if len(left) > 8 else ''}")

    def back_up(self) -> None:
        self._backupd("init", "be")
        said = self._backupd("backup", "be")
        self._warnings(said)

    def restore(self) -> None:
        self.source = dumped(self.server, self.database)
        self._restore("restored")
        self.result.restore = self._compared("restored", self.source)

    def drill(self) -> None:
        self.result.drill = self._drilled()

    def damage(self) -> None:
        verdict = self._drilled("--damage")
        self.result.damaged = "noticed" if verdict == "pass" else verdict

    def purge(self) -> None:
        """Erase a tenant; what is restored then is the source without whatever refers to it."""
        tenant = self._tenant()
        if tenant is None:
            self.result.purge = "none"
            return
        self._backupd("tenant", "erase", "be", str(tenant), "--yes")
        self._restore("purged", "--without-broken-keys")
        expected = f"{self.database}_expected"
        self.server.create_database(expected, self.database)
        gone = Gone(self.recipe.tenants, str(tenant), self.recipe.column)
        without_tenant(self.server, expected, gone, self._nobodys())
        theirs, ours = counts(self.server, expected), counts(self.server, f"{self.database}_purged")
        different = sorted(table for table in theirs if theirs[table] != ours.get(table))
        if different:
            self.result.purge = f"{len(different)} tables differ"
            self.result.notes += [
                f"purge: {table}: {ours.get(table)} rows for {theirs[table]}" for table in different[:8]
            ]
            return
        rows_of = [dumped(self.server, name, "--data-only").rows() for name in (expected, f"{self.database}_purged")]
        self.result.purge = "equal" if rows_of[0].same(rows_of[1]) else "rows differ"
        if self.result.purge != "equal":
            self.result.notes += [f"purge: {line}" for line in rows_of[0].difference(rows_of[1])[:12]]

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.server.bin}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.server.port),
            "PGUSER": "postgres",
            "PGPASSWORD": self.server.password,
            "PGDATABASE": self.database,
            "DATABASE_URL": f"postgresql://postgres:{self.server.password}@127.0.0.1:{self.server.port}/{self.database}",
        }

    def _keys(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "passphrase").write_text("a passphrase for the corpus\n")
        (self.folder / "store").mkdir(exist_ok=True)
        (self.folder / "scratch").mkdir(exist_ok=True)
        (self.folder / "scratch").chmod(0o711)
        self._backupd("key", "generate", "ops.identity", "--passphrase-file", "passphrase")
        self._backupd("key", "generate", "--tenant-key", "tenant.key")
        self._signers = [
            json.loads(self._backupd("key", "generate", "--signer", name, "--json"))["public"]
            for name in ("signing.key", "keeper.key")
        ]

    def _configure(self, mapping: str) -> None:
        user = server_user()
        text = Template((Path(__file__).parent / "backupd.toml").read_text()).substitute(
            folder=self.folder,
            programs=self.server.bin,
            signer=self._signers[0],
            keeper=self._signers[1],
            scratch=self.folder / "scratch",
            user="" if user is None else f'user = "{user.pw_name}"',
            dsn=self.server.conninfo(self.database, READER),
        )
        (self.folder / "backupd.toml").write_text(f"{text}{mapping}\n")

    def _lines(self) -> list[dict[str, Any]]:
        report = json.loads(self._backupd("tenancy", "be", "--json", statuses=(0, 5)))
        return list(_table_lines(report))

    def _judge(
        self,
        before: Sequence[Mapping[str, Any]],
        between: Sequence[Mapping[str, Any]],
        after: Sequence[Mapping[str, Any]],
    ) -> None:
        mapped = [{line["table"] for line in lines if line["mapped"]} for lines in (before, between, after)]
        self.result.by_keys = len(mapped[0])
        self.result.proposed = len(mapped[1] - mapped[0])
        self.result.decided = len(mapped[2] - mapped[1])
        wrong = [
            line["table"]
            for line in between
            if line["mapped"] and line["route"] != "shared" and self._is_nobodys(line["table"])
        ]
        self.result.wrong = len(wrong)
        self.result.notes += [f"mapped wrongly: {table}" for table in wrong]

    def _is_nobodys(self, table: str) -> bool:
        return any(fnmatch.fnmatchcase(table, pattern) for pattern in self.recipe.shared)

    def _nobodys(self) -> list[str]:
        return [line["table"] for line in self._lines() if line["route"] == "shared"]

    def _tenant(self) -> Any:
        if not self.recipe.tenants:
            return None
        schema, _, table = self.recipe.tenants.partition(".")
        ((key,),) = self.server.sql(
            self.database,
            f"SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]"
            f' WHERE indisprimary AND indrelid = \'"{schema}"."{table}"\'::regclass',
        )
        found = self.server.sql(self.database, f'SELECT "{key}" FROM "{schema}"."{table}" ORDER BY 1 DESC LIMIT 1')
        return found[0][0] if found else None

    def _restore(self, name: str, *options: str) -> None:
        target = self.server.conninfo(f"{self.database}_{name}")
        identity = ("--identity", "ops.identity", "--passphrase-file", "passphrase")
        self._warnings(self._backupd("restore", "database", "be", "app", "--target", target, *identity, *options))

    def _compared(self, name: str, source: Dump) -> str:
        ours = dumped(self.server, f"{self.database}_{name}")
        if ours.same(source):
            return "equal"
        plain = f"{self.database}_plain"
        self.server.create_database(plain)
        environment = self.environment()
        archive = self.folder / "plain.dump"
        subprocess.run(["pg_dump", "-Fc", "-f", archive], env=environment, check=True, capture_output=True)
        subprocess.run(["pg_restore", "-d", plain, archive], env=environment, check=False, capture_output=True)
        archive.unlink()
        theirs = dumped(self.server, plain)
        if ours.same(theirs):
            self.result.notes.append(
                f"restore: {len(source.difference(ours))} lines of pg_dump's text change as by pg_restore"
            )
            return "as pg_restore"
        self.result.notes += [f"restore: {line}" for line in theirs.difference(ours)[:12]]
        return "differs"

    def _drilled(self, *options: str) -> str:
        said = json.loads(self._backupd("drill", "be", "--snapshot", "latest", "--json", *options, statuses=range(256)))
        reports = said.get("reports") or said.get("drills") or [said]
        verdicts = [str(one.get("verdict", one.get("error"))) for one in reports]
        if verdicts != ["pass"]:
            for one in reports:
                failed = [check for check in one.get("checks", ()) if check.get("verdict") not in ("pass", "skip")]
                self.result.notes += [
                    f"drill: {check.get('name')}: {str(check.get('detail', check))[:200]}" for check in failed
                ]
        return verdicts[0]

    def _warnings(self, said: str) -> None:
        self.result.notes += [line.strip() for line in said.splitlines() if "warning" in line.lower()][:6]

    def _backupd(self, *arguments: str, statuses: Sequence[int] = (0,)) -> str:
        environment = {
            name: value for name, value in self.environment().items() if not name.startswith(("PG", "DATABASE"))
        }
        done = subprocess.run(
            [sys.executable, "-m", "backupd", *arguments],
            cwd=self.folder,
            env=environment | {"PYTHONPATH": str(CHECKOUT), "BACKUPD_CONFIG": "backupd.toml"},
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode not in statuses:
            words = " ".join((done.stderr or done.stdout).split())
            raise StepFailedError(f"backupd {arguments[0]} ended with status {done.returncode}: {words[-700:]}")
        return done.stdout


class StepFailedError(Exception):
    """A step did not end as it should."""


def _table_lines(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the lines of the only database's report, wherever they stand in it."""
    if isinstance(report, Mapping):
        if "table" in report and "mapped" in report:
            yield dict(report)
            return
        for value in report.values():
            yield from _table_lines(value)
    elif isinstance(report, list):
        for value in report:
            yield from _table_lines(value)
