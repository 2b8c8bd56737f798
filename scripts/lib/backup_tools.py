"""The tools that are measured: backupd, and those people use today, over the same servers and the same SSH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from doubles.servers.postgres import SUPERUSER
from doubles.servers.sshd import Account, make_key

from lib.process_cost import Cost, folder_size, run
from lib.servers import READER, Region

CHECKOUT = Path(__file__).resolve().parents[2]
DATABASE = "bench"


@dataclass(frozen=True, slots=True)
class Ground:
    """What all of them stand on."""

    folder: Path
    region: Region
    account: Account
    level: int
    """zstd's, for everybody who lets it be chosen."""

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
            "PGDATABASE": DATABASE,
        }

    @property
    def ssh(self) -> str:
        """An SSH command line with a key that may run any program, as an ordinary server lets one."""
        return (
            f"ssh -q -i {self.folder}/plain.key -o UserKnownHostsFile={self.folder}/known_hosts -p {self.account.port}"
        )

    @property
    def login(self) -> str:
        return f"{self.account.user}@{self.account.host}"


def open_ssh(account: Account, folder: Path) -> None:
    """Let a second key in, without the restricted shell, and pin the host's key for OpenSSH's client."""
    public = make_key(folder / "plain.key")
    with (account.key_file.parent / "authorized_keys").open("a") as keys:
        keys.write(f"restrict {public}\n")
    lines = (f"[{account.host}]:{account.port} {key}\n" for key in account.host_keys)
    (folder / "known_hosts").write_text("".join(lines))


class Contender(ABC):
    """One way to back up. `fresh` makes the next backup a first one; neither it nor `prepare` is measured."""

    name: str
    what: str
    programs: tuple[str, ...] = ()

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.remote = ground.account.home / self.name
        self.local = ground.folder / self.name

    def missing(self) -> list[str]:
        """Programs it needs that are not installed."""
        return [one for one in self.programs if shutil.which(one, path=self.ground.environment["PATH"]) is None]

    def fresh(self) -> None:
        for folder in (self.remote, self.local):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        self.prepare()

    def prepare(self) -> None:
        """Do what is done once, before the first backup; nothing unless a contender says more."""
        return

    def backup(self) -> tuple[Cost, int]:
        """The cost, and by how many bytes the other side grew."""
        before = folder_size(self.remote)
        cost = run(self.command(), self.environment, self.local)
        return cost, folder_size(self.remote) - before

    @property
    def environment(self) -> Mapping[str, str]:
        return self.ground.environment

    @abstractmethod
    def command(self) -> list[str]: ...

    def prepared_by(self, *command: str) -> None:
        subprocess.run(command, env=dict(self.environment), cwd=self.local, check=True, capture_output=True)


class Backupd(Contender):
    """This one."""

    name = "backupd"
    what = "backupd backup: dedup, per-tenant sealing, SFTP, every object hashed on the other side before it counts"

    def prepare(self) -> None:
        passphrase = self.local / "passphrase"
        passphrase.write_text("a passphrase for the bench\n")
        self.prepared_by(*self.program, "key", "generate", "ops.identity", "--passphrase-file", "passphrase")
        self.prepared_by(*self.program, "key", "generate", "--signer", "signing.key")
        self.prepared_by(*self.program, "key", "generate", "--tenant-key", "tenant.key")
        account, server = self.ground.account, self.ground.region.server
        text = Template((Path(__file__).parent / "bench.toml").read_text()).substitute(
            folder=self.local,
            programs=server.bin,
            level=self.ground.level,
            host=account.host,
            port=account.port,
            user=account.user,
            key=account.key_file,
            host_key=account.host_keys[0],
            path=self.name,
            dsn=server.conninfo(DATABASE, READER),
        )
        (self.local / "backupd.toml").write_text(text)
        self.prepared_by(*self.program, "init")

    @property
    def program(self) -> list[str]:
        return [sys.executable, "-m", "backupd"]

    @property
    def environment(self) -> Mapping[str, str]:
        own = {"PYTHONPATH": str(CHECKOUT), "BACKUPD_CONFIG": "backupd.toml"}
        return {name: value for name, value in super().environment.items() if not name.startswith("PG")} | own

    def command(self) -> list[str]:
        return [*self.program, "backup"]

    def restore(self, database: str) -> Cost:
        """Into a new database of the same server."""
        target = self.ground.region.server.conninfo(database)
        identity = ("--identity", "ops.identity", "--passphrase-file", "passphrase")
        return run(
            [*self.program, "restore", "database", "be", "bench", "--target", target, *identity],
            self.environment,
            self.local,
        )


class Dump(Contender):
    name = "pg_dump"
    what = "pg_dump > /dev/null: reading alone, the floor of every logical backup"

    def command(self) -> list[str]:
        return ["pg_dump"]


class Pipe(Contender):
    name = "pipe"
    what = "pg_dump | zstd | age | ssh dd: everything again each time, no tenants, nothing verified"
    programs = ("zstd", "age", "age-keygen", "ssh")

    def prepare(self) -> None:
        self.prepared_by("age-keygen", "-o", "key")

    def command(self) -> list[str]:
        ground = self.ground
        seal = f"zstd -q -{ground.level} | age -R <(age-keygen -y key)"
        number = len(list(self.remote.iterdir()))
        send = f"{ground.ssh} {ground.login} dd bs=1M status=none of={self.remote}/{number}"
        return ["bash", "-o", "pipefail", "-c", f"pg_dump | {seal} | {send}"]


class Restic(Contender):
    name = "restic"
    what = "pg_dump | restic backup --stdin over SFTP: dedup of the stream, no tenants"
    programs = ("restic", "ssh")

    def prepare(self) -> None:
        self.prepared_by("restic", *self._options, "init")

    @property
    def _options(self) -> tuple[str, ...]:
        return ("-q", "-o", f"sftp.command={self.ground.ssh} {self.ground.login} -s sftp", "--cache-dir", "cache")

    @property
    def environment(self) -> Mapping[str, str]:
        place = f"sftp:{self.ground.login}:{self.remote}"
        return {**super().environment, "RESTIC_REPOSITORY": place, "RESTIC_PASSWORD": "bench"}

    def command(self) -> list[str]:
        options = " ".join(f"'{option}'" for option in self._options)
        return ["bash", "-o", "pipefail", "-c", f"pg_dump | restic {options} backup --stdin --stdin-filename dump.sql"]


class Borg(Contender):
    name = "borg"
    what = "pg_dump | borg create over SSH: dedup of the stream, no tenants"
    programs = ("borg", "ssh")

    def prepare(self) -> None:
        self.remote.rmdir()
        self.prepared_by("borg", "init", "--encryption", "repokey-blake2")

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            **super().environment,
            "BORG_REPO": f"ssh://{self.ground.login}{self.remote}",
            "BORG_RSH": self.ground.ssh,
            "BORG_PASSPHRASE": "bench",
            "BORG_BASE_DIR": str(self.local),
        }

    def command(self) -> list[str]:
        create = f"borg create --compression zstd,{self.ground.level} '::{{now:%Y%m%d%H%M%S%f}}' -"
        return ["bash", "-o", "pipefail", "-c", f"pg_dump | {create}"]


class PgRestore(Contender):
    """Only restores: from a file beside the server, neither sealed nor fetched from anywhere."""

    name = "pg_restore"
    what = "pg_restore -j2 of a local pg_dump -Fc -Z1"

    def prepare(self) -> None:
        self.prepared_by("pg_dump", "-Fc", "-Z1", "-f", "dump")

    def command(self) -> list[str]:
        raise TypeError("it makes no backups")

    def restore(self, database: str) -> Cost:
        """Into a new database of the same server, which it finds made."""
        self.ground.region.server.create_database(database)
        return run(
            ["pg_restore", "-j2", "--exit-on-error", "-U", SUPERUSER, "-d", database, "dump"],
            self.environment,
            self.local,
        )


WRITERS: tuple[type[Contender], ...] = (Backupd, Pipe, Dump, Restic, Borg)
