"""Observations for `backupd doctor`: folders, credentials, servers and stores. Only a probe writes anything."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from backupd.clock import Clock
from backupd.errors import BackupdError
from backupd.model.diagnosis import CredentialFile, FolderFacts, ServerFacts, StoreLook
from backupd.model.status import SpaceFacts
from backupd.operations.status.capabilities import LastProbe, ProbeRequest, changes, last_probe
from backupd.postgres.connect import Source, connect
from backupd.repository.repository import Repository, unnamed_keepers, unnamed_signers
from backupd.store.probe import ProbedStore, probe
from backupd.store.server import server_time

_MOST_FILES = 20_000
"""Files of a folder whose owners are looked at, at most."""
_SERVER = """
SELECT pg_catalog.clock_timestamp(), r.rolvaliduntil, pg_catalog.inet_client_addr() IS NULL
  OR pg_catalog.inet_client_addr() = pg_catalog.inet_server_addr(),
  COALESCE(pg_catalog.current_setting('old_snapshot_threshold', true), '-1')
FROM pg_catalog.pg_roles r WHERE r.rolname = CURRENT_USER
"""


def observe_folder(key: str, folder: Path, wanted: int = 0) -> FolderFacts:
    """Look at a folder that the configuration names under `key`, and that may grow to `wanted` bytes."""
    user = _user_name(os.geteuid())
    try:
        status = folder.stat()
    except FileNotFoundError:
        above = next(parent for parent in folder.parents if parent.exists())
        usable = os.access(above, os.W_OK | os.X_OK)
        return FolderFacts(key=key, path=str(folder), exists=False, usable=usable, user=user)
    except OSError:
        return FolderFacts(key=key, path=str(folder), usable=False, user=user)
    return FolderFacts(
        key=key,
        path=str(folder),
        usable=stat.S_ISDIR(status.st_mode) and os.access(folder, os.R_OK | os.W_OK | os.X_OK),
        user=user,
        owner=_user_name(status.st_uid),
        strangers=sum(owner != status.st_uid for owner in _owners(folder)),
        free=shutil.disk_usage(folder).free,
        wanted=wanted,
    )


def _owners(folder: Path) -> Iterator[int]:
    """Yield the owner of each file and folder below, as far as this user sees them, up to a bound."""
    left = _MOST_FILES
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            left -= 1
            if left < 0:
                return
            try:
                yield Path(above, name).lstat().st_uid
            except OSError:
                continue


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def observe_credentials(folder: Path) -> dict[str, CredentialFile] | None:
    """Return the files in a folder of credentials by name; None where this user may not look."""
    try:
        found = {one.name: one.stat() for one in folder.iterdir() if not one.name.startswith(".")}
    except FileNotFoundError:
        return {}
    except OSError:
        return None
    return {name: CredentialFile(status.st_uid, stat.S_IMODE(status.st_mode)) for name, status in found.items()}


def observe_server(source: Source, clock: Clock) -> ServerFacts:
    """Connect to a database, and return what its server and our role in it are.

    Raises SourceError, SourceGoneError, ConfigError.
    """
    with connect(source) as connection:
        before = clock.now()
        ((theirs, valid, local, threshold),) = connection.execute(_SERVER).fetchall()
        middle = before + (clock.now() - before) / 2
        return ServerFacts(
            offset=theirs - middle,
            version=connection.info.server_version,
            encrypted=bool(connection.pgconn.ssl_in_use),
            local=local,
            valid_until=valid if isinstance(valid, datetime) else None,
            snapshots_age_out=threshold not in ("-1", "-1min"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreExamination:
    """The wish to look at a store, with what the configuration says of it."""

    memory: Path
    """The folder of this machine's state of the store; it is only read."""
    signers: Collection[str]
    """Public keys of trusted signers, all of which the repository should name."""
    keepers: Collection[str]
    handing: bool
    separate_keeper: bool
    probe: bool
    """Whether to write: small files that show what the store can do, and its time."""
    clock: Clock
    random: Callable[[int], bytes]


def observe_store(repository: Repository, store: ProbedStore, asked: StoreExamination) -> StoreLook:
    """Look at a store; its errors become part of the look. It writes only where a probe is asked for."""
    try:
        if not repository.exists():
            return StoreLook(exists=False)
        info = repository.info()
        look = _without_writing(store, asked, info.profile)
        if asked.probe:
            look = _by_writing(store, asked, info.profile, look)
    except BackupdError as error:
        return StoreLook(error=(error.message, error.hint or "`backupd config check --connect` tries it again."))
    return replace(
        look,
        unnamed_signers=unnamed_signers(info, asked.signers),
        unnamed_keepers=unnamed_keepers(info, asked.keepers),
    )


def _without_writing(store: ProbedStore, asked: StoreExamination, founded: Mapping[str, object]) -> StoreLook:
    request = ProbeRequest(asked.memory / "tried.json", wanted=False, random=asked.random, now=asked.clock.now())
    known, space = last_probe(store, request), store.space()
    append_only = known.profile.append_only if known and known.profile else bool(founded.get("append_only"))
    return StoreLook(
        changes=changes(founded, store, known),
        append_only=append_only,
        handing=asked.handing,
        separate_keeper=asked.separate_keeper,
        snapshots=len(store.snapshots()),
        space=SpaceFacts(space.free, space.total) if space is not None else None,
    )


def _by_writing(
    store: ProbedStore, asked: StoreExamination, founded: Mapping[str, object], look: StoreLook
) -> StoreLook:
    profile = probe(store, asked.random)
    before = asked.clock.now()
    theirs = server_time(store, asked.random)
    middle = before + (asked.clock.now() - before) / 2
    return replace(
        look,
        changes=changes(founded, store, LastProbe(before, profile)),
        append_only=profile.append_only,
        offset=theirs - middle,
    )
