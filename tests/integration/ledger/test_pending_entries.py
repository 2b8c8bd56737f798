"""An entry of the ledger that was being appended when the store was full, read-only or away, or the keeper died."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from doubles.stores.faulty_store import FaultyStore, gone
from doubles.stores.hooked_store import HookedStore
from fix_regions import REGION, Events

from backupd.clock import SystemClock
from backupd.errors import BackupdError, DamageError, StoreError, StoreFullError, StoreGoneError
from backupd.model.documents import RepositoryInfo
from backupd.model.ids import RepositoryId
from backupd.model.ledger import Event, Observed
from backupd.model.text import stamp
from backupd.operations.ledger import Book, LedgerPlace
from backupd.operations.ledger.history import read_ledger
from backupd.planning.incarnations import TenantStates
from backupd.repository.ledger import Chain, next_document, put_entry
from backupd.repository.repository import Repository
from backupd.seal.documents import Signer
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore
from backupd.trace import Warned

SIGNER = Signer(bytes(range(32)))
TRUSTED = frozenset({SIGNER.public})
REPOSITORY = RepositoryId("ab" * 16)


class Killed(BaseException):
    """The process ended here."""


class Keepers:
    """One store, and keepers with a state folder each; every `book` is that of a new process."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.events = Events()
        folder.mkdir(parents=True, exist_ok=True)
        info = RepositoryInfo(
            repository=REPOSITORY,
            region=REGION,
            created=stamp(SystemClock().now()),
            signers=[SIGNER.public],
            keepers=[],
        )
        Repository(store, None).put_info(info, SIGNER)

    def copy(self, keeper: str) -> DirectoryStore:
        return DirectoryStore(self.folder / keeper)

    def book(self, keeper: str, store: Store | None = None, copy: Store | None = None) -> Book:
        stores = {"disk": store or self.store}
        copy = copy or self.copy(keeper)
        place = LedgerPlace(REGION, REPOSITORY, stores, copy, TRUSTED, SystemClock(), SIGNER, trace=self.events)
        return Book(place)

    def say(self, keeper: str, word: str, **stores: Store) -> None:
        """What a command of a keeper does: read the ledger, then append a word that is not there yet."""
        book = self.book(keeper, **stores)
        book.sync()

        def decide(_: TenantStates) -> list[Event]:
            return [] if word in words(book.chain) else [Observed(store="disk", snapshots=[word])]

        book.append(decide)

    def read(self, keeper: str) -> list[str]:
        """The words of the ledger as a keeper has it, which must be as the store has it, from the first entry on."""
        book = self.book(keeper)
        book.sync(from_start=True)
        return words(book.chain)

    def findings(self, keeper: str) -> list[str]:
        """What `verify`, `restore` and a drill on this keeper find wrong with the ledger."""
        seen = read_ledger(Repository(self.store, TRUSTED, TRUSTED), self.copy(keeper))
        return [finding.sentence for finding in seen.wrong]

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events.seen if isinstance(event, Warned)]


def words(chain: Chain) -> list[str]:
    return [word for entry in chain.entries() for event in entry.events for word in event.snapshots]


def refusing(store: Store, error: Callable[[], BaseException]) -> HookedStore:
    """The store, which takes no entry of the ledger."""

    def before(method: str, name: str) -> None:
        if method == "put_new" and name.startswith("ledger/"):
            raise error()

    return HookedStore(store, before=before)


def full() -> BaseException:
    return StoreFullError("no room")


def read_only() -> BaseException:
    return StoreError("read-only file system")


@pytest.fixture(params=["directory_store", "sftp_store"])
def keepers(request: pytest.FixtureRequest, tmp_path: Path) -> Keepers:
    """Over a folder, and over a real SSH server."""
    keepers = Keepers(tmp_path / "keepers", request.getfixturevalue(request.param))
    keepers.say("one", "first")
    keepers.read("two")
    return keepers


@pytest.mark.parametrize("error", [full, read_only, gone])
def test_an_entry_that_no_store_took_gives_way(keepers: Keepers, error: Callable[[], BaseException]) -> None:
    """Another keeper's entry has its place: the machine goes on behind that one, and says what it dropped."""
    with pytest.raises(StoreError):
        keepers.say("one", "lost", store=refusing(keepers.store, error))
    keepers.say("two", "second")
    assert keepers.findings("one") == []
    assert keepers.read("one") == ["first", "second"]
    assert keepers.warnings == ["entry 2 of the ledger (observed), which no store had taken, was dropped"]
    keepers.say("one", "third")
    assert keepers.read("one") == keepers.read("two") == ["first", "second", "third"]
    assert len(keepers.warnings) == 1


@pytest.mark.parametrize("error", [full, read_only, gone])
def test_an_entry_that_no_store_took_is_no_damage(keepers: Keepers, error: Callable[[], BaseException]) -> None:
    """Neither to a verification, a restore or a drill on that machine; and it is put on the store the next time."""
    with pytest.raises(StoreError):
        keepers.say("one", "late", store=refusing(keepers.store, error))
    assert keepers.findings("one") == []
    keepers.say("one", "third")
    assert keepers.read("two") == ["first", "late", "third"]
    assert keepers.warnings == []


def test_while_the_store_takes_nothing_nothing_else_is_appended(keepers: Keepers) -> None:
    """The entry keeps its place, reading goes on, and whoever appends hears what is wrong with the store."""
    for word in ("late", "later"):
        with pytest.raises(StoreFullError):
            keepers.say("one", word, store=refusing(keepers.store, full))
    book = keepers.book("one", refusing(keepers.store, full))
    assert words(book.sync()) == ["first"]
    keepers.say("one", "later")
    assert keepers.read("two") == ["first", "late", "later"]


def test_an_entry_the_store_took_unheard_stays(keepers: Keepers) -> None:
    """The line broke behind the upload: the entry is the store's, and no other keeper's can have its place."""

    def after(method: str, name: str) -> None:
        if name.startswith("ledger/"):
            raise gone()

    with pytest.raises(StoreGoneError):
        keepers.say("one", "unheard", store=HookedStore(keepers.store, after=after))
    keepers.say("two", "second")
    keepers.say("one", "third")
    assert keepers.read("one") == keepers.read("two") == ["first", "unheard", "second", "third"]
    assert keepers.warnings == []


def test_an_entry_that_cannot_be_read_is_dropped(keepers: Keepers) -> None:
    """A pending file that a broken disk left behind stands in nobody's way."""
    with pytest.raises(StoreFullError):
        keepers.say("one", "late", store=refusing(keepers.store, full))
    (path,) = (keepers.folder / "one" / "pending").iterdir()
    path.chmod(0o600)
    path.write_bytes(b"nothing")
    keepers.say("one", "second")
    assert keepers.read("two") == ["first", "second"]
    assert keepers.warnings == ["entry 2 of the ledger (unreadable), which no store had taken, was dropped"]


@pytest.mark.parametrize("where", ["store", "copy"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [gone, full, Killed])
def test_cut_off_anywhere_both_keepers_go_on(
    tmp_path: Path, where: str, after: bool, error: Callable[[], BaseException]
) -> None:
    """Every call of one keeper to the store and to its own copy fails in its turn, before or behind its effect."""
    appended = 0
    for at in range(1, 99):
        folder = tmp_path / str(at)
        keepers = Keepers(folder, DirectoryStore(folder / "store"))
        keepers.say("one", "first")
        inner = keepers.store if where == "store" else keepers.copy("one")
        faulty = FaultyStore(inner, at, after=after, error=error)
        said = True
        try:
            keepers.say("one", "cut", **{where: faulty})
        except (BackupdError, Killed):
            said = False
        assert keepers.findings("one") == []
        keepers.say("two", "second")
        keepers.say("one", "third")
        found = keepers.read("one")
        assert found == keepers.read("two")
        assert keepers.findings("one") == keepers.findings("two") == []
        assert [word for word in found if word != "cut"] == ["first", "second", "third"]
        assert found.count("cut") <= 1
        assert "cut" in found or not said
        assert not list(folder.glob("*/pending/*"))
        appended += "cut" in found
        if len(faulty.calls) < at:
            break
    assert 2 <= at < 98
    assert appended


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_cut_off_again_while_it_is_settled(tmp_path: Path, after: bool) -> None:
    """The run that finishes what an earlier one began may itself be killed anywhere."""
    for at in range(1, 99):
        folder = tmp_path / str(at)
        keepers = Keepers(folder, DirectoryStore(folder / "store"))
        keepers.say("one", "first")
        with suppress(StoreFullError):
            keepers.say("one", "cut", store=refusing(keepers.store, full))
        faulty = FaultyStore(keepers.copy("one"), at, after=after, error=Killed)
        with suppress(Killed):
            keepers.say("one", "next", copy=faulty)
        keepers.say("two", "second")
        keepers.say("one", "third")
        found = keepers.read("one")
        assert found == keepers.read("two")
        assert [word for word in found if word not in ("cut", "next")] == ["first", "second", "third"]
        assert max(found.count("cut"), found.count("next")) <= 1
        if len(faulty.calls) < at:
            break
    assert 2 <= at < 98


def test_a_copy_with_a_gap_does_not_stand_in_for_a_store(keepers: Keepers) -> None:
    """Where the store lacks its end, the own copy is followed; not one that knows of entries which it has lost."""
    for word in ("second", "third", "fourth"):
        keepers.say("one", word)
    last = [f"ledger/{number:010}.json" for number in (2, 3, 4)]
    for name in last:
        keepers.store.remove(name)
    repository = Repository(keepers.store, TRUSTED, TRUSTED)
    seen = read_ledger(repository, keepers.copy("one"))
    assert (seen.findings, len(seen.lacking), len(seen.chain.links)) == ((), 1, 4)
    keepers.copy("one").remove(last[1])
    seen = read_ledger(repository, keepers.copy("one"))
    (finding,) = seen.findings
    assert finding.object == last[2]


@pytest.mark.parametrize("shorter", [True, False], ids=["rolled back", "written anew"])
def test_an_entry_the_store_had_stays_a_witness(keepers: Keepers, shorter: bool) -> None:
    """A store that took an entry, and shows another one in its place, is refused as ever; nothing is dropped."""
    keepers.say("one", "second")
    name = "ledger/0000000002.json"
    keepers.store.remove(name)
    if not shorter:
        book = keepers.book("three")
        book.sync()
        now = stamp(SystemClock().now())
        put_entry(keepers.store, 2, next_document(book.chain, now, [Observed(store="disk", snapshots=["x"])], SIGNER))
    assert len(keepers.findings("one")) == 1
    if not shorter:
        with pytest.raises(DamageError, match="not the entry that is known"):
            keepers.say("one", "third")
    assert keepers.warnings == []
    assert (keepers.folder / "one" / name).exists()
