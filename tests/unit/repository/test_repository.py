"""The repository believes nothing it did not check, and says which object is wrong."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
from doubles.stores.hooked_store import HookedStore
from doubles.stores.small_repository import Content, Rows, SmallRepository

from backupd.errors import BackupdError, DamageError, KeyRefusedError, ObjectMissingError, RefusedError
from backupd.model.ids import ObjectHash, ObjectName, Pseudonym, RegionName, RunId, SnapshotName
from backupd.model.tenancy import SegmentName
from backupd.repository import help_files, layout
from backupd.repository.keys import SecretKeys
from backupd.repository.repository import Repository
from backupd.seal import suite
from backupd.seal.documents import Signer
from backupd.seal.keyring import KeyringIds, KeyringWriter
from backupd.seal.pack import SectionRow
from backupd.store.base import put_document
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


def test_another_regions_repository_is_refused(small: SmallRepository) -> None:
    """One node may sign for both, so nothing but the name tells whose rows they are."""
    assert Repository(small.store, None, region=RegionName("be")).info().region == "be"
    with pytest.raises(RefusedError, match='of region "be" stands where that of "ch" belongs'):
        Repository(small.store, None, region=RegionName("ch")).info()


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
    put_document(small.store, place, other.store.get(place))
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
    """A snapshot that is not there, and a pack that is not there, are told apart from damage and from errors."""
    with pytest.raises(ObjectMissingError, match="no snapshot"):
        small.repository.record(SnapshotName(f"20300101T000000Z-{'0' * 64}"))
    small.snapshot({SHARED: CONTENT})
    with pytest.raises(ObjectMissingError, match="0" * 64):
        small.repository.pack(small.generation, ObjectHash("0" * 64))


def test_packs_are_listed_by_their_hash(small: SmallRepository) -> None:
    """Those of one generation, with their sizes; what else lies there is no pack."""
    record = small.repository.record(small.snapshot({SHARED: CONTENT}))
    put_document(small.store, ObjectName(f"{layout.packs_folder(small.generation)}/notes.txt"), b"mine")
    listed = small.repository.list_packs(small.generation)
    assert set(listed) == {sha256 for sha256, _, _ in record.packs}
    for sha256, found in listed.items():
        assert found.size == small.repository.pack(small.generation, sha256).there.pack_size
    small.start_generation()
    assert small.repository.list_packs(small.generation) == {}


def test_another_keyring_does_not_say_of_which_class_a_segment_is(small: SmallRepository) -> None:
    """Whoever signs one, and removes a section, would have that pass for expired with a class."""
    row = rows_of(small, small.snapshot({SHARED: CONTENT}))[small.pseudonym(SHARED)]
    ids = KeyringIds(small.info.repository, small.info.region, small.generation, RunId("20991231T000000Z-ffffffff"))
    writer = KeyringWriter(ids, [small.identity.public])
    tags = small.tags_of(SegmentName("app", "session", None))
    writer.add(small.pseudonym(SHARED), b"k" * 32, SHARED, tags)
    small.repository.put_keyring(ids, writer.render("2030-01-01T00:00:00.000000Z", small.signer))
    keys = small.repository.open_keys(small.identity.secret, [small.generation])
    assert keys.class_of(row) == small.tags_of(SHARED).data_class != tags.data_class


def rows_of(small: SmallRepository, snapshot: SnapshotName) -> dict[Pseudonym, SectionRow]:
    """The section with the manifest of each segment, as its pack's header lists it."""
    listed = small.repository.sections(small.repository.record(snapshot))
    return {segment: section.row for segment, section in listed.manifests.items()}


def test_keys_open_by_section_with_a_reason_for_each_that_does_not(small: SmallRepository) -> None:
    """Present, shredded, misplaced and missing keys, and a stranger's, are five different answers."""
    rows = rows_of(small, small.snapshot({SHARED: CONTENT, ACME: CONTENT}))
    shared, acme = (rows[small.pseudonym(name)] for name in (SHARED, ACME))
    small.take_out(ACME, objects=False)
    keys = small.repository.open_keys(small.identity.secret, [small.generation])
    assert keys.of(shared).name == SHARED
    assert keys.class_of(shared) == small.tags_of(SHARED).data_class
    assert keys.class_of(shared._replace(place=99)) is None
    assert (keys.shredded(shared), keys.shredded(acme)) == (False, True)
    keys.require_unshredded(shared)
    with pytest.raises(DamageError, match="no ledger says it was purged"):
        keys.require_unshredded(acme)
    with pytest.raises(RefusedError, match=f"{acme.segment} was shredded"):
        keys.of(acme)
    with pytest.raises(DamageError, match="is missing"):
        keys.of(shared._replace(keyring=RunId("20300101T000000Z-ffffffff")))
    for wrong in (shared._replace(place=acme.place), shared._replace(place=99)):
        with pytest.raises(DamageError, match="where a pack says"):
            keys.of(wrong)
    with pytest.raises(KeyRefusedError, match="does not open"):
        small.repository.open_keys(suite.generate().secret, [small.generation])
    with pytest.raises(DamageError, match="has no keyring"):
        SecretKeys({small.generation: []}, small.identity.secret)


def test_an_identity_added_later_opens_what_it_may(small: SmallRepository) -> None:
    """Keyrings older than a recipient stay closed to it, by name, and the newer ones open."""
    small.snapshot({SHARED: CONTENT})
    first = small.identity
    small.identity = suite.generate()
    rows = rows_of(small, small.snapshot({SHARED: CONTENT, ACME: CONTENT}))
    shared, acme = (rows[small.pseudonym(name)] for name in (SHARED, ACME))
    keys = small.repository.open_keys(small.identity.secret, [small.generation])
    keys.require(acme)
    assert keys.of(acme).name == ACME
    for refused in (keys.of, keys.require):
        with pytest.raises(KeyRefusedError, match="does not open"):
            refused(shared)
    assert not keys.shredded(shared)
    assert small.repository.open_keys(first.secret, [small.generation]).of(shared).name == SHARED


@pytest.mark.parametrize("name", ["repository.json", "RECOVER.md", "recover", "tmp/abc", "ledger/1.json", "x", "a/b/c"])
def test_names_outside_a_generation_have_kinds(name: str) -> None:
    """Every name is something, if only foreign."""
    kind = layout.place_of(ObjectName(name)).kind.value
    expected = {"repository.json": "repository", "tmp/abc": "temporary", "ledger/0000000001.json": "ledger entry"}
    assert kind == expected.get(name, "help" if name.lower().startswith("recover") else "foreign")


def test_names_made_are_names_taken_apart(small: SmallRepository) -> None:
    """Each builder's name goes back to its parts; near misses are foreign."""
    name = small.snapshot({SHARED: CONTENT})
    for made, kind in (
        (layout.pack_name(small.generation, ObjectHash("ab" * 32)), layout.ObjectKind.PACK),
        (layout.record_name(small.generation, name), layout.ObjectKind.RECORD),
        (layout.keyring_name(small.generation, RunId(small.generation)), layout.ObjectKind.KEYRING),
    ):
        place = layout.place_of(made)
        assert (place.kind, place.generation) == (kind, small.generation)
        for near in (f"{made}x", f"x{made}", made.replace("-", "+", 1)):
            assert layout.place_of(ObjectName(near)).kind is layout.ObjectKind.FOREIGN


@pytest.mark.parametrize(
    ("made", "kind"),
    [(layout.entry_name(17), layout.ObjectKind.ENTRY), (layout.lease_name(17), layout.ObjectKind.LEASE)],
)
def test_what_is_numbered_has_ten_digits(made: ObjectName, kind: layout.ObjectKind) -> None:
    """So that the last one sorts last; near misses are foreign."""
    assert made.endswith("/0000000017.json")
    assert layout.place_of(made) == layout.ObjectPlace(kind)
    for near in (f"{made}x", made.replace("000", "00", 1), made.replace("17", "1x", 1)):
        assert layout.place_of(ObjectName(near)).kind is layout.ObjectKind.FOREIGN


def test_an_attestation_goes_by_its_hash() -> None:
    """Its name is no foreign one, and near misses are."""
    name = layout.attestation_name(ObjectHash("ab" * 32))
    assert layout.place_of(name) == layout.ObjectPlace(layout.ObjectKind.ATTESTATION, sha256=ObjectHash("ab" * 32))
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


def test_one_repository_waits_for_no_other(small: SmallRepository, tmp_path: Path) -> None:
    """A store that does not answer for `repository.json` keeps nobody from reading another store's."""
    other = SmallRepository(DirectoryStore(tmp_path / "other"))
    read: list[str] = []

    def meanwhile(*_: str) -> None:
        thread = threading.Thread(
            target=lambda: read.append(Repository(other.store, [other.signer.public]).info().repository), daemon=True
        )
        thread.start()
        thread.join(30)

    slow = HookedStore(small.store, before=meanwhile)
    assert Repository(slow, [small.signer.public]).info() == small.info
    assert set(read) == {other.info.repository}
