"""Putting new content in the place of an object on an SFTP store, in these steps:

1. look at what stands there: nothing is made new, and the same content needs nothing more
2. write and verify the new content under a temporary name, as every upload does
3. look again, and rename over it, which the server does at once or not at all
4. read what stands there now: a lost answer, a refusal and an OK are judged alike, by that
"""

from __future__ import annotations

from backupd.errors import StoreError
from backupd.store.sftp import wire
from backupd.store.sftp.objects.download import is_file
from backupd.store.sftp.objects.upload import Surroundings, UploadJob, fill, holds, stage
from backupd.store.sftp.session import Session, granted
from backupd.store.sftp.wire import Attributes, Code, Reply, Status


def replace(session: Session, job: UploadJob, around: Surroundings) -> None:
    """Raises ObjectMissingError, StoreError (also for a full store: its reason is not told), StoreGoneError."""
    if holds(session, job):
        return
    if not session.offers(wire.EXCHANGE):
        raise _refused(job)
    staged = stage(session, job, around)
    done = False
    try:
        fill(session, job, around, staged)
        renamed = _exchange(session, job)
        done = holds(session, job)
        if not done:
            raise _failure(renamed, job)
    finally:
        if not done and session.alive:
            session.discard(job.staging)


def _exchange(session: Session, job: UploadJob) -> Reply:
    (seen,) = session.channel.ask(wire.lstat(job.path))
    granted(seen, job.name)
    if not isinstance(seen, Attributes) or not is_file(seen):
        raise StoreError(f"{job.name!r} is not a plain object on the store")
    (renamed,) = session.channel.ask(wire.exchange(job.staging, job.path))
    return renamed


def _failure(renamed: Reply, job: UploadJob) -> StoreError:
    """Why something else stands there, by the answer to the rename."""
    if isinstance(renamed, Status) and renamed.code in {Code.PERMISSION_DENIED, Code.UNSUPPORTED}:
        return _refused(job)
    answer = "refused" if isinstance(renamed, Status) and not renamed.ok else "granted, and did not do"
    return StoreError(
        f"the store {answer} the replacement of {job.name!r}", hint="Check the account's permissions and its quota."
    )


def _refused(job: UploadJob) -> StoreError:
    return StoreError(
        f"the store does not let this account replace {job.name!r}",
        hint=f"Use the keeper's account, and a server that grants it {wire.EXCHANGE!r}, as OpenSSH does by default.",
    )
