"""Files that come into being together: made in a folder of their own, then all put in place, or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self


class NewFiles:
    """A private folder beside the files' final places, removed at the end with all that was not put."""

    def __init__(self, beside: Path) -> None:
        """Make the folder. Raises OSError."""
        self.folder = Path(tempfile.mkdtemp(prefix=".backupd-setup-", dir=beside))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def put(self, places: Mapping[str, Path], last: tuple[str, Path]) -> None:
        """Give each file of the folder, by its name, its final place, and at the very end the one that uses the others.

        Only that one replaces what is there. Raises OSError, FileExistsError among them; then, and when it is
        interrupted, none of the others is there.
        """
        name, final = last
        try:
            for staged, path in places.items():
                # A hard link to a taken name fails, where a rename would replace what is there.
                os.link(self.folder / staged, path, follow_symlinks=False)
            (self.folder / name).replace(final)
        except BaseException:
            if (self.folder / name).exists():
                self._take_back(places)
            raise

    def _take_back(self, places: Mapping[str, Path]) -> None:
        for staged, path in places.items():
            if path.exists() and path.samefile(self.folder / staged):
                path.unlink()
