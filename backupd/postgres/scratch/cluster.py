"""A scratch cluster for a drill's restore: a unix socket, no network, no background work, no durability.

`backupd manual trust`, row *its settings, those of its databases*, says who can write this, and what is checked.
"""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from backupd.errors import SourceError
from backupd.postgres.client_programs import killed
from backupd.postgres.connect import Source, as_ourselves
from backupd.postgres.scratch.folder import (
    ScratchDisposal,
    ScratchFolder,
    dispose,
    leftovers,
    make_folder,
)
from backupd.postgres.scratch.guardian import watch_over
from backupd.postgres.scratch.jail import Jailed
from backupd.postgres.scratch.kept import PORT, SOCKET, SUPERUSER, KeptServer, keep_server
from backupd.postgres.scratch.programs import Runner, ServerPrograms, end, exit_status

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
    preload: tuple[str, ...] = ()
    """Libraries to load when it starts; those that are not installed are left out."""


class Cluster:
    """A server that runs until the end of `scratch_cluster`, or until `stop`."""

    def __init__(self, folder: ScratchFolder, spec: ClusterSpec) -> None:
        self._folder = folder
        self._spec = spec
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def source(self) -> Source:
        """Return how to connect; the client programs are looked for beside the server's.

        What `ALTER DATABASE … SET` says in a restored database rules over the server's command line, but not here.
        """
        conninfo = f"host={self._folder.socket} port={PORT} user={SUPERUSER} dbname=postgres"
        source = Source(conninfo, client_folders=(self._spec.programs.folder,))
        return as_ourselves(source, SUPERUSER, self._spec.programs.major * 10000)

    @property
    def version(self) -> str:
        return self._spec.programs.version

    @property
    def path(self) -> Path:
        return self._folder.path

    def size(self) -> int:
        """Return the bytes that its files take on disk."""
        total = 0
        for _, _, names, here in os.fwalk(self._folder.path):
            for name in names:
                with suppress(FileNotFoundError):  # it comes and goes as the server likes
                    total += os.stat(name, dir_fd=here, follow_symlinks=False).st_blocks * 512
        return total

    def free(self) -> int:
        """Return the bytes that are left on its disk."""
        found = os.statvfs(self._folder.path)
        return found.f_bavail * found.f_frsize

    def stop(self) -> None:
        """End the server at once; nothing of it is needed any more."""
        if self._server is not None:
            end(self._server)

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
        """End the server, remove its folder, and check that no process and no file of it remains.

        The kernel ends every process of a jail before the jail itself ends.
        """
        self.stop()
        removed = dispose(self._folder) and not self._folder.path.exists()
        destroyed = [("scratch-server", "process-gone")]
        destroyed += [("data-folder", "listed-absent")] if removed else []
        return ScratchDisposal(tuple(destroyed), int(not removed))

    def keep(self, path: Path) -> KeptServer:
        """Stop the server and move it to the new folder `path` on the same disk, with durable settings.

        Nothing that the server could write is opened here. Raises SourceError, RefusedError.
        """
        folder, server = self._folder, self._server
        if server is not None:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(_START_SECONDS)
            end(server)
            if server.returncode:
                raise SourceError("the scratch server did not stop cleanly", hint="Restore once more.")
        self._run("initdb", "-D", str(folder.data), "--sync-only")
        kept = self._jailed(self._serving(path / "data", path / "socket", _DURABLE), path)
        return keep_server(folder, path, replace(kept, memory=resource.RLIM_INFINITY))

    def start(self) -> None:
        """Make the cluster and start its server.

        Raises SourceError, without the programs' messages.
        """
        runner, data = self._spec.runner, self._folder.data
        for folder in (data, self._folder.socket):
            folder.mkdir(mode=0o700)
            if runner.user != os.geteuid():  # a unit may change no owner
                os.chown(folder, runner.user, runner.group)
        options = ["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync", "-A", "reject", "--auth-local=trust"]
        self._run("initdb", "-D", str(data), *options)
        # A new server gives out OIDs as the source did when it was new. What depends on them, such as hash partitions
        # of enums, would come back here and nowhere else.
        self._run("pg_resetwal", "-o", str(_first_oid(self._spec.token)), "-D", str(data))
        command = self._serving(data, self._folder.socket, memory_settings(self._spec.memory))
        self._server = runner.start(self._jailed(command, self._folder.path))
        if self._server.stdout is None or not self._server.stdout.read(1):
            end(self._server)
            raise _failed("postgres", exit_status(self._server.returncode))

    def _serving(self, data: Path, socket: Path, changes: Mapping[str, str]) -> list[str]:
        """Return the command that runs the server. Settings on it cannot be overruled from within the server."""
        late = {"event_triggers": "off"} if self._spec.programs.major >= _EVENT_TRIGGERS_SINCE else {}
        loaded = {"shared_preload_libraries": ",".join(filter(self._spec.programs.has_library, self._spec.preload))}
        settings = {**_SETTINGS, **late, **loaded, "unix_socket_directories": f'"{socket}"', **changes}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._spec.programs.folder / "postgres"), "-D", str(data), *words]

    def _jailed(self, command: list[str], path: Path, *, server: bool = True) -> Jailed:
        runner, programs = self._spec.runner, self._spec.programs
        write = [str(path / self._folder.data.name), str(path / self._folder.socket.name)]
        socket = str(path / SOCKET) if server else None
        return Jailed(command, runner.user, runner.group, list(programs.folders), write, self._spec.memory, socket)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._spec.programs.folder / program), *arguments]
        status, _ = self._spec.runner.run(self._jailed(command, self._folder.path, server=False), 300)
        if status:
            raise _failed(program, status)


def _failed(program: str, status: int) -> SourceError:
    if status < 0:
        return killed(f"the scratch server's {program}", status)
    return SourceError(
        f"the scratch server's {program} failed with exit status {status}",
        hint=f"Look for room on the disk of drill.scratch_dir. By hand, in an empty folder, {program} says what is "
        "wrong.",
    )


@contextmanager
def scratch_cluster(spec: ClusterSpec) -> Iterator[Cluster]:
    """Yield a running server, removed with all its files when the block ends, however it ends.

    When this process is killed, the server ends with it, and a guardian process removes the files; when that is killed,
    too, the next drill's `reap` does. Raises ConfigError, SourceError.
    """
    folder = make_folder(spec.parent, spec.token)
    guardian = watch_over(folder)
    cluster = Cluster(folder, spec)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
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
