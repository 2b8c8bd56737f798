"""A region's folder in one of the snapshots that the server shows in the account's home."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from backupd.errors import ObjectMissingError
from backupd.model.ids import ObjectName
from backupd.store.base import ObjectInfo, ServerSnapshot
from backupd.store.names import components, folders
from backupd.store.server import SNAPSHOTS_FOLDER, folder_of, snapshot_unreadable
from backupd.store.sftp import download, wire
from backupd.store.sftp.channel import Flight
from backupd.store.sftp.pool import Pool
from backupd.store.sftp.session import Session, require_granted
from backupd.store.sftp.wire import Attributes, Code, Handle, NameReply, Reply, Status


class SftpView:
    """The port's `StoreView` of the folder `root`, a path on the server, as `snapshot` holds it.

    Only the account's home is in its snapshots. An absolute root is accepted when the server itself reports that it
    lies there; any other root is an error, because nothing can be known of it.
    """

    def __init__(self, pool: Pool, root: str, snapshot: ServerSnapshot) -> None:
        self._pool = pool
        self._root = root
        self._name = folder_of(snapshot)

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        *parents, last = components(name)
        with self._pool.session() as session:
            folder = self._find(session, parents)
            if folder is None:
                raise ObjectMissingError(f"no such object in the store's snapshot: {name!r}")
            return download.fetch(session, f"{folder}/{last}", offset, length, name)

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        *parents, last = components(name)
        with self._pool.session() as session:
            folder = self._find(session, parents)
            if folder is None:
                return None
            (seen,) = session.channel.ask(wire.lstat(f"{folder}/{last}"))
        if _missing(seen):
            return None
        require_granted(seen, name)
        return download.described(name, seen) if isinstance(seen, Attributes) and download.is_file(seen) else None

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        parts = folders(prefix)
        with self._pool.session() as session:
            if self._find(session, parts) is None:
                return
            root = "/".join([SNAPSHOTS_FOLDER, self._name, *self._region(session)])
            yield from download.walk(session, root, "/".join(parts), lambda folder: self._vanished(session, folder))

    def _find(self, session: Session, parts: Sequence[str]) -> str | None:
        """Return the path of a folder below the region's; None when the snapshot lacks it, or is gone itself."""
        snapshot = f"{SNAPSHOTS_FOLDER}/{self._name}"
        levels = [*accumulate([*self._region(session), *parts], "{}/{}".format, initial=snapshot)]
        opened, *seen = session.channel.ask(wire.opendir(snapshot), *map(wire.lstat, levels))
        if not isinstance(opened, Handle):
            if not _missing(opened):
                require_granted(opened, snapshot)
            self._vanished(session, snapshot)
            return None
        Flight(session.channel, lambda _place, _reply: None).ask(wire.close(opened))
        for level, reply in zip(levels, seen, strict=True):
            if _missing(reply):
                self._confirm_absence(session, level)
                return None
            require_granted(reply, level)
            if not isinstance(reply, Attributes) or not download.is_folder(reply):
                raise snapshot_unreadable(f"{level!r} is not a folder")
        return levels[-1]

    def _confirm_absence(self, session: Session, path: str) -> None:
        """Return when the folder above does not list `path`, or the snapshot is gone; else raise StoreError."""
        above, _, name = path.rpartition("/")
        (entries,) = download.read_folders(session, [above])
        if entries is None or name in {entry for entry, _ in entries}:
            self._vanished(session, path)

    def _vanished(self, session: Session, what: str) -> None:
        """Return when the snapshot is gone; else raise StoreError, as nothing leaves a snapshot that exists.

        This takes a look of its own: OpenSSH answers "no such file" also for a snapshot that could not be mounted.
        """
        (entries,) = download.read_folders(session, [SNAPSHOTS_FOLDER])
        if entries is None:
            raise snapshot_unreadable(f"the account's home does not show {SNAPSHOTS_FOLDER!r}")
        if self._name in {name for name, _ in entries}:
            raise snapshot_unreadable(f"{what!r} is listed, and cannot be opened")

    def _region(self, session: Session) -> Sequence[str]:
        """Return the folders from the account's home to the region's.

        Raises StoreError when the region's folder is not below the home.
        """
        root = self._root
        if root.startswith("/"):
            home, there = (_path(reply) for reply in session.channel.ask(wire.realpath("."), wire.realpath(root)))
            root, home = there or root, f"{(home or '').rstrip('/')}/"
            if not root.startswith(home):
                raise snapshot_unreadable(
                    "the store's path is not below the account's home, which is all that they hold"
                )
            root = root.removeprefix(home)
        parts = [part for part in root.split("/") if part not in {"", "."}]
        if ".." in parts:
            raise snapshot_unreadable("the store's path goes up again")
        return parts


def _missing(reply: Reply) -> bool:
    return isinstance(reply, Status) and reply.code == Code.NO_SUCH_FILE


def _path(reply: Reply) -> str | None:
    return reply.entries[0][0] if isinstance(reply, NameReply) and len(reply.entries) == 1 else None
