"""The window of the WAL in which changes are looked for, and every reason for which there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.planning.incremental.facts import Base, Look, Reason, ServerMark, Summary, WalPair, Window
from backupd.planning.incremental.window import find_window, next_base

SERVER = ServerMark(system=7, timeline=1, started="2026-01-01 00:00:00+00", version=180000, database=5)
BASE = Base(SERVER, oldest=50, lsn=1000, summarized=1010, pairs=(WalPair(400, 30), WalPair(900, 50), WalPair(1010, 60)))
SUMMARIES = (Summary(1, 300, 900), Summary(1, 900, 1010), Summary(1, 1010, 2000), Summary(1, 2000, 2100))
LOOK = Look(
    SERVER, oldest=80, lsn=2050, durable=2050, pairs=(WalPair(2000, 80), WalPair(2050, 81)), summaries=SUMMARIES
)


def test_the_window_begins_before_every_transaction_that_was_running() -> None:
    """Not at the last snapshot: a transaction that wrote before it, and was running then, may have committed since."""
    assert find_window(BASE, LOOK) == Window(900, 2050, SUMMARIES[1:])
    assert find_window(replace(BASE, oldest=49), LOOK) == Window(400, 2050, SUMMARIES)


def test_a_summary_in_which_the_window_begins_counts_as_a_whole() -> None:
    """It says what changed, and not where in its part of the WAL."""
    base = replace(BASE, pairs=(WalPair(700, 40),))
    assert find_window(base, LOOK) == Window(700, 2050, SUMMARIES)


@pytest.mark.parametrize(
    ("base", "look", "reason"),
    [
        (None, LOOK, Reason.NOTHING_REMEMBERED),
        (BASE, replace(LOOK, server=replace(SERVER, system=8)), Reason.ANOTHER_SERVER),
        (BASE, replace(LOOK, server=replace(SERVER, timeline=2)), Reason.ANOTHER_SERVER),
        (BASE, replace(LOOK, server=replace(SERVER, started="later")), Reason.ANOTHER_SERVER),
        (BASE, replace(LOOK, server=replace(SERVER, version=180001)), Reason.ANOTHER_SERVER),
        (BASE, replace(LOOK, server=replace(SERVER, database=6)), Reason.ANOTHER_SERVER),
        (BASE, replace(LOOK, lsn=999), Reason.WENT_BACK),
        (BASE, replace(LOOK, oldest=49), Reason.WENT_BACK),
        (replace(BASE, summarized=1011), LOOK, Reason.WENT_BACK),
        (replace(BASE, oldest=29), LOOK, Reason.LONG_TRANSACTION),
        (BASE, replace(LOOK, summaries=(*SUMMARIES[1:2], *SUMMARIES[3:])), Reason.GAP),
        (BASE, replace(LOOK, summaries=SUMMARIES[:3]), Reason.GAP),
        (replace(BASE, oldest=49), replace(LOOK, summaries=SUMMARIES[1:]), Reason.GAP),
    ],
    ids=[
        "nothing remembered",
        "another cluster",
        "promoted",
        "restarted",
        "upgraded",
        "another database of the name",
        "older than it was",
        "transactions older than they were",
        "no summary ended where one did",
        "a transaction older than every pair",
        "a gap",
        "not up to the snapshot",
        "not from the beginning",
    ],
)
def test_everything_is_read_where_something_is_not_certain(base: Base | None, look: Look, reason: Reason) -> None:
    """Each of these has ended in rows that would be missing from a backup."""
    assert find_window(base, look) is reason


def test_summaries_of_another_timeline_do_not_close_a_gap() -> None:
    """The other timeline's WAL is that of another history."""
    other = [replace_timeline(summary) if summary.start == 2000 else summary for summary in SUMMARIES]
    assert find_window(BASE, replace(LOOK, summaries=tuple(other))) is Reason.GAP


def replace_timeline(summary: Summary) -> Summary:
    return summary._replace(timeline=2)


def test_the_next_base_keeps_the_pairs_that_a_later_one_may_need() -> None:
    """A pair older than the last good one is never needed again: the oldest running transaction only gets younger."""
    following = next_base(BASE, LOOK)
    assert following == Base(SERVER, 80, 2050, 2100, (WalPair(2000, 80), WalPair(2050, 81)))
    assert next_base(BASE, replace(LOOK, oldest=55)) == Base(
        SERVER, 55, 2050, 2100, (WalPair(900, 50), WalPair(1010, 60), WalPair(2000, 80), WalPair(2050, 81))
    )


def test_the_pairs_of_another_server_are_dropped() -> None:
    """After a restart the WAL may be another one up to the same place."""
    following = next_base(replace(BASE, server=replace(SERVER, started="before")), replace(LOOK, oldest=1))
    assert isinstance(following, Base)
    assert following.pairs == LOOK.pairs


def test_the_pairs_of_another_history_are_dropped() -> None:
    """A server that has written less than was seen has not written what those pairs stand for."""
    look = replace(LOOK, oldest=35)
    for lsn, kept in ((2050, BASE.pairs), (2051, ())):
        following = next_base(replace(BASE, lsn=lsn), look)
        assert isinstance(following, Base)
        assert following.pairs == (*kept, *LOOK.pairs)


def test_summaries_behind_the_snapshot_are_not_read() -> None:
    """What they name cannot show in it."""
    behind = (Summary(1, 2050, 2060), Summary(1, 2100, 2200))
    assert find_window(BASE, replace(LOOK, summaries=(*SUMMARIES, *behind))) == Window(900, 2050, SUMMARIES[1:])


@pytest.mark.parametrize(
    "look",
    [
        replace(LOOK, durable=2049),
        replace(LOOK, summaries=SUMMARIES[:3]),
        replace(LOOK, summaries=(*SUMMARIES[:3], Summary(2, 2000, 2100))),
    ],
)
def test_nothing_is_remembered_before_it_is_on_the_servers_disk(look: Look) -> None:
    """A crash takes back what was committed asynchronously and already seen."""
    assert next_base(BASE, look) is Reason.SLOW_SUMMARIES


def test_pairs_do_not_grow_without_end() -> None:
    """A transaction left open for months keeps the one pair that it needs."""
    base: Base | None = None
    for place in range(1, 2000):
        look = replace(LOOK, oldest=5, lsn=place * 10, durable=place * 10, pairs=(WalPair(place * 10, place),),
                       summaries=(Summary(1, 0, place * 10),))  # fmt: skip
        found = next_base(base, look)
        assert isinstance(found, Base)
        base = found
    assert base is not None
    assert len(base.pairs) <= 64
    assert base.pairs[0] == WalPair(50, 5)
    assert base.pairs[-1] == WalPair(19990, 1999)
