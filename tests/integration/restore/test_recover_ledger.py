"""The stand-alone script obeys the ledger, and an option lets it go on without a ledger it can believe."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from doubles.stores.broken_ledger import BREAKS, entry, observed
from doubles.stores.small_repository import Content, SmallRepository, facts, notes
from fix_recover import Recover

from backupd.model.tenancy import SegmentName
from backupd.seal.documents import Signer
from backupd.seal.keyfiles import write_identity
from backupd.seal.suite import signer_fingerprint
from backupd.store.directory import DirectoryStore

SHARED, ACME = SegmentName("app", "uploaded", None), SegmentName("app", "uploaded", "acme")
BETA = SegmentName("app", "uploaded", "beta")


@dataclass
class Place:
    """A store from which ACME was purged, or is to be."""

    small: SmallRepository
    root: Path
    folder: Path
    recover: Recover

    def run(self, *more: object, out: str = "out") -> Any:
        key = "--identity", self.folder / "id", "--passphrase-file", self.folder / "pass"
        return self.recover(self.root, *key, "--out", self.folder / out, *more)

    def tenants(self, out: str = "out") -> set[str]:
        return {path.name.split("-")[2] for path in (self.folder / out / "app").glob("tenant-*")}


@pytest.fixture
def place(tmp_path: Path, directory_store: DirectoryStore, recover: Recover) -> Place:
    small = SmallRepository(directory_store)
    counted = facts(tables=[["public", "note", 18]])
    small.snapshot({SHARED: Content(facts=counted), ACME: notes("acme"), BETA: notes("beta")})
    write_identity(tmp_path / "id", "ops", small.identity, "pass")
    (tmp_path / "pass").write_text("pass\n")
    return Place(small, directory_store.root, tmp_path, recover)


@pytest.mark.parametrize("taken", ["keys and objects", "keys", "objects", "nothing"])
def test_what_was_purged_is_left_out_aloud(place: Place, taken: str) -> None:
    """Whether or not its keys and bytes are still there; everybody else's rows are written, and all is well."""
    place.small.tell(place.small.purge_began(ACME))
    place.small.take_out(ACME, keys="keys" in taken, objects="objects" in taken)
    result = place.run()
    assert result.returncode == 0, result.stderr
    assert "left out, as purged: 1 segment" in result.stderr
    assert place.tenants() == {"beta"}
    assert "left out, as purged: 1 segment" in (place.folder / "out/app/README.txt").read_text()


def test_what_is_gone_without_an_entry_is_damage(place: Place) -> None:
    """The same removal, and nothing in the ledger: named, and everything else is written if that is wanted."""
    place.small.tell(observed(1))
    place.small.take_out(ACME)
    result = place.run()
    segment = place.small.pseudonym(ACME)
    assert (result.returncode, f"lacks the key of segment {segment}" in result.stderr) == (7, True)
    assert ".keyring" in result.stderr
    going = place.run("--keep-going", out="rest")
    assert (going.returncode, place.tenants("rest")) == (7, {"beta"})


def test_a_tenant_that_returned_is_written(place: Place) -> None:
    """What was made after the purge is another segment."""
    small = place.small
    small.tell(small.purge_began(ACME))
    small.take_out(ACME)
    small.come_back("acme")
    small.snapshot({SHARED: Content(facts=facts()), ACME: notes("again"), BETA: notes("beta")})
    result = place.run()
    assert (result.returncode, place.tenants()) == (0, {"acme", "beta"})
    assert b"again" in (place.folder / "out/app/tenant-1-acme/uploaded/public.note.copy").read_bytes()


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_ledger_stops_it_unless_told_otherwise(place: Place, how: str) -> None:
    """With --ignore-ledger it goes on, and still follows the entries it can believe."""
    small = place.small
    small.tell(small.purge_began(ACME))
    for number in (2, 3, 4):
        small.tell(observed(number))
    small.snapshot({SHARED: Content(facts=facts()), ACME: notes("acme"), BETA: notes("beta")})
    assert place.run(out="before").returncode == 0
    BREAKS[how](small, place.root)
    result = place.run()
    assert (result.returncode, "the ledger cannot be followed" in result.stderr) == (7, True)
    assert "--ignore-ledger" in result.stderr
    assert not (place.folder / "out").exists()
    ignoring = place.run("--ignore-ledger", out="rest")
    assert (ignoring.returncode, place.tenants("rest")) == (0, {"beta"})
    assert "cannot be followed beyond entry" in ignoring.stderr


def test_another_keeper_is_not_believed(place: Place) -> None:
    """With --keeper, only that one's entries count."""
    place.small.tell(observed(1))
    assert place.run("--keeper", signer_fingerprint(place.small.signer.public)).returncode == 0
    result = place.run("--keeper", "ab" * 32, out="other")
    assert (result.returncode, "not signed by a trusted signer" in result.stderr) == (7, True)


def test_a_keeper_that_the_repository_does_not_name_is_given(place: Place) -> None:
    """One that was set up after `init`, and one that came after it: the message says what to give, and both work."""
    first, second = Signer(os.urandom(32)), Signer(os.urandom(32))
    place.small.tell(observed(1))
    body = entry(place.root, 1).read_bytes().split(b"\n")[0]
    entry(place.root, 1).write_bytes(first.sign(body, "ledger"))
    refused = place.run()
    assert refused.returncode == 7
    assert "not signed by a trusted signer" in refused.stderr
    for words in ("--keeper KEY", "trust.keepers", "backupd restore runbook"):
        assert words in refused.stderr
    assert place.run("--keeper", first.public).returncode == 0
    assert place.run("--keeper", second.public, "--keeper", first.public, out="both").returncode == 0


def test_an_event_it_does_not_know_stops_it(place: Place) -> None:
    """What that event removes would come back."""
    small = place.small
    small.tell(observed(1))
    body = entry(place.root, 1).read_bytes().split(b"\n")[0].replace(b'"observed"', b'"scattered"')
    entry(place.root, 1).write_bytes(small.signer.sign(body, "ledger"))
    result = place.run()
    assert (result.returncode, "does not know" in result.stderr) == (7, True)
