"""The parent's side of the workers and their packers: it starts them, deals out tasks, answers questions and passes on
results.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Protocol, Self

from backupd import errors
from backupd.errors import BackupdError, WorkerLostError
from backupd.rows import protocol
from backupd.rows.protocol import Advanced, PackDone, Setup, Task, TaskDone


class Listener(Protocol):
    """The pool's owner, which answers questions and takes results. The pool's thread makes all calls."""

    def places(self, worker: int, keys: Sequence[protocol.NewKey]) -> protocol.PlacesReply: ...

    def pack(self, worker: int, done: PackDone) -> None: ...

    def has_space(self) -> bool:
        """Report whether the spool has space for another pack. Raises the error that stopped the uploads."""
        ...

    def done(self, done: TaskDone) -> None: ...

    def meet(self, met: protocol.Met) -> None: ...

    def advanced(self, counters: Advanced) -> None: ...


@dataclass(slots=True)
class _Member:
    process: subprocess.Popen[bytes]
    inlet: IO[bytes]
    packer: IO[bytes]
    """The inlet of the worker's packer."""
    waiting: int = 0
    """Number of `PackDone`s not yet answered."""


class WorkerPool:
    """The worker processes of one snapshot, started as soon as there is anything to do.

    A context manager, usable once; leaving it ends every process.
    """

    BATCH = 256 << 10
    """Bytes of closings sent to a worker together; each counts `CLOSING` besides its manifest."""
    CLOSING = 200
    BATCHES = 2
    """Batches under way to one worker."""
    POLL = 0.2
    """Seconds between checks of the spool while a worker waits for space."""

    def __init__(self, setups: Sequence[Setup], environment: Mapping[str, str], listener: Listener) -> None:
        self._setups = setups
        self._environment = dict(environment)
        self._listener = listener
        self._members: list[_Member] = []
        self._events: queue.Queue[tuple[int, protocol.Event | None]] = queue.Queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(killed=kind is not None)

    def _start(self) -> None:
        """Start the processes, unless they are there."""
        if self._members:
            return
        for number, setup in enumerate(self._setups):
            theirs_in, ours_in = os.pipe()
            ours_out, theirs_out = os.pipe()
            inlet, outlet = os.fdopen(ours_in, "wb"), os.fdopen(ours_out, "rb")
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", "backupd.rows.worker", str(theirs_in), str(theirs_out)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=self._environment,
                    pass_fds=(theirs_in, theirs_out),
                    start_new_session=True,
                )
            finally:
                os.close(theirs_in)
                os.close(theirs_out)
            assert process.stdin is not None  # noqa: S101 - said to the type checker: it was asked for above
            member = _Member(process, process.stdin, inlet)
            self._members.append(member)
            for source, last in ((process.stdout, protocol.WorkerFinished), (outlet, protocol.PackerFinished)):
                threading.Thread(target=self._listen, args=(number, source, last), daemon=True).start()
            for sink in (member.packer, member.inlet):
                self._send(sink, setup)

    def _end(self, *, killed: bool) -> None:
        """End every worker with the programs it started, including those of a worker that died before."""
        for member in self._members:
            with contextlib.suppress(subprocess.TimeoutExpired):
                # It ends by itself after its last message; closing its pipes first would have it killed meanwhile.
                if not killed:
                    member.process.wait(timeout=5)
        for member in self._members:
            for inlet in (member.inlet, member.packer):
                with contextlib.suppress(OSError):
                    inlet.close()
            if member.process.returncode is None:
                # Not yet waited for, so the number still is its own, dead or alive, and that of its group.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(member.process.pid, signal.SIGKILL)
                member.process.wait()

    def run(self, tasks: Sequence[Task]) -> None:
        """Run all tasks, each on the next free worker; results go to the listener in no promised order.

        Raises the error of the first worker that fails.
        """
        todo = list(reversed(tasks))
        busy = 0
        if todo:
            self._start()
        for number in range(len(self._members)):
            busy += self._deal(number, todo)
        while busy:
            number, event = self._next()
            if isinstance(event, protocol.TaskDone | protocol.StretchDone):
                for done in event.extents if isinstance(event, protocol.StretchDone) else [event]:
                    self._listener.done(done)
            elif isinstance(event, protocol.Met):
                self._listener.meet(event)
            else:
                continue
            busy += self._deal(number, todo) - 1

    def release(self) -> None:
        """Have every worker release the exported snapshot, and return when all have."""
        self._everyone(protocol.Release(), protocol.SnapshotReleased)

    def close_segments(self, closings: Iterable[tuple[int, protocol.Closing]]) -> None:
        """Have workers, given by their numbers, end the sections of segments; return when all have.

        The closings are taken as the workers get on, so that few manifests are in memory.
        """
        under_way = [0] * len(self._setups)
        batches: list[list[protocol.Closing]] = [[] for _ in self._setups]
        sizes = [0] * len(self._setups)
        for number, closing in closings:
            self._start()
            batches[number].append(closing)
            sizes[number] += self.CLOSING + len(closing.manifest)
            if sizes[number] >= self.BATCH:
                while under_way[number] >= self.BATCHES:
                    self._one_closed(under_way)
                self._send(self._members[number].inlet, protocol.CloseSegments(batches[number]))
                under_way[number] += 1
                batches[number], sizes[number] = [], 0
        for number, batch in enumerate(batches):
            if batch:
                self._send(self._members[number].inlet, protocol.CloseSegments(batch))
                under_way[number] += 1
        while any(under_way):
            self._one_closed(under_way)

    def _one_closed(self, under_way: list[int]) -> None:
        number, event = self._next()
        under_way[number] -= isinstance(event, protocol.SegmentsClosed)

    def finish(self) -> None:
        """Have every worker report its remaining packs and end."""
        self._everyone(protocol.Finish(), protocol.WorkerFinished, protocol.PackerFinished)

    def _everyone(self, command: protocol.Command, *answers: type[protocol.Event]) -> None:
        for member in self._members:
            self._send(member.inlet, command)
        left = len(self._members) * len(answers)
        while left:
            left -= isinstance(self._next()[1], answers)

    def _deal(self, number: int, todo: list[Task]) -> int:
        if not todo:
            return 0
        self._send(self._members[number].inlet, todo.pop())
        return 1

    @staticmethod
    def _send(inlet: IO[bytes], command: protocol.Command) -> None:
        try:
            protocol.send(inlet, command)
        except OSError:
            return  # a worker that died says so through its own pipe, in better words

    def _next(self) -> tuple[int, protocol.Event]:
        """Return the next event that is an answer to a command; handle all others here."""
        while True:
            try:
                number, event = self._events.get(timeout=self.POLL)
            except queue.Empty:
                self._let_proceed()
                continue
            if event is None or isinstance(event, protocol.Failed):
                raise _error(event)
            if not self._handled(number, event):
                return number, event

    def _handled(self, number: int, event: protocol.Event) -> bool:
        if isinstance(event, protocol.PlacesWanted):
            self._send(self._members[number].packer, self._listener.places(number, event.keys))
        elif isinstance(event, protocol.PackDone):
            self._listener.pack(number, event)
            self._members[number].waiting += 1
            self._let_proceed()
        elif isinstance(event, protocol.Advanced):
            self._listener.advanced(event)
        else:
            return False
        return True

    def _let_proceed(self) -> None:
        if not self._listener.has_space():
            return
        for member in self._members:
            while member.waiting:
                member.waiting -= 1
                self._send(member.packer, protocol.Proceed())

    def _listen(self, number: int, outlet: IO[bytes], last: type[protocol.Event]) -> None:
        with contextlib.closing(outlet):
            while (event := protocol.receive_event(outlet)) is not None:
                self._events.put((number, event))
                if isinstance(event, last):
                    return
        self._events.put((number, None))


def _error(failed: protocol.Failed | None) -> BackupdError:
    if failed is None:
        return WorkerLostError(
            "a worker process ended unexpectedly",
            hint="Look for the kernel's out-of-memory killer in the system log; then run the backup again.",
        )
    family = getattr(errors, failed.family, BackupdError)
    error: BackupdError = family(failed.message, hint=failed.hint)
    return error
