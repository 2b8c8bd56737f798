"""What all contenders stand on: a PostgreSQL server, an SSH account, and sample databases made for them alone."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from doubles.servers.sshd import Account, make_key

from lib import sample_databases
from lib.bench.figures import Log
from lib.sample_databases import Shape
from lib.servers import READER, Region, start_account, start_region

CHECKOUT = Path(__file__).resolve().parents[3]
RESTORED = "restored"
"""The database that restores make; it is removed after each."""
POLL = 0.01
"""Seconds between two looks for an exported snapshot."""


@dataclass(frozen=True, slots=True)
class Ground:
    """One sample database, and all that is needed to back it up."""

    sample: str
    """The database's name, too."""
    folder: Path
    region: Region
    account: Account
    level: int
    """zstd's, for everybody who lets it be chosen."""
    tenants: int

    @property
    def environment(self) -> dict[str, str]:
        """For every command: PostgreSQL's programs first, the database to read, an SSH without questions."""
        server = self.region.server
        return {
            "PATH": f"{server.bin}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PGHOST": str(server.sockets),
            "PGPORT": str(server.port),
            "PGUSER": READER,
            "PGDATABASE": self.sample,
        }

    @property
    def ssh_options(self) -> tuple[str, ...]:
        """A key that may run any program, as an ordinary server lets one, and the pinned key of the host."""
        return ("-q", "-i", f"{self.folder}/plain.key", "-o", f"UserKnownHostsFile={self.folder}/known_hosts")

    @property
    def ssh(self) -> str:
        return " ".join(("ssh", *self.ssh_options, "-p", str(self.account.port)))

    @property
    def login(self) -> str:
        return f"{self.account.user}@{self.account.host}"

    def connect(self) -> Any:
        """As superuser."""
        return self.region.server.connect(self.sample)

    def settle(self) -> None:
        """Write out what earlier work left, so that nobody pays for another's."""
        self.region.server.sql("postgres", "CHECKPOINT")
        os.sync()


class Stage:
    """The servers of one run of the bench; a context manager."""

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        major: int | None,
        level: int,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self.level = level
        self.region = start_region(stack, "be", folder, major, settings)
        home = folder / "remote"
        home.mkdir()
        self.account, self.served_by = start_account(stack, home)
        _open_ssh(self.account, folder)

    @contextmanager
    def made(self, sample: str, tenants: int, fill: Callable[[Any], None], log: Log) -> Iterator[Ground]:
        """Make a database and fill it; afterwards it is removed with all its backups."""
        ground = Ground(sample, self.folder, self.region, self.account, self.level, tenants)
        try:
            self._fill(ground, fill, log)
            yield ground
        finally:
            for database in (sample, RESTORED):
                self.region.server.drop_database(database)
            for folder in (self.folder / sample, self.account.home / sample):
                shutil.rmtree(folder, ignore_errors=True)

    def tracker(self, sample: str, size: int, tenants: int, log: Log) -> AbstractContextManager[Ground]:
        """Make an issue tracker of so many bytes of rows."""
        shape = Shape(size, tenants)
        return self.made(sample, tenants, lambda connection: sample_databases.fill_tracker(connection, shape), log)

    @property
    def major(self) -> int:
        return self.region.server.major

    def _fill(self, ground: Ground, fill: Callable[[Any], None], log: Log) -> None:
        sample, tenants = ground.sample, ground.tenants
        with self.region.create(sample) as connection:
            fill(connection)
            rows, size = sample_databases.measure(connection)
            ((on_disk,),) = connection.execute("SELECT pg_database_size(current_database())").fetchall()
        log.samples.append(
            {
                "sample": sample,
                "tenants": tenants,
                "rows": rows,
                "bytes": size,
                "on_disk": on_disk,
                "postgres": self.major,
            }
        )
        log.say(f"{sample}: {size / 1e6:.1f} MB in {rows:,} rows of {tenants:,} tenants")


class SnapshotWatch:
    """Sees how long snapshots of a server are exported: PostgreSQL keeps a file for each."""

    def __init__(self, ground: Ground) -> None:
        self._folder = ground.region.server.folder / "data" / "pg_snapshots"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._seen: list[float] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def held(self) -> float:
        """Seconds between the first look that found one and the last."""
        return round(self._seen[-1] - self._seen[0], 3) if self._seen else 0.0

    def _watch(self) -> None:
        while not self._over.wait(POLL):
            if any(self._folder.iterdir()):
                self._seen.append(time.monotonic())


def _open_ssh(account: Account, folder: Path) -> None:
    """Let a second key in, without the restricted shell, and pin the host's key for OpenSSH's client."""
    public = make_key(folder / "plain.key")
    with (account.key_file.parent / "authorized_keys").open("a") as keys:
        keys.write(f"restrict {public}\n")
    lines = (f"{place} {key}\n" for key in account.host_keys for place in (f"[{account.host}]:{account.port}", "bench"))
    (folder / "known_hosts").write_text("".join(lines))
