"""A store that is away is waited for once by a command, together with the others, and by its name."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from doubles.stores.small_repository import START, SmallRepository

from backupd.cli.waiting_line import StoresAsked
from backupd.clock import SystemClock
from backupd.errors import StoreGoneError
from backupd.model.ids import RegionName
from backupd.model.status import Promises
from backupd.operations.ledger import Book, LedgerPlace
from backupd.operations.phases import Phases
from backupd.operations.roll_call import roll_call
from backupd.operations.status import StatusRequest, StorePlace, region_facts
from backupd.repository.repository import Repository
from backupd.store.directory import DirectoryStore
from backupd.trace import NoTrace


class AwayStore(DirectoryStore):
    """Answers nothing, and counts the questions; it is away only once all that share its gate were asked."""

    def __init__(self, root: Path, gate: threading.Barrier) -> None:
        super().__init__(root)
        self.gate = gate
        self.asked = 0

    def get(self, *_: object, **__: object) -> NoReturn:
        self.asked += 1
        self.gate.wait(20)
        raise StoreGoneError(f"{self.root.name} is away")


def test_all_are_asked_at_once_and_none_twice(tmp_path: Path) -> None:
    """What reads ledger and stores afterwards takes the word of the roll call, and names each store's own error."""
    here = DirectoryStore(tmp_path / "here")
    small = SmallRepository(here)
    signers, gate = frozenset({small.signer.public}), threading.Barrier(2)
    far, farther = (AwayStore(tmp_path / name, gate) for name in ("far", "farther"))
    stores = {"far": far, "here": here, "farther": farther}
    repositories = {name: Repository(store, signers) for name, store in stores.items()}
    away = roll_call(repositories, Phases(SystemClock(), NoTrace()))
    assert [(name, error.message) for name, error in away.items()] == [
        ("far", "far is away"),
        ("farther", "farther is away"),
    ]
    copy = DirectoryStore(tmp_path / "copy")
    book = Book(LedgerPlace(RegionName("be"), small.info.repository, stores, copy, signers, SystemClock()))
    book.sync(away=away)
    places = [StorePlace(name, one, stores[name], tmp_path / "state" / name) for name, one in repositories.items()]
    day = timedelta(days=1)
    facts = region_facts(
        book, places, StatusRequest(RegionName("be"), ["app"], Promises(), day, day, START + day, os.urandom)
    )
    assert [one.error.message if one.error else None for one in facts.stores] == [
        "far is away",
        None,
        "farther is away",
    ]
    assert (far.asked, farther.asked) == (1, 1)


def test_what_is_wrong_at_a_store_that_answers_is_left_to_its_reader(tmp_path: Path) -> None:
    """A store without a repository is there; a single one is asked, too."""
    new = Repository(DirectoryStore(tmp_path / "new"), None)
    assert roll_call({"new": new}, Phases(SystemClock(), NoTrace())) == {}


def test_the_stores_that_have_not_answered_are_named() -> None:
    """With the time for which they are waited for; a store that two regions ask is named until both know."""
    shown = StoresAsked("reading the stores of be, ch", timedelta(seconds=15))
    phases = Phases(SystemClock(), shown)
    assert str(shown) == "reading the stores of be, ch"
    with phases.on("zurich").phase("asking"), phases.on("be").phase("reading"):
        with phases.on("cellar").phase("asking"), phases.on("zurich").phase("asking"):
            assert str(shown) == "asking cellar, zurich, 15 s at most"
        assert str(shown) == "asking zurich, 15 s at most"
    assert str(shown) == "reading the stores of be, ch"
