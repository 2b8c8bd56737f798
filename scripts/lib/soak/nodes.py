"""The nodes of the soak: configurations, keys, daemons, and everything that befalls them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from doubles.node.processes import alive, descendants
from doubles.servers.postgres import as_server_user, server_user
from doubles.servers.sshd import Account, Sshd

from backupd.seal import keyfiles, suite
from backupd.seal.keyfiles import write_signer
from backupd.seal.tags import write_tenant_key
from lib.servers import Region
from lib.soak.clock import Clock

CHECKOUT = Path(__file__).resolve().parents[3]
DIRECTORY = """kind = "directory"
path = "{disk}"
"""
SERVER = """kind = "sftp"
host = "{account.host}"
port = {account.port}
user = "{account.user}"
key = "{account.key_file}"
host_keys = ["{account.host_keys[0]}"]
path = "."
patience = "5s"
"""
PASSPHRASE = "six words for the soak alone"


@dataclass
class Places:
    """Where everything lies."""

    folder: Path
    scratch: Path
    clock: Clock
    source: Region
    sshd: Sshd | None = None
    """None: the store is a folder."""

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def second(self) -> Path:
        """The disk of the second store, if there is one."""
        return self.folder / "second"

    @property
    def snapshots(self) -> Path:
        return self.disk / ".zfs" / "snapshot"


def prepare(places: Places, account: Account | None) -> None:
    """Keys, identities and the store's disk: two nodes with the same keys, identities outside of them."""
    folder, first = places.folder, places.folder / "one"
    first.mkdir()
    places.snapshots.mkdir(parents=True, exist_ok=True)
    (places.disk / "be").mkdir(exist_ok=True)
    pair = suite.generate()
    keyfiles.write_recipient(first / "ops.recipient", keyfiles.Recipient("ops", pair.public))
    keyfiles.write_identity(folder / "drill.identity", "ops", pair, PASSPHRASE)
    secret = folder / "drill.passphrase"
    secret.touch(mode=0o600)
    secret.write_text(f"{PASSPHRASE}\n")
    write_tenant_key(first / "tenant.key")
    signer, keeper = write_signer(first / "signing.key"), write_signer(first / "keeper.key")
    shutil.copytree(first, folder / "two")
    user = server_user()
    template = Template((Path(__file__).parent / "soak.toml").read_text())
    for name in ("one", "two"):
        (folder / name / "backupd.toml").write_text(
            template.substitute(
                name=name,
                node=folder / name,
                folder=folder,
                scratch=places.scratch,
                user=f'user = "{user.pw_name}"' if user else "",
                programs=places.source.server.bin,
                signer=signer.public,
                keeper=keeper.public,
                control=places.source.dsn("control"),
                app=places.source.dsn("app"),
                store=SERVER.format(account=account) if account else DIRECTORY.format(disk=places.disk),
                passfile=places.source.passfile,
            )
        )
    places.scratch.mkdir(mode=0o711)
    places.scratch.chmod(0o711)


def add_second_store(places: Places) -> None:
    """A second store, a folder, for both nodes; `init` makes its repository."""
    (places.second / "be").mkdir(parents=True)
    for name in ("one", "two"):
        path = places.folder / name / "backupd.toml"
        text = path.read_text().replace('stores = ["disk"]', 'stores = ["disk", "second"]')
        section = DIRECTORY.format(disk=places.second) + 'location = "here"\n'
        path.write_text(f"{text}\n[stores.second]\n{section}")


@dataclass
class SoakNode:
    """A node with its daemon, which is started again whenever it was killed."""

    name: str
    places: Places
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0
    _lines: int = field(default=0)

    @property
    def home(self) -> Path:
        return self.places.folder / self.name

    @property
    def log(self) -> Path:
        return self.places.folder / f"{self.name}.log"

    def environment(self) -> Mapping[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        return {
            "PATH": f"{self.places.source.server.bin}:/usr/bin:/bin",
            "BACKUPD_CONFIG": str(self.home / "backupd.toml"),
            **kept,
            **self.places.clock.environment(str(CHECKOUT)),
        }

    def run(self, *arguments: str) -> Any:
        """Raises RuntimeError with what it said, when it fails."""
        done = self._ran(arguments, 0)
        if done.returncode:
            raise RuntimeError(f"backupd {' '.join(arguments)}: {(done.stdout + done.stderr).decode()}")
        return json.loads(done.stdout)

    def status_with_wrong_clock(self, ahead: float, *arguments: str) -> tuple[int, str]:
        """How it ends on a machine whose clock is so many seconds ahead of all others, and what it says."""
        done = self._ran(arguments, ahead)
        return done.returncode, (done.stdout + done.stderr).decode()

    def _ran(self, arguments: Sequence[str], ahead: float) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "backupd", *arguments, "--json"],
            cwd=self.home,
            env={**self.environment(), "SOAK_WRONG": str(ahead)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "backupd", "daemon", *self.options, "--json"],
                cwd=self.home,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def stop(self) -> int:
        """In order, as systemd does; its exit status, or -1 when it did not end in time."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return -1
        finally:
            self.process = None

    def kill(self, *, only_child: bool) -> None:
        """SIGKILL of the daemon, or of one of its jobs alone."""
        if self.process is None:
            return
        started = descendants(self.process.pid)
        self.kills += 1
        if only_child and started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(started[0], signal.SIGKILL)
            return
        self.process.kill()
        self.process.wait()
        until = time.monotonic() + 60
        while alive(started) and time.monotonic() < until:
            time.sleep(0.05)
        if left := alive(started):
            raise RuntimeError(f"{len(left)} processes outlive the daemon that was killed")
        self.start()

    def at_work(self) -> bool:
        """Whether a job of it runs."""
        if self.process is None:
            return False
        if self.process.poll() is not None:
            raise RuntimeError(f"the daemon on {self.name} ended with {self.process.returncode}")
        return bool(descendants(self.process.pid))

    def at_rest(self) -> bool:
        """Whether it has nothing to do until time goes on; so has one that does not run."""
        return self.process is None or (not self.at_work() and self.places.clock.reached_by(self.process.pid))

    def ended(self) -> list[dict[str, Any]]:
        """The log's lines of jobs since the last call."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        found = []
        for line in lines[self._lines :]:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        self._lines = len(lines)
        return [line for line in found if line.get("event") == "job"]


@contextlib.contextmanager
def outage(places: Places) -> Iterator[None]:
    """The first store's disk is not mounted, or its server does not listen."""
    if places.sshd is not None:
        places.sshd.stop()
        try:
            yield
        finally:
            places.sshd.restart()
        return
    with unmounted(places, places.disk):
        yield


@contextlib.contextmanager
def unmounted(places: Places, disk: Path) -> Iterator[None]:
    """One folder is not there."""
    away = places.folder / "away"
    disk.rename(away)
    try:
        yield
    finally:
        away.rename(disk)


def restart(source: Region) -> None:
    """PostgreSQL loses every connection, and comes back."""
    server = source.server
    subprocess.run(
        [
            server.bin / "pg_ctl",
            "-D",
            server.folder / "data",
            "restart",
            "-m",
            "immediate",
            "-w",
            "-s",
            "-l",
            server.folder / "log",
        ],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **as_server_user(),
    )


def rotate(places: Places, keep: int) -> None:
    """The store makes its daily snapshot, and drops those that are too old."""
    day = places.clock.now().strftime("%Y-%m-%d")
    made, ready = places.disk / ".zfs" / "making", places.snapshots / f"daily_{day}"
    made.mkdir()
    # Files leave the store while it is copied; ZFS would have seen one instant.
    subprocess.run(["cp", "-al", places.disk / "be", made / "be"], check=False, stderr=subprocess.DEVNULL)
    made.rename(ready)
    for old in sorted(places.snapshots.iterdir())[:-keep]:
        shutil.rmtree(old)
