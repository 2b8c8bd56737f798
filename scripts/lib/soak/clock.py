"""Time that is moved in steps: for backupd by a file it reads, for the store's disk by the times of its files."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

SHIFT = Path(__file__).parent / "shift"
MONTH = 30 * 86_400


class Clock:
    """Stands at `begin`, and goes on as fast as real time but for what `advance` adds."""

    def __init__(self, file: Path, begin: datetime) -> None:
        self._file = file
        self._offset = 0.0
        self._write((begin - datetime.now(UTC)).total_seconds())

    def now(self) -> datetime:
        return self.of(datetime.now(UTC))

    def of(self, real: datetime) -> datetime:
        """What time it is here when the real time is `real`; not for times before the last step."""
        return real + timedelta(seconds=self._offset)

    def environment(self, path: str) -> Mapping[str, str]:
        """For a process that shall live in this time, with these folders of modules."""
        return {"SOAK_OFFSET": str(self._file), "PYTHONPATH": f"{SHIFT}:{path}"}

    def reached_by(self, pid: int) -> bool:
        """Whether that daemon knows what time it is, and has nothing to do."""
        try:
            return self._file.with_name(f"rest-{pid}").read_text(encoding="ascii") == f"{self._offset:.6f}"
        except FileNotFoundError:
            return False

    def advance(self, to: datetime, *disks: Path) -> None:
        """Move on to that time, if it is not past. What was written to the disks meanwhile stays as old as it is."""
        by = (to - self.now()).total_seconds()
        if by > 0:
            for disk in disks:
                self._settle(disk)
            self._write(self._offset + by)

    def _settle(self, disk: Path) -> None:
        limit = time.time() + MONTH
        for folder, _, files in os.walk(disk):
            for name in files:
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    written = path.stat().st_mtime
                    if written < limit:
                        os.utime(path, (written + self._offset,) * 2)

    def _write(self, offset: float) -> None:
        self._offset = offset
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset:.6f}", encoding="ascii")
        new.replace(self._file)
