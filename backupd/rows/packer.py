"""The packer: turns blocks into sealed packs in the spool, on a thread of its own."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from backupd.atomic_file import write_all
from backupd.errors import SpoolFullError
from backupd.model.ids import ObjectHash
from backupd.seal.container_format import DATA, ContainerContext
from backupd.seal.container_writer import ContainerWriter
from backupd.seal.zstd import Compressor

QUEUED_BLOCKS = 6
"""Blocks waiting for the packer: enough to keep it busy, few enough to bound memory."""


class Pack(NamedTuple):
    """A finished pack in the spool; `size` is in sealed bytes, `ids` are 16 bytes for each chunk."""

    container: int
    pseudonym: str
    path: Path
    sha256: ObjectHash
    size: int
    ids: bytes


class PendingBlock(NamedTuple):
    """Chunks that are compressed and sealed together."""

    container: int
    pseudonym: str
    public: bytes
    """The public half of the segment's key, in a container's first block only."""
    chunks: list[bytes]
    ids: bytes


class SpoolFile:
    """A file that is opened for each write: there may be thousands of them at once.

    Writing raises SpoolFullError.
    """

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, data: bytes) -> None:
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                write_all(descriptor, data)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SpoolFullError(
                f"the spool cannot be written: {os.strerror(error.errno or 0)}",
                hint="Make room on the spool's disk, or set node.spool_dir to a larger one; then run the backup again.",
            ) from error


class Packer:
    """The packing thread. It reports each finished pack to `done`, which may block while the spool is full.

    `add`, `finish` and `close` belong to one thread; the next of them raises a fault of the packing thread.
    """

    def __init__(
        self,
        context: Callable[[str], ContainerContext],
        spool: Path,
        compressor: Compressor,
        done: Callable[[Pack], None],
    ) -> None:
        self._context = context
        self._spool = spool
        self._compressor = compressor
        self._done = done
        self._open: dict[int, ContainerWriter] = {}
        self._work: queue.Queue[PendingBlock | int | None] = queue.Queue(QUEUED_BLOCKS)
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="packer", daemon=True)
        self._thread.start()

    def add(self, block: PendingBlock) -> None:
        """Queue a block; wait while `QUEUED_BLOCKS` are waiting."""
        self._put(block)

    def finish(self, container: int) -> None:
        """Finish a container, which gets no more blocks."""
        self._put(container)

    def close(self) -> None:
        """Wait until everything queued is done, and end the thread."""
        self._put(None)
        self._thread.join()
        self._raise_fault()

    def _put(self, item: PendingBlock | int | None) -> None:
        while True:
            self._raise_fault()
            try:
                self._work.put(item, timeout=1)
            except queue.Full:
                continue
            return

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            while (item := self._work.get()) is not None:
                if isinstance(item, int):
                    self._finish(item)
                else:
                    self._write(item)
        except BaseException as fault:  # noqa: BLE001 - handed to the thread that waits for this one
            self._fault = fault

    def _write(self, block: PendingBlock) -> None:
        writer = self._open.get(block.container)
        if writer is None:
            file = SpoolFile(self._path(block.container, "open"))
            context = self._context(block.pseudonym)
            writer = ContainerWriter(file, "pack", context, block.public, compressor=self._compressor)
            self._open[block.container] = writer
        writer.add(DATA, b"".join(block.chunks), [len(chunk) for chunk in block.chunks], block.ids)

    def _finish(self, container: int) -> None:
        writer = self._open.pop(container)
        finished = writer.finish()
        path = Path(self._path(container, "open")).rename(self._path(container, "pack"))
        self._done(Pack(container, writer.context.segment, path, finished.sha256, finished.size, bytes(writer.ids)))

    def _path(self, container: int, extension: str) -> str:
        return f"{self._spool}/{-container}.{extension}"
