"""Verify holds a store against its ledger, and the ledger against whoever saw it."""

from __future__ import annotations

import os
import shutil
import threading
from fractions import Fraction
from itertools import count
from pathlib import Path

import msgspec
import pytest
from doubles.stores.broken_ledger import BREAKS, entry, observed
from doubles.stores.hooked_store import HookedStore
from doubles.stores.segments import take_out
from doubles.stores.small_repository import START, SmallRepository, notes
from fix_clock import TickingClock

from backupd.errors import DamageError, RefusedError
from backupd.model.documents import encode_body
from backupd.model.ids import ObjectName, SnapshotName
from backupd.model.ledger import ClassExpired, ExpiryBegan, Observed
from backupd.model.tenancy import SegmentName
from backupd.model.text import stamp
from backupd.operations.verify import Scope, Tools, Verification, verify
from backupd.repository import layout
from backupd.repository.ledger import list_entries, next_document, put_entry, read_chain
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.seal.documents import Signer
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore

SHARED, ACME = SegmentName("app", "uploaded", None), SegmentName("app", "uploaded", "acme")
ALL, NONE = Fraction(1), Fraction(0)


class Checker:
    """A small repository with two snapshots, under verification."""

    def __init__(self, store: DirectoryStore, folder: Path) -> None:
        self.small = SmallRepository(store)
        self.root, self.folder = store.root, folder
        self.own: Store | None = None
        self.first = self.small.snapshot({SHARED: notes("shared"), ACME: notes("acme")})
        self.second = self.small.snapshot({SHARED: notes("shared"), ACME: notes("more")})

    def run(
        self, *, share: Fraction = NONE, opened: bool = False, store: Store | None = None, threads: int = 2
    ) -> Verification:
        identity = self.small.identity.secret if opened else None
        repository = Repository(store or self.small.store, [self.small.signer.public])
        with CheckedState(self.folder / "checked.sqlite") as checked:
            tools = Tools(TickingClock(), self.folder, threads=threads, store="disk", own_ledger=self.own)
            return verify(repository, checked, Scope(share, identity), tools)

    def said(self) -> str:
        return " ".join(finding.sentence for finding in self.run().findings)

    def only(self, name: SnapshotName, other: SnapshotName) -> list[tuple[str, int]]:
        """The sections of the first that the other does not need: pack and place."""
        mine, others = (
            {(one.pack.name, one.at) for one in self.small.repository.sections(record).sections.values()}
            for record in (self.small.repository.record(name), self.small.repository.record(other))
        )
        return sorted(mine - others)

    def take_out(self, pack: str, at: int) -> None:
        found = layout.place_of(ObjectName(pack)).sha256
        assert found is not None
        take_out(self.small.store, self.small.repository.pack(self.small.generation, found), [at])

    def expire(self) -> None:
        """Remove the first snapshot and what only it needs."""
        (self.root / "snapshots" / self.small.generation / self.first).unlink()
        for info in self.run().orphans:
            (self.root / info).unlink()


@pytest.fixture
def checker(directory_store: DirectoryStore, tmp_path: Path) -> Checker:
    return Checker(directory_store, tmp_path)


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("taken", ["keys and objects", "keys", "objects", "nothing"])
def test_a_purge_is_no_damage_at_any_step(checker: Checker, taken: str, opened: bool) -> None:
    """Once the intent is written, whatever of it is gone was removed rightly, and what is left is told."""
    small = checker.small
    small.tell(small.purge_began(ACME))
    small.take_out(ACME, keys="keys" in taken, objects="objects" in taken)
    result = checker.run(share=ALL, opened=opened)
    assert result.findings == ()
    assert (result.purged, result.unpurged, result.orphans) == (1, 0 if taken == "keys and objects" else 1, ())
    assert result.proven == tuple(sorted([checker.first, checker.second]))


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("taken", ["keys", "objects"])
def test_the_same_removal_without_its_entry_is_damage(checker: Checker, taken: str, opened: bool) -> None:
    """The positive control: the ledger is there, and speaks of another segment."""
    small = checker.small
    small.tell(observed(1))
    small.take_out(ACME, keys="keys" in taken, objects="objects" in taken)
    result = checker.run(share=ALL, opened=opened)
    assert {finding.segment for finding in result.findings} == {small.pseudonym(ACME)}
    assert (result.purged, result.proven) == (0, ())
    small.tell(small.purge_began(SHARED))
    assert not checker.run().clean


def test_an_expiry_is_no_damage(checker: Checker) -> None:
    """Neither the missing record before another, nor one an earlier verify saw, nor what only it needed."""
    checker.run()
    checker.expire()
    assert checker.first in checker.said()
    assert "an earlier verify saw" in checker.said()
    checker.small.tell(ExpiryBegan(store="elsewhere", snapshots=[checker.first]))
    assert not checker.run().clean
    checker.small.tell(ExpiryBegan(store="disk", snapshots=[checker.first]))
    assert checker.run(share=ALL, opened=True).findings == ()


def test_an_expiry_that_was_cut_off_is_no_damage(checker: Checker) -> None:
    """A record still there that expired asks for nothing; what others need, they still need."""
    small = checker.small
    only = {pack for pack, _ in checker.only(checker.first, checker.second)}
    needed = [sha256 for sha256, _, _ in small.repository.record(checker.second).packs]
    small.tell(ExpiryBegan(store="disk", snapshots=[checker.first]))
    for pack, at in checker.only(checker.first, checker.second):
        checker.take_out(pack, at)
    for pack in only - {layout.pack_name(small.generation, sha256) for sha256 in needed}:
        (checker.root / pack).unlink()
    for name in checker.root.glob("keyrings/*/*"):
        named = [
            row.keyring for sha256 in needed for row in small.repository.pack(small.generation, sha256).header.rows
        ]
        if name.stem not in named:
            name.unlink()
    result = checker.run(share=ALL)
    assert (result.findings, result.proven) == ((), (checker.second,))
    (checker.root / layout.pack_name(small.generation, needed[0])).unlink()
    assert needed[0] in checker.said()


def test_a_class_too_old_is_no_damage(checker: Checker) -> None:
    """Of snapshots before the instant only: the newer one's sections are needed."""
    small = checker.small
    second = small.repository.record(checker.second)
    tag = small.tags.class_tag(small.generation, "uploaded")
    (pack, at), *_ = checker.only(checker.first, checker.second)
    checker.take_out(pack, at)
    assert f"{pack}' lacks section {at}," in checker.said()
    small.tell(ClassExpired(store="disk", generation=small.generation, class_tag=tag, before=second.exported))
    result = checker.run(share=ALL)
    assert (result.findings, result.aged) == ((), 1)
    # The rest of an aged snapshot is what there has to be of it.
    assert set(result.proven) == {checker.first, checker.second}
    (pack, at), *_ = checker.only(checker.second, checker.first)
    checker.take_out(pack, at)
    assert f"{pack}' lacks section {at}," in checker.said()


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_ledger_is_damage_where_a_record_knows_more(checker: Checker, how: str) -> None:
    """Whatever was done to it, by the number of an entry or by the record that saw another one."""
    small = checker.small
    for number in (1, 2, 3, 4):
        small.tell(observed(number))
    third = small.snapshot({SHARED: notes("shared")})
    assert checker.run().clean
    BREAKS[how](small, checker.root)
    checker.own = DirectoryStore(checker.folder / "own")
    result = checker.run(share=ALL)
    named = third if how in ("cut", "rewritten") else "ledger/000000000"
    assert any(named in finding.object for finding in result.findings)
    assert third not in result.proven or how not in ("cut", "rewritten")
    assert not list_entries(checker.own)


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_ledger_is_damage_where_this_machine_knows_more(checker: Checker, how: str) -> None:
    """Its own copy is a witness, made by the first verify that finds nothing wrong, and by no other."""
    small = checker.small
    checker.own = DirectoryStore(checker.folder / "own")
    for number in (1, 2, 3, 4):
        small.tell(observed(number))
    assert checker.run().entries == 4
    BREAKS[how](small, checker.root)
    for _ in range(2):
        result = checker.run()
        assert {finding.object[:14] for finding in result.findings} == {"ledger/0000000"}
        assert result.entries == 4


def test_an_absence_is_explained_by_the_entries_that_can_be_believed(checker: Checker) -> None:
    """A broken end of the ledger is one finding, and not one more for everything purged before."""
    small = checker.small
    small.tell(small.purge_began(ACME))
    small.take_out(ACME)
    small.tell(observed(2))
    entry(checker.root, 2).write_bytes(b"{}\n{}\n")
    assert [finding.object for finding in checker.run().findings] == ["ledger/0000000002.json"]


def test_a_keeper_at_work_meanwhile_is_no_damage(checker: Checker) -> None:
    """What is removed after the ledger was read is looked up again before anything is called damage."""
    small = checker.small

    lock = threading.Lock()

    def purge(method: str, name: str) -> None:
        with lock:
            if method == "get" and name.startswith("packs/") and not small.chain.links:
                small.tell(small.purge_began(ACME))
                small.take_out(ACME)

    store = HookedStore(small.store, before=purge)
    result = checker.run(share=ALL, store=store)
    assert result.findings == ()
    assert small.chain.links


def test_a_record_that_expires_meanwhile_is_no_damage(checker: Checker) -> None:
    """It was listed, and is gone when it is read; without an entry that says so, it is missed."""
    small = checker.small
    where = f"snapshots/{small.generation}/{checker.first}"

    def remove(method: str, name: str) -> None:
        if method == "get" and name == where:
            (checker.root / where).unlink()

    def expire(method: str, name: str) -> None:
        if method == "get" and name == where:
            small.tell(ExpiryBegan(store="disk", snapshots=[checker.first]))
            remove(method, name)

    kept = (checker.root / where).read_bytes()
    result = checker.run(store=HookedStore(small.store, before=remove))
    assert where in {finding.object for finding in result.findings}
    (checker.root / where).write_bytes(kept)
    assert checker.run(store=HookedStore(small.store, before=expire)).findings == ()


def test_an_expiry_at_any_call_is_no_damage(tmp_path: Path) -> None:
    """A keeper writes down what expires, and then removes records, packs and keyrings, while verify looks."""
    for at in count(1):
        root = tmp_path / str(at) / "store"
        root.mkdir(parents=True)
        checker = Checker(DirectoryStore(root), tmp_path / str(at))
        old, calls = checker.small.generation, [0]
        checker.small.start_generation()
        checker.small.snapshot({SHARED: notes("shared")})

        def expire(
            *_: object, calls: list[int] = calls, at: int = at, checker: Checker = checker, old: str = old
        ) -> None:
            calls[0] += 1
            if calls[0] == at:
                checker.small.tell(ExpiryBegan(store="disk", snapshots=[checker.first, checker.second]))
                for folder in ("snapshots", "packs", "keyrings"):
                    shutil.rmtree(checker.root / folder / old)

        hooked = HookedStore(checker.small.store, before=expire)
        result = checker.run(share=ALL, opened=True, store=hooked, threads=1)
        assert result.findings == (), at
        if calls[0] < at:
            break
    assert at > 20


def test_marks_and_entries_are_known_objects(checker: Checker) -> None:
    """Neither is told as foreign."""
    small = checker.small
    small.tell(observed(1))
    for name in ("20300101T000000Z-00000000", "keeper"):
        path = checker.root / "runs" / small.generation / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert checker.run().foreign == ()


def test_what_was_read_is_proven_and_nothing_else(checker: Checker) -> None:
    """By reading all of it, at once or over time; never what was found wrong or was not read."""
    assert checker.run().proven == ()
    both = tuple(sorted([checker.first, checker.second]))
    assert checker.run(share=ALL).proven == both
    assert checker.run().proven == both
    path = checker.root / checker.only(checker.second, checker.first)[-1][0]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    assert checker.run(share=ALL).proven == (checker.first,)


def test_a_snapshot_of_which_nothing_is_left_is_not_proven(checker: Checker) -> None:
    """All that is absent is explained, and still nothing of it was seen to be right."""
    small = checker.small
    everything = SHARED, ACME, SegmentName("app", "structure", None)
    small.tell(small.purge_began(ACME), small.purge_began(*everything[::2]))
    assert set(checker.run(share=ALL).proven) == set()
    small.take_out(*everything)
    result = checker.run(share=ALL)
    assert (result.findings, result.proven, result.purged) == ((), (), 3)


def test_a_ledger_of_a_keeper_that_nobody_here_trusts_is_not_taken_for_none(checker: Checker) -> None:
    """Who forgot a key in trust.keepers would get back who was purged: everybody refuses, and names the key."""
    small, keeper = checker.small, Signer(os.urandom(32))
    entries = small.chain.extended(
        next_document(small.chain, stamp(START), [small.purge_began(ACME)], keeper), {keeper.public}
    )
    put_entry(small.store, 1, entries.links[0].data)
    said = f"is signed by {keeper.public}, which is not trusted"
    assert said in checker.said()
    with pytest.raises(RefusedError, match=said):
        read_chain(small.store, small.chain, {small.signer.public}, strays=[])
    assert read_chain(small.store, small.chain, {keeper.public}, strays=[]) == (entries, 1)


def test_what_a_writer_signs_is_no_entry_where_the_repository_names_keepers(checker: Checker) -> None:
    """A thief of a node takes the next number: that stops nobody, and a keeper may remove it."""
    small, keeper = checker.small, Signer(os.urandom(32))
    info = msgspec.structs.replace(small.info, keepers=[keeper.public])
    (checker.root / layout.REPOSITORY).write_bytes(small.signer.sign(encode_body(info), "repository"))
    first = small.chain.extended(next_document(small.chain, stamp(START), [observed(1)], keeper), {keeper.public})
    put_entry(small.store, 1, first.links[0].data)
    put_entry(small.store, 2, next_document(first, stamp(START), [small.purge_began(ACME)], small.signer))
    strays: list[ObjectName] = []
    assert read_chain(small.store, small.chain, {keeper.public}, strays=strays) == (first, 1)
    assert strays == [layout.entry_name(2)]
    # An entry of a keeper that the repository names, and this machine does not, is no stray.
    with pytest.raises(DamageError, match="not signed by a trusted"):
        read_chain(small.store, small.chain, {"ab" * 32}, strays=[])


def test_a_new_store_is_empty_and_not_damaged(checker: Checker, tmp_path: Path) -> None:
    """Its ledger is to come, as its snapshots are; that is no pass. One that anybody has seen filled is damaged."""
    checker.own = DirectoryStore(checker.folder / "own")
    checker.small.tell(Observed(store="other", snapshots=[]))
    checker.run()
    (tmp_path / "new").mkdir()
    new = DirectoryStore(tmp_path / "new")
    for path in checker.root.iterdir():
        if path.is_file():
            shutil.copyfile(path, new.root / path.name)
    checked = checker.folder / "checked.sqlite"
    seen = checked.rename(tmp_path / "seen.sqlite")
    result = checker.run(store=new)
    assert (result.findings, result.unfilled, result.clean) == ((), True, False)

    checked.unlink()
    shutil.copyfile(seen, checked)
    emptied = checker.run(store=new)
    assert (bool(emptied.findings), emptied.unfilled) == (True, False)

    checked.unlink()
    checker.small.tell(observed(1))
    checker.run()
    checked.unlink()
    assert [one.object for one in checker.run(store=new).findings] == [layout.entry_name(1)]
