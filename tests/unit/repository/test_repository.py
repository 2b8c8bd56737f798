"""The repository believes nothing it did not check, and says which object is wrong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from doubles.stores.small_repository import Content, Rows, SmallRepository

from backupd.errors import BackupdError, DamageError, KeyRefusedError, ObjectMissingError, RefusedError
from backupd.model.ids import ObjectName
from backupd.model.tenancy import SegmentName
from backupd.repository import help_files, layout
from backupd.repository.keys import SecretKeys
from backupd.repository.repository import Repository
from backupd.seal import suite
from backupd.seal.documents import Signer
from backupd.store.directory import DirectoryStore

SHARED, ACME = SegmentName("app", "uploaded", None), SegmentName("app", "uploaded", "acme")
CONTENT = Content((Rows("public", "t", ("id",), (b"1\n", b"2\n")),))


@pytest.fixture
def small(directory_store: DirectoryStore) -> SmallRepository:
    return SmallRepository(directory_store)


def test_snapshots_are_listed_oldest_first(small: SmallRepository) -> None:
    """Over generations too, and each is read and checked."""
    names = [small.snapshot({SHARED: CONTENT}), small.snapshot({SHARED: CONTENT})]
    small.start_generation()
    names.append(small.snapshot({SHARED: CONTENT}))
    repository = Repository(small.store, [small.signer.public])
    assert repository.snapshots() == names
    assert [repository.record(name).previous for name in names] == [None, *names[:2]]
    assert repository.generation_of(names[2]) != repository.generation_of(names[0])


def test_without_trusted_signers_the_repository_names_its_own(small: SmallRepository) -> None:
    """A reader that knows none takes those of `repository.json`, and can tell the user."""
    name = small.snapshot({SHARED: CONTENT})
    repository = Repository(small.store, None)
    assert repository.record(name).database == "app"
    assert repository.signers == {small.signer.public}
    with pytest.raises(DamageError, match="trusted signer"):
        Repository(small.store, [Signer(os.urandom(32)).public]).info()


def test_a_record_must_have_the_hash_of_its_name(small: SmallRepository, root_of) -> None:
    """A changed record is named, before its signature is even looked at."""
    name = small.snapshot({SHARED: CONTENT})
    path = root_of(small.store) / layout.record_name(small.generation, name)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"app"', b'"apq"'))
    with pytest.raises(DamageError, match=f"{name}' does not have the hash"):
        small.repository.record(name)


def test_a_record_in_another_generation_is_refused(small: SmallRepository, root_of) -> None:
    """A record only counts where it was written."""
    name = small.snapshot({SHARED: CONTENT})
    root: Path = root_of(small.store)
    elsewhere = layout.GenerationId("20300101T000000Z-ffffffff")
    (root / "snapshots" / elsewhere).mkdir()
    shutil.move(root / layout.record_name(small.generation, name), root / layout.record_name(elsewhere, name))
    small.repository.snapshots()
    with pytest.raises(DamageError, match="not in its own place"):
        small.repository.record(name)


def test_a_record_of_another_repository_is_refused(small: SmallRepository, tmp_path: Path, root_of) -> None:
    """Even with the same signer a record cannot be carried over."""
    (tmp_path / "other").mkdir()
    other = SmallRepository(DirectoryStore(tmp_path / "other" / "be"))
    name = other.snapshot({SHARED: CONTENT})
    place = layout.record_name(other.generation, name)
    small.put(place, other.store.get(place))
    with pytest.raises(DamageError, match="another repository"):
        Repository(small.store, [small.signer.public, other.signer.public]).record(name)


def test_a_keyring_in_another_place_is_refused(small: SmallRepository, root_of) -> None:
    """A keyring under another run's name is not that run's."""
    small.snapshot({SHARED: CONTENT})
    folder = root_of(small.store) / layout.keyrings_folder(small.generation)
    (path,) = folder.iterdir()
    path.rename(folder / "20300101T000000Z-ffffffff.keyring")
    with pytest.raises(DamageError, match="not in its own place"):
        small.repository.keyrings(small.generation)


def test_missing_things_are_missing(small: SmallRepository) -> None:
    """A snapshot that is not there, and a container that is not there, are told apart from damage and from errors."""
    with pytest.raises(ObjectMissingError, match="no snapshot"):
        small.repository.record(layout.SnapshotName(f"20300101T000000Z-{'0' * 64}"))
    small.snapshot({SHARED: CONTENT})
    context = small.context(SHARED)
    with pytest.raises(DamageError, match=f"segment {context.segment} is missing"):
        small.repository.find(context, layout.ObjectHash("0" * 64))


def test_a_container_is_found_as_pack_or_part(small: SmallRepository) -> None:
    """The extension is looked for, not known."""
    small.snapshot({SHARED: CONTENT})
    context = small.context(SHARED)
    contents = small.repository.contents(small.generation, context.segment)
    assert sorted(found.name[-4:] for found in contents.values()) == ["pack", "part"]
    for sha256, found in contents.items():
        assert small.repository.find(context, sha256) == found


def test_keys_open_by_segment_with_a_reason_for_each_that_does_not(small: SmallRepository, root_of) -> None:
    """Present, shredded, refused and unknown segments are four different answers."""
    small.snapshot({SHARED: CONTENT, ACME: CONTENT})
    shared, acme = (small.pseudonyms[small.generation, name] for name in (SHARED, ACME))
    (path,) = (root_of(small.store) / layout.keyrings_folder(small.generation)).iterdir()
    path.chmod(0o600)
    path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(True) if acme.encode() not in line[:60]))
    keys = small.repository.open_keys(small.identity.secret, [small.generation])
    assert keys[shared].name == SHARED
    assert (shared in keys, acme in keys, keys.shredded(acme)) == (True, False, True)
    with pytest.raises(RefusedError, match=f"{acme} was shredded"):
        keys[acme]
    with pytest.raises(DamageError, match="no keyring holds"):
        keys[layout.Pseudonym("0" * 32)]
    with pytest.raises(KeyRefusedError, match="does not open"):
        small.repository.open_keys(suite.generate().secret, [small.generation])


def test_an_identity_added_later_opens_what_it_may(small: SmallRepository) -> None:
    """Keyrings older than a recipient stay closed to it, by name, and the newer ones open."""
    small.snapshot({SHARED: CONTENT})
    first = small.identity
    small.identity = suite.generate()
    small.snapshot({SHARED: CONTENT, ACME: CONTENT})
    shared, acme = (small.pseudonyms[small.generation, name] for name in (SHARED, ACME))
    keys = SecretKeys({small.generation: small.repository.keyrings(small.generation)}, small.identity.secret)
    assert keys[acme].name == ACME
    with pytest.raises(KeyRefusedError, match="does not open"):
        keys[shared]
    assert small.repository.open_keys(first.secret, [small.generation])[shared].name == SHARED


@pytest.mark.parametrize("name", ["repository.json", "RECOVER.md", "recover", "tmp/abc", "ledger/1.json", "x", "a/b/c"])
def test_names_outside_a_generation_have_kinds(name: str) -> None:
    """Every name is something, if only foreign."""
    kind = layout.place_of(ObjectName(name)).kind.value
    expected = {"repository.json": "repository", "tmp/abc": "temporary", "ledger/0000000001.json": "ledger entry"}
    assert kind == expected.get(name, "help" if name.lower().startswith("recover") else "foreign")


def test_names_made_are_names_taken_apart(small: SmallRepository) -> None:
    """Each builder's name goes back to its parts; near misses are foreign."""
    name = small.snapshot({SHARED: CONTENT})
    context, sha256 = small.context(SHARED), layout.ObjectHash("ab" * 32)
    for made, kind in (
        (layout.pack_name(context, sha256), layout.ObjectKind.PACK),
        (layout.part_name(context, sha256), layout.ObjectKind.PART),
        (layout.record_name(small.generation, name), layout.ObjectKind.RECORD),
        (layout.keyring_name(small.generation, layout.RunId(small.generation)), layout.ObjectKind.KEYRING),
    ):
        place = layout.place_of(made)
        assert (place.kind, place.generation) == (kind, small.generation)
        for near in (f"{made}x", f"x{made}", made.replace("-", "+", 1)):
            assert layout.place_of(ObjectName(near)).kind is layout.ObjectKind.FOREIGN


def test_an_attestation_goes_by_its_hash() -> None:
    """Its name is no foreign one, and near misses are."""
    name = layout.attestation_name(layout.ObjectHash("ab" * 32))
    assert layout.place_of(name) == layout.ObjectPlace(
        layout.ObjectKind.ATTESTATION, sha256=layout.ObjectHash("ab" * 32)
    )
    for near in (f"{name}x", name.removesuffix(".json"), f"x{name}", name.replace("ab", "AB", 1), f"{name}/x"):
        assert layout.place_of(ObjectName(near)).kind is layout.ObjectKind.FOREIGN


def test_the_repository_is_its_documents(small: SmallRepository, root_of) -> None:
    """`exists` looks without reading; a broken `repository.json` exists and is damage."""
    assert small.repository.exists()
    path = root_of(small.store) / "repository.json"
    path.chmod(0o600)
    path.write_bytes(b"x" * (2 << 20))
    fresh = Repository(small.store, None)
    assert fresh.exists()
    with pytest.raises(BackupdError, match=r"repository.json"):
        fresh.info()


def test_what_init_places_is_at_hand() -> None:
    """The guide and the script are found, and the guide speaks of the script."""
    assert b"store/recover store" in help_files.guide()
    assert help_files.script().startswith(b"#!/usr/bin/env python3\n")
