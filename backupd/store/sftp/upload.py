"""Writing one object to an SFTP store; `exchange` replaces one.

`put` takes these steps:

1. Look whether the object already stands there; create a temporary name that must not exist.
2. Write, with many requests in flight and every answer checked.
3. Compare the size, and sync.
4. Verify: small objects are read back in the same batch, others are hashed by the server or else read back.
5. Rename to the final name, which the server refuses when that is taken, and sync the folder that has it now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from backupd.errors import ObjectExistsError, ObjectMissingError, StoreError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.sftp import wire
from backupd.store.sftp.channel import Flight
from backupd.store.sftp.download import is_file, read_range
from backupd.store.sftp.session import Session, handle_of, require_granted
from backupd.store.sftp.wire import Attributes, Code, Handle, Mode, Reply, SftpRequest, Status

_MODE = Mode.READ | Mode.WRITE | Mode.CREATE | Mode.EXCLUSIVE
PERMISSIONS = 0o400
"""Mode of an object, which never changes; a server that also refuses chmod and remove is append-only."""
SHARED = 0o440
"""Mode of an object that the account's group may read: keeper and node share one (FORMAT.md §15)."""


@dataclass(frozen=True, slots=True)
class UploadJob:
    """One object to put. `path` and `staging` are paths on the server, `name` is for messages, `size` is in bytes."""

    name: ObjectName
    path: str
    staging: str
    source: BinaryIO
    size: int
    sha256: ObjectHash
    permissions: int = PERMISSIONS


class UploadContext(Protocol):
    """The knowledge about the server that an upload uses and updates; the store implements it."""

    def server_digest(self, session: Session, path: str, job: UploadJob) -> bool | None:
        """Check whether the server's own hash of `path` is the job's; None when it cannot be known."""
        ...

    def missing_folders(self, path: str) -> Sequence[str]:
        """Return the folders above `path` that are not yet known to exist."""
        ...

    def know_folders(self, path: str) -> None:
        """Note that the folders above `path` exist."""
        ...


def put(session: Session, job: UploadJob, context: UploadContext) -> None:
    """Put the job's content under its final name.

    Raises ObjectExistsError, StoreGoneError, and StoreError, which also stands for a full store: SFTP does not say so.
    """
    handle = _begin(session, job, context)
    if handle is None:
        _settle(session, job, context)
        return
    published = False
    try:
        published = _publish(session, job, context, fill(session, job, context, handle))
        if not published:
            _settle(session, job, context)
    finally:
        if not published and session.alive:
            session.discard(job.staging)


def stage(session: Session, job: UploadJob, context: UploadContext) -> Handle:
    """Open the temporary object of a job, which nobody else uses; the caller discards it or gives it another name."""
    _, opened = _open(session, job, context)
    return _staged(opened, job, context)


def _begin(session: Session, job: UploadJob, context: UploadContext) -> Handle | None:
    """Open the temporary object; return None when something already stands under the final name."""
    seen, opened = _open(session, job, context)
    if isinstance(seen, Attributes):
        if isinstance(opened, Handle):
            session.channel.ask(wire.close(opened), wire.remove(job.staging))
        return None
    return _staged(opened, job, context)


def _open(session: Session, job: UploadJob, context: UploadContext) -> tuple[Reply, Reply]:
    """Send a look at the final name and the making of the temporary object, and return both answers."""
    folder_requests = session.mkdir_requests(context.missing_folders(job.staging))
    opening = wire.open_file(job.staging, _MODE, job.permissions)
    *_, seen, opened = session.channel.ask(*folder_requests, wire.lstat(job.path), opening)
    if isinstance(opened, Status) and opened.code == Code.NO_SUCH_FILE:
        session.make_folders(job.staging)
        (opened,) = session.channel.ask(opening)
    return seen, opened


def _staged(opened: Reply, job: UploadJob, context: UploadContext) -> Handle:
    handle = handle_of(opened, job.name)
    context.know_folders(job.staging)
    return handle


def fill(session: Session, job: UploadJob, context: UploadContext, handle: Handle) -> Reply | None:
    """Write, sync and verify the job's content in the temporary object, and close it.

    Returns the answer to `open_folder` where it was asked along. Raises StoreError when the store does not hold the
    right bytes, and the errors of `require_granted`.
    """
    job.source.seek(0)
    if job.size <= session.channel.write_size:
        return _fill_small(session, job, context, handle)
    closed: Reply = Status(Code.CONNECTION_LOST)
    try:
        _write(session, job, handle)
        size, synced = session.channel.ask(wire.fstat(handle), sync_request(session, handle))
        require_granted(synced, job.name)
        _check_size(size, job)
        matches = context.server_digest(session, job.staging, job)
        if matches is None:
            matches = _read_back(session, job, handle)
        if not matches:
            raise _damaged(job)
    finally:
        if session.alive:
            (closed,) = session.channel.ask(wire.close(handle))
    require_granted(closed, job.name)
    return None


def _fill_small(session: Session, job: UploadJob, context: UploadContext, handle: Handle) -> Reply | None:
    data = _take(job.source, job.size)
    folder_requests = session.mkdir_requests(context.missing_folders(job.path))
    written, synced, size, again, closed, *_, folder = session.channel.ask(
        wire.write(handle, 0, data),
        sync_request(session, handle),
        wire.fstat(handle),
        wire.read(handle, 0, len(data)),
        wire.close(handle),
        *folder_requests,
        open_folder(job.path),
    )
    try:
        for reply in (written, synced, closed):
            require_granted(reply, job.name)
        _check_size(size, job)
        back = again.value if isinstance(again, wire.Data) else b""
        if hashlib.sha256(back).hexdigest() != job.sha256:
            raise _damaged(job)
    except StoreError:
        if isinstance(folder, Handle) and session.alive:
            session.channel.ask(wire.close(folder))
        raise
    return folder


def _write(session: Session, job: UploadJob, handle: Handle) -> None:
    refusals: list[Reply] = []

    def accept(_place: int, reply: Reply) -> None:
        if not (isinstance(reply, Status) and reply.ok):
            refusals.append(reply)

    flight = Flight(session.channel, accept)
    step = session.channel.write_size
    try:
        with session.writing:
            for at in range(0, job.size, step):
                if refusals:
                    break
                flight.ask(wire.write(handle, at, _take(job.source, min(step, job.size - at))))
    finally:
        flight.wait()
    for reply in refusals:
        require_granted(reply, job.name)


def _take(source: BinaryIO, length: int) -> bytes:
    data = source.read(length)
    while len(data) < length and (more := source.read(length - len(data))):
        data += more
    if len(data) < length:
        raise StoreError("the object to put is shorter than its size", hint="Check the spool's disk.")
    return data


def sync_request(session: Session, handle: Handle) -> SftpRequest:
    """Return a request that syncs the file to the server's disk, or one without effect where the server cannot sync."""
    return wire.fsync(handle) if session.offers("fsync@openssh.com") else wire.fstat(handle)


def _check_size(reply: Reply, job: UploadJob) -> None:
    require_granted(reply, job.name)
    if not isinstance(reply, Attributes) or reply.size != job.size:
        raise _damaged(job)


def _read_back(session: Session, job: UploadJob, handle: Handle) -> bool:
    digest = hashlib.sha256()
    window = 4 * 1024 * 1024
    for at in range(0, job.size, window):
        digest.update(read_range(session, handle, at, min(window, job.size - at), job.name))
    return digest.hexdigest() == job.sha256


def open_folder(path: str) -> SftpRequest:
    """Return the request that opens an object's folder as a file, as `renamed` needs it; a server may refuse that."""
    return wire.open_file(path.rpartition("/")[0] or ".", Mode.READ)


def renamed(session: Session, rename: SftpRequest, folder: Reply | None) -> Reply:
    """Send a rename, and return its answer once the name is on the server's disk, too.

    `folder` is the answer to `open_folder`. SFTP has no request that syncs a folder; but OpenSSH opens one for reading
    like a file, and syncs what it opened. Where a server does not, names come to its disk in its own time.
    """
    if not isinstance(folder, Handle):
        return session.channel.ask(rename)[0]
    if not session.offers("fsync@openssh.com"):
        return session.channel.ask(rename, wire.close(folder))[0]
    return session.channel.ask(rename, wire.fsync(folder), wire.close(folder))[0]


def _publish(session: Session, job: UploadJob, context: UploadContext, folder: Reply | None) -> bool:
    """Rename the temporary object to its final name; return False when that name is taken."""
    if folder is None:
        making = session.mkdir_requests(context.missing_folders(job.path))
        *_, folder = session.channel.ask(*making, open_folder(job.path))
    answer = renamed(session, wire.rename(job.staging, job.path), folder)
    if isinstance(answer, Status) and answer.code == Code.NO_SUCH_FILE:
        # Somebody else emptied the folder, and so removed it, since we saw it.
        session.make_folders(job.path)
        (folder,) = session.channel.ask(open_folder(job.path))
        answer = renamed(session, wire.rename(job.staging, job.path), folder)
    if isinstance(answer, Status) and answer.ok:
        context.know_folders(job.path)
        return True
    # The status of a taken name is the same as of a full disk: look.
    (seen,) = session.channel.ask(wire.lstat(job.path))
    if isinstance(seen, Attributes):
        return False
    require_granted(answer, job.name)
    raise wire.ProtocolError("no status for a rename")


def _settle(session: Session, job: UploadJob, context: UploadContext) -> None:
    """Accept an object under the final name when it has the job's content; else raise ObjectExistsError."""
    try:
        same = holds(session, job)
    except ObjectMissingError as error:
        raise StoreError(f"{job.name!r} came and went while it was put") from error
    if not same:
        raise ObjectExistsError(
            f"other content already stands under {job.name!r}",
            hint="Run 'backupd verify'; an object's name is its content, so one of the two is damaged.",
        )
    context.know_folders(job.path)


def holds(session: Session, job: UploadJob) -> bool:
    """Check by reading whether the job's content stands under the final name. Raises ObjectMissingError."""
    seen, opened = session.channel.ask(wire.lstat(job.path), wire.open_file(job.path, Mode.READ))
    require_granted(seen, job.name)
    handle = handle_of(opened, job.name)
    try:
        same = isinstance(seen, Attributes) and is_file(seen) and seen.size == job.size
        return same and _read_back(session, job, handle)
    finally:
        if session.alive:
            session.channel.ask(wire.close(handle))


def _damaged(job: UploadJob) -> StoreError:
    """Make the error that says whether the spool or the store holds wrong bytes.

    The source is hashed only now: hashing every source again would cost time for nothing.
    """
    job.source.seek(0)
    digest, missing = hashlib.sha256(), job.size
    while missing and (block := job.source.read(min(missing, 1 << 20))):
        digest.update(block)
        missing -= len(block)
    if digest.hexdigest() != job.sha256:
        return StoreError(
            f"the bytes to put as {job.name!r} are not what they should be", hint="Check the spool's disk."
        )
    return StoreError(
        f"the store does not hold the bytes that were written for {job.name!r}",
        hint="Check the store's disk and its quota; nothing was published.",
    )
