"""What the disk of the state folder refuses is told of the state folder, not of a store far away."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from backupd.errors import ObjectExistsError, ObjectMissingError, StoreError, StoreFullError, StoreGoneError
from backupd.model.ids import ObjectName, RegionName
from backupd.store.base import Store, put_document
from backupd.wiring.context import Context, ledger_copy

NAME = ObjectName("ledger/0000000001.json")


@pytest.fixture
def copy(tmp_path: Path) -> Store:
    """The copy of the ledger as commands open it."""
    config = SimpleNamespace(node=SimpleNamespace(state_dir=tmp_path))
    return ledger_copy(Context(config, {}), RegionName("be"))  # only this part is read


@pytest.mark.parametrize(
    ("code", "family"),
    [
        (errno.ENOSPC, StoreFullError),
        (errno.EDQUOT, StoreFullError),
        (errno.EROFS, StoreError),
        (errno.EACCES, StoreError),
        (errno.EIO, StoreGoneError),
    ],
)
def test_the_state_folder_is_named(
    copy: Store, monkeypatch: pytest.MonkeyPatch, code: int, family: type[StoreError]
) -> None:
    """With the key of the configuration that says where it is."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(family) as caught:
            put_document(copy, NAME, b"an entry")
    assert "state folder" in caught.value.message
    assert "the store" not in caught.value.message + caught.value.hint
    assert "node.state_dir" in caught.value.hint
    put_document(copy, NAME, b"an entry")
    assert [info.name for info in copy.list(ObjectName("ledger"))] == [NAME]


def test_what_is_no_fault_of_the_disk_stays_as_it_is(copy: Store) -> None:
    """Who calls tells an object that is missing, or another one, from a disk that refuses."""
    with pytest.raises(ObjectMissingError) as lost:
        copy.get(NAME)
    assert lost.value.message == f"'{NAME}' is not in this machine's state folder"
    assert "run it again" in lost.value.hint
    put_document(copy, NAME, b"an entry")
    with pytest.raises(ObjectExistsError):
        put_document(copy, NAME, b"another")
