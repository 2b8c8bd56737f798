"""The uploader: publishes packs from the spool on threads of its own, and removes each when it is on the store.

The spool has a folder for each run, with packs that are finished and not yet on the store. It holds sealed bytes only.
"""

from __future__ import annotations

import io
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from backupd.errors import SpoolFullError
from backupd.model.ids import ObjectHash, ObjectName, RunId, well_formed
from backupd.store.base import Store

_BEAT = 1.0
"""Seconds between two looks at how much is left to publish."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One object to publish: a file of the spool, or bytes in memory; `size` is in bytes."""

    name: ObjectName
    content: Path | bytes
    sha256: ObjectHash
    size: int
    published: Callable[[], None]
    """Called on the uploading thread once the store has the object for sure."""
    before: Callable[[], Sequence[int]] = tuple
    """Called on the uploading thread first: puts what must be on the store before the object, and returns the size of
    each thing that it put."""


class Uploader:
    """Threads that publish queued objects. A context manager; leaving it with an error abandons what is queued."""

    def __init__(self, store: Store, threads: int) -> None:
        self._store = store
        self._queue: queue.Queue[Upload | None] = queue.Queue()
        self._lock = threading.Lock()
        self._fault: BaseException | None = None
        self.spooled = 0
        """Bytes that are queued or being published."""
        self.sent = 0
        """Bytes that were published so far."""
        self.objects = 0
        self._threads = [threading.Thread(target=self._run, name="uploader", daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        if kind is not None:
            with self._lock:
                self._fault = self._fault or RuntimeError("the run was given up")
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, upload: Upload) -> None:
        """Queue an object. Raises the error that stopped an uploading thread."""
        self.check()
        with self._lock:
            self.spooled += upload.size
        self._queue.put(upload)

    def check(self) -> None:
        """Raise the error that stopped an uploading thread, if there is one."""
        if self._fault is not None:
            raise self._fault

    def drain(self, heard: Callable[[], None] = lambda: None) -> None:
        """Wait until everything queued so far is published; `heard` is called about every second meanwhile.

        Raises the error that stopped an uploading thread.
        """
        done = self._queue.all_tasks_done
        while True:
            with done:
                if not self._queue.unfinished_tasks or (done.wait(_BEAT) and not self._queue.unfinished_tasks):
                    break
            heard()
        self.check()

    def _run(self) -> None:
        while (upload := self._queue.get()) is not None:
            try:
                if self._fault is None:
                    self._publish(upload)
            except BaseException as fault:  # noqa: BLE001 - raised by the next call of the owner
                with self._lock:
                    self._fault = self._fault or fault
            finally:
                with self._lock:
                    self.spooled -= upload.size
                self._queue.task_done()
        self._queue.task_done()

    def _publish(self, upload: Upload) -> None:
        for size in upload.before():
            self._count(size)
        with _opened(upload.content) as source:
            self._store.put_new(upload.name, source, upload.size, upload.sha256)
        upload.published()
        if isinstance(upload.content, Path):
            upload.content.unlink(missing_ok=True)  # somebody may have removed it: its bytes are published
        self._count(upload.size)

    def _count(self, size: int) -> None:
        with self._lock:
            self.sent += size
            self.objects += 1


def _opened(content: Path | bytes) -> BinaryIO:
    if not isinstance(content, Path):
        return io.BytesIO(content)
    try:
        return content.open("rb")
    except OSError as error:
        raise SpoolFullError(
            f"a file of the spool cannot be read: {(error.strerror or 'unknown error').lower()}",
            hint="Check the disk of node.spool_dir, and that nobody removes files there; then run the backup again.",
        ) from error


@contextmanager
def run_folder(spool: Path, run: RunId) -> Iterator[Path]:
    """Make a new folder for one run, and remove it afterwards; folders of killed runs are removed first.

    Only one run at a time may use a spool folder, which the index's lock ensures. Raises SpoolFullError.
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
