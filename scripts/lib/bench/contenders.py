"""What is measured: the promise of every contender, and backupd as one of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from string import Template

from lib.bench.figures import Figure, Log, of_cost
from lib.bench.stage import CHECKOUT, Ground, SnapshotWatch
from lib.process_cost import Cost, folder_files, folder_size, run
from lib.servers import READER

CONFIG = "backupd.toml"
PROMISE_IN_DANGER = 10
"""The exit status of a `status` that found something to say; the time it took is the same."""


class Contender(ABC):
    """One way to back up. `fresh` makes the next backup a first one; neither it nor `prepare` is measured."""

    name: str
    what: str
    programs: tuple[str, ...] = ()
    version_of: tuple[tuple[str, ...], ...] = ()
    """Commands that print versions."""
    stored_locally = False

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.remote = ground.account.home / ground.sample / self.name
        self.local = ground.folder / ground.sample / self.name

    def missing(self) -> list[str]:
        """Programs it needs that are not installed."""
        return [one for one in self.programs if shutil.which(one, path=self.ground.environment["PATH"]) is None]

    def fresh(self) -> None:
        for folder in (self.remote, self.local):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self.prepare()

    def prepare(self) -> None:
        """Do what is done once, before the first backup; nothing unless a contender says more."""
        return

    def backup(self, phase: str, number: int) -> Figure:
        """Back up; what the other side grew by is in the figure."""
        kept = self.local if self.stored_locally else self.remote
        size, files = folder_size(kept), folder_files(kept)
        cost = self.measured()
        return of_cost(
            self.ground.sample, self.name, phase, number, cost, folder_size(kept) - size, folder_files(kept) - files
        )

    def measured(self) -> Cost:
        return run(self.command(), self.environment, self.local)

    @property
    def environment(self) -> Mapping[str, str]:
        return self.ground.environment

    @abstractmethod
    def command(self) -> list[str]: ...

    def prepared_by(self, *command: str) -> str:
        done = subprocess.run(
            command, env=dict(self.environment), cwd=self.local, check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name} ended with status {done.returncode}: {done.stderr[-500:]}")
        return done.stdout


class Restorer(ABC):
    """A contender whose backups become a database again."""

    name: str

    @abstractmethod
    def restore(self, database: str) -> Cost: ...


class Backupd(Contender, Restorer):
    """This one."""

    name = "backupd"
    what = "backupd backup: dedup, per-tenant sealing, SFTP, every object hashed on the other side before it counts"

    checkout = CHECKOUT
    bandwidth = "unlimited"

    def prepare(self) -> None:
        passphrase = self.local / "passphrase"
        passphrase.write_text("a passphrase for the bench\n")
        self.prepared_by(*self.program, "key", "generate", "ops.identity", "--passphrase-file", "passphrase")
        signers = [
            json.loads(self.prepared_by(*self.program, "key", "generate", "--signer", name, "--json"))["public"]
            for name in ("signing.key", "keeper.key")
        ]
        self.prepared_by(*self.program, "key", "generate", "--tenant-key", "tenant.key")
        self.configure(signers, self.ground.account.port)
        self.prepared_by(*self.program, "init")

    def configure(self, signers: Sequence[str], port: int, name: str = CONFIG) -> None:
        """Write a configuration; `port` is where the store is reached."""
        account, server = self.ground.account, self.ground.region.server
        text = Template((Path(__file__).parent / CONFIG).read_text()).substitute(
            folder=self.local,
            programs=server.bin,
            level=self.ground.level,
            signer=signers[0],
            keeper=signers[1],
            host=account.host,
            port=port,
            user=account.user,
            key=account.key_file,
            host_key=account.host_keys[0],
            path=f"{self.ground.sample}/{self.name}",
            bandwidth=self.bandwidth,
            dsn=server.conninfo(self.ground.sample, READER),
        )
        (self.local / name).write_text(text)

    @property
    def program(self) -> list[str]:
        return [sys.executable, "-m", "backupd"]

    @property
    def environment(self) -> Mapping[str, str]:
        own = {"PYTHONPATH": str(self.checkout), "BACKUPD_CONFIG": CONFIG}
        return {name: value for name, value in super().environment.items() if not name.startswith("PG")} | own

    def command(self) -> list[str]:
        return [*self.program, "backup"]

    def backup(self, phase: str, number: int) -> Figure:
        """Also watched for how long its exported snapshot is held."""
        with SnapshotWatch(self.ground) as watch:
            figure = super().backup(phase, number)
        return replace(figure, held=watch.held)

    def restore(self, database: str, *options: str) -> Cost:
        """Into a new database of the same server; `options` choose what of it."""
        target = self.ground.region.server.conninfo(database)
        identity = ("--identity", "ops.identity", "--passphrase-file", "passphrase")
        return self.run("restore", "database", "be", "bench", "--target", target, *identity, *options)

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Cost:
        """Measure any of its commands."""
        command, statuses = [*self.program, *arguments], (0, PROMISE_IN_DANGER)
        accepted = statuses if arguments[0] == "status" else statuses[:1]
        return run(command, environment or self.environment, self.local, statuses=accepted)


class Before(Backupd):
    """The same of another checkout, to compare builds side by side."""

    name = "before"
    what = "backupd of the checkout that --beside names"

    def __init__(self, ground: Ground, checkout: Path) -> None:
        super().__init__(ground)
        self.checkout = checkout.resolve()


class Slow(Backupd):
    """The same to a store that takes a few megabytes a second."""

    name = "slow"
    what = "backupd to a store behind 8 MB/s"
    bandwidth = "8MB/s"


def chosen(ground: Ground, kinds: Sequence[type[Contender]], served_by: str, log: Log) -> list[Contender]:
    """Those that can run; why others cannot is noted."""
    contenders = []
    for contender in (kind(ground) for kind in kinds):
        missing = contender.missing()
        if missing:
            log.left_out[contender.name] = f"not installed: {', '.join(missing)} (scripts/bench --install-peers)"
        elif "ssh" in contender.programs and "OpenSSH" not in served_by:
            log.left_out[contender.name] = "needs an OpenSSH server"
        else:
            contenders.append(contender)
    return contenders
