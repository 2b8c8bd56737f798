"""Recipients change: of what is backed up from then on, and of what lies on the stores already."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from doubles.stores.fake_writer import segment
from doubles.stores.hooked_store import Fuse, HookedStore
from fix_clock import FAR, ShiftedClock
from fix_offline_keeper import DAY, OfflineKeeper, make_offline_keeper
from fix_regions import REGION

from backupd.errors import BusyError, DamageError, KeyRefusedError, StoreGoneError
from backupd.model.ids import ObjectName
from backupd.model.ledger import RekeyBegan, Rekeyed
from backupd.operations.keeper.purge import purge_due
from backupd.operations.keeper.rekey import Rekeying, preview_rekey, rekey
from backupd.operations.keeper.types import Keeper
from backupd.operations.ledger import Book, LedgerPlace
from backupd.operations.verify import Scope, Tools, verify
from backupd.planning import lifecycle
from backupd.planning.lifecycle import ClockDates
from backupd.planning.verify import parse_share
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.seal import suite
from backupd.store.directory import DirectoryStore

OLD_LINES = 2
"""Index and signature; behind the recipients' line follow the keys."""


def crowd(yard: OfflineKeeper) -> None:
    """Three generations, of four tenants."""
    for days in (5, 4, 3):
        yard.writer.generation_length = timedelta()
        yard.backup(days, "ada", "bob", "cyd", "dan")


def made(folder: Path) -> OfflineKeeper:
    folder.mkdir()
    return make_offline_keeper(folder)


def keyrings(yard: OfflineKeeper) -> dict[str, list[bytes]]:
    """The lines of every keyring."""
    return {str(path.relative_to(yard.root)): path.read_bytes().split(b"\n") for path in yard.root.glob("keyrings/*/*")}


def opens(yard: OfflineKeeper, pair: suite.KeyPair) -> set[str | None]:
    """Whose keys an identity opens, in every generation."""
    opened = yard.repository.open_keys(pair.secret, {name.split("/")[1] for name in keyrings(yard)})  # type: ignore[misc]
    return {opened[one].name.tenant for one in opened}


def run(yard: OfflineKeeper, *pairs: suite.KeyPair, identity: suite.KeyPair | None = None) -> Rekeying:
    return rekey(yard.keeper, "disk", [pair.public for pair in pairs], (identity or yard.identity).secret)


def erase(yard: OfflineKeeper, tenant: str) -> None:
    now, one = datetime.now(UTC), yard.keeper.tags.tenant_id(tenant)
    yard.keeper.book.append(lambda lives: lifecycle.erase(lives, one, ClockDates(now, now + 40 * DAY, now)))


def findings(yard: OfflineKeeper) -> list[str]:
    with CheckedState(yard.folder / "checked.sqlite") as checked:
        tools = Tools(yard.clock, yard.folder, store="disk")
        return [one.message for one in verify(yard.repository, checked, Scope(parse_share("none")), tools).findings]


def events(yard: OfflineKeeper) -> list[object]:
    told = (event for entry in yard.keeper.book.chain.entries() for event in entry.events)
    return [event for event in told if isinstance(event, RekeyBegan | Rekeyed)]


def test_only_the_new_recipients_open_what_lies_there(yard: OfflineKeeper) -> None:
    """Every keyring opens with the new identities and not with the old one; all but one line of it stays as it was."""
    crowd(yard)
    before, new, escrow = keyrings(yard), suite.generate(), suite.generate()
    assert preview_rekey(yard.keeper, "disk", [new.public], None).rekeyed == 3
    done = run(yard, new, escrow)
    assert (done.keyrings, done.rekeyed, done.already, done.done) == (3, 3, 0, True)
    for name, lines in keyrings(yard).items():
        assert [at for at, line in enumerate(lines) if line != before[name][at]] == [OLD_LINES]
    assert opens(yard, new) == opens(yard, escrow) == {None, "ada", "bob", "cyd", "dan"}
    with pytest.raises(KeyRefusedError):
        opens(yard, yard.identity)
    assert findings(yard) == []
    assert not (yard.root / "runs").exists()
    names = sorted([suite.fingerprint(new.public), suite.fingerprint(escrow.public)])
    assert events(yard) == [
        RekeyBegan(store="disk", recipients=names),
        Rekeyed(store="disk", recipients=names, keyrings=3),
    ]


def test_done_again_it_does_nothing(yard: OfflineKeeper) -> None:
    """Whichever identity is at hand, and the ledger does not grow."""
    crowd(yard)
    new = suite.generate()
    run(yard, new)
    before = yard.files()
    done = run(yard, new)
    assert (done.rekeyed, done.already, done.done) == (0, 3, True)
    assert yard.files() == before


def test_an_identity_that_opens_nothing_changes_nothing(yard: OfflineKeeper) -> None:
    """It is told of every keyring, and none is touched."""
    crowd(yard)
    before = keyrings(yard)
    done = run(yard, suite.generate(), identity=suite.generate())
    assert (done.rekeyed, len(done.unopened), done.done) == (0, 3, False)
    assert keyrings(yard) == before
    assert not any(isinstance(event, Rekeyed) for event in events(yard))


def test_a_change_of_recipients_begins_a_generation(yard: OfflineKeeper) -> None:
    """What is backed up from then on has new keys, which nobody who could open the old ones has."""
    first = yard.repository.record(yard.backup(3, "ada"))
    assert yard.repository.record(yard.backup(2, "ada")).generation == first.generation
    new = suite.generate()
    yard.writer.recipient = new.public
    third = yard.repository.record(yard.backup(1, "ada"))
    assert third.generation != first.generation
    assert {part[0] for part in third.parts}.isdisjoint(part[0] for part in first.parts)
    with pytest.raises(KeyRefusedError):
        yard.repository.open_keys(yard.identity.secret, [third.generation])


def test_a_store_that_breaks_off_at_any_call_is_gone_on_with(tmp_path: Path) -> None:
    """Before or after each call that changes something: keyrings open for the old or the new, and the next run ends
    it.
    """
    for side in ("before", "after"):
        for at in range(1, 40):
            yard = made(tmp_path / f"{side}{at}")
            crowd(yard)
            new, fuse = suite.generate(), Fuse(at)
            yard.store.before, yard.store.after = fuse.hooks(side)
            with contextlib.suppress(StoreGoneError):
                run(yard, new)
            yard.store.before = yard.store.after = lambda *_: None
            for name in keyrings(yard):
                keyring = yard.repository.keyring(ObjectName(name))
                assert keyring.open(
                    (new if set(keyring.wraps) == {suite.fingerprint(new.public)} else yard.identity).secret
                )
            yard.clock.by += timedelta(hours=2)  # its mark grows old
            yard.keeper.book.sync()
            assert run(yard, new).done
            assert len(opens(yard, new)) == 5
            assert findings(yard) == []
            assert isinstance(events(yard)[-1], Rekeyed)
            if not fuse.blown:
                break
        assert at > 8


def rival_of(yard: OfflineKeeper) -> Keeper:
    """Another machine that keeps the same store."""
    clock, store = ShiftedClock(), DirectoryStore(yard.root)
    repository = Repository(store, yard.repository.signers, yard.repository.keepers)
    copy, key = DirectoryStore(yard.folder / "rival-copy"), yard.keeper.signer
    place = LedgerPlace(REGION, yard.keeper.repository, {"disk": store}, copy, repository.keepers, clock, key, FAR)
    book = Book(place)
    book.sync()
    changes = {"stores": {"disk": repository}, "state": yard.folder / "rival", "clock": clock, "book": book}
    return replace(yard.keeper, **changes)


def test_what_a_purge_took_meanwhile_does_not_come_back(tmp_path: Path) -> None:
    """A purge by another machine before any call of a rekeying: no line of the tenant is left, no other is missing."""
    waited = 0
    for at in range(1, 200, 3):
        yard = made(tmp_path / str(at))
        crowd(yard)
        erase(yard, "ada")
        new, seen, purged = suite.generate(), [0], []

        def between(
            *_: str, at: int = at, seen: list[int] = seen, yard: OfflineKeeper = yard, purged: list = purged
        ) -> None:
            seen[0] += 1
            if seen[0] == at:
                purged.append(purge_due(rival_of(yard)))

        yard.store.before = between
        run(yard, new)
        yard.store.before = lambda *_: None
        if not purged:
            break
        if purged[0].errors:  # the rekeying stands still until the purge has given up waiting for its mark
            assert [type(error) for error in purged[0].errors.values()] == [BusyError]
            waited += 1
            assert purge_due(rival_of(yard)).errors == {}
        assert opens(yard, new) == {None, "bob", "cyd", "dan"}
        assert findings(yard) == []
    assert (at > 20, waited > 3) == (True, True)


def test_a_keyring_under_another_mark_is_waited_for(yard: OfflineKeeper) -> None:
    """Two that put one keyring anew do it one after the other; who never ends is told of."""
    crowd(yard)
    name = min(keyrings(yard))
    _, generation, file = name.split("/")
    yard.put(f"runs/{generation}/{file}", b"somebody", 0)
    before = keyrings(yard)
    with pytest.raises(BusyError, match="another keeper"):
        run(yard, suite.generate())
    assert keyrings(yard)[name] == before[name]


def test_a_stale_keyring_is_an_alarm(yard: OfflineKeeper) -> None:
    """One from before a rekeying that somebody put back is sealed to others than the ledger says: verify tells."""
    crowd(yard)
    name = min(keyrings(yard))
    stale = (yard.root / name).read_bytes()
    run(yard, suite.generate())
    assert findings(yard) == []
    (yard.root / name).chmod(0o600)
    (yard.root / name).write_bytes(stale)
    assert findings(yard) == ["is not sealed to the recipients that the ledger's last rekeying names"]


def test_a_keyring_that_was_sealed_to_a_stranger_stops_the_keeper(yard: OfflineKeeper) -> None:
    """Recipients that no rekeying ever named."""
    from backupd.seal.keyring import with_wraps

    crowd(yard)
    assert purge_due(yard.keeper).errors == {}
    name = ObjectName(min(keyrings(yard)))
    data, keyring = (yard.root / name).read_bytes(), yard.repository.keyring(name)
    stranger = suite.generate()
    (yard.root / name).chmod(0o600)
    (yard.root / name).write_bytes(
        with_wraps(data, keyring, yard.identity.secret, [yard.identity.public, stranger.public])
    )
    (error,) = purge_due(yard.keeper).errors.values()
    assert "changed its recipients" in error.message
    with pytest.raises(DamageError, match="changed its recipients"):
        run(yard, suite.generate())


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_a_damaged_keyring_does_not_stop_the_others(yard: OfflineKeeper, *, known: bool) -> None:
    """It is told, stays as it is, and the run does not call itself done."""
    crowd(yard)
    if known:
        assert purge_due(yard.keeper).errors == {}
    name = sorted(keyrings(yard))[1]
    path = yard.root / name
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(bytes(data))
    done = run(yard, suite.generate())
    assert (done.rekeyed, len(done.damaged), done.done) == (2, 1, False)
    assert path.read_bytes() == bytes(data)


def test_a_backup_under_way_is_looked_after(yard: OfflineKeeper) -> None:
    """A keyring for the old recipients that is published while others are put anew is put anew, too."""
    crowd(yard)
    seen: list[str] = []

    def once(method: str, name: str) -> None:
        if method == "replace" and not seen:
            seen.append(name)
            yard.begin(datetime.now(UTC), {segment("uploaded", "eve"): [b"late\n"]})

    assert isinstance(yard.store, HookedStore)
    yard.store.before = once
    new = suite.generate()
    done = run(yard, new)
    assert (done.keyrings, done.rekeyed, done.done) == (4, 4, True)
    assert "eve" in opens(yard, new)
