"""Rewriting an object of an SFTP store: `replace` from other bytes, `recompose` from pieces of itself.

Both take these steps:

1. Look at what stands there: no new object is made, and what is there already needs no further step.
2. Write and verify the new content under a temporary name.
3. Look again, and rename over the object, which the server does at once or not at all.
4. Read what stands there now: it decides, whether the answer was OK, a refusal or lost.

`recompose` lets the server copy the bytes that stay, where it offers `copy-data` (OpenSSH from 9.0 on does), or else
reads and writes them, and reads them back.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from backupd.errors import StoreError
from backupd.model.ids import ObjectName
from backupd.store.base import Kept, Piece, changed_meanwhile, given, kept
from backupd.store.sftp import wire
from backupd.store.sftp.channel import Flight
from backupd.store.sftp.download import is_file, read_range
from backupd.store.sftp.session import Session, handle_of, require_granted
from backupd.store.sftp.upload import UploadContext, UploadJob, fill, holds, open_folder, renamed, stage, sync_request
from backupd.store.sftp.wire import Attributes, Code, Handle, Mode, Reply, Status

_WINDOW = 4 << 20
"""Bytes that one request lets the server copy, and bytes of an object that are in memory at once."""


def replace(session: Session, job: UploadJob, context: UploadContext) -> None:
    """Replace the object's content by the job's.

    Raises ObjectMissingError, StoreGoneError, and StoreError, which also stands for a full store: SFTP does not say so.
    """
    if holds(session, job):
        return
    if not session.offers(wire.EXCHANGE):
        raise _refused(job.name)
    staged = stage(session, job, context)
    done = False
    try:
        answer = _exchange(session, job, fill(session, job, context, staged))
        done = holds(session, job)
        if not done:
            raise _failure(answer, job.name)
    finally:
        if not done and session.alive:
            session.discard(job.staging)


@dataclass(frozen=True, slots=True)
class Recomposition:
    """One object to rewrite from pieces of itself."""

    target: UploadJob
    """The new object, whose source is not used."""
    pieces: Sequence[Piece]
    size: int
    """Bytes of the object as the caller saw it."""


def recompose(session: Session, job: Recomposition, context: UploadContext) -> None:
    """Rewrite an object from pieces of itself.

    Raises ObjectMissingError, StoreGoneError, and StoreError, which also stands for a full store: SFTP does not say so.
    """
    target = job.target
    with _opened(session, target) as (size, old):
        if size == target.size and _given_stand(session, job, old):
            return
        if size != job.size:
            raise changed_meanwhile(target.name)
        if not session.offers(wire.EXCHANGE):
            raise _refused(target.name)
        new = stage(session, target, context)
        done = False
        try:
            _compose(session, job, old, new)
            answer = _exchange(session, target, None, job.size)
            done = _stands(session, job)
            if not done:
                raise _failure(answer, target.name)
        finally:
            if not done and session.alive:
                session.discard(target.staging)


@contextlib.contextmanager
def _opened(session: Session, job: UploadJob) -> Iterator[tuple[int, Handle]]:
    """Open what stands under the final name for reading; yield its size and its handle. Raises ObjectMissingError."""
    seen, opened = session.channel.ask(wire.lstat(job.path), wire.open_file(job.path, Mode.READ))
    require_granted(seen, job.name)
    handle = handle_of(opened, job.name)
    try:
        if not isinstance(seen, Attributes) or not is_file(seen) or seen.size is None:
            raise StoreError(f"{job.name!r} is not a plain object on the store")
        yield seen.size, handle
    finally:
        if session.alive:
            session.channel.ask(wire.close(handle))


def _stands(session: Session, job: Recomposition) -> bool:
    with _opened(session, job.target) as (size, handle):
        return size == job.target.size and _given_stand(session, job, handle)


def _given_stand(session: Session, job: Recomposition, handle: Handle) -> bool:
    """Check whether all given bytes are in their places in an open file."""
    name = job.target.name
    return all(read_range(session, handle, at, len(data), name) == data for at, data in given(job.pieces))


def _compose(session: Session, job: Recomposition, old: Handle, new: Handle) -> None:
    """Write the new content, sync and verify it, and close it. Raises StoreError when the store does not hold it."""
    target = job.target
    closed: Reply = Status(Code.CONNECTION_LOST)
    try:
        written = _Written(session, target.name, new)
        for at, data in given(job.pieces):
            written.put(at, data)
        if not (session.offers(wire.COPY) and _copied(session, job, old, new)):
            for at, piece in kept(job.pieces):
                _carry(session, old, at, piece, written)
        size, synced = session.channel.ask(wire.fstat(new), sync_request(session, new))
        require_granted(synced, target.name)
        require_granted(size, target.name)
        whole = isinstance(size, Attributes) and size.size == target.size
        if not whole or not written.read_back():
            raise StoreError(
                f"the store does not hold the bytes that were written for {target.name!r}",
                hint="Check the store's disk and its quota; nothing was replaced.",
            )
    finally:
        if session.alive:
            (closed,) = session.channel.ask(wire.close(new))
    require_granted(closed, target.name)


def _copied(session: Session, job: Recomposition, old: Handle, new: Handle) -> bool:
    """Let the server copy all kept ranges; return False when it does not do so."""
    refusals: list[Reply] = []

    def accept(_place: int, reply: Reply) -> None:
        if not (isinstance(reply, Status) and reply.ok):
            refusals.append(reply)

    flight = Flight(session.channel, accept)
    try:
        for at, offset, length in _joined(job.pieces):
            for done in range(0, length, _WINDOW):
                if not refusals:
                    step = min(_WINDOW, length - done)
                    flight.ask(wire.copy(old, offset + done, step, new, at + done))
    finally:
        flight.wait()
    return not refusals


def _joined(pieces: Sequence[Piece]) -> list[tuple[int, int, int]]:
    """Return the kept ranges as place in the new object, place in the old one and length, joined where both adjoin."""
    runs: list[tuple[int, int, int]] = []
    for at, (offset, length, _) in kept(pieces):
        if runs and (runs[-1][0] + runs[-1][2], runs[-1][1] + runs[-1][2]) == (at, offset):
            runs[-1] = (*runs[-1][:2], runs[-1][2] + length)
        elif length:
            runs.append((at, offset, length))
    return runs


@dataclass(slots=True)
class _Written:
    """A new file, and what was written to it through this program."""

    session: Session
    name: ObjectName
    handle: Handle
    windows: list[tuple[int, int, bytes]] = field(default_factory=list)
    """Place, length and SHA-256 of everything written."""

    def put(self, at: int, data: bytes) -> None:
        """Write some bytes, and wait for the answers. Raises the errors of `require_granted`."""
        step = self.session.channel.write_size
        flight = Flight(self.session.channel)
        for done in range(0, len(data), step):
            flight.ask(wire.write(self.handle, at + done, data[done : done + step]))
        for reply in flight.wait():
            require_granted(reply, self.name)
        self.windows.append((at, len(data), hashlib.sha256(data).digest()))

    def read_back(self) -> bool:
        """Check that the file holds everything that was written."""
        return all(
            hashlib.sha256(read_range(self.session, self.handle, at, length, self.name)).digest() == sha256
            for at, length, sha256 in self.windows
        )


def _carry(session: Session, old: Handle, at: int, piece: Kept, written: _Written) -> None:
    """Read a kept range and write it. Raises StoreError when it was read twice and was not the same."""
    seen = hashlib.sha256()
    for done, data in _windows(session, old, piece, written.name):
        seen.update(data)
        written.put(at + done, data)
    if piece.sha256 in (None, seen.digest()):
        return
    # Damaged on the store, and then it stays as it is for `verify` to tell; or read wrongly.
    again = hashlib.sha256()
    for _, data in _windows(session, old, piece, written.name):
        again.update(data)
    if again.digest() != seen.digest():
        raise StoreError(f"{written.name!r} was read twice, and was not the same", hint="The next run tries again.")


def _windows(session: Session, handle: Handle, piece: Kept, name: ObjectName) -> Iterator[tuple[int, bytes]]:
    for done in range(0, piece.length, _WINDOW):
        wanted = min(_WINDOW, piece.length - done)
        data = read_range(session, handle, piece.offset + done, wanted, name)
        if len(data) < wanted:
            raise changed_meanwhile(name)
        yield done, data


def _exchange(session: Session, job: UploadJob, folder: Reply | None, size: int | None = None) -> Reply:
    """Rename the temporary object over the final one, which must be there, and have `size` bytes if that is given.

    `folder` is the answer to `open_folder`, or None where it was not asked yet.
    """
    seen, *opened = session.channel.ask(wire.lstat(job.path), *([] if folder is not None else [open_folder(job.path)]))
    folder = opened[0] if opened else folder
    try:
        _require_there(seen, job, size)
    except StoreError:
        if isinstance(folder, Handle) and session.alive:
            session.channel.ask(wire.close(folder))
        raise
    return renamed(session, wire.exchange(job.staging, job.path), folder)


def _require_there(seen: Reply, job: UploadJob, size: int | None) -> None:
    require_granted(seen, job.name)
    if not isinstance(seen, Attributes) or not is_file(seen):
        raise StoreError(f"{job.name!r} is not a plain object on the store")
    if size not in (None, seen.size):
        raise changed_meanwhile(job.name)


def _failure(answer: Reply, name: ObjectName) -> StoreError:
    """Make the error for an object that was not replaced, from the answer to the rename."""
    if isinstance(answer, Status) and answer.code in {Code.PERMISSION_DENIED, Code.UNSUPPORTED}:
        return _refused(name)
    what = "refused" if isinstance(answer, Status) and not answer.ok else "granted, and did not do"
    return StoreError(
        f"the store {what} the replacement of {name!r}", hint="Check the account's permissions and its quota."
    )


def _refused(name: ObjectName) -> StoreError:
    return StoreError(
        f"the store does not let this account replace {name!r}",
        hint=f"Use the keeper's account, and a server that grants it {wire.EXCHANGE!r}, as OpenSSH does by default.",
    )
