"""What verify remembers, with two runs of one machine at once."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NoReturn, cast

import pytest

from backupd.cli.machine import named
from backupd.errors import BackupdError, ConfigError, SpoolFullError
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, RepositoryId, SnapshotName
from backupd.repository.state import checked
from backupd.repository.state.checked import CONTENT, READ, CheckedState
from backupd.repository.state.index_file import unusable_memory
from backupd.repository.state.keyring_cache import KeyringCache
from backupd.seal.tags import TenantTags
from backupd.store.base import ObjectInfo

TAGS = cast("TenantTags", None)
GENERATION = GenerationId("20300101T000000Z-00000000")


def test_two_runs_remember_beside_each_other(tmp_path: Path, monkeypatch) -> None:
    """Neither holds the file for as long as it runs, nor waits for the other to end."""
    monkeypatch.setattr(checked, "_PATIENCE", 0.0)
    one, other = (CheckedState(tmp_path / "state" / "checked.sqlite") for _ in range(2))
    with one, other:
        for number, state in enumerate((one, other)):
            state.belong_to(RepositoryId("0" * 32))
            state.take_listing([ObjectInfo(ObjectName(f"elsewhere-{number}"), 1, datetime(2030, 1, 1, tzinfo=UTC))])
            state.remember(READ, GENERATION, ObjectHash(f"{number:064x}"), 1.0 + number)
            state.remember_records([SnapshotName(f"record-{number}")])
        one.forget(READ, GENERATION, ObjectHash(f"{1:064x}"))
        other.remember(CONTENT, GENERATION, ObjectHash(f"{2:064x}"), 3.0)

        assert one.times(READ, GENERATION) == {ObjectHash(f"{0:064x}"): 1.0}
        assert other.records() == {"record-0", "record-1"}
    with CheckedState(tmp_path / "state" / "checked.sqlite") as again:
        assert again.times(CONTENT, GENERATION) == {ObjectHash(f"{2:064x}"): 3.0}


def test_a_state_folder_that_is_removed_meanwhile_is_told_as_that(tmp_path: Path) -> None:
    """What waits is not written any more, and to try it hides no error behind another one."""

    def work() -> None:
        with CheckedState(tmp_path / "state" / "checked.sqlite") as state:
            state.remember(READ, GENERATION, ObjectHash("0" * 64), 1.0)
            shutil.rmtree(tmp_path / "state")
            state.remember_records([SnapshotName("record")])

    with pytest.raises(sqlite3.OperationalError) as failed:
        work()
    assert failed.value.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY
    assert isinstance(named(failed.value), BackupdError)


@pytest.mark.parametrize(
    ("number", "family"), [(errno.ENOSPC, SpoolFullError), (errno.EROFS, BackupdError), (errno.EACCES, ConfigError)]
)
def test_a_disk_without_room_is_no_fault_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, family: type[BackupdError]
) -> None:
    """A daemon tries again when there may be room, and does not when the configuration is wrong."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    path = tmp_path / "state" / "x.sqlite"
    for opened in (partial(CheckedState, path), KeyringCache.opened(path, RepositoryId("0" * 32), TAGS).__enter__):
        with pytest.raises(BackupdError, match=r"state|x\.sqlite") as failed:
            opened()
        assert type(failed.value) is family


@pytest.mark.parametrize(
    ("code", "family"),
    [
        (sqlite3.SQLITE_FULL, SpoolFullError),
        (sqlite3.SQLITE_READONLY, BackupdError),
        (sqlite3.SQLITE_ERROR, ConfigError),
    ],
)
def test_sqlites_faults_on_opening_are_told_apart(tmp_path: Path, code: int, family: type[BackupdError]) -> None:
    """As those of the system."""
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    assert type(unusable_memory(tmp_path / "x.sqlite", error)) is family
