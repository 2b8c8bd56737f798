"""The packer's process: a fork of the worker, which compresses, seals and packs while the worker reads on.

Both need the interpreter most of the time, so threads of one process would wait for each other. Jobs come through a
pipe from the worker; questions about places and finished packs go to the parent, through pipes of the packer's own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

import msgspec

from backupd.allocator import restrain
from backupd.model.ids import (
    ClassTag,
    DatabaseTag,
    GenerationId,
    Pseudonym,
    RepositoryId,
    RunId,
    SegmentTags,
    TenantTag,
)
from backupd.rows import protocol
from backupd.rows.packer import Pack, Packer, PackerPorts, PackerSettings, RunKey, SectionJob
from backupd.seal.pack import PackContext
from backupd.seal.suite import Buffer
from backupd.seal.zstd import Compressor

PIPE = 1 << 20
"""Bytes of the pipe's capacity where the kernel allows it: a few blocks, so that the worker rarely waits."""
F_SETPIPE_SZ = 1031
MOST_BUFFERS = 512
"""Chunks written without being joined first; the kernel takes 1,024 at once (IOV_MAX)."""
LARGEST = 8 << 20
"""Bytes from which the packer has memory mapped. It makes and drops blocks of up to half a megabyte all the time and
keeps nothing between them, so its heap does not fall to pieces."""
_LENGTHS = 8


class _JobHead(msgspec.Struct, frozen=True, array_like=True):
    """A `SectionJob` without its chunks, which follow the message in order."""

    pseudonym: str
    number: int
    sizes: bytes
    """The size of each chunk, 4 bytes each."""
    ids: bytes
    manifest: bytes
    last: bool
    key: protocol.NewKey | None
    """The segment's key; only with its first job, and the first after a section that ended with a manifest."""


class Parent(Protocol):
    """The packer's way to the parent."""

    def places(self, keys: list[protocol.NewKey]) -> list[tuple[str, int]]:
        """Ask for places in a keyring, and wait for the answer."""
        ...

    def pack_done(self, pack: protocol.PackDone) -> None:
        """Report a finished pack, and return when the spool has space for more."""
        ...


class PackerProcess:
    """The worker's end of the pipe to its packer, which takes what `Packer` takes.

    A packer that fails reports it to the parent, which ends the worker; until then the methods raise BrokenPipeError.
    """

    def __init__(self, pipe: int, pid: int) -> None:
        self._pipe = pipe
        self._pid = pid
        self._met: set[Pseudonym] = set()
        self._encode = msgspec.msgpack.Encoder().encode

    def add(self, jobs: Sequence[SectionJob]) -> None:
        """Pass jobs on, in order; wait while the pipe is full."""
        head = self._encode([self._head(job) for job in jobs])
        chunks: list[Buffer] = [chunk for job in jobs for chunk in job.chunks]
        size = sum(map(len, chunks))
        lengths = len(head).to_bytes(_LENGTHS // 2, "little") + size.to_bytes(_LENGTHS // 2, "little")
        if len(chunks) > MOST_BUFFERS:
            chunks = [b"".join(chunks)]
        self._write([lengths + head, *chunks])

    def close(self) -> None:
        """Pass on that nothing more comes, so that the packer packs what it has."""
        self._write([bytes(_LENGTHS)])
        os.close(self._pipe)

    def wait(self) -> None:
        """Wait until the packer's process has ended."""
        os.waitpid(self._pid, 0)

    def _head(self, job: SectionJob) -> _JobHead:
        key = None if job.key.pseudonym in self._met else new_key(job.key)
        self._met.add(job.key.pseudonym)
        if job.last and job.manifest:
            self._met.discard(job.key.pseudonym)
        sizes = array("I", map(len, job.chunks)).tobytes()
        return _JobHead(job.key.pseudonym, job.number, sizes, job.ids, job.manifest, job.last, key)

    def _write(self, buffers: list[Buffer]) -> None:
        written = os.writev(self._pipe, buffers)
        for buffer in buffers:
            if written < len(buffer):
                left = memoryview(buffer)[written:]
                while left:
                    left = left[os.write(self._pipe, left) :]
            written = max(written - len(buffer), 0)


def fork_packer(inlet: int, outlet: int) -> PackerProcess:
    """Fork a packer that listens to the parent on one descriptor and reports to it on another.

    Both descriptors are the child's alone afterwards. Call it before any thread starts.
    """
    source, sink = os.pipe()
    with contextlib.suppress(OSError):  # the user's pipes are at their limit: smaller ones only cost time
        fcntl.fcntl(sink, F_SETPIPE_SZ, PIPE)
    pid = os.fork()
    if pid:
        for descriptor in (source, inlet, outlet):
            os.close(descriptor)
        return PackerProcess(sink, pid)
    os.close(sink)
    restrain(LARGEST)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nothing, standard)  # while it is held here, the parent would not see the worker end
    os._exit(_main(source, os.fdopen(inlet, "rb"), os.fdopen(outlet, "wb")))


def _main(source: int, inlet: IO[bytes], outlet: IO[bytes]) -> int:
    try:
        setup = protocol.receive_command(inlet)
        if not isinstance(setup, protocol.Setup):
            return 1  # the parent ended
        packer = make_packer(setup, _ParentPipes(inlet, outlet))
        for jobs in _received(os.fdopen(source, "rb", buffering=0)):
            packer.add(jobs)
        packer.close()
        protocol.send(outlet, protocol.PackerFinished())
    except _WorkerEndedError:
        return 1
    except BaseException as error:  # noqa: BLE001 - the process's last word; the parent raises it
        protocol.send(outlet, protocol.describe(error))
        while protocol.receive_command(inlet) is not None:
            pass  # see `wait_for_the_end`; the pipe ends with the parent
    return 0


def wait_for_the_end() -> None:
    """Wait for the parent to end this process, which has reported why it cannot go on.

    If it ended by itself, the parent might see that before it has read the report, as they come through two pipes.
    """
    while True:
        signal.pause()


def make_packer(setup: protocol.Setup, parent: Parent) -> Packer:
    """Make the packer of one worker, which asks the parent and reports to it."""
    settings = PackerSettings(
        PackContext(RepositoryId(setup.repository), GenerationId(setup.generation)),
        Path(setup.spool),
        setup.number,
        setup.pack_size,
    )

    def place(keys: list[RunKey]) -> None:
        for key, (keyring, number) in zip(keys, parent.places(list(map(new_key, keys))), strict=True):
            key.keyring, key.place = RunId(keyring), number

    def done(pack: Pack) -> None:
        sections = [(one.pseudonym, one.number, one.length, one.ids, one.manifest) for one in pack.sections]
        parent.pack_done(
            protocol.PackDone(str(pack.path), pack.name, pack.sha256, pack.size, list(pack.keyrings), list(sections))
        )

    return Packer(settings, Compressor(setup.compression_level), PackerPorts(place, done))


def new_key(key: RunKey) -> protocol.NewKey:
    """Return the message that says a key and whose it is."""
    return protocol.NewKey(key.pseudonym, key.tags, key.data_class, key.tenant, key.key)


class _WorkerEndedError(Exception):
    """The worker ended without a word; the parent sees that by itself."""


class _ParentPipes:
    def __init__(self, inlet: IO[bytes], outlet: IO[bytes]) -> None:
        self._inlet = inlet
        self._outlet = outlet

    def places(self, keys: list[protocol.NewKey]) -> list[tuple[str, int]]:
        answer = self._ask(protocol.PlacesWanted(keys))
        assert isinstance(answer, protocol.PlacesReply)  # noqa: S101 - said to the type checker: nothing else is sent
        return answer.places

    def pack_done(self, pack: protocol.PackDone) -> None:
        self._ask(pack)

    def _ask(self, question: protocol.PlacesWanted | protocol.PackDone) -> protocol.Command:
        protocol.send(self._outlet, question)
        answer = protocol.receive_command(self._inlet)
        if answer is None:
            os._exit(1)  # the parent ended
        return answer


def _received(source: IO[bytes]) -> Iterator[list[SectionJob]]:
    """Yield the jobs of each message until the end; they are valid until the next is asked for."""
    decode = msgspec.msgpack.Decoder(list[_JobHead]).decode
    keys: dict[str, RunKey] = {}
    room = bytearray(2 * PIPE)
    while True:
        lengths = bytes(_filled(source, bytearray(_LENGTHS), _LENGTHS))
        head = int.from_bytes(lengths[: _LENGTHS // 2], "little")
        if not head:
            return
        size = head + int.from_bytes(lengths[_LENGTHS // 2 :], "little")
        if size > len(room):
            room = bytearray(size)
        data = _filled(source, room, size)
        yield list(_jobs(decode(data[:head]), data[head:], keys))


def _filled(source: IO[bytes], room: bytearray, size: int) -> memoryview:
    """Fill the first `size` bytes of a buffer. Raises _WorkerEndedError when the pipe ends before."""
    view = memoryview(room)[:size]
    at = 0
    while at < size:
        got = source.readinto(view[at:])  # type: ignore[attr-defined]  # raw files have it, IO[bytes] does not say so
        if not got:
            raise _WorkerEndedError
        at += got
    return view


def _jobs(heads: Sequence[_JobHead], data: memoryview, keys: dict[str, RunKey]) -> Iterator[SectionJob]:
    at = 0
    for head in heads:
        if head.key is not None:
            keys[head.pseudonym] = _run_key(head.key)
        chunks = []
        for size in array("I", head.sizes):
            chunks.append(data[at : at + size])
            at += size
        # A manifest's end is the segment's: its key is not needed here any more, and there may be tens of thousands.
        key = keys.pop(head.pseudonym) if head.last and head.manifest else keys[head.pseudonym]
        yield SectionJob(key, head.number, chunks, head.ids, head.manifest, head.last)


def _run_key(new: protocol.NewKey) -> RunKey:
    tenant, data_class, database = new.tags
    tags = SegmentTags(TenantTag(tenant), ClassTag(data_class), DatabaseTag(database))
    return RunKey(Pseudonym(new.pseudonym), tags, new.data_class, new.tenant, new.key)
