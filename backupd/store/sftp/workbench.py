"""An SFTP store's single steps, which the probe tries."""

from __future__ import annotations

from backupd.model.ids import ObjectName
from backupd.store.server import SNAPSHOTS_FOLDER
from backupd.store.sftp import wire
from backupd.store.sftp.pool import Pool
from backupd.store.sftp.session import Session, handle_of, require_granted
from backupd.store.sftp.upload import PERMISSIONS
from backupd.store.sftp.wire import Mode


class SftpWorkbench:
    """The probe's `ProbeOperations` over SFTP; each step uses a session of the pool."""

    adapter = "sftp"

    def __init__(self, pool: Pool, root: str) -> None:
        self._pool = pool
        self._root = root
        with pool.session() as session:
            self.max_write = session.channel.write_size

    def write(self, name: ObjectName, data: bytes, *, exclusive: bool) -> bool:
        path = self._path(name)
        with self._pool.session() as session:
            if exclusive:
                session.make_folders(path)
                opening = wire.open_file(path, Mode.WRITE | Mode.CREATE | Mode.EXCLUSIVE, PERMISSIONS)
            else:
                _loosen(session, path)
                opening = wire.open_file(path, Mode.WRITE | Mode.TRUNCATE)
            handle = handle_of(session.channel.ask(opening)[0], name)
            written, synced, closed = session.channel.ask(
                wire.write(handle, 0, data), wire.fsync(handle), wire.close(handle)
            )
            require_granted(written, name)
            require_granted(closed, name)
        return isinstance(synced, wire.Status) and synced.ok

    def rename(self, old: ObjectName, new: ObjectName) -> None:
        self._do(wire.rename(self._path(old), self._path(new)), new)

    def exchange(self, old: ObjectName, new: ObjectName) -> None:
        self._do(wire.exchange(self._path(old), self._path(new)), new)

    def remove(self, name: ObjectName) -> None:
        self.run("rm -f", name)
        with self._pool.session() as session:
            seen, removed = session.channel.ask(wire.lstat(self._path(name)), wire.remove(self._path(name)))
        if isinstance(seen, wire.Attributes):
            require_granted(removed, name)

    def reports_space(self) -> bool:
        with self._pool.session() as session:
            return session.offers("statvfs@openssh.com") and isinstance(
                session.channel.ask(wire.statvfs("."))[0], wire.Extended
            )

    def run(self, command: str, name: ObjectName) -> bytes | None:
        with self._pool.session() as session:
            code, output = session.run(command, self._path(name))
        return output if code == 0 else None

    def snapshots_folder(self) -> str | None:
        with self._pool.session() as session:
            return SNAPSHOTS_FOLDER if _is_folder(session, SNAPSHOTS_FOLDER) else None

    def _do(self, request: wire.SftpRequest, name: ObjectName) -> None:
        with self._pool.session() as session:
            (reply,) = session.channel.ask(request)
        require_granted(reply, name)

    def _path(self, name: ObjectName) -> str:
        return f"{self._root}/{name}"


def _loosen(session: Session, path: str) -> None:
    """Make an object writable by each of the requests that might do it."""
    _, _, opened = session.channel.ask(
        wire.chmod(path, 0o600), wire.lchmod(path, 0o600), wire.open_file(path, Mode.READ)
    )
    if isinstance(opened, wire.Handle):
        session.channel.ask(wire.fchmod(opened, 0o600), wire.close(opened))


def _is_folder(session: Session, path: str) -> bool:
    (seen,) = session.channel.ask(wire.opendir(path))
    if not isinstance(seen, wire.Handle):
        return False
    session.channel.ask(wire.close(seen))
    return True
