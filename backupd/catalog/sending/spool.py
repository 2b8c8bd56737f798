"""The spool: a folder per run for packs that are made and not yet on the store. Holds sealed bytes only."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backupd.errors import SpoolFullError
from backupd.model.ids import RunId, well_formed


@contextmanager
def run_folder(spool: Path, run: RunId) -> Iterator[Path]:
    """A new folder for one run, removed afterwards; those of runs that were killed are removed first.

    Only one run at a time may use a spool folder, which the index's lock sees to. Raises SpoolFullError.
    """
    try:
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in spool.iterdir():
            if well_formed("run", left.name):
                shutil.rmtree(left)
        folder = spool / run
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise SpoolFullError(
            f"the spool folder cannot be used ({error.strerror})", hint="Check node.spool_dir, its owner and its disk."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
