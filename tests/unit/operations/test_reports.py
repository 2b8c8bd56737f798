"""Reports of drills: what they say themselves, their chain on a store and in a folder, and what damage does to it."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from doubles.samples.reports import (
    BREAKS,
    REPOSITORY,
    START,
    WEEK,
    Archive,
    chained,
    checks,
    drill_id,
    filed,
    sample,
    selection,
)

from backupd.errors import DamageError, RefusedError, UsageError
from backupd.model.ids import DrillId, ObjectName
from backupd.model.report import (
    KIND,
    PROVING,
    Check,
    CheckFinding,
    CheckName,
    Measured,
    Objectives,
    PreviousReport,
    decode_report,
    encode_report,
    every_check,
    verdict_of,
)
from backupd.model.text import stamp
from backupd.operations.reports import export_reports, gather_folder, standing
from backupd.operations.reports.read import BEGINNING, KEYS, LEDGER, Gathered, Part, newest_proof
from backupd.planning.drill import find_repeated
from backupd.planning.drill_reports import (
    DrillTimetable,
    Period,
    chain_faults,
    drill_events,
    in_order,
    ledger_faults,
    own_faults,
    population,
)
from backupd.repository import layout
from backupd.repository.reports import read_report, read_report_shelf
from backupd.seal.documents import LIMITS, Signer
from backupd.store.directory import DirectoryStore

EVER = Period(START - 100 * WEEK, START + 1000 * WEEK)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Four weekly reports, each told by the ledger."""
    made = Archive(DirectoryStore(tmp_path / "be"))
    for number in range(4):
        made.file(sample(number))
    return made


def gathered(archive: Archive, trusted: bool = True) -> Gathered:
    (one,) = gather_folder(archive.store.root, archive.trusted if trusted else None)
    return one


def test_a_report_is_read_as_it_was_written() -> None:
    """Every field comes back, and members of a later program are left out."""
    report = sample(3, retest_of=drill_id(2), supersedes=drill_id(1), selection=selection(START, tenants=2))
    assert decode_report(encode_report(report), "it") == report
    more = {**msgspec.to_builtins(report), "colour": "green"}
    assert decode_report(msgspec.json.encode(more), "it") == report


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("checks", 0, "findings"), [{"code": "Kwartelei in aspic", "count": 1}]),
        (("checks", 0, "name"), "vibes"),
        (("checks", 0, "verdict"), "maybe"),
        (("verdict",), "missed"),
        (("drill",), "../../etc/passwd"),
        (("region",), "Be"),
        (("started",), "yesterday"),
        (("measured", "rto"), -1),
        (("measured", "rto"), 1.5),
        (("objectives", "approval"), "because Jan said so"),
        (("versions", "server"), 'ERROR: relation "kwartelei"'),
        (("phases",), [["fetch", 3]]),
        (("previous",), {"drill": "20300107T030000Z-00000000", "sha256": "ab"}),
    ],
)
def test_what_is_no_code_number_or_id_is_refused(path: tuple[str | int, ...], value: object) -> None:
    """No sentence, name or path passes for a field of a report."""
    body = msgspec.to_builtins(sample())
    *parents, last = path
    inner = body
    for step in parents:
        inner = inner[step]
    inner[last] = value
    with pytest.raises(DamageError, match="not a readable report"):
        decode_report(msgspec.json.encode(body), "it")


def test_checks_have_their_numbers_for_good() -> None:
    """The numbers are what reports of all times are compared by."""
    names = ["records", "authentic", "equality", "sequences", "constraints", "indexes", "extensions", "globals"]
    names += ["freshness", "comparison", "assertions", "canary", "purged", "escrow", "objectives", "damage", "disposal"]
    assert [(name.number, name.value) for name in CheckName] == list(enumerate(names, start=1))
    made = every_check([Check.of(CheckName.DAMAGE, "pass", 1)], "not-asked")
    assert [check.verdict for check in made].count("skip") == 16
    assert made[0].findings == [CheckFinding("not-asked", 1)]


def test_a_verdict_needs_its_proof() -> None:
    """A failure beats everything, an error is no verdict, and skipping what proves is no pass."""
    assert verdict_of(checks(), "automatic") == "pass"
    assert verdict_of(checks(failed=(CheckName.ESCROW,), erred=(CheckName.RECORDS,)), "automatic") == "fail"
    assert verdict_of(checks(erred=(CheckName.ESCROW,)), "automatic") == "error"
    for name in PROVING:
        assert verdict_of([check for check in checks() if check.name is not name], "human") == "error"
    red = every_check([Check.of(CheckName.DAMAGE, "pass", 1)])
    assert (verdict_of(red, "damage"), verdict_of(red, "automatic")) == ("pass", "error")
    assert verdict_of(checks(), "damage") == "error"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"verdict": "fail"}, "verdict"),
        ({"checks": checks()[1:], "verdict": "error"}, "every check"),
        ({"checks": [checks()[1], checks()[0], *checks()[2:]]}, "every check"),
        ({"checks": [msgspec.structs.replace(checks()[0], number=2), *checks()[1:]]}, "every check"),
        ({"finished": sample(0).started.replace("2030", "2029")}, "before it began"),
        ({"measured": Measured(rpo=1, rto=14401)}, "objective"),
        ({"measured": Measured(rpo=93601, rto=1)}, "objective"),
    ],
)
def test_a_report_that_contradicts_itself_is_told(changes: dict[str, object], fault: str) -> None:
    """Whoever signed it."""
    assert not list(own_faults(sample()))
    (found,) = own_faults(sample(**changes))
    assert fault in found
    late = sample(measured=Measured(rto=20000), checks=checks(failed=(CheckName.OBJECTIVES,)))
    assert not list(own_faults(late))


def test_a_report_goes_by_its_drill() -> None:
    """Its name is no foreign one, and near misses are."""
    name = layout.report_name(drill_id(3))
    assert layout.place_of(name) == layout.ObjectPlace(layout.ObjectKind.REPORT, drill=drill_id(3))
    for near in (f"{name}x", name.removesuffix(".json"), f"x{name}", name.replace("Z", "z"), f"{name}/x"):
        assert layout.place_of(ObjectName(near)).kind is layout.ObjectKind.FOREIGN


def test_a_sound_archive_is_clean(archive: Archive) -> None:
    """In order, nothing wrong, nothing left unchecked; without keys or ledger what is left is told."""
    one = gathered(archive)
    assert [found.drill for found in one.filed] == [drill_id(number) for number in range(4)]
    assert (one.faults, one.not_checked) == ((), ())
    assert gathered(archive, trusted=False).not_checked == (LEDGER, KEYS)
    shutil.rmtree(archive.store.root / "ledger")
    assert gathered(archive).not_checked == (LEDGER,)


FOUND = {
    "removed": ("is missing",),
    "altered": ("signature",),
    "swapped": ("of another drill",),
    "cut": ("",),
    "beheaded": ("is missing",),
    "rewritten": ("is not the one",),
    "newest-rewritten": ("is not the one",),
    "forked": ("names the same report", "is unknown to the ledger"),
    "signed-by-another": ("not signed by a trusted",),
    "emptied": ("",),
}


@pytest.mark.parametrize("name", BREAKS)
def test_every_damage_is_found_with_the_ledger(archive: Archive, name: str) -> None:
    """Missing, altered, exchanged, cut off, rewritten and added reports: red, and the report is named."""
    archive.found()
    assert not gathered(archive).faults
    BREAKS[name](archive)
    found = gathered(archive).faults
    text = " ".join(fault.sentence for fault in found)
    assert found
    assert all(words in text for words in FOUND[name])
    assert all(fault.drill in {str(drill_id(number)) for number in (0, 1, 2, 3, 9)} for fault in found if fault.drill)


@pytest.mark.parametrize("name", sorted(BREAKS.keys() - {"cut", "beheaded", "newest-rewritten", "emptied"}))
def test_damage_within_the_chain_is_found_without_the_ledger(archive: Archive, name: str) -> None:
    """Each report witnesses the one before it; only both ends need the ledger, and that is said."""
    shutil.rmtree(archive.store.root / "ledger")
    BREAKS[name](archive)
    one = gathered(archive)
    assert one.faults
    assert LEDGER in one.not_checked


def test_a_part_of_a_chain_says_what_it_lacks(archive: Archive) -> None:
    """An export of a period is no damage: what came before is told, and what the ledger tells of besides is counted."""
    for number in (0, 3):
        archive.store.remove(layout.report_name(drill_id(number)))
    one = gathered(archive)
    assert not one.faults
    assert one.not_checked == ("1 report before those here and 1 after them, which the ledger tells of",)
    shutil.rmtree(archive.store.root / "ledger")
    assert gathered(archive).not_checked == (LEDGER, BEGINNING)


def test_a_damaged_ledger_beside_is_told(archive: Archive) -> None:
    """It is not used, and not passed over."""
    first = archive.store.root / "ledger" / "0000000001.json"
    first.chmod(0o600)
    first.write_bytes(first.read_bytes().replace(b'"verdict":"pass"', b'"verdict":"fail"'))
    assert "ledger/0000000001.json" in gathered(archive).faults[0].message


@pytest.mark.parametrize(
    ("document", "why"),
    [(b"", "two lines"), (b"{}\n{}\n", "readable"), (b"x" * (LIMITS[KIND] + 1), "larger")],
)
def test_what_is_no_report_is_named(archive: Archive, document: bytes, why: str) -> None:
    """It stops nobody from reading the others."""
    archive.replace_document(2, document)
    shelf = read_report_shelf(archive.store, archive.trusted)
    assert [fault.drill for fault in shelf.faults] == [drill_id(2)]
    assert why in shelf.faults[0].message
    assert len(shelf.filed) == 3


def test_a_newer_format_or_feature_is_not_guessed_at(archive: Archive) -> None:
    """A program that does not know it says so."""
    body = encode_report(msgspec.structs.replace(archive.filed[3].report, features=["new-checks"]))
    with pytest.raises(RefusedError, match="new-checks"):
        read_report(archive.signer.sign(body, KIND), archive.trusted)


def test_reports_in_a_ring_are_all_told_once() -> None:
    """Nobody can hash such a ring, but somebody who signs can try; nothing hangs or vanishes."""
    ring = [
        filed(msgspec.structs.replace(sample(number), previous=PreviousReport(drill_id(1 - number), "ab" * 32)))
        for number in (0, 1)
    ]
    assert len(in_order(ring)) == 2
    assert list(chain_faults(ring, whole=False))


def test_the_ledgers_word_counts(archive: Archive) -> None:
    """Another order, verdict or snapshot than the ledger tells is a fault."""
    told = drill_events(archive.chain.entries())
    good = archive.filed
    assert not list(ledger_faults(good, told, whole=True))
    assert list(ledger_faults(good, [told[1], told[0], *told[2:]], whole=True))
    for changes in ({"verdict": "fail"}, {"snapshot": None}):
        assert list(ledger_faults(good, [msgspec.structs.replace(told[0], **changes), *told[1:]], whole=True))
    assert list(ledger_faults(good[:3], told, whole=True))
    assert not list(ledger_faults(good[:3], told, whole=False))


# --- the population ---------------------------------------------------------------------------------------------------


def outcomes(numbers: list[int], timetable: DrillTimetable, now: int, period: Period = EVER) -> list[tuple[int, str]]:
    """Weeks and what became of them."""
    found = population(chained(*map(sample, numbers)), timetable, period, START + now * WEEK + timedelta(days=3))
    return [(round((one.at - START) / WEEK), one.outcome) for one in found]


def test_missed_drills_are_told_in_their_places() -> None:
    """Before the first since the repository was made, between two, and behind the last until now."""
    told = outcomes([2, 3, 6], DrillTimetable(START, WEEK), now=8)
    assert told == [
        (1, "missed"), (2, "pass"), (3, "pass"), (4, "missed"), (5, "missed"), (6, "pass"), (7, "missed"),
        (8, "missed"),
    ]  # fmt: skip


def test_a_drill_of_one_tenant_is_no_drill_of_all() -> None:
    """It is part of the population, and the one that was due is missed all the same."""
    alone = sample(2, selection=selection(START + 2 * WEEK, tenants=1))
    found = population(
        chained(sample(1), alone), DrillTimetable(START, WEEK), EVER, START + 2 * WEEK + timedelta(days=3)
    )
    assert [(round((one.at - START) / WEEK), one.outcome) for one in found] == [
        (1, "pass"), (2, "pass"), (2, "missed"),
    ]  # fmt: skip


def test_nobody_misses_what_was_never_due() -> None:
    """Without a timetable, and before a repository that is unknown, nothing is missed."""
    quiet = [sample(number, objectives=Objectives(rpo=93600, rto=14400)) for number in (0, 9)]
    found = population(chained(*quiet), DrillTimetable(START, None), EVER, START + 20 * WEEK)
    assert [one.outcome for one in found] == ["pass", "pass"]
    assert outcomes([3], DrillTimetable(None, None), now=3) == [(3, "pass")]
    assert population([], DrillTimetable(None, WEEK), EVER, START) == []


def test_a_region_that_never_drilled_misses_every_week() -> None:
    """Nothing having run is no reason to show nothing."""
    assert outcomes([], DrillTimetable(START, WEEK), now=3) == [(1, "missed"), (2, "missed"), (3, "missed")]


def test_a_drill_may_be_late_by_a_fourth() -> None:
    """One that comes within that misses nothing, and one that is behind it did."""
    for late, missed in ((WEEK / 4, 0), (WEEK / 4 + timedelta(seconds=1), 1)):
        at = START + WEEK + late
        second = sample(1, started=stamp(at), finished=stamp(at))
        found = population(chained(sample(0), second), DrillTimetable(START, WEEK), EVER, at)
        assert [one.outcome for one in found].count("missed") == missed


def test_a_period_shows_what_began_in_it() -> None:
    """From its first instant, before its last; what was missed outside is not told, and old gaps cost nothing."""
    period = Period(START + 3 * WEEK, START + 6 * WEEK)
    assert outcomes([0, 3, 6], DrillTimetable(START, WEEK), now=9, period=period) == [
        (3, "pass"),
        (4, "missed"),
        (5, "missed"),
    ]
    century = DrillTimetable(START - 100_000 * timedelta(days=1), timedelta(hours=1))
    found = population([], century, Period(START, START + timedelta(days=1)), START + WEEK)
    assert len(found) == 24


def test_how_a_region_stands() -> None:
    """Sound first, then the newest drill, and whether one is due since."""
    now, table = START + 2 * WEEK + timedelta(days=1), DrillTimetable(START, WEEK)
    bad = sample(2, checks=checks(failed=(CheckName.EQUALITY,)))
    for reports, expected in (
        ([sample(0), sample(2)], "pass"),
        ([sample(0), bad], "fail"),
        ([sample(0)], "missed"),
        ([sample(0), sample(2, checks=checks(erred=(CheckName.RECORDS,)))], "error"),
    ):
        assert standing(Part(Gathered("be", tuple(chained(*reports))), table), now) == expected
    assert standing(Part(Gathered("be"), DrillTimetable(None, None)), now) == "none"
    part = Part(Gathered("be", tuple(chained(sample(0), bad))), table)
    assert newest_proof(part, now) == START
    assert newest_proof(part, START) is None


# --- folders and exports ----------------------------------------------------------------------------------------------


def test_an_export_is_verified_with_nothing_else(archive: Archive, tmp_path: Path) -> None:
    """Reports, pages, an index and a note; its own reports are clean, and each damage in it is found."""
    one = gathered(archive)
    out = tmp_path / "out"
    done = export_reports(
        [Part(one, DrillTimetable(START, WEEK))], Period(START + WEEK, START + 9 * WEEK), out, START + 6 * WEEK
    )
    assert (done.reports, done.regions) == (3, ("be",))
    assert {path.name for path in out.iterdir()} == {"index.html", "population.json", "VERIFY.txt", "be"}
    facts = msgspec.json.decode((out / "population.json").read_bytes())
    assert facts["regions"][0]["counts"] == {"pass": 3, "fail": 0, "error": 0, "missed": 2}
    assert archive.signer.public in (out / "VERIFY.txt").read_text()
    (again,) = gather_folder(out, archive.trusted)
    assert [found.sha256 for found in again.filed] == [found.sha256 for found in one.filed[1:]]
    assert (again.faults, again.not_checked) == ((), (LEDGER, BEGINNING))
    links = {path.name for path in (out / "be").glob("*.html")}
    assert links == {f"{drill_id(number)}.html" for number in (1, 2, 3)}
    assert all(f'href="be/{link}"' in (out / "index.html").read_text() for link in links)
    with pytest.raises(RefusedError, match="exists"):
        export_reports([Part(one, DrillTimetable(START, WEEK))], EVER, out, START)
    (out / "be" / layout.report_name(drill_id(2))).unlink()
    (broken,) = gather_folder(out, archive.trusted)
    assert [fault.drill for fault in broken.faults] == [drill_id(2)]


def test_an_export_that_fails_leaves_nothing(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the folder nor what was being made of it."""
    monkeypatch.setattr("backupd.operations.reports.export.render_period", lambda _: 1 / 0)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError):
        export_reports([Part(gathered(archive), DrillTimetable(None, None))], EVER, tmp_path / "out", START + WEEK)
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(UsageError):
        export_reports([], EVER, tmp_path / "none" / "out", START)


def test_a_folder_without_reports_is_no_folder_of_reports(tmp_path: Path) -> None:
    """So that a mistyped path is not taken for a clean region."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="holds no reports"):
            gather_folder(folder, None)


def test_regions_side_by_side_are_each_read(archive: Archive, tmp_path: Path) -> None:
    """The folder of a store holds several; one that is damaged does not hide the other."""
    shutil.copytree(archive.store.root, tmp_path / "store" / "be")
    shutil.copytree(archive.store.root, tmp_path / "store" / "copy")
    (tmp_path / "store" / "copy" / layout.report_name(drill_id(1))).unlink()
    found = gather_folder(tmp_path / "store", archive.trusted)
    assert [bool(one.faults) for one in found] == [False, True]


def test_reports_of_two_repositories_are_not_one_chain() -> None:
    """Signed by the same keeper, and put together by somebody."""
    other = msgspec.structs.replace(chained(sample(0), sample(1))[1].report, repository=REPOSITORY[::-1])
    found = [*chain_faults([*chained(sample(0)), filed(other)], whole=True)]
    assert any("more than one repository" in fault.message for fault in found)


def test_a_drill_that_is_not_there_is_told(archive: Archive) -> None:
    """With the way to find one."""
    with pytest.raises(UsageError, match="no report of drill"):
        gathered(archive).until(DrillId("20300101T000000Z-ffffffff"))


def test_a_performer_signs_for_itself(archive: Archive) -> None:
    """A report that names one trusted keeper and is signed by another is not believed."""
    other = Signer(os.urandom(32))
    document = other.sign(encode_report(archive.filed[3].report), KIND)
    with pytest.raises(DamageError, match="not signed by a trusted"):
        read_report(document, archive.trusted | {other.public})


def test_a_second_first_report_is_told() -> None:
    """Only one report has none before it."""
    (fault,) = chain_faults([*chained(sample(0)), *chained(sample(1))], whole=True)
    assert (fault.drill, "first report" in fault.message) == (drill_id(1), True)


def test_a_drill_names_the_failed_one_that_it_repeats() -> None:
    """Of the same snapshot and extent, and only while nothing has passed since; one without a verdict is no answer."""
    chosen = sample(3).selection
    assert chosen is not None
    failed = sample(1, selection=chosen, checks=checks(failed=(CheckName.EQUALITY,)))
    erred = sample(2, selection=chosen, checks=checks(erred=(CheckName.EQUALITY,)))
    alone = msgspec.structs.replace(chosen, tenants=1, tenant="0a" * 16)
    assert find_repeated([sample(0), failed, erred], chosen) == failed.drill
    assert find_repeated([failed, sample(2, selection=chosen)], chosen) is None
    assert find_repeated([sample(0), sample(1)], chosen) is None
    assert find_repeated([failed], alone) is None
    assert find_repeated([sample(2, selection=alone, checks=failed.checks)], alone) == drill_id(2)
