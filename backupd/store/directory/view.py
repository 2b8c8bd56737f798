"""A region's folder in one of the snapshots that ZFS shows of the disk below it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from backupd.store.base import ServerSnapshot
from backupd.store.directory.reading import FOLDER, ObjectReader, within
from backupd.store.server_snapshots import FOLDER as SNAPSHOTS
from backupd.store.server_snapshots import blind, folder_of


class DirectoryView(ObjectReader):
    """The port's `StoreView` of `root`, an absolute path, as it is in `snapshot` below the folder `snapshots`."""

    def __init__(self, root: Path, snapshots: Path | None, snapshot: ServerSnapshot) -> None:
        self._name = folder_of(snapshot)
        if snapshots is None:
            raise blind(f"no folder above the store's shows {SNAPSHOTS!r}")
        self._snapshots = snapshots
        self._inside = root.relative_to(snapshots.parent.parent).parts
        if ".." in self._inside:
            raise blind("the store's path goes up again")

    @contextlib.contextmanager
    def open_folder(self, parts: Sequence[str]) -> Iterator[int]:
        snapshot = self._enter()
        if snapshot is None:
            raise FileNotFoundError
        with within(snapshot, [*self._inside, *parts]) as folder:
            yield folder

    def vanished(self, name: str) -> None:
        """Nothing leaves a snapshot while that exists."""
        snapshot = self._enter()
        if snapshot is not None:
            os.close(snapshot)
            raise blind(f"{name!r} is listed in {self._name!r}, and cannot be opened")

    def _enter(self) -> int | None:
        """A descriptor of the snapshot's folder; None when the snapshot is gone."""
        try:
            every = os.open(self._snapshots, FOLDER)
        except FileNotFoundError as error:
            raise blind(f"{SNAPSHOTS!r} is there no longer") from error
        try:
            return os.open(self._name, FOLDER, dir_fd=every)
        except FileNotFoundError as error:
            # ZFS mounts a snapshot when it is entered; where that fails, the folder is listed all the same.
            if self._name in os.listdir(every):  # noqa: PTH208 - a descriptor has no path
                raise blind(f"{self._name!r} is listed, and cannot be opened") from error
            return None
        finally:
            os.close(every)
