"""Verify finds what was done to a store, names it, and calls a sound store sound."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from doubles.stores.checker import ACME, SHARED, Checker, rows
from doubles.stores.hooked_store import HookedStore
from doubles.stores.segments import publish_pack, seal_section
from doubles.stores.small_repository import START, Content, SmallRepository

from backupd.model.documents import Record
from backupd.model.ids import ObjectName, RunId
from backupd.model.ledger import Absent, ClassExpired
from backupd.model.ranges import from_ranges, to_ranges
from backupd.model.tenancy import SegmentName
from backupd.model.text import parse_stamp, stamp
from backupd.operations.verify import Verification
from backupd.repository import help_files, layout
from backupd.repository.packs import OpenPack
from backupd.repository.state.checked import READ, CheckedState
from backupd.seal.keyring import KeyringIds, KeyringWriter, SegmentKey

HOUR = timedelta(hours=1)


@pytest.fixture
def checker(tmp_path: Path) -> Checker:
    return Checker(tmp_path)


def test_a_sound_store_is_clean(checker: Checker) -> None:
    """Nothing is found, and what was looked at is counted."""
    for opened in (False, True):
        result = checker.run(opened=opened)
        assert result.findings == ()
        assert (result.snapshots, result.generations, result.keyrings) == (3, 2, 3)
        assert result.read == result.packs == len(checker.objects("packs/*/*"))
        assert result.read_size == result.size == sum(path.stat().st_size for path in checker.objects("packs/*/*"))
        assert result.sections == sum(len(pack.header.rows) for pack in checker.packs())
        assert len(result.proven) == 3
        assert result.opened == (6 if opened else 0)  # structure, shared and acme, in the newest snapshot of each


OBJECTS = ["packs/*/*", "snapshots/*/*", "keyrings/*/*"]


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
    """Every kind of object, changed in every way, by its name; what is proven then needs none of it."""
    for path in checker.objects(pattern):
        whole = path.read_bytes()
        checker.rewrite(path, change)
        result = checker.run(opened=opened)
        name = str(path.relative_to(checker.root))
        named = [finding for finding in result.findings if name in (finding.object, *finding.message.split("'"))]
        assert named, (name, result.findings)
        if pattern.startswith("packs"):
            assert len(result.findings) == 1
            users = [one for one in checker.records() if path.stem in {sha256 for sha256, _, _ in one.packs}]
            assert len(result.proven) == 3 - len(users)
        path.write_bytes(whole)
    assert checker.run().clean


@pytest.mark.parametrize("opened", [False, True])
def test_a_flipped_bit_in_a_section_names_its_segment(checker: Checker, opened: bool) -> None:
    """One finding for each section that is wrong, and none for its neighbours; only records that need them suffer."""
    for pack in checker.packs():
        path = checker.root / pack.name
        whole = path.read_bytes()
        for at, row in enumerate(pack.header.rows):
            place = pack.there.offsets[at] + row.length // 2
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            (finding,) = checker.run(opened=opened).findings
            assert (finding.object, finding.segment) == (pack.name, row.segment)
            assert f"section {at}' does not have the hash" in finding.message
        path.write_bytes(whole)


@pytest.mark.parametrize("pattern", OBJECTS)
def test_a_missing_object_is_named(checker: Checker, pattern: str) -> None:
    """A removed object is damage whether or not its bytes would have been read."""
    for path in checker.objects(pattern):
        checker.run(share=Fraction(0))
        aside = checker.scratch / "aside"
        shutil.move(path, aside)
        result = checker.run(share=Fraction(0))
        assert path.name in " ".join(f"{finding.object} {finding.message}" for finding in result.findings)
        shutil.move(aside, path)


def test_swapped_packs_are_named(checker: Checker) -> None:
    """Two packs under each other's names are two findings at least, with and without a key."""
    one, two = checker.objects("packs/*/*")[:2]
    first, second = one.read_bytes(), two.read_bytes()
    checker.rewrite(one, lambda _: second)
    checker.rewrite(two, lambda _: first)
    for opened in (False, True):
        found = {finding.object for finding in checker.run(opened=opened).findings}
        assert {str(path.relative_to(checker.root)) for path in (one, two)} <= found


def test_a_pack_of_another_generation_is_named(checker: Checker) -> None:
    """Nothing needs the copy, and yet it is in the wrong place."""
    first, *_, last = checker.objects("packs/*/*")
    shutil.copy(first, last.parent / first.name)
    (finding,) = checker.run(share=Fraction(0)).findings
    assert "belongs to another generation" in finding.message


def taken(checker: Checker, *names: SegmentName) -> Verification:
    checker.small.take_out(*names)
    return checker.run(opened=True)


def test_a_section_taken_out_without_a_ledger_is_named(checker: Checker) -> None:
    """A keeper leaves the reason in the ledger; without one, each section and each key is named with its segment."""
    small = checker.small
    pseudonym = small.pseudonym(ACME)
    lost = [
        (pack.name, at)
        for pack in checker.packs()
        for at, row in enumerate(pack.header.rows)
        if row.segment == pseudonym
    ]
    result = taken(checker, ACME)
    assert {finding.segment for finding in result.findings} == {pseudonym}
    assert {f"{name} {at}" for name, at in lost} == {
        f"{one.object} {one.message.split(',')[0].removeprefix('lacks section ')}" for one in result.findings
    }
    assert len(result.proven) == 2
    small.tell(small.purge_began(ACME))
    after = checker.run(opened=True)
    assert (after.findings, after.purged, after.unpurged, len(after.proven)) == ((), 1, 0, 3)


def test_a_purge_on_its_way_is_no_damage(checker: Checker) -> None:
    """Keys that went before their sections, and sections nobody took out yet, are counted and named nowhere."""
    small = checker.small
    small.tell(small.purge_began(ACME))
    assert checker.run(opened=True).unpurged == 1
    small.take_out(ACME, objects=False)
    result = checker.run(opened=True)
    assert (result.findings, result.purged, result.unpurged) == ((), 1, 1)
    small.take_out(ACME)
    assert (checker.run().findings, checker.run().unpurged) == ((), 0)


@pytest.mark.parametrize("what", ["key", "section"])
def test_what_a_purge_took_and_somebody_put_back_is_named(checker: Checker, what: str) -> None:
    """A keeper saw that nothing of it was there, and no run of before the purge is under way any more."""
    small, old = checker.small, {path: path.read_bytes() for path in checker.root.rglob("*.*") if path.is_file()}
    began = small.purge_began(ACME)
    small.tell(began)
    small.take_out(ACME)
    incarnation = {"tenant": began.tenant, "incarnation": began.incarnation, "scope": began.scope}
    small.tell(Absent(**incarnation, store="disk", snapshots=[]))
    checker.clock.elapsed += 4 * 86400
    assert checker.run(store="disk").findings == ()
    for path, data in old.items():
        if path.suffix == (".keyring" if what == "key" else ".pack"):
            path.chmod(0o600)
            path.write_bytes(data)
    (finding,) = checker.run(store="disk").findings
    assert finding.segment == small.pseudonym(ACME)
    assert "put back" in finding.message
    checker.clock.elapsed -= 3 * 86400
    assert checker.run(store="disk").findings == ()


def test_a_map_that_hides_a_section_is_named(checker: Checker) -> None:
    """A bit without its section, and a section without its bit."""
    for pack in checker.packs():
        path, at = checker.root / pack.name, len(pack.header.raw)
        whole = path.read_bytes()
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        (finding,) = checker.run(share=Fraction(0)).findings
        assert (finding.object, "where its header and map say" in finding.message) == (pack.name, True)
        path.write_bytes(whole[:at] + bytes([whole[at] | 128]) + whole[at + 1 :])
        (finding,) = checker.run(share=Fraction(0)).findings
        assert (finding.object, "presence map" in finding.message) == (pack.name, True)
        path.write_bytes(whole)


def test_what_went_with_the_age_of_its_class_is_explained(checker: Checker) -> None:
    """For snapshots exported before that, and for no other."""
    small = checker.small
    small.snapshot({SHARED: Content((rows(5),)), ACME: Content((rows(11, "acme"),))})
    old, new = [one for one in checker.records() if one.generation == small.generation]
    small.take_out(ACME, keys=False)
    tag = small.tags.class_tag(small.generation, "uploaded")
    for before, damaged in ((old.exported, 4), (new.exported, 2), (stamp(parse_stamp(new.exported) + HOUR), 0)):
        small.tell(ClassExpired(store="disk", generation=small.generation, class_tag=tag, before=before))
        result = checker.run(opened=True, store="disk")
        assert (len(result.findings), result.aged) == (damaged, 4 - damaged)
        assert {finding.segment for finding in result.findings} <= {small.pseudonym(ACME)}


def test_a_forged_listing_is_named(checker: Checker) -> None:
    """A keyring that lists a victim's pseudonym beside other tags, so that a purge of these would take the victim's."""
    small = checker.small
    ids = KeyringIds(small.info.repository, small.info.region, small.generation, RunId("20300101T000000Z-0a0b0c0d"))
    writer = KeyringWriter(ids, [small.identity.public])
    writer.add(small.pseudonym(SHARED), bytes(32), SHARED, small.tags_of(ACME))
    small.repository.put_keyring(ids, writer.render(stamp(START), small.signer))
    (finding,) = checker.run().findings
    assert finding.object == layout.keyring_name(ids.generation, ids.run)
    assert "lists 1 segment beside tags not their own" in finding.message
    checker.tags = None
    assert checker.run().clean


def handmade(checker: Checker, row: dict[str, Any], *, again: bool = False) -> tuple[Record, OpenPack]:
    """A pack with one section more than the newest record needs, whose row says something else; and that record."""
    small = checker.small
    section = next(
        one for pack in checker.packs() for one in pack.sections() if one.row.segment == small.pseudonym(ACME)
    )
    context = replace(section.context, number=row.get("number", 99))
    place = section.row.keyring, section.row.place
    sealed = seal_section(context, SegmentKey(os.urandom(32), ACME), place, [[b"x"]])
    pack = publish_pack(small.store, section.pack.header.context, [replace(sealed, row=sealed.row._replace(**row))])
    record = checker.records()[-1]
    name = pack.header.sha256, [], [0, 1]
    return msgspec.structs.replace(record, packs=sorted([*record.packs, name]), previous=small.previous), pack


@pytest.mark.parametrize("place", [0, 1, 2, 3, 1 << 31])
def test_a_header_that_lists_a_section_under_another_key_is_named(checker: Checker, place: int) -> None:
    """Whether it is another segment's, or none at all; and whether or not a record needs it."""
    small = checker.small
    keyring = small.repository.keyrings(small.generation)[-1]
    right = [segment for segment, _ in keyring.index].index(small.pseudonym(ACME))
    record, pack = handmade(checker, {"place": place, "keyring": keyring.ids.run})
    for _ in range(2):
        findings = checker.run().findings
        assert [(one.object, one.segment) for one in findings] == [(pack.name, small.pseudonym(ACME))] * (
            place != right
        )
        assert all("under a place in" in one.message for one in findings)
        small.publish(record)


def test_two_sections_of_one_number_in_one_record_are_named(checker: Checker) -> None:
    """A manifest refers to a section by its number: what stands twice could be either."""
    small = checker.small
    number = max(
        row.number for pack in checker.packs() for row in pack.header.rows if row.segment == small.pseudonym(ACME)
    )
    record, _ = handmade(checker, {"number": number})
    assert checker.run().clean  # no record names both
    name = small.publish(record)
    (finding,) = checker.run().findings
    assert finding.object == layout.record_name(record.generation, name)
    assert f"names segment {small.pseudonym(ACME)} twice" in finding.message
    assert name not in checker.run().proven


def test_sections_without_a_manifest_are_named(checker: Checker) -> None:
    """Nobody could say what of a segment the snapshot has."""
    record = checker.records()[-1]
    packs = [(name, [], to_ranges([*from_ranges(m, 99), *from_ranges(o, 99)])) for name, m, o in record.packs]
    name = checker.small.publish(msgspec.structs.replace(record, packs=packs, previous=checker.small.previous))
    (finding,) = checker.run().findings
    assert finding.object == layout.record_name(record.generation, name)
    assert "no manifest of it" in finding.message
    assert name not in checker.run().proven


def test_two_manifests_of_one_segment_are_named(checker: Checker) -> None:
    """The record would have a segment's rows twice, or choose between them."""
    record, pack = handmade(checker, {})
    packs = sorted((name, [0, 1], []) if name == pack.header.sha256 else (name, m, o) for name, m, o in record.packs)
    name = checker.small.publish(msgspec.structs.replace(record, packs=packs))
    (finding,) = checker.run().findings
    assert finding.object == layout.record_name(record.generation, name)


@pytest.mark.parametrize("ranges", [[50, 1], [0, 99], [1 << 40, 1], [0, 1 << 62], [3], [1, 0], [2, 1, 1, 1]])
def test_a_record_that_names_what_no_header_lists_is_named(checker: Checker, ranges: list[int]) -> None:
    """A writer's or a thief's mistake, with whatever numbers."""
    record = checker.records()[-1]
    first, *packs = record.packs
    wrong = msgspec.structs.replace(
        record, packs=[(first[0], first[1], ranges), *packs], previous=checker.small.previous
    )
    name = checker.small.publish(wrong)
    (finding,) = checker.run().findings
    assert finding.object == layout.record_name(record.generation, name)
    assert name not in checker.run().proven


def test_a_pack_named_twice_is_named(checker: Checker) -> None:
    """One entry for each pack, or one of the two could hide the other."""
    record = checker.records()[-1]
    wrong = msgspec.structs.replace(record, packs=[record.packs[0], *record.packs], previous=checker.small.previous)
    name = checker.small.publish(wrong)
    (finding,) = checker.run().findings
    assert (finding.object, "twice" in finding.message) == (layout.record_name(record.generation, name), True)


def test_a_keyring_that_nobody_can_find_is_named(checker: Checker) -> None:
    """Once, however many sections have their keys in it."""
    record, _ = handmade(checker, {"keyring": RunId("20300101T000000Z-0a0b0c0d")})
    checker.small.publish(record)
    (finding,) = checker.run(share=Fraction(0)).findings
    assert "20300101T000000Z-0a0b0c0d.keyring" in finding.object


def test_a_section_that_its_key_does_not_open_is_named(checker: Checker) -> None:
    """All hashes are right, and still nobody could restore it: with an identity every block is opened."""
    small = checker.small
    record, pack = handmade(checker, {})
    small.publish(record)
    assert checker.run().clean
    findings = checker.run(opened=True).findings
    assert {(one.object, one.segment) for one in findings} == {(pack.name, small.pseudonym(ACME))}
    assert "not authentic" in findings[0].message


def test_a_keeper_that_takes_sections_out_meanwhile_is_no_damage(tmp_path: Path) -> None:
    """Before any call: what verify sees is the pack of before, or that of after."""
    notes = Content((rows(5),))
    for at in count(1):
        other = Checker(tmp_path / str(at), lambda small: small.snapshot({SHARED: notes, ACME: notes}))
        calls = [0]

        def between(*_: object, calls: list[int] = calls, other: Checker = other, at: int = at) -> None:
            calls[0] += 1
            if calls[0] == at:
                other.small.tell(other.small.purge_began(ACME))
                other.small.take_out(ACME)

        hooked = HookedStore(other.small.store)
        hooked.before = between
        other.reading, other.threads = hooked, 1
        result = other.run(opened=True)
        assert result.findings == (), at
        if calls[0] < at:
            break
    assert at > 15


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


@pytest.mark.parametrize("name", [layout.SCRIPT, layout.GUIDE])
@pytest.mark.parametrize("how", ["altered", "missing", "much larger"])
def test_a_help_file_that_is_not_what_was_put_is_named(checker: Checker, name: ObjectName, how: str) -> None:
    """People run one with their passphrase; without a hash in the repository's document nothing is known."""
    for one, data in help_files.own_files().items():
        checker.small.repository.put_document(one, data)
    assert checker.run().findings == ()
    info = msgspec.structs.replace(checker.small.info, help=help_files.own_hashes())
    (checker.root / layout.REPOSITORY).unlink()
    checker.small.repository.put_info(info, checker.small.signer)
    assert checker.run().findings == ()
    if how == "missing":
        (checker.root / name).unlink()
    else:
        checker.rewrite(checker.root / name, lambda data: data + b"\n" * (1 if how == "altered" else 2 << 20))
    (found,) = checker.run().findings
    assert found.object == name
    assert ("is missing" if how == "missing" else help_files.own_hashes()[name]) in found.message


def test_a_help_file_of_another_version_is_named(checker: Checker) -> None:
    """Who stole a writer's key signs a `recover` of his own: that is no damage to anybody but this program."""
    info = msgspec.structs.replace(
        checker.small.info, help={**help_files.own_hashes(), "recover": hashlib.sha256(b"his").hexdigest()}
    )
    (checker.root / layout.REPOSITORY).unlink()
    checker.small.repository.put_info(info, checker.small.signer)
    for name, data in {**help_files.own_files(), ObjectName("recover"): b"his"}.items():
        checker.small.repository.put_document(name, data)
    found = checker.run()
    assert (found.findings, found.other_help) == ((), ("recover",))


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


def test_a_record_that_was_never_believed_is_not_missed(checker: Checker) -> None:
    """Anybody who may add could put one there, and whoever removes it would have a finding for good; of a true one that
    was altered, it is known that it was there.
    """
    true = checker.objects("snapshots/*/*")[-1]
    junk = true.parent / f"20991231T000000Z-{'ab' * 32}"
    junk.write_bytes(b"junk")
    assert {one.object for one in checker.run().findings} == {str(junk.relative_to(checker.root))}
    junk.unlink()
    assert checker.run().findings == ()
    checker.rewrite(true, lambda data: data[:-2])
    assert {one.object for one in checker.run().findings} == {str(true.relative_to(checker.root))}
    true.unlink()
    assert [one.object for one in checker.run().findings] == [true.name]


def test_a_store_made_anew_is_not_held_against_the_old_one(checker: Checker) -> None:
    """The memory is of one repository; another one under the same path starts with none."""
    checker.run()
    shutil.rmtree(checker.root)
    checker.small = SmallRepository(checker.small.store)
    checker.tags = checker.small.tags
    checker.small.snapshot({SHARED: Content((rows(3),))})
    result = checker.run(share=Fraction(0))
    assert (result.findings, result.snapshots) == ((), 1)


def test_a_key_line_removed_without_a_ledger_is_named(checker: Checker) -> None:
    """Shredding leaves a trace in the ledger; a line that is simply gone is damage."""
    path = checker.objects("keyrings/*/*")[0]
    checker.rewrite(path, lambda data: b"".join(data.splitlines(keepends=True)[:-1]))
    (finding,) = checker.run(opened=True).findings
    assert "no ledger says it was purged" in finding.message
    assert finding.object == str(path.relative_to(checker.root))
    assert finding.segment is not None


def test_orphans_are_told_and_are_no_damage(checker: Checker) -> None:
    """What a run that was cut off left behind is listed; so are uploads and foreign files."""
    small = checker.small
    before = {pack.name for pack in checker.packs()}
    small.write({ACME: Content((rows(7, "lost"),), apart=False)})
    (checker.root / "tmp").mkdir(exist_ok=True)
    (checker.root / "tmp" / "upload").write_bytes(b"half")
    (checker.root / "notes.txt").write_bytes(b"mine")
    result = checker.run()
    assert result.clean
    lost = {pack.name: pack.there.pack_size for pack in checker.packs() if pack.name not in before}
    assert (set(result.orphans), result.orphans_size) == (lost.keys(), sum(lost.values()))
    assert (result.leftovers, result.foreign) == (("tmp/upload",), ("notes.txt",))


def test_each_run_reads_what_was_read_longest_ago(checker: Checker) -> None:
    """A tenth at a time, everything is read in the end; what fails is read again at once."""
    for _ in range(40):
        checker.clock.sleep(60)
        assert checker.run(share=Fraction(1, 10)).clean
    with CheckedState(checker.scratch / "verified.sqlite") as checked:
        seen = {
            sha256
            for one in {path.parent.name for path in checker.objects("packs/*/*")}
            for sha256 in checked.times(READ, one)
        }
    assert seen == {path.stem for path in checker.objects("packs/*/*")}
    path = max(checker.objects("packs/*/*"), key=lambda path: path.stat().st_size)
    checker.rewrite(path, lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    for _ in range(40):
        checker.clock.sleep(60)
        if not checker.run(share=Fraction(1, 10)).clean:
            break
    assert not checker.run(share=Fraction(1, 100)).clean


def test_nothing_is_changed_and_nothing_is_left(checker: Checker) -> None:
    """Verify only reads, and its scratch folder is empty afterwards but for its memory."""
    before = {path: path.stat().st_mtime_ns for path in checker.objects("**/*")}
    checker.run(opened=True)
    assert {path: path.stat().st_mtime_ns for path in checker.objects("**/*")} == before
    assert {path.name for path in checker.scratch.iterdir()} == {"verified.sqlite"}


def test_no_tenant_is_named(checker: Checker) -> None:
    """Findings speak of pseudonyms only, with an identity too."""
    for path in checker.objects("packs/*/*"):
        checker.rewrite(path, lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    result = checker.run(opened=True)
    assert result.findings
    assert "acme" not in f"{result!r} {[finding.sentence for finding in result.findings]}"
