"""The page of how regions stand: what the facts say, what is wrong first, and nothing a name could do to it."""

from __future__ import annotations

import pytest
from doubles.samples.attestation_pages import HOSTILE, PageReader
from doubles.samples.region_facts import DAY, HOUR, NOW, database, region, store
from doubles.samples.status_pages import bad, page_of

from backupd.cli.commands.status import _region_lines
from backupd.model.status import Promises
from backupd.operations.service.jobs import JobOutcome
from backupd.pages.status import OUTCOMES, SPAN, gaps, timeline


def text_of(page: str) -> str:
    return " ".join(PageReader(page).text.split())


def test_a_page_shows_what_the_facts_say() -> None:
    """Three ages of each database with their snapshots, stores, who leaves, the newest proof, jobs and next runs."""
    text = text_of(page_of(region()))
    for shown in (
        "Everything is as promised.", "5 h 0 min", "2030-06-01 07:00", "abababab", "29 h 0 min", "cdcdcdcd", "3 d",
        "efefefef", "append-only for writers", "the keeper has no credential of its own", "600 GB free of 1.0 TB",
        "7, since 2030-05-25", "3 tenants leaving", "2030-07-11", "40 d", "2030-06-01 13:00",
    ):  # fmt: skip
        assert shown in text, shown
    assert [tag for tag, _ in PageReader(page_of(region())).elements].count("svg") == 4


def test_nothing_is_said_of_a_ledger_that_nobody_read() -> None:
    """Where no store answers and there is no copy, neither page nor terminal says who is leaving, or that nobody is."""
    unread = region(ledger=None, leaving=0, proven=None)
    page, terminal = text_of(page_of(unread)), "\n".join(_region_lines(unread, NOW))
    for text in (page, terminal):
        assert "no store answers" in text
        assert "0 tenants leaving" not in text
    assert "No drill has passed yet" not in page
    assert "newest proof" not in terminal


def test_what_is_wrong_stands_first() -> None:
    """Each alarm with what to do, before any table; a store that is away, who is late, and what was not told."""
    page = page_of(region(), bad(), troubles=("2 messages could not be sent",))
    first = text_of(page[: page.index("<h2>")])
    for shown in (
        "9 things are wrong",
        "the store refuses this key. Check the key.",
        "0.5 % of its room",
        "2 messages",
    ):
        assert shown in first, shown
    assert "1 overdue" in text_of(page)
    only = text_of(page_of(region(stores=(store(space=None, ledger_entries=39),))))
    assert "1 thing is wrong, and no promise is in danger" in only
    assert "39 of 40" in only


def test_no_tenant_is_named() -> None:
    """Not even by id: pages are shown around."""
    assert "5eed" not in page_of(bad())


def test_names_do_nothing_to_a_page() -> None:
    """What looks like a tag is text, wherever a name or an error can stand."""
    hostile, tame = (PageReader(page_of(bad(name, said=name))) for name in (HOSTILE, "tame"))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in tame.elements]
    assert [attributes.keys() for _, attributes in hostile.elements] == [one.keys() for _, one in tame.elements]
    assert HOSTILE in hostile.text


def test_every_outcome_has_its_words() -> None:
    """A way for a run to end that is added is explained."""
    assert set(OUTCOMES) == set(JobOutcome)


def test_gaps_longer_than_promised_are_drawn() -> None:
    """From when the next snapshot was due until it came; not what lies before the first that is known, nor less."""
    ticks = [NOW - 3 * DAY, NOW - 2 * DAY, NOW - 5 * HOUR]
    assert list(gaps(ticks, 26 * HOUR, None, NOW)) == [(NOW - 2 * DAY + 26 * HOUR, NOW - 5 * HOUR)]
    assert list(gaps(ticks[:2], 26 * HOUR, None, NOW)) == [(NOW - 2 * DAY + 26 * HOUR, NOW)]
    assert list(gaps([], 26 * HOUR, NOW - 90 * DAY, NOW)) == [(NOW - SPAN, NOW)]
    assert list(gaps(ticks, None, NOW - 90 * DAY, NOW)) == []
    chart = timeline(region(promises=Promises()), store(databases=(database(),)), NOW)
    assert not [rect for rect in chart.rects if rect.kind == "beyond"]
    assert len([line for line in chart.lines if line.kind == "tick"]) == 63


def test_no_line_hides_the_newest_stroke() -> None:
    """The line of today lies where a snapshot of this minute does, and is drawn before it."""
    chart = timeline(region(), store(databases=(database(recent=(NOW,)),)), NOW)
    today = [line.kind for line in chart.lines if line.x1 == max(one.x1 for one in chart.lines)]
    assert today[0] == "grid"
    assert today[-1] == "tick"


@pytest.mark.parametrize(
    ("promises", "shown"), [(Promises(), []), (Promises(backup_every=3600), ["beyond"]), (Promises(rpo=86400), ["bar"])]
)
def test_a_bar_fills_only_where_an_age_is_promised(promises: Promises, shown: list[str]) -> None:
    """Without a promise or a timetable there is no scale; what is due twice is old, as the alarm says."""
    page = PageReader(page_of(region(promises=promises, jobs=(), stores=(store(databases=(database(),)),))))
    kinds = [attributes["class"] for tag, attributes in page.elements if tag == "rect"]
    bars_only = [kind for kind in kinds if kind in ("bar", "beyond")]
    assert bars_only[-len(shown) :] == shown if shown else not bars_only


def test_commands_on_the_page_are_marked_up() -> None:
    """And not shown with the marks that they are written between."""
    assert "`" not in PageReader(page_of(region(), bad())).text
