"""Snapshots listed, identities made and checked."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from doubles.stores.small_repository import Content, Rows, SmallRepository

from backupd.errors import ConfigError, DamageError, KeyRefusedError, RefusedError
from backupd.model.tenancy import SegmentName
from backupd.operations.keys import check_identity, generate_identity
from backupd.operations.snapshots import list_snapshots
from backupd.repository import layout
from backupd.seal import suite
from backupd.seal.keyfiles import read_identity, read_recipient
from backupd.store.directory import DirectoryStore

SHARED, ACME = SegmentName("app", "uploaded", None), SegmentName("app", "uploaded", "acme")
CONTENT = Content((Rows("public", "t", ("id",), (b"1\n", b"2\n")),))


@pytest.fixture
def small(directory_store: DirectoryStore) -> SmallRepository:
    return SmallRepository(directory_store)


def test_a_generated_identity_opens_what_is_sealed_to_its_recipient(tmp_path: Path) -> None:
    """The two files belong together, and the fingerprint told is theirs."""
    made = generate_identity(tmp_path / "id", tmp_path / "rec", "ops", "pass")
    pair = read_identity(tmp_path / "id", "pass")
    assert read_recipient(tmp_path / "rec") == made
    assert made.fingerprint == suite.fingerprint(pair.public)
    assert suite.unseal(pair.secret, b"i", suite.seal(made.public, b"i", b"m")) == b"m"


@pytest.mark.parametrize("taken", ["id", "rec"])
def test_no_key_file_is_overwritten(tmp_path: Path, taken: str) -> None:
    """When one of the files exists, neither is written."""
    (tmp_path / taken).write_text("precious")
    with pytest.raises(RefusedError, match="exists"):
        generate_identity(tmp_path / "id", tmp_path / "rec", "ops", "pass")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {taken: "precious"}


def test_a_folder_that_is_not_there_is_an_error_with_its_name(tmp_path: Path) -> None:
    """Nothing is created on the way."""
    with pytest.raises(ConfigError, match="No such file"):
        generate_identity(tmp_path / "none" / "id", tmp_path / "rec", "ops", "pass")
    assert not (tmp_path / "rec").exists()


def test_check_says_what_an_identity_opens(small: SmallRepository) -> None:
    """Each keyring with its counts, the structure among them; later keyrings of another recipient are told apart."""
    assert check_identity(small.repository, small.identity.secret) == []
    small.snapshot({SHARED: CONTENT, ACME: CONTENT})
    (one,) = check_identity(small.repository, small.identity.secret)
    assert (one.opened, one.segments, one.shredded) == (True, 3, 0)
    assert one.recipients == (suite.fingerprint(small.identity.public),)
    first, small.identity = small.identity, suite.generate()
    small.start_generation()
    small.snapshot({SHARED: CONTENT})
    assert [keyring.opened for keyring in check_identity(small.repository, first.secret)] == [True, False]


def test_a_wrong_identity_is_named_as_wrong_at_once(small: SmallRepository) -> None:
    """By its fingerprint, with those that would do."""
    small.snapshot({SHARED: CONTENT})
    stranger = suite.generate()
    started = time.process_time()
    with pytest.raises(KeyRefusedError, match=suite.fingerprint(stranger.public)) as refusal:
        check_identity(small.repository, stranger.secret)
    assert time.process_time() - started < 1
    assert suite.fingerprint(small.identity.public) in refusal.value.hint


def test_snapshots_are_plain_values(small: SmallRepository) -> None:
    """Labels, instants and counts, the structure among segments; no tenant."""
    names = [small.snapshot({SHARED: CONTENT, ACME: CONTENT}), small.snapshot({SHARED: CONTENT}, label="crm")]
    listed = list_snapshots(small.repository)
    assert [info.name for info in listed.snapshots] == names
    assert listed.unreadable == []
    assert [(info.database, info.segments, info.totals.rows) for info in listed.snapshots] == [
        ("app", 3, 4),
        ("crm", 2, 2),
    ]
    assert listed.snapshots[0].exported < listed.snapshots[0].published < listed.snapshots[1].exported
    assert "acme" not in repr(listed)
    assert [info.name for info in list_snapshots(small.repository, newest=1).snapshots] == names[1:]
    assert [info.name for info in list_snapshots(small.repository, database="app").snapshots] == names[:1]


def test_a_damaged_record_is_listed_with_its_reason(small: SmallRepository, root_of) -> None:
    """The others are shown all the same."""
    names = [small.snapshot({SHARED: CONTENT}) for _ in range(2)]
    path = root_of(small.store) / layout.record_name(small.generation, names[0])
    path.chmod(0o600)
    path.write_bytes(b"x")
    listed = list_snapshots(small.repository)
    assert [info.name for info in listed.snapshots] == names[1:]
    assert [(one.name, "does not have the hash" in one.reason) for one in listed.unreadable] == [(names[0], True)]


def test_a_damaged_keyring_stops_the_check(small: SmallRepository, root_of) -> None:
    """It is damage, not a wrong identity."""
    small.snapshot({SHARED: CONTENT})
    (path,) = (root_of(small.store) / "keyrings").glob("*/*")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamageError, match="keyring"):
        check_identity(small.repository, small.identity.secret)
