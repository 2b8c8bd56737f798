"""The stand-alone script against records and manifests that a signer signed, and that contradict themselves."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from doubles.stores import small_repository
from doubles.stores.segments import publish_pack, seal_section
from doubles.stores.small_repository import Content, Rows, SmallRepository, facts
from fix_recover import Recover

from backupd.model.documents import PackRef
from backupd.model.ids import SnapshotName
from backupd.model.manifest import TableEntry
from backupd.model.tenancy import SegmentName
from backupd.postgres.settings import TEXT, as_written
from backupd.seal.keyfiles import write_identity
from backupd.store.directory import DirectoryStore

SHARED, ACME = SegmentName("app", "uploaded", None), SegmentName("app", "uploaded", "acme")
STRUCTURE = SegmentName("app", "structure", None)
PLANS = Rows("public", "plans", ("id", "name"), tuple(b"%d\tplan\n" % at for at in range(30)))
OWN = Rows("acme", "mine", ("id",), tuple(b"%d\n" % at for at in range(7)), own=True)


@dataclass
class Place:
    """A store, and what the script says of it."""

    small: SmallRepository
    root: Path
    folder: Path
    recover: Recover

    def run(self, *more: object, out: str = "out") -> Any:
        key = "--identity", self.folder / "id", "--passphrase-file", self.folder / "pass"
        return self.recover(self.root, *key, "--out", self.folder / out, *more)

    def named(self, packs: list[PackRef]) -> SnapshotName:
        """The newest snapshot once more, a year later, naming other packs."""
        repository = self.small.repository
        record = repository.record(repository.snapshots()[-1])
        return self.small.publish(msgspec.structs.replace(record, packs=packs, exported="2031-01-01T00:00:00.000000Z"))

    @property
    def packs(self) -> list[PackRef]:
        return list(self.small.repository.record(self.small.repository.snapshots()[-1]).packs)


@pytest.fixture
def place(tmp_path: Path, directory_store: DirectoryStore, recover: Recover) -> Place:
    small = SmallRepository(directory_store)
    write_identity(tmp_path / "id", "ops", small.identity, "pass")
    (tmp_path / "pass").write_text("pass\n")
    return Place(small, directory_store.root, tmp_path, recover)


def test_a_table_of_a_tenants_own_schema_is_written(place: Place) -> None:
    """Its definition stands in the tenant's structure; with --tenant both structures are looked through."""
    place.small.snapshot({SHARED: Content((PLANS,), facts=facts()), ACME: Content((PLANS, OWN))})
    for out, more in (("all", ()), ("one", ("--tenant", "acme"))):
        result = place.run(*more, out=out)
        assert result.returncode == 0, result.stderr
        folder = place.folder / out / "app" / "tenant-1-acme" / "uploaded"
        assert (folder / "acme.mine.copy").read_bytes() == b"".join(OWN.rows)
        assert (folder / "public.plans.copy").read_bytes() == b"".join(PLANS.rows)


def test_rows_of_a_table_that_nothing_defines_are_damage(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The segment is named; with --keep-going everything else is written."""
    monkeypatch.setattr(SmallRepository, "_with_definitions", lambda _, segments, __: dict(segments))
    place.small.snapshot({STRUCTURE: Content(facts=facts()), ACME: Content((PLANS,))})
    result = place.run()
    assert (result.returncode, "a table that nothing defines" in result.stderr) == (7, True)
    assert place.small.pseudonym(ACME) in result.stderr
    assert place.run("--keep-going", out="rest").returncode == 7


def test_a_number_has_one_meaning(place: Place) -> None:
    """Two segments that define it otherwise are damage."""
    other = TableEntry(1, "public", "plans", ["name", "id"])
    place.small.snapshot(
        {SHARED: Content((PLANS,)), SegmentName("app", "structure", "acme"): Content(definitions=(other,))}
    )
    result = place.run()
    assert (result.returncode, "defines table 1 otherwise" in result.stderr) == (7, True)


def test_a_section_under_another_segments_key_is_damage(place: Place) -> None:
    """A key in one place shadows no other, also where it opens the section: its purge would take others' rows along."""
    small = place.small
    small.snapshot({SHARED: Content((PLANS,)), ACME: Content((PLANS,))})
    listed = small.repository.sections(small.repository.record(small.repository.snapshots()[-1])).manifests
    acme, other = (listed[small.pseudonym(name)] for name in (ACME, SHARED))
    key = small.repository.open_keys(small.identity.secret, [small.generation]).of(other.row)
    context = dataclasses.replace(acme.context, number=99)
    sealed = seal_section(context, key, (other.row.keyring, other.row.place), [[b"x"]])
    pack = publish_pack(small.store, acme.pack.header.context, [sealed])
    place.named(sorted([*place.packs, (pack.header.sha256, [], [0, 1])]))
    result = place.run()
    said = f"does not list segment {small.pseudonym(ACME)} where a pack says"
    assert (result.returncode, said in result.stderr) == (7, True), result.stderr


def test_keyrings_agree_on_a_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment whose sections' keys name different tenants is written under neither name."""
    place.small.snapshot({ACME: Content((PLANS,))})
    add = small_repository.KeyringWriter.add
    monkeypatch.setattr(
        small_repository.KeyringWriter,
        "add",
        lambda self, segment, key, name, tags: add(self, segment, key, SegmentName(name.database, "x", "other"), tags),
    )
    place.small.snapshot({ACME: Content((PLANS,), sequences=(("public", "s", 1, True),))})
    result = place.run()
    assert (result.returncode, "do not agree on the name of segment" in result.stderr) == (7, True)
    assert place.small.pseudonym(ACME) in result.stderr


def bent() -> dict[str, Callable[[list[PackRef]], list[Any]]]:
    """What a record may say of its packs, and must not."""
    return {
        "beyond the header": lambda packs: [(packs[0][0], [0, 99], [])],
        "beyond all numbers": lambda packs: [(packs[0][0], [0, (1 << 63) - 1], [])],
        "without a count": lambda packs: [(packs[0][0], [0], [])],
        "touching": lambda packs: [(packs[0][0], [0, 1, 1, 1], [])],
        "backwards": lambda packs: [(packs[0][0], [1, 1, 0, 1], [])],
        "a section twice": lambda packs: [(name, [0, 1], [0, 1]) for name, _, _ in packs],
        "a pack twice": lambda packs: [*packs, packs[0]],
        "a manifest that is none": lambda packs: [(name, [], [*one, *two]) for name, one, two in packs],
    }


@pytest.mark.parametrize("how", bent())
def test_a_record_that_contradicts_its_packs_is_damage(place: Place, how: str) -> None:
    """It is named, whatever is wrong with it, and nothing is written of it."""
    place.small.snapshot({SHARED: Content((PLANS,), facts=facts()), ACME: Content((PLANS,))})
    newest = place.named(bent()[how](place.packs))
    result = place.run()
    assert (result.returncode, newest in result.stderr) == (7, True), result.stderr
    assert "Traceback" not in result.stderr
    assert not list((place.folder / "out").glob("*/*"))


def test_a_manifest_that_needs_more_than_the_record_names_is_damage(place: Place) -> None:
    """A section that is on the store, and that the record leaves out, is not read."""
    place.small.snapshot({SHARED: Content((PLANS,), facts=facts())})
    place.named([(name, manifests, []) for name, manifests, _ in place.packs if manifests])
    result = place.run()
    assert (result.returncode, "which its record does not name" in result.stderr) == (7, True)


@pytest.mark.parametrize(
    "strange",
    [
        {"settings": [1]},
        {"settings": "UTF8"},
        {"tables": [[["public"], "plans", 30]]},
        {"refresh": [[5, 6]]},
        {"refresh": [["public", "totals"], ["public", None]], "ranks": [1, 2]},
    ],
    ids=str,
)
def test_facts_of_another_form_are_refused(place: Place, strange: dict[str, Any]) -> None:
    """Whoever has a node's key signs any: the script names what it cannot read, and does not break off within."""
    place.small.snapshot({SHARED: Content((PLANS,), facts=facts(**strange))})
    result = place.run()
    assert (result.returncode, "recover: 'the facts' cannot be read" in result.stderr) == (7, True), result.stderr


def test_ranks_that_cannot_be_compared_are_passed_over(place: Place) -> None:
    """The views are then filled in the order in which they stand."""
    views = [["public", "b"], ["public", "a"]]
    place.small.snapshot({SHARED: Content((PLANS,), facts=facts(refresh=views, ranks=[1 << 62, "a"]))})
    result = place.run()
    assert result.returncode == 0, result.stderr
    written = (place.folder / "out" / "app" / "refresh.sql").read_text()
    assert written.index('"public"."b"') < written.index('"public"."a"')


def test_of_the_settings_those_are_made_by_which_text_is_read(place: Place) -> None:
    """All others are not a snapshot's to set, whoever signed it."""
    settings = {**TEXT, "session_replication_role": "replica"}
    place.small.snapshot({SHARED: Content((PLANS,), facts=facts(settings=settings))})
    assert place.run().returncode == 0
    written = (place.folder / "out" / "app" / "load.sql").read_text()
    own = set(re.findall(r'^SET "(\w+)"', written, re.MULTILINE))
    assert own == as_written(TEXT).keys() == as_written(settings).keys() == TEXT.keys() - {"client_encoding"}
