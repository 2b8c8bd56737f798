"""Stores of every kind, empty, behind one fixture each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backupd.store.base import Store
from backupd.store.directory import DirectoryStore


@pytest.fixture
def directory_store(tmp_path: Path) -> DirectoryStore:
    """An empty store of region `be` in a folder."""
    root = tmp_path / "store"
    root.mkdir()
    return DirectoryStore(root / "be")


@pytest.fixture(params=["directory"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each adapter in turn."""
    return request.getfixturevalue(f"{request.param}_store")


@pytest.fixture
def root_of() -> Callable[[Store], Path]:
    """Where a store's objects lie on this machine, to look at them behind its back."""

    def find(store: Store) -> Path:
        while (inner := getattr(store, "inner", None)) is not None:
            store = inner
        return Path(store.root)

    return find
