"""Recipients change: of what is backed up from then on, and of what lies on the stores already."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from doubles.stores.fake_writer import segment
from doubles.stores.holdings import opened_tenants
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


def crowd(offline: OfflineKeeper) -> None:
    """Three generations, of four tenants."""
    for days in (5, 4, 3):
        offline.writer.generation_length = timedelta()
        offline.backup(days, "ada", "bob", "cyd", "dan")


def made(folder: Path) -> OfflineKeeper:
    folder.mkdir()
    return make_offline_keeper(folder)


def keyrings(offline: OfflineKeeper) -> dict[str, list[bytes]]:
    """The lines of every keyring."""
    return {
        str(path.relative_to(offline.root)): path.read_bytes().split(b"\n")
        for path in offline.root.glob("keyrings/*/*")
    }


def opens(offline: OfflineKeeper, pair: suite.KeyPair) -> set[str | None]:
    """Whose keys an identity opens, in every keyring."""
    return opened_tenants(offline.repository, pair.secret)


def run(offline: OfflineKeeper, *pairs: suite.KeyPair, identity: suite.KeyPair | None = None) -> Rekeying:
    return rekey(offline.keeper, "disk", [pair.public for pair in pairs], (identity or offline.identity).secret)


def erase(offline: OfflineKeeper, tenant: str) -> None:
    now, one = datetime.now(UTC), offline.keeper.tags.tenant_id(tenant)
    offline.keeper.book.append(lambda states: lifecycle.erase(states, one, ClockDates(now, now + 40 * DAY, now)))


def findings(offline: OfflineKeeper) -> list[str]:
    with CheckedState(offline.folder / "checked.sqlite") as checked:
        tools = Tools(offline.clock, offline.folder, store="disk")
        return [one.message for one in verify(offline.repository, checked, Scope(parse_share("none")), tools).findings]


def events(offline: OfflineKeeper) -> list[object]:
    told = (event for entry in offline.keeper.book.chain.entries() for event in entry.events)
    return [event for event in told if isinstance(event, RekeyBegan | Rekeyed)]


def test_only_the_new_recipients_open_what_lies_there(offline: OfflineKeeper) -> None:
    """Every keyring opens with the new identities and not with the old one; all but one line of it stays as it was."""
    crowd(offline)
    before, new, escrow = keyrings(offline), suite.generate(), suite.generate()
    assert preview_rekey(offline.keeper, "disk", [new.public], None).rekeyed == 3
    done = run(offline, new, escrow)
    assert (done.keyrings, done.rekeyed, done.already, done.done) == (3, 3, 0, True)
    for name, lines in keyrings(offline).items():
        assert [at for at, line in enumerate(lines) if line != before[name][at]] == [OLD_LINES]
    assert opens(offline, new) == opens(offline, escrow) == {None, "ada", "bob", "cyd", "dan"}
    with pytest.raises(KeyRefusedError):
        opens(offline, offline.identity)
    assert findings(offline) == []
    assert not (offline.root / "runs").exists()
    names = sorted([suite.fingerprint(new.public), suite.fingerprint(escrow.public)])
    assert events(offline) == [
        RekeyBegan(store="disk", recipients=names),
        Rekeyed(store="disk", recipients=names, keyrings=3),
    ]


def test_done_again_it_does_nothing(offline: OfflineKeeper) -> None:
    """Whichever identity is at hand, and the ledger does not grow."""
    crowd(offline)
    new = suite.generate()
    run(offline, new)
    before = offline.files()
    done = run(offline, new)
    assert (done.rekeyed, done.already, done.done) == (0, 3, True)
    assert offline.files() == before


def test_an_identity_that_opens_nothing_changes_nothing(offline: OfflineKeeper) -> None:
    """It is told of every keyring, and none is touched."""
    crowd(offline)
    before = keyrings(offline)
    done = run(offline, suite.generate(), identity=suite.generate())
    assert (done.rekeyed, len(done.unopened), done.done) == (0, 3, False)
    assert keyrings(offline) == before
    assert not any(isinstance(event, Rekeyed) for event in events(offline))


def test_a_change_of_recipients_begins_a_generation(offline: OfflineKeeper) -> None:
    """What is backed up from then on has new keys, which nobody who could open the old ones has."""
    first = offline.repository.record(offline.backup(3, "ada"))
    assert offline.repository.record(offline.backup(2, "ada")).generation == first.generation
    new = suite.generate()
    offline.writer.recipient = new.public
    third = offline.repository.record(offline.backup(1, "ada"))
    assert third.generation != first.generation
    assert {pack for pack, _, _ in third.packs}.isdisjoint(pack for pack, _, _ in first.packs)
    with pytest.raises(KeyRefusedError):
        offline.repository.open_keys(offline.identity.secret, [third.generation])


def test_a_store_that_breaks_off_at_any_call_is_gone_on_with(tmp_path: Path) -> None:
    """Before or after each call that changes something: keyrings open for the old or the new, and the next run ends
    it.
    """
    for side in ("before", "after"):
        for at in range(1, 40):
            offline = made(tmp_path / f"{side}{at}")
            crowd(offline)
            new, fuse = suite.generate(), Fuse(at)
            offline.store.before, offline.store.after = fuse.hooks(side)
            with contextlib.suppress(StoreGoneError):
                run(offline, new)
            offline.store.before = offline.store.after = lambda *_: None
            for name in keyrings(offline):
                keyring = offline.repository.keyring(ObjectName(name))
                assert keyring.open(
                    (new if set(keyring.wraps) == {suite.fingerprint(new.public)} else offline.identity).secret
                )
            offline.clock.by += timedelta(hours=2)  # its mark grows old
            offline.keeper.book.sync()
            assert run(offline, new).done
            assert len(opens(offline, new)) == 5
            assert findings(offline) == []
            assert isinstance(events(offline)[-1], Rekeyed)
            if not fuse.blown:
                break
        assert at > 8


def rival_of(offline: OfflineKeeper) -> Keeper:
    """Another machine that keeps the same store."""
    clock, store = ShiftedClock(), DirectoryStore(offline.root)
    repository = Repository(store, offline.repository.signers, offline.repository.keepers)
    copy, key = DirectoryStore(offline.folder / "rival-copy"), offline.keeper.signer
    place = LedgerPlace(REGION, offline.keeper.repository, {"disk": store}, copy, repository.keepers, clock, key, FAR)
    book = Book(place)
    book.sync()
    changes = {"stores": {"disk": repository}, "state": offline.folder / "rival", "clock": clock, "book": book}
    return replace(offline.keeper, **changes)


def test_what_a_purge_took_meanwhile_does_not_come_back(tmp_path: Path) -> None:
    """A purge by another machine before any call of a rekeying: no line of the tenant is left, no other is missing."""
    waited = 0
    for at in range(1, 200, 3):
        offline = made(tmp_path / str(at))
        crowd(offline)
        erase(offline, "ada")
        new, seen, purged = suite.generate(), [0], []

        def between(
            *_: str, at: int = at, seen: list[int] = seen, offline: OfflineKeeper = offline, purged: list = purged
        ) -> None:
            seen[0] += 1
            if seen[0] == at:
                purged.append(purge_due(rival_of(offline)))

        offline.store.before = between
        run(offline, new)
        offline.store.before = lambda *_: None
        if not purged:
            break
        if purged[0].errors:  # the rekeying stands still until the purge has given up waiting for its mark
            assert [type(error) for error in purged[0].errors.values()] == [BusyError]
            waited += 1
            assert purge_due(rival_of(offline)).errors == {}
        assert opens(offline, new) == {None, "bob", "cyd", "dan"}
        assert findings(offline) == []
    assert (at > 20, waited > 3) == (True, True)


def test_a_keyring_under_another_mark_is_waited_for(offline: OfflineKeeper) -> None:
    """Two that put one keyring anew do it one after the other; who never ends is told of."""
    crowd(offline)
    name = min(keyrings(offline))
    _, generation, file = name.split("/")
    offline.put(f"runs/{generation}/{file}", b"somebody", 0)
    before = keyrings(offline)
    with pytest.raises(BusyError, match="another keeper"):
        run(offline, suite.generate())
    assert keyrings(offline)[name] == before[name]


def test_a_stale_keyring_is_an_alarm(offline: OfflineKeeper) -> None:
    """One from before a rekeying that somebody put back is sealed to others than the ledger says: verify tells."""
    crowd(offline)
    name = min(keyrings(offline))
    stale = (offline.root / name).read_bytes()
    run(offline, suite.generate())
    assert findings(offline) == []
    (offline.root / name).chmod(0o600)
    (offline.root / name).write_bytes(stale)
    assert findings(offline) == ["is not sealed to the recipients that the ledger's last rekeying names"]


def test_a_keyring_that_was_sealed_to_a_stranger_stops_the_keeper(offline: OfflineKeeper) -> None:
    """Recipients that no rekeying ever named."""
    from backupd.seal.keyring import with_wraps

    crowd(offline)
    assert purge_due(offline.keeper).errors == {}
    name = ObjectName(min(keyrings(offline)))
    data, keyring = (offline.root / name).read_bytes(), offline.repository.keyring(name)
    stranger = suite.generate()
    (offline.root / name).chmod(0o600)
    (offline.root / name).write_bytes(
        with_wraps(data, keyring, offline.identity.secret, [offline.identity.public, stranger.public])
    )
    (error,) = purge_due(offline.keeper).errors.values()
    assert "changed its recipients" in error.message
    with pytest.raises(DamageError, match="changed its recipients"):
        run(offline, suite.generate())


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_a_damaged_keyring_does_not_stop_the_others(offline: OfflineKeeper, *, known: bool) -> None:
    """It is told, stays as it is, and the run does not call itself done."""
    crowd(offline)
    if known:
        assert purge_due(offline.keeper).errors == {}
    name = sorted(keyrings(offline))[1]
    path = offline.root / name
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(bytes(data))
    done = run(offline, suite.generate())
    assert (done.rekeyed, len(done.damaged), done.done) == (2, 1, False)
    assert path.read_bytes() == bytes(data)


def test_a_backup_under_way_is_looked_after(offline: OfflineKeeper) -> None:
    """A keyring for the old recipients that is published while others are put anew is put anew, too."""
    crowd(offline)
    seen: list[str] = []

    def once(method: str, name: str) -> None:
        if method == "replace" and not seen:
            seen.append(name)
            offline.begin(datetime.now(UTC), {segment("uploaded", "eve"): [b"late\n"]})

    assert isinstance(offline.store, HookedStore)
    offline.store.before = once
    new = suite.generate()
    done = run(offline, new)
    assert (done.keyrings, done.rekeyed, done.done) == (4, 4, True)
    assert "eve" in opens(offline, new)
