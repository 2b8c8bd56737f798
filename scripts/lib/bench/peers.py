"""What people use today, over the same servers and the same SSH."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping

from doubles.servers import postgres
from doubles.servers.postgres import SUPERUSER

from lib.bench.contenders import Contender, Restorer
from lib.process_cost import Cost, run

_PIPED = ("bash", "-o", "pipefail", "-c")


class Dump(Contender):
    name = "pg_dump"
    what = "pg_dump > /dev/null: reading alone, the floor of every logical backup"
    version_of = (("pg_dump", "--version"),)

    def command(self) -> list[str]:
        return ["pg_dump"]


class CopyAlone(Contender):
    """The floor of the time for which an exported snapshot has to be held."""

    name = "copy"
    what = "COPY of the same tables > /dev/null, one after the other"

    def prepare(self) -> None:
        with self.ground.connect() as connection:
            tables = connection.execute(
                "SELECT oid::regclass::text FROM pg_class "
                "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY oid"
            ).fetchall()
        (self.local / "copy.sql").write_text("".join(f"COPY {table} TO STDOUT;\n" for (table,) in tables))

    def command(self) -> list[str]:
        return ["psql", "-XqAt", "--single-transaction", "-v", "ON_ERROR_STOP=1", "-f", "copy.sql"]


class Zstd(Contender):
    """Says what the rows compress to; nothing is sent or sealed."""

    name = "zstd"
    what = "pg_dump | zstd > a local file"
    programs = ("zstd",)
    version_of = (("zstd", "--version"),)
    stored_locally = True

    def command(self) -> list[str]:
        return [*_PIPED, f"pg_dump | zstd -q -{self.ground.level} -f -o dump.zst"]


class Directory(Contender):
    name = "pg_dump-Fd"
    what = "pg_dump -Fd -j2 -Z1 into a local folder: neither sealed nor sent"
    stored_locally = True

    def command(self) -> list[str]:
        number = len(list(self.local.glob("dump-*")))
        return ["pg_dump", "-Fd", "-j2", "-Z1", "-f", f"dump-{number}"]


class Pipe(Contender):
    name = "pipe"
    what = "pg_dump | zstd | age | ssh dd: everything again each time, no tenants, nothing verified"
    programs = ("zstd", "age", "age-keygen", "ssh")
    version_of = (("age", "--version"), ("ssh", "-V"))

    def prepare(self) -> None:
        self.prepared_by("age-keygen", "-o", "key")

    def command(self) -> list[str]:
        ground = self.ground
        seal = f"zstd -q -{ground.level} | age -R <(age-keygen -y key)"
        number = len(list(self.remote.iterdir()))
        send = f"{ground.ssh} {ground.login} dd bs=1M status=none of={self.remote}/{number}"
        return [*_PIPED, f"pg_dump | {seal} | {send}"]


class Restic(Contender):
    name = "restic"
    what = "pg_dump | restic backup --stdin over SFTP: dedup of the stream, no tenants"
    programs = ("restic", "ssh")
    version_of = (("restic", "version"),)

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
        return [*_PIPED, f"pg_dump | restic {options} backup --stdin --stdin-filename dump.sql"]


class Borg(Contender):
    name = "borg"
    what = "pg_dump | borg create over SSH: dedup of the stream, no tenants"
    programs = ("borg", "ssh")
    version_of = (("borg", "--version"),)

    def prepare(self) -> None:
        self.remote.rmdir()
        self.prepared_by("borg", "init", "--encryption", "repokey-blake2")

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            **super().environment,
            "BORG_REPO": f"ssh://{self.ground.login}{self.remote}",
            "BORG_RSH": self.ground.ssh,
            "BORG_REMOTE_PATH": shutil.which("borg", path=self.ground.environment["PATH"]) or "borg",
            "BORG_PASSPHRASE": "bench",
            "BORG_BASE_DIR": str(self.local),
        }

    def command(self) -> list[str]:
        create = f"borg create --compression zstd,{self.ground.level} '::{{now:%Y%m%d%H%M%S%f}}' -"
        return [*_PIPED, f"pg_dump | {create}"]


class PgBackRest(Contender, Restorer):
    """Physical and of the whole server, which it wants to archive its log: the server is started anew around it."""

    name = "pgbackrest"
    what = "pgBackRest, local, zst and aes-256: the whole server's files, not sent; full, then incremental"
    programs = ("pgbackrest",)
    version_of = (("pgbackrest", "version"),)

    def prepare(self) -> None:
        server = self.ground.region.server
        lines = [
            "[global]",
            f"repo1-path={self.remote}",
            "repo1-cipher-type=aes-256-cbc",
            "repo1-cipher-pass=bench",
            "compress-type=zst",
            f"compress-level={self.ground.level}",
            "process-max=2",
            "start-fast=y",
            "log-level-file=off",
            *(f"{name}-path={self.local}" for name in ("lock", "log", "spool")),
            "[bench]",
            f"pg1-path={server.folder}/data",
            f"pg1-socket-path={server.sockets}",
            f"pg1-port={server.port}",
            f"pg1-user={SUPERUSER}",
        ]
        (self.local / "pgbackrest.conf").write_text("\n".join(lines) + "\n")
        user = postgres.server_user()
        for folder in (self.local, self.remote):
            if user is not None:
                os.chown(folder, user.pw_uid, user.pw_gid)
        self.prepared_by(*self._program, "stanza-create")

    def measured(self) -> Cost:
        push = f"{self._path} --config={self.local}/pgbackrest.conf --stanza=bench archive-push %p"
        self._start_again({"wal_level": "replica", "archive_mode": "on", "archive_command": push})
        try:
            return super().measured()
        finally:
            self._start_again({"wal_level": "minimal", "archive_mode": "off", "archive_command": ""})

    def command(self) -> list[str]:
        first = not (self.remote / "backup" / "bench" / "latest").exists()
        return [*self._program, f"--type={'full' if first else 'incr'}", "backup"]

    def restore(self, database: str) -> Cost:  # noqa: ARG002 - it knows no single database
        """The whole server's files into a folder, and a server started there, until it has replayed its log."""
        server, folder = self.ground.region.server, self.local / "restored"
        options = f"-p {server.port} -k {folder} -c listen_addresses="
        start = [server.bin / "pg_ctl", "-D", folder, "-l", folder / "log", "-o", options, "-s", "-w"]
        script = '"${@:1:RESTORE}" && "${@:RESTORE+1}"'
        restore = [*self._program, f"--pg1-path={folder}", "restore"]
        command = [*_PIPED, script, "restore", *restore, *self._drop, *start, "start"]
        try:
            return run(command, {**self.environment, "RESTORE": str(len(restore))}, self.local)
        finally:
            subprocess.run([*self._drop, *start, "-m", "immediate", "stop"], check=False, capture_output=True)
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _path(self) -> str:
        return shutil.which("pgbackrest", path=self.ground.environment["PATH"]) or "pgbackrest"

    @property
    def _program(self) -> list[str]:
        return [*self._drop, self._path, f"--config={self.local}/pgbackrest.conf", "--stanza=bench"]

    @property
    def _drop(self) -> list[str]:
        """What makes a command run as the user who owns the server's files."""
        user = postgres.server_user()
        if user is None:
            return []
        return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]

    def _start_again(self, settings: Mapping[str, str]) -> None:
        server = self.ground.region.server
        server.sql("postgres", *(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in settings.items()))
        subprocess.run(
            [server.bin / "pg_ctl", "-D", server.folder / "data", "-l", server.folder / "log", "-s", "-w", "restart"],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **postgres.as_server_user(),
        )


class PgRestore(Contender, Restorer):
    """Only restores: from files beside the server, neither sealed nor fetched from anywhere."""

    name = "pg_restore"
    what = "pg_restore -j2 of a local pg_dump -Fd -Z1"
    version_of = (("pg_restore", "--version"),)

    def prepare(self) -> None:
        self.prepared_by("pg_dump", "-Fd", "-j2", "-Z1", "-f", "dump")

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


def versions(kinds: list[type[Contender]], path: str) -> dict[str, str]:
    """Of every program among theirs, as it says itself, by the program's name."""
    found = {}
    for command in (one for kind in kinds for one in kind.version_of):
        if shutil.which(command[0], path=path) is not None:
            done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": path})
            version = re.search(r"\d+\.[\w.]+", done.stdout + done.stderr)
            found[command[0]] = version[0] if version else "of unknown version"
    return found
