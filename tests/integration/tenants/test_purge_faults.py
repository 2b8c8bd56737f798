"""A purge takes care of clocks, keys of others, runs that were cut off, and stores that were away."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from doubles.stores.fake_writer import segment
from doubles.stores.holdings import opened_tenants, stored_segments
from doubles.stores.memory_store import Line, MemoryStore, VirtualTime
from doubles.stores.segments import publish_pack, seal_section
from fix_offline_keeper import DAY, OfflineKeeper, make_offline_keeper

from backupd.errors import DamageError, RefusedError
from backupd.model.ids import ObjectName, Pseudonym, RunId
from backupd.model.ledger import Absent, PurgeBegan
from backupd.operations.keeper.purge import Purging, purge_due
from backupd.operations.ledger import Book
from backupd.planning import lifecycle
from backupd.planning.incarnations import IncarnationKey, State
from backupd.planning.lifecycle import ClockDates
from backupd.seal.keyring import SegmentKey
from backupd.seal.pack import PackContext
from backupd.seal.section_format import SectionContext
from backupd.store.base import Piece

ADA = segment("uploaded", "ada")
BOB = segment("uploaded", "bob")


def ask(offline: OfflineKeeper, tenant: str) -> IncarnationKey:
    """A request to erase, due at once."""
    now, one = offline.clock.now(), offline.keeper.tags.tenant_id(tenant)
    offline.keeper.book.append(lambda states: lifecycle.erase(states, one, ClockDates(now, now + 40 * DAY, now)))
    return offline.keeper.book.states.current(one).key


def purge(offline: OfflineKeeper) -> None:
    done = purge_due(offline.keeper)
    for error in done.errors.values():
        raise error


def keys(offline: OfflineKeeper) -> set[str | None]:
    """Tenants whose keys can be opened on the store; the structure is nobody's, and always there."""
    return opened_tenants(offline.repository, offline.identity.secret) - {None}


def stored(offline: OfflineKeeper) -> set[Pseudonym]:
    return stored_segments(offline.repository)


def test_a_wrong_clock_does_not_begin_a_purge(offline: OfflineKeeper) -> None:
    """The point of no return is behind the comparison of clocks: a tenant can still come back."""
    offline.backup(1, "ada")
    now, ada = offline.clock.now(), offline.keeper.tags.tenant_id("ada")
    dates = ClockDates(now, now + 180 * DAY, now + 20 * DAY)
    offline.keeper.book.append(lambda states: lifecycle.unsubscribe(states, ada, dates))
    offline.clock.by = 30 * DAY
    with Purging(offline.keeper) as purging, pytest.raises(RefusedError, match="clock of store 'disk'"):
        purging.purge(IncarnationKey(ada, 1))
    assert offline.keeper.book.states.current(ada).state is State.MARKED


def test_no_store_that_agrees_about_the_time_no_purge(tmp_path: Path) -> None:
    """One store that differs does not stop the others; where none agrees, nothing begins."""
    time = VirtualTime(datetime.now(UTC) + 3 * DAY)
    offline = make_offline_keeper(tmp_path, wrong=MemoryStore(time))
    offline.backup(1, "ada")
    ask(offline, "ada")
    done = purge_due(offline.keeper)
    assert "clock of store 'wrong'" in done.errors["wrong"].message
    assert [(one.store, one.objects > 0) for one in done.done] == [("disk", True)]


@pytest.mark.parametrize("lacking", [False, True])
def test_a_read_that_went_wrong_ruins_nobodys_keys(
    offline: OfflineKeeper, monkeypatch: pytest.MonkeyPatch, lacking: bool
) -> None:
    """A keyring is put anew only when it was seen to be the old one less the lines that are due."""
    offline.backup(1, "ada", "bob")
    ask(offline, "ada")
    read = type(offline.repository).read

    def flipped(self: object, name: ObjectName, kind: str) -> bytes:
        data = read(self, name, kind)
        *documents, ada, bob, end = data.split(b"\n")  # in whichever order
        if lacking and kind == "keyring":
            return b"\n".join([*documents, ada, end])
        return b"\n".join([*documents, altered(ada), altered(bob), end])

    def altered(line: bytes) -> bytes:
        return line[:-10] + (b"A" if line[-10:-9] != b"A" else b"B") + line[-9:]

    before = {name: sha256 for name, sha256 in offline.files().items() if name.startswith("keyrings/")}
    monkeypatch.setattr(type(offline.repository), "read", flipped)
    assert isinstance(purge_due(offline.keeper).errors["disk"], DamageError)
    assert before.items() <= offline.files().items()
    monkeypatch.undo()
    purge(offline)
    assert keys(offline) == {"bob"}


def test_a_key_that_is_missing_at_the_first_look_is_an_alarm(offline: OfflineKeeper) -> None:
    """The tripwire holds also for keyrings the keeper never saw, or whose memory it lost."""
    offline.backup(1, "ada", "bob")
    (path,) = offline.root.rglob("*.keyring")
    path.chmod(0o600)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    for _ in range(2):
        with Purging(offline.keeper) as purging:
            assert isinstance(purging.errors["disk"], DamageError)
            assert "no purge of it" in purging.errors["disk"].message


def test_a_purge_is_no_alarm_to_a_keeper_that_lost_its_memory(offline: OfflineKeeper) -> None:
    """Lines that the ledger explains are no loss."""
    offline.backup(1, "ada", "bob")
    ask(offline, "ada")
    purge(offline)
    shutil.rmtree(offline.keeper.state)
    with Purging(offline.keeper) as purging:
        assert purging.errors == {}


def test_keys_in_the_stores_snapshots_outlive_their_keyring(offline: OfflineKeeper) -> None:
    """A generation that expired left its keyrings in the store's own snapshots: they are looked into all the same."""
    offline.backup(60, "ada")
    offline.backup(1, "bob")
    key = ask(offline, "ada")
    shot = offline.root.parent / "store" / ".zfs" / "snapshot" / f"daily_{datetime.now(UTC):%Y-%m-%d}"
    for name in offline.files():
        if name.startswith(("keyrings/", "repository.json")):
            (shot / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(offline.root / name, shot / name)
    purge(offline)
    incarnation = offline.keeper.book.states.incarnations[key]
    assert incarnation.purge is not None
    assert "disk" not in incarnation.purge.absent
    for name in offline.files():
        if name.startswith("keyrings/"):
            offline.age(name, days_ago=3)
    offline.expire()
    assert len([name for name in offline.files() if name.startswith("keyrings/")]) == 1
    purge(offline)
    assert "disk" not in offline.keeper.book.states.incarnations[key].purge.absent
    shutil.rmtree(shot)
    purge(offline)
    assert "disk" in offline.keeper.book.states.incarnations[key].purge.absent


def test_what_only_the_stores_snapshots_hold_is_looked_for(offline: OfflineKeeper) -> None:
    """A generation that expired before the tenant left is in the store's own snapshots, keys and all."""
    offline.writer.generation_length = 5 * DAY
    offline.backup(60, "ada")
    offline.backup(1, "bob")
    purge(offline)
    shot = offline.root / ".zfs" / "snapshot" / f"daily_{datetime.now(UTC):%Y-%m-%d}"
    for name in offline.files():
        (shot / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(offline.root / name, shot / name)
    offline.expire()
    assert "ada" not in keys(offline)
    key = ask(offline, "ada")
    purge(offline)
    incarnation = offline.keeper.book.states.incarnations[key]
    assert incarnation.purge is not None
    assert len(incarnation.purge.segments) == 1
    assert "disk" not in incarnation.purge.absent
    shutil.rmtree(offline.root / ".zfs")
    purge(offline)
    assert "disk" in offline.keeper.book.states.incarnations[key].purge.absent


@pytest.mark.parametrize("stages", [2, 3])
def test_a_run_cut_off_behind_its_keyring_goes_on_after_a_purge(offline: OfflineKeeper, stages: int) -> None:
    """What it left of the tenant is purged, keys and sections; what it left of others may be used."""
    now = datetime.now(UTC)
    offline.begin(now, {ADA: [b"a\n"], BOB: [b"b\n"]}, stages=stages)
    assert keys(offline) == {"ada", "bob"}
    assert bool(stored(offline)) == (stages == 3)
    ask(offline, "ada")
    purge(offline)
    assert keys(offline) == {"bob"}
    made = offline.begin(now, {ADA: [b"a\n"], BOB: [b"b\n"]})
    assert made.snapshot is not None
    assert keys(offline) == {"bob"}
    needed = offline.repository.sections(offline.repository.record(made.snapshot))
    assert {offline.owners[segment_].tenant for segment_, _ in needed.sections} == {"bob", None}
    assert all(section.is_there for section in needed.sections.values())


def test_a_tenant_that_returns_adds_nothing_to_what_a_late_run_left_of_its_old_incarnation(
    offline: OfflineKeeper,
) -> None:
    """A run under way at the purge makes a segment of the old incarnation that only the next keeper run finds."""
    now = datetime.now(UTC)
    offline.begin(now, {BOB: [b"b\n"]})
    key = ask(offline, "ada")
    purging: list[bool] = []

    def meanwhile(method: str, name: str) -> None:
        if method == "put_new" and name.endswith(".keyring") and not purging:
            purging.append(True)
            purge(offline)

    offline.store.before = meanwhile
    offline.begin(now, {ADA: [b"a\n"], BOB: [b"b\n"]})
    offline.store.before = lambda *_: None
    assert purging
    old = {segment_ for segment_, name in offline.owners.items() if name == ADA}
    offline.keeper.book.append(lambda states: lifecycle.resubscribe(states, key.tenant))
    made = offline.begin(now, {ADA: [b"a\n"], BOB: [b"b\n"]})
    assert made.snapshot is not None
    (new,) = {segment_ for segment_, name in offline.owners.items() if name == ADA} - old
    purge(offline)
    assert new in stored(offline)
    assert not old & stored(offline)
    assert keys(offline) == {"ada", "bob"}


def test_no_store_is_touched_that_does_not_know_why(tmp_path: Path) -> None:
    """A store that missed the intent gets it before anything is removed there, or nothing is."""
    time = VirtualTime(datetime.now(UTC))
    far = MemoryStore(time)
    down: list[bool] = []
    line = Line(far, down=lambda: bool(down))
    offline = make_offline_keeper(tmp_path, far=line)
    offline.backup(20, "ada")
    offline.backup(1, "ada")
    far.objects |= {
        name: ((offline.root / name).read_bytes(), datetime.now(UTC) - 20 * DAY)
        for name in offline.files()
        if name.startswith(("packs/", "keyrings/", "snapshots/"))
    }
    offline.keeper.book.sync()
    ask(offline, "ada")
    real = Book.append

    def away(self: Book, decide: object) -> object:
        """The store is away for just as long as the intent is written."""
        down.append(True)
        try:
            return real(self, decide)
        finally:
            down.clear()

    take = far.recompose
    told: list[int] = []

    def recompose(name: ObjectName, pieces: Sequence[Piece], size: int) -> None:
        told.append(sum(b'"purge-began"' in data for data, _ in far.objects.values()))
        take(name, pieces, size)

    far.recompose = recompose
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Book, "append", away)
        time.now = datetime.now(UTC)
        purge_due(offline.keeper)
    assert told
    assert all(told)


def test_what_a_late_run_adds_on_a_store_that_was_away_is_swept(offline: OfflineKeeper) -> None:
    """The look is final only when no run can be under way that began before this store was told."""
    offline.backup(1, "ada")
    key = ask(offline, "ada")
    purge(offline)
    kinds = [type(event) for entry in offline.keeper.book.chain.entries() for event in entry.events]
    assert kinds.count(PurgeBegan) == kinds.count(Absent) == 1
    segment_ = next(one for one, name in offline.owners.items() if name == ADA)
    pack = PackContext(offline.keeper.repository, offline.repository.records()[0][0])
    context = SectionContext(pack.repository, pack.generation, segment_, 99)
    late = seal_section(context, SegmentKey(b"k" * 32, ADA), (RunId(pack.generation), 0), [[b"late"]])
    publish_pack(offline.store.inner, pack, [late])
    assert segment_ in stored(offline)
    purge(offline)
    assert segment_ not in stored(offline)
    assert offline.keeper.book.states.incarnations[key].state is State.CLEARED
    assert timedelta(0) < offline.clock.now() - offline.keeper.book.states.incarnations[key].purge.absent["disk"][0]
