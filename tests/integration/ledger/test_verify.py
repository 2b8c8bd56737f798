"""Verify finds what was done to a store, names it, and calls a sound store sound."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from doubles.stores import small_repository
from doubles.stores.faulty_store import FaultyStore
from doubles.stores.small_repository import Content, Rows, SmallRepository, facts
from fix_clock import TickingClock

from backupd.errors import KeyRefusedError, StoreGoneError
from backupd.model.manifest import SegmentEntry
from backupd.model.tenancy import SegmentName
from backupd.operations.verify import Scope, Tools, Verification, verify
from backupd.repository import layout
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.seal import suite
from backupd.store.directory import DirectoryStore

SHARED, ACME = SegmentName("app", "uploaded", None), SegmentName("app", "uploaded", "acme")
ALL = Fraction(1)


def rows(number: int, word: str = "row") -> Rows:
    return Rows("public", "t", ("id", "text"), tuple(b"%d\t%s\n" % (at, word.encode()) for at in range(number)))


class Checker:
    """A small repository under verification."""

    def __init__(self, small: SmallRepository, root: Path, scratch: Path) -> None:
        self.small = small
        self.root = root
        self.scratch = scratch
        self.clock = TickingClock()

    def run(self, *, share: Fraction = ALL, opened: bool = False) -> Verification:
        identity = self.small.identity.secret if opened else None
        repository = Repository(self.small.store, [self.small.signer.public])
        with CheckedState(self.scratch / "verified.sqlite") as checked:
            tools = Tools(self.clock, self.scratch, threads=2)
            return verify(repository, checked, Scope(share, identity), tools)

    def objects(self, pattern: str) -> list[Path]:
        return sorted(self.root.glob(pattern))

    def rewrite(self, path: Path, change: Callable[[bytes], bytes]) -> None:
        path.chmod(0o600)
        path.write_bytes(change(path.read_bytes()))


@pytest.fixture
def checker(directory_store: DirectoryStore, tmp_path: Path) -> Checker:
    """Two generations, three snapshots, packs and small parts, a table that stays as it was."""
    small = SmallRepository(directory_store)
    still = Rows("public", "still", ("id",), (b"1\n", b"2\n"))
    shared = Content((still, rows(30)), {"ddl": b"some ddl" * 20}, (("public", "s", 1, True),), facts())
    small.snapshot({SHARED: shared, ACME: Content((rows(20, "acme"),), in_pack=False)})
    small.snapshot({SHARED: replace(shared, tables=(still, rows(40))), ACME: Content((rows(25, "acme"),))})
    small.start_generation()
    small.snapshot({SHARED: shared, ACME: Content((rows(300, "acme"),), chunk=4000)})
    return Checker(small, directory_store.root, tmp_path)


def test_a_sound_store_is_clean(checker: Checker) -> None:
    """Nothing is found, and what was looked at is counted."""
    for opened in (False, True):
        result = checker.run(opened=opened)
        assert result.findings == ()
        assert (result.snapshots, result.generations, result.keyrings, result.parts) == (3, 2, 2, 6)
        assert result.read == result.parts + result.packs == len(checker.objects("segments/*/*/*"))
        assert result.read_size == result.size
        assert result.opened == (6 if opened else 0)


OBJECTS = ["segments/*/*/*.pack", "segments/*/*/*.part", "snapshots/*/*", "keyrings/*/*"]


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("pattern", OBJECTS)
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda _: b"",
        lambda data: data + b"\0",
        lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 16]) + data[len(data) // 2 + 1 :],
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:-1] + bytes([data[-1] ^ 128]),
    ],
    ids=["cut-1", "cut-half", "empty", "longer", "flipped-middle", "flipped-first", "flipped-last"],
)
def test_a_changed_object_is_named(
    checker: Checker, pattern: str, change: Callable[[bytes], bytes], opened: bool
) -> None:
    """Every kind of object, changed in every way, by its name; containers with their segment."""
    for path in checker.objects(pattern):
        whole = path.read_bytes()
        checker.rewrite(path, change)
        result = checker.run(opened=opened)
        name = str(path.relative_to(checker.root))
        named = [finding for finding in result.findings if name in (finding.object, *finding.message.split("'"))]
        assert named, (name, result.findings)
        if pattern.startswith("segments"):
            assert {finding.segment for finding in named} == {path.parent.name}
            assert len(result.findings) == 1
        path.write_bytes(whole)
    assert checker.run().clean


@pytest.mark.parametrize("pattern", OBJECTS)
def test_a_missing_object_is_named(checker: Checker, pattern: str) -> None:
    """A removed object is damage whether or not its bytes would have been read."""
    for path in checker.objects(pattern):
        checker.run(share=Fraction(0))
        aside = checker.scratch / "aside"
        shutil.move(path, aside)
        result = checker.run(share=Fraction(0))
        said = " ".join(f"{finding.object} {finding.message}" for finding in result.findings)
        expected = path.stem if pattern.startswith("segments") else path.name
        assert expected in said or (pattern.startswith("keyrings") and "no keyring" in said), said
        shutil.move(aside, path)


@pytest.mark.parametrize("extension", ["pack", "part"])
def test_swapped_objects_are_named(checker: Checker, extension: str) -> None:
    """Two objects of one kind under each other's names are two findings at least, with and without a key."""
    one, two = checker.objects(f"segments/*/*/*.{extension}")[:2]
    first, second = one.read_bytes(), two.read_bytes()
    checker.rewrite(one, lambda _: second)
    checker.rewrite(two, lambda _: first)
    for opened in (False, True):
        found = {finding.object for finding in checker.run(opened=opened).findings}
        assert {str(path.relative_to(checker.root)) for path in (one, two)} <= found


def test_a_moved_object_is_named_with_where_it_went(checker: Checker) -> None:
    """In another segment's folder it is missing here and wrong there: a purge of that segment would miss it."""
    path = checker.objects("segments/*/*/*.pack")[0]
    other = next(folder for folder in path.parent.parent.iterdir() if folder != path.parent)
    path.rename(other / path.name)
    result = checker.run()
    messages = {finding.segment: finding.message for finding in result.findings}
    assert f"lies in the folder of segment {other.name}" in messages[path.parent.name]
    assert "belongs to another segment" in messages[other.name]


def test_a_copy_in_another_folder_is_named(checker: Checker) -> None:
    """Nothing needs it, and yet a purge would leave it behind."""
    path = checker.objects("segments/*/*/*.pack")[0]
    other = next(folder for folder in path.parent.parent.iterdir() if folder != path.parent)
    shutil.copy(path, other / path.name)
    (finding,) = checker.run(share=Fraction(0)).findings
    assert finding.segment == other.name
    assert "belongs to another segment" in finding.message


def test_a_copy_under_the_other_extension_is_named(checker: Checker) -> None:
    """A pack called part is not a part, even beside the pack itself."""
    path = checker.objects("segments/*/*/*.pack")[0]
    shutil.copy(path, path.with_suffix(".part"))
    (finding,) = checker.run(share=Fraction(0)).findings
    assert "is not a part" in finding.message


def test_a_record_copied_into_another_generation_is_named(checker: Checker) -> None:
    """A record counts where it was written, and nowhere else, whichever of the two is listed first."""
    for source, target in ((0, 2), (2, 0)):
        paths = checker.objects("snapshots/*/*")
        copy = paths[target].parent / paths[source].name
        shutil.copy(paths[source], copy)
        (finding,) = checker.run().findings
        assert finding.object == str(copy.relative_to(checker.root))
        assert "not in its own place" in finding.message
        copy.unlink()


def test_a_removed_record_breaks_the_chain(checker: Checker) -> None:
    """The record written after it tells, and so does the memory when it was the newest."""
    checker.run(share=Fraction(0))
    paths = checker.objects("snapshots/*/*")
    paths[0].unlink()
    found = checker.run(share=Fraction(0)).findings
    assert any("was written after record" in finding.message and paths[0].name in finding.message for finding in found)
    paths[2].unlink()
    found = checker.run(share=Fraction(0)).findings
    assert any("an earlier verify saw" in finding.message and finding.object == paths[2].name for finding in found)


def test_a_store_made_anew_is_not_held_against_the_old_one(checker: Checker) -> None:
    """The memory is of one repository; another one under the same path starts with none."""
    checker.run()
    shutil.rmtree(checker.root)
    checker.small = SmallRepository(checker.small.store)
    checker.small.snapshot({SHARED: Content((rows(3),))})
    result = checker.run(share=Fraction(0))
    assert (result.findings, result.snapshots) == ((), 1)


def test_a_key_line_removed_without_a_ledger_is_named(checker: Checker) -> None:
    """Shredding leaves a trace in the ledger; a line that is simply gone is damage."""
    path = checker.objects("keyrings/*/*")[0]
    checker.rewrite(path, lambda data: b"".join(data.splitlines(keepends=True)[:-1]))
    (finding,) = checker.run(opened=True).findings
    assert "no ledger says it was purged" in finding.message
    assert finding.segment in checker.small.pseudonyms.values()


def test_orphans_are_told_and_are_no_damage(checker: Checker) -> None:
    """What a run that was cut off left behind is listed; so are uploads and foreign files."""
    small = checker.small
    sha256, size = small.write_part(ACME, Content((rows(7, "lost"),), in_pack=False))
    (checker.root / "tmp").mkdir(exist_ok=True)
    (checker.root / "tmp" / "upload").write_bytes(b"half")
    (checker.root / "notes.txt").write_bytes(b"mine")
    result = checker.run()
    assert result.clean
    assert result.orphans == (layout.part_name(small.context(ACME), sha256),)
    assert result.orphans_size == size
    assert (result.leftovers, result.foreign) == (("tmp/upload",), ("notes.txt",))


def test_each_run_reads_what_was_read_longest_ago(checker: Checker) -> None:
    """A tenth at a time, everything is read in the end; what fails is read again at once."""
    seen = 0
    for _ in range(40):
        checker.clock.sleep(60)
        assert checker.run(share=Fraction(1, 10)).clean
    with CheckedState(checker.scratch / "verified.sqlite") as checked:
        seen = len(checked.times("read", {path.parent.name for path in checker.objects("segments/*/*/*")}))
    assert seen == len(checker.objects("segments/*/*/*"))
    path = max(checker.objects("segments/*/*/*.pack"), key=lambda path: path.stat().st_size)
    checker.rewrite(path, lambda data: data[:1500] + bytes([data[1500] ^ 1]) + data[1501:])
    for _ in range(40):
        checker.clock.sleep(60)
        if not checker.run(share=Fraction(1, 10)).clean:
            break
    assert not checker.run(share=Fraction(1, 100)).clean


def test_a_wrong_identity_is_refused_before_anything_is_read(checker: Checker) -> None:
    """It is named as wrong, and is not damage."""
    checker.small.identity = suite.generate()
    with pytest.raises(KeyRefusedError, match="does not open"):
        checker.run(opened=True)


def test_a_record_that_miscounts_is_named(checker: Checker) -> None:
    """A writer's mistake that every hash and signature covers is still found by whoever can open."""
    small = checker.small
    record = small.repository.record(small.snapshot({ACME: Content((rows(9, "acme"),))}))
    wrong = msgspec.structs.replace(record, totals=msgspec.structs.replace(record.totals, rows=10))
    small.publish(wrong)
    assert checker.run(opened=False).clean
    (finding,) = checker.run(opened=True).findings
    assert "does not have as many rows" in finding.message


def test_a_manifest_that_does_not_fit_its_rows_is_named(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are compared with the rows themselves, not only with each other."""
    monkeypatch.setattr(small_repository, "_spans", lambda rows: [(len(rows), sum(map(len, rows)), "ab" * 32)])
    checker.small.snapshot({ACME: Content((rows(9, "acme"),))})
    assert checker.run(opened=False).clean
    (finding,) = checker.run(opened=True).findings
    assert "differs from its manifest" in finding.message
    assert finding.segment == checker.small.pseudonyms[checker.small.generation, ACME]


def test_chunks_under_other_ids_are_named(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id is what later snapshots refer by: a wrong one would bring them other rows."""
    monkeypatch.setattr(SmallRepository, "_id_of", lambda *_: lambda _: bytes(16))
    checker.small.snapshot({ACME: Content((rows(9, "acme"),))})
    (finding,) = checker.run(opened=True).findings
    assert "is not the one its id names" in finding.message


def test_a_part_of_another_segment_than_its_key_is_named(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sealed manifest calls itself is held against the sealed key."""
    monkeypatch.setattr(small_repository, "SegmentEntry", lambda *_: SegmentEntry("app", "uploaded", "somebody"))
    checker.small.snapshot({ACME: Content((rows(9, "acme"),))})
    (finding,) = checker.run(opened=True).findings
    assert "names another segment" in finding.message
    assert "somebody" not in repr(finding)


def test_an_unreachable_store_is_no_verdict(checker: Checker) -> None:
    """A connection that breaks is an error, neither clean nor damage, at whichever call it breaks."""
    counting = FaultyStore(checker.small.store)
    checker.small.store = counting
    checker.run(opened=True)
    calls = len(counting.calls)
    for at in range(1, calls + 1, 7):
        checker.small.store = FaultyStore(counting.inner, at)
        with pytest.raises(StoreGoneError):
            checker.run(opened=True)


def test_nothing_is_changed_and_nothing_is_left(checker: Checker) -> None:
    """Verify only reads, and its scratch folder is empty afterwards but for its memory."""
    before = {path: path.stat().st_mtime_ns for path in checker.objects("**/*")}
    checker.run(opened=True)
    assert {path: path.stat().st_mtime_ns for path in checker.objects("**/*")} == before
    assert {path.name for path in checker.scratch.iterdir()} == {"store", "verified.sqlite"}


def test_no_tenant_is_named(checker: Checker) -> None:
    """Findings speak of pseudonyms only, with an identity too."""
    for path in checker.objects("segments/*/*/*"):
        checker.rewrite(path, lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    result = checker.run(opened=True)
    assert result.findings
    assert "acme" not in f"{result!r} {[finding.sentence for finding in result.findings]}"
