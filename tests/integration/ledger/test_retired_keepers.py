"""A keeper's key that was exchanged or stolen, and retired: what it signs from then on is no entry, for anybody."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fix_handmade_keeper import HandmadeKeeper
from fix_recover import Recover
from msgspec.structs import replace as replace_struct

from backupd.errors import ConfigError, DamageError, RefusedError, UsageError
from backupd.model.documents import REDUCED
from backupd.model.ids import ObjectName
from backupd.model.ledger import KeeperRetired, PurgeBegan, Reduced, StoreRetired
from backupd.model.text import stamp
from backupd.operations.keeper.purge import purge_due
from backupd.operations.ledger import Book
from backupd.operations.ledger.check import retire_keeper
from backupd.operations.ledger.history import read_ledger
from backupd.repository import layout
from backupd.repository.ledger import next_document, put_entry, read_chain
from backupd.repository.repository import Repository, signed_record
from backupd.seal.documents import Signer
from backupd.seal.keyfiles import write_identity


@dataclass
class Heir:
    """A keeper that took over from one whose key is still trusted, for what it signed."""

    handmade: HandmadeKeeper
    old: Signer

    @property
    def repository(self) -> Repository:
        return self.handmade.keeper.stores["disk"]

    @property
    def book(self) -> Book:
        return self.handmade.keeper.book

    def retire(self) -> None:
        retire_keeper(self.book, self.handmade.keeper.signer.public, self.old.public, "OPS-1")

    def sign_next(self, *events: PurgeBegan | StoreRetired) -> ObjectName:
        """Somebody who has the old key, and an account that may add, puts the next entry."""
        chain = self.book.chain
        seq = len(chain.links) + 1
        put_entry(self.handmade.store, seq, next_document(chain, stamp(self.handmade.clock.now()), [*events], self.old))
        return layout.entry_name(seq)

    def sign_purge_of_all(self) -> ObjectName:
        generation = self.handmade.made.generation
        segments = [(generation, self.handmade.pseudonym(tenant)) for tenant in ("ada", "bob")]
        return self.sign_next(
            PurgeBegan(tenant=self.handmade.tenant("ada"), incarnation=1, segments=sorted(segments), stores=["disk"])
        )


@pytest.fixture
def heir(handmade: HandmadeKeeper) -> Heir:
    old, place = Signer(os.urandom(32)), handmade.keeper.book._place
    trusted = frozenset({handmade.keeper.signer.public, old.public})
    repository = Repository(handmade.store, [handmade.made.signer.public], trusted)
    book = Book(replace(place, trusted=trusted))
    handmade.keeper = replace(handmade.keeper, book=book, stores={"disk": repository})
    handmade.backup(1, "ada", "bob")
    found = Heir(handmade, old)
    found.sign_next(StoreRetired(store="attic", decision="OPS-0"))
    book.sync()
    assert len(book.chain.links) == 1
    return found


def test_what_it_signs_later_makes_nobody_remove_anything(heir: Heir, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper removes the entry and goes on; what was signed before is believed as ever."""
    heir.retire()
    before = heir.handmade.sections()
    name = heir.sign_purge_of_all()
    told = list[str]()
    monkeypatch.setattr(Book, "warn", lambda _, message, _hint: told.append(message))
    heir.book.sync()
    assert name not in heir.handmade.files()
    (message,) = told
    assert f"'{name}'" in message
    assert f"it is signed with {heir.old.public}, which an entry retired; it was removed" in message
    assert not purge_due(heir.handmade.keeper).errors
    assert heir.handmade.sections() == before
    events = {type(event) for entry in heir.book.chain.entries() for event in entry.events}
    assert {StoreRetired, KeeperRetired} <= events
    assert PurgeBegan not in events


def test_readers_leave_it_out(heir: Heir) -> None:
    """With a copy of the ledger of their own, and without; `verify` names it, a restore goes on."""
    heir.retire()
    known, name = heir.book.chain, heir.sign_purge_of_all()
    for own in (None, heir.book._place.copy):
        seen = read_ledger(heir.repository, own)
        assert (seen.chain.head, seen.findings, seen.strays) == (known.head, (), (name,))
        assert [one.message for one in seen.wrong] == [
            f"is no entry of the ledger: it is signed with {heir.old.public}, which an entry retired"
        ]
    strays: list[ObjectName] = []
    fresh = replace(known, links=(), retired=frozenset())
    assert read_chain(heir.handmade.store, fresh, heir.repository.keepers, strays=strays)[0].head == known.head
    assert strays == [name]
    with pytest.raises(DamageError, match="signed by a keeper that was retired before it"):
        read_chain(heir.handmade.store, known, heir.repository.keepers)


def test_recover_does_not_obey_it(heir: Heir, recover: Recover, tmp_path: Path) -> None:
    """A person with the store and an identity is told, and may go on without that entry."""
    heir.retire()
    heir.sign_purge_of_all()
    write_identity(tmp_path / "ops.identity", "ops", heir.handmade.made.identity, "open sesame")
    (tmp_path / "pass").write_text("open sesame\n")
    run = ("--identity", tmp_path / "ops.identity", "--passphrase-file", tmp_path / "pass", "--out", tmp_path / "out")
    keepers = [text for key in heir.repository.keepers for text in ("--keeper", key)]
    done = recover(heir.handmade.root, *run, *keepers)
    assert done.returncode == DamageError.exit_code
    assert "'ledger/0000000003.json' is not signed" in done.stderr
    assert recover(heir.handmade.root, *run, *keepers, "--ignore-ledger").returncode == 0
    assert {"ada", "bob"} <= set(json.loads(next((tmp_path / "out").rglob("tenants.json")).read_text()).values())


def test_it_says_nothing_more_of_what_holds_keep(heir: Heir) -> None:
    """Its records of that are believed where the ledger names them; others would take true snapshots' places."""
    whole = heir.repository.record(heir.repository.snapshots()[0])
    told, later = (
        signed_record(
            replace_struct(whole, published=stamp(heir.handmade.clock.now()), extra={REDUCED: name}), heir.old
        )
        for name in (heir.repository.snapshots()[0], f"{heir.repository.snapshots()[0][:-1]}0")
    )
    heir.book.append(lambda _: [Reduced(store="disk", snapshot=heir.repository.snapshots()[0], into=told[0])])
    for _, document in (told, later):
        heir.repository.put_record(whole, document)
    heir.retire()
    read_ledger(heir.repository, None)
    assert heir.repository.record(told[0], whole.generation).extra.keys() == {REDUCED}
    with pytest.raises(DamageError, match="not signed by a trusted signer"):
        heir.repository.record(later[0], whole.generation)


def test_its_leases_hold_nobody_up(heir: Heir) -> None:
    """Leases are believed of the keepers that are left."""
    assert heir.old.public in heir.book.trusted
    heir.retire()
    assert heir.book.trusted == {heir.handmade.keeper.signer.public}


def test_who_is_retired_appends_nothing(heir: Heir) -> None:
    """It is told why, and what to do."""
    heir.retire()
    late = Book(replace(heir.book._place, signer=heir.old))
    late.sync()
    with pytest.raises(ConfigError, match="was retired by an entry of the ledger"):
        late.append(lambda _: [StoreRetired(store="cellar", decision="OPS-2")])


def test_only_a_known_key_of_another_is_retired(heir: Heir) -> None:
    """Not one's own, nor one that nobody believes; and once is enough."""
    own = heir.handmade.keeper.signer.public
    with pytest.raises(RefusedError, match="cannot retire itself"):
        retire_keeper(heir.book, own, own, "OPS-1")
    with pytest.raises(UsageError, match="nobody believes this key"):
        retire_keeper(heir.book, own, "ab" * 32, "OPS-1")
    assert len(retire_keeper(heir.book, own, heir.old.public, "OPS-1", dry_run=True)) == 1
    heir.retire()
    assert retire_keeper(heir.book, own, heir.old.public, "OPS-1") == []
