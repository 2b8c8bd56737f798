"""The demo's stage: a folder of its own, two regions, an SSH account, a configuration, and the command line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from lib import sample_databases
from lib.console import Voice
from lib.servers import Region, start_account, start_region

if TYPE_CHECKING:
    from doubles.servers.sshd import Account

CHECKOUT = Path(__file__).resolve().parents[2]
CUSTOMERS = ("quillfeather", "ashgrove", "lumen", "tidewater")
"""Names that must be found nowhere but in the databases and in what was restored."""


class DemoError(Exception):
    """Something did not turn out as promised; the message says what."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything is running, and filled."""

    folder: Path
    voice: Voice
    be: Region
    ca: Region
    home: Path
    """Where the SSH account keeps its files."""
    served_by: str
    account: Account

    def configure(self, signer: str, keeper: str) -> None:
        """Write the configuration, now that it can name the public signing keys of node and keeper."""
        template = Template((Path(__file__).parent / "demo.toml").read_text())
        filled = template.substitute(
            folder=self.folder,
            programs=self.be.server.bin,
            signer=signer,
            keeper=keeper,
            host=self.account.host,
            port=self.account.port,
            user=self.account.user,
            key=self.account.key_file,
            host_key=self.account.host_keys[0],
            tracker=self.be.dsn("tracker"),
            figures=self.be.dsn("figures"),
            be_passfile=self.be.passfile,
            postgres=self.ca.dsn("postgres"),
            ca_passfile=self.ca.passfile,
        )
        (self.folder / "backupd.toml").write_text(filled)

    def backupd(self, *arguments: str, expect: int = 0) -> str:
        """Run a command as a user would, and show it with what it prints. Returns that."""
        self.voice.command("backupd " + " ".join(_quoted(word) for word in arguments))
        done = self._run(arguments)
        self.voice.output(shortened(done.stdout.rstrip("\n").split("\n")))
        if done.returncode != expect:
            self.voice.output(done.stderr.rstrip("\n").split("\n"))
            raise DemoError(f"`backupd {arguments[0]}` ended with status {done.returncode}, not {expect}")
        return done.stdout

    def facts(self, *arguments: str) -> Any:
        """The same with --json, and without a word."""
        done = self._run([*arguments, "--json"])
        if done.returncode:
            raise DemoError(f"`backupd {arguments[0]} --json` ended with status {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def _run(self, arguments: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "backupd", *arguments],
            cwd=self.folder,
            env=self.environment | {"PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def environment(self) -> dict[str, str]:
        """As little as a service would have."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        return {"PATH": f"{self.be.server.bin}:/usr/bin:/bin", "BACKUPD_CONFIG": "backupd.toml", **kept}


def build(stack: ExitStack, folder: Path, voice: Voice) -> Scene:
    """Start and fill everything; `stack` ends it."""
    home = folder / "ssh-account"
    home.mkdir()
    with ThreadPoolExecutor(2) as pool:  # the second server starts while the first is filled
        starting = pool.submit(start_region, stack, "ca", folder)
        be = start_region(stack, "be", folder)
        filling = pool.submit(_fill_be, be)
        _fill_ca(starting.result())
        filling.result()
    account, served_by = start_account(stack, home)
    for name in ("ops", "escrow"):
        secret = folder / f"{name}.passphrase"
        secret.touch(mode=0o600)
        secret.write_text(f"six words that only {name} knows\n")
    return Scene(folder, voice, be, starting.result(), home, served_by, account)


def _fill_be(region: Region) -> None:
    with region.create("tracker") as connection:
        sample_databases.fill_tracker(connection, sample_databases.Shape(size=48_000_000, tenants=200))
    with region.create("figures") as connection:
        sample_databases.fill_schema_per_tenant(connection, list(CUSTOMERS), 40_000)


def _fill_ca(region: Region) -> None:
    for place, customer in enumerate(CUSTOMERS, 1):
        with region.create(f"customer_{customer}") as connection:
            sample_databases.fill_document_database(connection, 2400 // place)


@dataclass(frozen=True, slots=True)
class Content:
    """A table's rows: how many, and a digest that does not depend on their order."""

    rows: int
    digest: str


def contents(region: Region, database: str) -> dict[str, Content]:
    """Every table of a database, by name."""
    query = """SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
               WHERE relkind IN ('r', 'm') AND nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1"""
    found = {}
    with region.server.connect(database) as connection:
        for (name,) in connection.execute(query).fetchall():
            with connection.cursor().copy(f"COPY (SELECT * FROM {name}) TO STDOUT".encode()) as copy:
                found[name] = digest_of(b"".join(copy).splitlines(keepends=True))
    return found


def digest_of(lines: list[bytes]) -> Content:
    """Of rows in COPY's text format."""
    return Content(len(lines), hashlib.sha256(b"".join(sorted(lines))).hexdigest())


def files_holding(words: list[bytes], *folders: Path) -> tuple[int, int, list[Path]]:
    """How many files and bytes lie in the folders, and which of them hold one of the words."""
    count, size, hits = 0, 0, []
    for path in (path for folder in folders for path in every_file(folder)):
        data = path.read_bytes()
        count, size = count + 1, size + len(data)
        if any(word in data or word in str(path).encode() for word in words):
            hits.append(path)
    return count, size, hits


def every_file(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def shortened(lines: list[str], most: int = 24) -> list[str]:
    """The lines, without the middle of a very long output."""
    if len(lines) <= most:
        return lines
    return [*lines[: most - 4], f"… {len(lines) - most + 1} more lines …", *lines[-3:]]


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def clock() -> float:
    return time.monotonic()


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word
