"""A directory store's single steps, for the probe."""

from __future__ import annotations

import os
from pathlib import Path

from backupd.errors import StoreError
from backupd.model.ids import ObjectName
from backupd.store.names import components


class DirectoryWorkbench:
    """The probe's `Workbench` over plain files of this machine."""

    adapter = "directory"
    max_write = 1 << 20

    def __init__(self, root: Path, snapshots: Path | None) -> None:
        self._root = root
        self._snapshots = snapshots

    def write(self, name: ObjectName, data: bytes, *, exclusive: bool) -> bool:
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not exclusive:
                path.chmod(0o600)
            with path.open("xb" if exclusive else "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _refused(name, error) from error
        return True

    def rename(self, old: ObjectName, new: ObjectName) -> None:
        try:
            os.link(self._path(old), self._path(new))
            self._path(old).unlink()
        except OSError as error:
            raise _refused(new, error) from error

    def exchange(self, old: ObjectName, new: ObjectName) -> None:
        try:
            self._path(old).replace(self._path(new))
        except OSError as error:
            raise _refused(new, error) from error

    def remove(self, name: ObjectName) -> None:
        try:
            self._path(name).unlink()
        except OSError as error:
            raise _refused(name, error) from error

    def tells_space(self) -> bool:
        return True

    def run(self, command: str, name: ObjectName) -> bytes | None:  # noqa: ARG002 - a folder has no commands
        return None

    def snapshots_folder(self) -> str | None:
        return str(self._snapshots) if self._snapshots is not None else None

    def _path(self, name: ObjectName) -> Path:
        return self._root.joinpath(*components(name))


def _refused(name: ObjectName, error: OSError) -> StoreError:
    return StoreError(f"the store refused {name!r}: {(error.strerror or 'unknown error').lower()}")
