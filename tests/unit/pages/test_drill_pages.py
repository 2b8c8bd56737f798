"""Pages of drills: all that a report says, charts of any number of them, and nothing a name could do to them."""

from __future__ import annotations

import re
from datetime import timedelta

import msgspec
import pytest
from doubles.samples.attestation_pages import HOSTILE, PageReader
from doubles.samples.drill_pages import ERRED, FAILED, drills, hostile, part, period
from doubles.samples.reports import START, WEEK, drill_id, sample, selection
from msgspec import structs

from backupd.model.report import Check, CheckFinding, CheckName, Objectives, Report, every_check
from backupd.model.text import parse_stamp, stamp
from backupd.pages import PeriodPage, render_period, render_report
from backupd.pages.charts import WIDTH, Bar, Chart, Point, bars, trend
from backupd.pages.drills import CHECKS, LOOKED_AT, PHASES
from backupd.pages.environment import spell_count, spell_seconds
from backupd.pages.findings import QUESTIONS


def test_a_page_shows_what_the_report_says() -> None:
    """Every check by number, name and sentence; what was restored, promised, measured, deleted and destroyed."""
    one = sample(11, retest_of=drill_id(10))
    page = PageReader(render_report(one, "ab" * 32, [sample(number) for number in range(12)]))
    text = " ".join(page.text.split())
    for shown in (
        one.drill, one.selection.snapshot, "5eed" * 8, "zurich", "4 min 18 s", "26 h", "ISMS-2030-014", "17.10",
        "scratch-server", "process-gone", "ef" * 32, "ab" * 32, drill_id(10), "Passed", "3 of 17 checks were not made",
        f"backupd report verify --folder FOLDER --keeper {one.performer}", *CHECKS.values(),
    ):  # fmt: skip
        assert shown in text, shown
    for said in ("The server it was restored on", "destroyed: its processes have ended", "its turn, drawn at random"):
        assert said in text, said
    assert [tag for tag, _ in page.elements].count("svg") == 6
    for question in QUESTIONS:
        assert question.question in text
        assert all(field in text for field in question.fields)


def test_a_number_says_what_it_counts_and_codes_have_words() -> None:
    """An auditor need not know what 298 is, nor what a code means; where nothing is set, that is said."""
    checks = every_check([Check.of(CheckName.EQUALITY, "pass", 1298), Check.of(CheckName.RECORDS, "pass", 1)])
    text = " ".join(PageReader(render_report(sample(5, checks=checks), "ab" * 32)).text.split())
    assert "1\u202f298 row sets" in text or "1 298 row sets" in text
    assert "1 record" in text
    assert set(LOOKED_AT) == set(CheckName)
    unset = sample(5, objectives=Objectives(rpo=None, rto=None, drill_every=None, approval=None))
    text = " ".join(PageReader(render_report(unset, "ab" * 32)).text.split())
    assert "No approval of objectives is recorded. How often a drill is due is not set." in text


def test_a_pass_over_nothing_proves_nothing() -> None:
    """An auditor who reads `pass` is told where there was nothing to look at; one thing is no plural."""
    checks = every_check([Check.of(CheckName.EQUALITY, "pass", 1), Check.of(CheckName.SEQUENCES, "pass", 0)])
    one = sample(5, checks=checks)
    selection, sizes = one.selection, one.sizes
    assert selection is not None
    assert sizes is not None
    population = msgspec.structs.replace(selection.population, number=1)
    few = msgspec.structs.replace(
        one,
        selection=msgspec.structs.replace(selection, population=population),
        sizes=msgspec.structs.replace(sizes, rows=1, segments=1, objects=1),
    )
    text = " ".join(PageReader(render_report(few, "ab" * 32)).text.split())
    assert "Of those that passed, 1 had nothing to look at, which proves as little: sequences." in text
    assert re.findall(r"\b1 \w+s\b", text.partition("What was restored")[2].partition("Deleted tenants")[0]) == []
    assert "there was 1 snapshot" in text


def test_a_check_of_another_drills_turn_is_not_called_unreached() -> None:
    """Of a drill that passed nobody reads that it ended before."""
    unasked = Check.of(CheckName.DAMAGE, "skip", 0, [CheckFinding("not-asked")])
    checks = [Check.of(name, "pass", 1) for name in CheckName if name is not CheckName.DAMAGE] + [unasked]
    text = PageReader(render_report(sample(5, checks=checks), "ab" * 32)).text
    assert "not part of this drill" in text
    assert "ended before" not in text


def test_verdicts_stand_at_the_top() -> None:
    """What failed by its name, with its cause; no verdict is not called a failure; nothing unreached is promised."""
    for report, words in (
        (FAILED, 'equality: the assertion "row" returns another number than expected (2 times).'),
        (FAILED, "Failed: check 3 (equality), check 15 (objectives)"),
        (ERRED, "No verdict: the drill could not find out whether the backup is good: check 1 (records)"),
        (sample(5, type="damage", checks=every_check([Check.of(CheckName.DAMAGE, "pass", 1)])), "was noticed"),
    ):
        page = render_report(report, "ab" * 32)
        assert words in " ".join(PageReader(page[: page.index("<h2>")]).text.split())
    text = PageReader(render_report(ERRED, "ab" * 32)).text
    assert "2 things that could not be removed" in text
    assert text.count("not measured") == 4


def test_a_stranger_reads_words_not_codes() -> None:
    """Phases say what was done in them; what was not restored is not called so; no objective has no chart."""
    one = sample(5, objectives=Objectives(), sizes=None)
    text = " ".join(PageReader(render_report(one, "ab" * 32)).text.split())
    assert "What was restored" not in text
    assert "The backup that was chosen" in text
    assert "as a part of the objective" not in text
    phases = text.partition("Time of each phase")[2].partition("Objectives")[0]
    assert not {"queue", "keys", "verify", "canary", "disposal"} & set(phases.replace("opening keys", "").split())
    assert all(len(shown) <= 16 for shown in PHASES.values())  # more of it does not fit into a chart


def test_times_say_what_they_are_of() -> None:
    """By a reader who never saw the program: five minutes' recovery point stood beside a backup that was older."""
    start = parse_stamp(sample(5).started)
    newest = selection(start, exported=stamp(start))
    older = selection(start, exported=stamp(start - timedelta(days=3)))
    for chosen, verdict, said in (
        (newest, "pass", "had when the drill began."),
        (older, "pass", "had when the drill began: an older one was restored."),
        (newest, "fail", "had when the drill began: that it restores was not shown."),
    ):
        text = " ".join(PageReader(render_report(sample(5, selection=chosen, verdict=verdict), "ab" * 32)).text.split())
        assert said in text


def test_nothing_is_said_to_equal_what_purges_took() -> None:
    """The restored database is the backup without the segments of tenants who were purged since."""
    for purged, said in ((3, "backed up, without the segments of tenants who were purged since."), (0, "backed up.")):
        deletion = structs.replace(sample(5).deletion, purged=purged, absent=purged)
        text = " ".join(PageReader(render_report(sample(5, deletion=deletion), "ab" * 32)).text.split())
        assert f"was restored, and equals what was {said}" in text


def test_every_check_has_its_sentence_and_every_field_exists() -> None:
    """A check that is added is explained, and the table of frameworks names only what a report has."""
    assert list(CHECKS) == list(CheckName)
    named = {field for question in QUESTIONS for field in question.fields}
    for field in named:
        first, _, rest = field.partition(".")
        assert first in Report.__struct_fields__
        if first == "checks" and rest:
            assert rest in {name.value for name in CheckName}


def test_nothing_is_fetched_and_nothing_runs() -> None:
    """No element that loads or runs anything, no address, and a policy that would stop both."""
    for page in (
        render_report(FAILED, "ab" * 32, [sample(0), FAILED]),
        period(part(found=drills(sample(0), FAILED, missed=(1,), link="be/x.html"), faults=("a", "b"))),
    ):
        tags = {tag for tag, _ in PageReader(page).elements}
        assert not tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base", "image", "use"}
        assert not re.search(r"url\(|@import|https?:|//|xlink", page)
        assert "default-src 'none'" in page
        assert all(not name.startswith("on") for _, attributes in PageReader(page).elements for name in attributes)


def test_hostile_names_stay_text() -> None:
    """Whatever machines, stores, databases, regions and folders are called, pages have the same elements."""
    for make in (
        lambda name: render_report(hostile(name), "ab" * 32, [hostile(name), hostile(name)]),
        lambda name: period(part(name, drills(hostile(name), missed=(1,)), faults=[name], not_checked=[name])),
    ):
        pages = [PageReader(make(name)) for name in (HOSTILE[:63], "tame")]
        shapes = [[(tag, sorted(attributes)) for tag, attributes in page.elements] for page in pages]
        assert shapes[0] == shapes[1]
        assert HOSTILE[:63] in pages[0].text


def test_a_period_shows_the_whole_population() -> None:
    """Counts by outcome, a line for each drill, and missed ones among them; regions without any are there, too."""
    found = drills(sample(0), FAILED, ERRED, sample(7), missed=(1, 2))
    page = PageReader(period(part(found=found, proven=START + 7 * WEEK), part("empty", faults=("gone",)), part("fr")))
    text = " ".join(page.text.split())
    assert "be 2 1 1 2 2030-02-25" in text
    assert text.count("was due, and did not take place") == 2
    assert "equality, objectives" in text
    assert "No drill was due in this period" in text
    assert "gone" in text
    passed, missed, failed = "2030-01-07 03:00 Passed", "2030-01-14 03:00 Missed", "2030-01-28 03:00 Failed"
    assert text.index(passed) < text.index(missed) < text.index(failed)
    assert "app, 2030-01-28 00:00" in text


def inside(chart: Chart) -> bool:
    """Whether all of it lies in its box, and every number is one."""
    points = [(one.x, one.y) for one in (*chart.dots, *chart.texts, *chart.rects)]
    points += [(one.x1, one.y1) for one in chart.lines] + [(one.x2, one.y2) for one in chart.lines]
    points += [(one.x + one.width, one.y + one.height) for one in chart.rects]
    return all(0 <= x <= WIDTH and 0 <= y <= chart.height + 2 for x, y in points)


@pytest.mark.parametrize("number", [0, 1, 2, 81, 500])
def test_a_trend_of_any_length_fits(number: int) -> None:
    """None, one and very many: in its box, with its limits; with many, only those that did not pass have a mark."""
    points = [
        Point(START + at * WEEK, None if at % 7 == 3 else 100.0 * at, "missed" if at % 7 == 3 else "pass", 5000.0)
        for at in range(number)
    ]
    chart = trend("t", points, spell_seconds)
    assert inside(chart)
    assert not re.search(r"nan|inf|e[+-]", " ".join(path.d for path in chart.paths))
    assert len(chart.dots) == (sum(point.value is None for point in points) if number > 80 else number)
    assert [path.kind for path in chart.paths] == (["series"] * (number > 1) + ["limit"] * (number > 0))
    page = period(part(found=drills(*(sample(at) for at in range(number)))))
    assert len(page) < 30_000 + 1200 * number


def test_a_value_stands_where_its_scale_says() -> None:
    """The ground is zero, the top is a round number that holds the greatest, and a limit above them all is inside."""
    chart = trend("t", [Point(START, 0, "pass"), Point(START + WEEK, 50, "pass", 120)], spell_seconds)
    assert [text.text for text in chart.texts[:3]] == ["0 s", "1 min", "2 min"]
    low, high = chart.dots
    assert (low.y, low.x < high.x) == (142.0, True)
    assert round(142 - 132 * 50 / 120, 1) == high.y
    assert chart.paths[-1].d.split()[1].startswith("10.0")
    same = trend("t", [Point(START, 5, "pass"), Point(START, 6, "fail")], spell_count)
    assert inside(same)


def test_bars_mark_what_is_beyond_its_limit() -> None:
    """By another colour and the limit across; nothing measured has no bar; long names are cut, not squeezed."""
    chart = bars("b", [Bar("a", 5, "5", 4), Bar("b" * 63, 3, "3", 4), Bar("c", None, "none")])
    assert [rect.kind for rect in chart.rects] == ["ground", "beyond", "ground", "bar", "ground"]
    assert len(chart.lines) == 2
    assert inside(chart)
    assert max(len(text.text) for text in chart.texts) == 16
    assert inside(bars("b", []))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.6, "0.6 s"), (59, "59 s"), (60, "1 min"), (258, "4 min 18 s"), (14400, "4 h"), (604800, "7 d")],
)
def test_times_are_spelt_shortly(seconds: float, text: str) -> None:
    """What is whole has no rest."""
    assert spell_seconds(seconds) == text


def test_numbers_are_spelt_shortly() -> None:
    """Up to three digits and a power."""
    assert [spell_count(count) for count in (0, 999, 12_500, 3_100_000, 2e9)] == [
        "0",
        "999",
        "12.5 k",
        "3.1 M",
        "2.0 G",
    ]


def test_the_age_of_a_proof_counts_to_the_end_or_today() -> None:
    """A period that lies behind is told as it ended."""
    past = PeriodPage(START, START + WEEK, START + 50 * WEEK, [part(proven=START + timedelta(days=1))])
    assert "be 6 d" in render_period(past)


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (sample(0), "A backup was fetched, restored on a server that holds nothing else, and checked."),
        (ERRED, "It ended before a backup was chosen. 2 things that it made could not be destroyed."),
        (sample(0, sizes=None), "A backup was chosen, and was not restored to the end."),
        (sample(0, type="damage", sizes=None), "A backup was fetched, damaged on purpose,"),
        (sample(0, checks=every_check([])), "restored on a server that holds nothing else; it was not checked"),
    ],
    ids=["passed", "nothing chosen", "not restored", "damage", "not checked"],
)
def test_the_page_says_no_more_than_the_report(report: Report, told: str) -> None:
    """Each sentence about what was done follows from what the report holds."""
    page = " ".join(render_report(report, "ab" * 32).split())

    assert told in page
    assert "destroyed again" not in page
