"""A store at the end of a long line: what does not depend on each other is asked for together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest
from doubles.stores.hooked_store import HookedStore
from fix_handmade_keeper import HandmadeKeeper

from backupd.operations.keeper.holds import survey
from backupd.operations.keeper.purge import Purging
from backupd.operations.verify import Scope, Tools, verify
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.repository.state.keyring_cache import KeyringCache
from backupd.store.base import Store

T = TypeVar("T")
PATIENCE = 20.0
"""Seconds for which the first answer waits for a second question, where there is none."""


class FarStore(HookedStore):
    """Answers the first request for an object of a folder when a second one is on its way, too."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.together: dict[str, bool] = {}
        self._asked: dict[str, int] = {}
        self._more = threading.Condition()

    def call(self, method: str, name: str, effect: Callable[[], T]) -> T:
        folder, _, rest = name.partition("/")
        if method == "get" and rest:
            with self._more:
                self._asked[folder] = self._asked.get(folder, 0) + 1
                self._more.notify_all()
                if folder not in self.together:
                    self.together[folder] = False
                    self.together[folder] = self._more.wait_for(lambda: self._asked[folder] > 1, PATIENCE)
        return super().call(method, name, effect)


@pytest.fixture
def far(handmade: HandmadeKeeper) -> FarStore:
    """Four backups, three of one day."""
    for day in (4, 3, 2, 1):
        handmade.backup(day, "ada", "bob")
    return FarStore(handmade.store)


def repository(handmade: HandmadeKeeper, far: FarStore) -> Repository:
    usual = handmade.repository
    return Repository(far, usual.signers, usual.keepers)


def test_the_keeper_asks_for_records_together(handmade: HandmadeKeeper, far: FarStore) -> None:
    """And has them all."""
    seen = survey(repository(handmade, far), handmade.keeper.threads)
    assert far.together == {"snapshots": True}
    assert seen.records.keys() == seen.known == set(handmade.repository.snapshots())


def test_the_keeper_asks_for_keyrings_together(handmade: HandmadeKeeper, far: FarStore) -> None:
    """And has them all."""
    keeper = handmade.keeper
    with KeyringCache.opened(keeper.cache_path("far"), keeper.repository, keeper.tags) as cache:
        assert cache.refresh(repository(handmade, far), threads=keeper.threads) == []
        assert far.together == {"keyrings": True}
        far.together.clear()
        assert cache.refresh(repository(handmade, far), threads=keeper.threads) == []
        assert far.together == {}


def test_a_purge_asks_for_keyrings_together(handmade: HandmadeKeeper, far: FarStore) -> None:
    """Where it has not seen them before."""
    with Purging(replace(handmade.keeper, stores={"disk": repository(handmade, far)})) as purging:
        assert not purging.errors
        assert far.together == {"keyrings": True}


def test_verify_asks_for_records_and_keyrings_together(handmade: HandmadeKeeper, far: FarStore) -> None:
    """One after the other, a hundred of each at 100 ms took it 42 seconds."""
    with CheckedState(handmade.folder / "checked") as checked:
        done = verify(repository(handmade, far), checked, Scope(), Tools(handmade.clock, handmade.folder))
    assert not done.findings
    assert far.together == dict.fromkeys(("snapshots", "keyrings", "packs"), True)
