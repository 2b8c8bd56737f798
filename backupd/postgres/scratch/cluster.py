"""A scratch cluster for a drill's restore: a unix socket, no network, no background work, no durability."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backupd.errors import SourceError
from backupd.postgres.connect import Source
from backupd.postgres.scratch.folder import (
    ScratchDisposal,
    ScratchFolder,
    dispose,
    end_server,
    leftovers,
    make_folder,
    processes,
)
from backupd.postgres.scratch.guardian import watch_over
from backupd.postgres.scratch.kept import PORT, SUPERUSER, KeptServer, move
from backupd.postgres.scratch.programs import Runner, ServerPrograms

_START_SECONDS = 120
_EVENT_TRIGGERS_SINCE = 17
"""Major version from which a server can be started without a restored database's login triggers."""
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "archive_mode": "off",
    "shared_preload_libraries": "",
    "max_wal_size": "2GB",
    "max_connections": "40",
    "max_prepared_transactions": "0",
    "max_locks_per_transaction": "1024",
    # In the server's own folder, so that a killed one leaves nothing elsewhere.
    "dynamic_shared_memory_type": "mmap",
    # Its libraries alone take more room than a small limit leaves.
    "jit": "off",
    # What PostgreSQL says quotes rows.
    "logging_collector": "off",
    "log_min_messages": "panic",
    "log_min_error_statement": "panic",
    "lc_messages": "C",
}

_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "autovacuum": "on"}
"""Settings of a server that is kept after the drill."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """The parameters of a scratch cluster."""

    parent: Path
    """Folder for scratch servers, on a disk with enough space."""
    programs: ServerPrograms
    runner: Runner
    token: str
    """A unique name of 16 hex digits."""
    memory: int = 2 << 30
    """Bytes that any one process of the server may have, including the memory that all share."""


class Cluster:
    """A server that runs until the end of `scratch_cluster`, or until `stop`."""

    def __init__(self, folder: ScratchFolder, spec: ClusterSpec, programs: Path) -> None:
        self._folder = folder
        self._spec = spec
        self._programs = programs

    @property
    def source(self) -> Source:
        """Return how to connect; the client programs are looked for beside the server's."""
        conninfo = f"host={self._folder.socket} port={PORT} user={SUPERUSER} dbname=postgres"
        return Source(conninfo, client_folders=(self._spec.programs.folder,))

    @property
    def version(self) -> str:
        return self._spec.programs.version

    @property
    def path(self) -> Path:
        return self._folder.path

    def size(self) -> int:
        """Return the bytes that its files take on disk."""
        total = 0
        for folder, _, names in os.walk(self._folder.path):
            for name in names:
                with suppress(FileNotFoundError):  # it comes and goes as the server likes
                    total += Path(folder, name).lstat().st_blocks * 512
        return total

    def free(self) -> int:
        """Return the bytes that are left on its disk."""
        found = os.statvfs(self._folder.path)
        return found.f_bavail * found.f_frsize

    def stop(self) -> None:
        """End the server at once; nothing of it is needed any more."""
        end_server(self._folder.data)

    @property
    def roles(self) -> frozenset[str]:
        return frozenset({SUPERUSER})

    def name(self, real: str, what: str = "") -> str:
        """Return the real name of a database, so that rules about names mean the same here as at the source.

        A name with `what`, or one that every cluster has, gets a suffix.
        """
        if what or real in ("postgres", "template0", "template1"):
            return f"{real[:40]}_drill{what and '_' + what}"
        return real

    def dispose(self) -> ScratchDisposal:
        """End the server, remove its folder, and check that no process and no file of it remains."""
        removed = dispose(self._folder) and not self._folder.path.exists()
        ended = not processes(self._folder.data)
        destroyed = [("scratch-server", "process-gone")] if ended else []
        destroyed += [("data-folder", "listed-absent")] if removed else []
        return ScratchDisposal(tuple(destroyed), (not ended) + (not removed))

    def keep(self, path: Path) -> KeptServer:
        """Stop the server and move it to the new folder `path` on the same disk, with durable settings.

        Raises SourceError, RefusedError.
        """
        folder, spec = self._folder, self._spec
        self._run("pg_ctl", "stop", "-D", str(folder.data), "-m", "fast", "-w", "-t", str(_START_SECONDS), "-s")
        _configure(folder.data, path / folder.socket.name, spec.programs.major, _DURABLE)
        self._run("initdb", "-D", str(folder.data), "--sync-only")
        programs = self._programs
        if programs.is_relative_to(folder.path):
            programs = path / programs.relative_to(folder.path)
        move(folder, path)
        drop = _dropping(spec.runner) if spec.runner.user is not None else ()
        return KeptServer(path, (str(programs / "pg_ctl"),), drop, spec.runner.prefix)

    def start(self) -> None:
        """Make the cluster and start its server.

        Raises SourceError, without the programs' messages.
        """
        runner, data = self._spec.runner, self._folder.data
        for folder in (data, self._folder.socket):
            folder.mkdir(mode=0o700)
            if runner.user is not None and runner.group is not None:
                os.chown(folder, runner.user, runner.group)
        options = ["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync", "-A", "reject", "--auth-local=trust"]
        self._run("initdb", "-D", str(data), *options)
        # A new server gives out OIDs as the source did when it was new. What depends on them, such as hash partitions
        # of enums, would come back here and nowhere else.
        self._run("pg_resetwal", "-o", str(_first_oid(self._spec.token)), "-D", str(data))
        _configure(data, self._folder.socket, self._spec.programs.major, memory_settings(self._spec.memory))
        waiting = ["-w", "-t", str(_START_SECONDS), "-s", "-l", os.devnull]
        self._run("pg_ctl", "start", "-D", str(data), *waiting)

    def _run(self, program: str, *arguments: str) -> None:
        runner = self._spec.runner
        drop = _dropping(runner) if runner.prefix and runner.user is not None else ()
        limit = ("/bin/sh", "-c", 'ulimit -v "$0" && exec nice -n 10 "$@"', str(self._spec.memory >> 10))
        command = [*runner.prefix, *drop, *limit, str(self._programs / program), *arguments]
        options = runner.options()
        if drop:  # the network is taken away by root; `setpriv` drops the rights after that
            options = {name: value for name, value in options.items() if name not in ("user", "group", "extra_groups")}
        done = subprocess.run(
            command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300, **options
        )
        if done.returncode:
            raise SourceError(
                f"the scratch server's {program} failed with exit status {done.returncode}",
                hint="Look for room on the disk of drill.scratch_dir, and whether its user may reach that folder.",
            )


def _configure(data: Path, socket: Path, major: int, changes: Mapping[str, str] | None = None) -> None:
    late = {"event_triggers": "off"} if major >= _EVENT_TRIGGERS_SINCE else {}
    settings = {**_SETTINGS, **late, "unix_socket_directories": str(socket), **(changes or {})}
    with (data / "postgresql.auto.conf").open("w") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())


@contextmanager
def scratch_cluster(spec: ClusterSpec) -> Iterator[Cluster]:
    """Yield a running server, removed with all its files when the block ends, however it ends.

    When this process is killed, a guardian process does the same; when that is killed, too, the next drill's `reap`
    does. Raises ConfigError, SourceError.
    """
    folder = make_folder(spec.parent, spec.token)
    guardian = watch_over(folder)
    cluster = Cluster(folder, spec, spec.programs.folder)
    try:
        if not spec.runner.may_run(spec.programs.folder / "postgres"):
            cluster = Cluster(folder, spec, _copied(spec.programs, folder))
        cluster.start()
        yield cluster
    finally:
        dispose(folder)
        if guardian.stdin is not None:
            guardian.stdin.close()
        guardian.wait()


def memory_settings(memory: int) -> dict[str, str]:
    """Return settings by which caches, two index builds and a few sorts together fit into `memory` bytes.

    Only PostgreSQL itself promises that each operation stays within its setting. The kernel limits each process to
    `memory` bytes (RLIMIT_AS); only a control group limits the sum of all processes.
    """
    kib = memory >> 10
    shares = {"shared_buffers": 8, "maintenance_work_mem": 16, "work_mem": 64, "temp_buffers": 128}
    return {name: f"{kib // share}kB" for name, share in shares.items()} | {"hash_mem_multiplier": "1"}


def reap(parent: Path) -> tuple[int, int]:
    """Remove the folders that crashed drills left below `parent`.

    Return how many were removed, and how many could not be.
    """
    results = [dispose(folder) for folder in leftovers(parent)]
    return sum(results), len(results) - sum(results)


def _first_oid(token: str) -> int:
    """Return the OID to count from: another one for each server, far above what a server's own making takes."""
    return (1 << 24) + int(token[:7], 16)


def _copied(programs: ServerPrograms, folder: ScratchFolder) -> Path:
    """Copy the whole installation to a place that the server's user can reach."""
    copy = folder.path / "programs"
    shutil.copytree(programs.folder.parent, copy, symlinks=True)
    return copy / programs.folder.name


def _dropping(runner: Runner) -> tuple[str, ...]:
    program = shutil.which("setpriv") or "setpriv"
    return (program, f"--reuid={runner.user}", f"--regid={runner.group}", "--clear-groups", "--")
