"""Sessions that have waited for too long are found."""

from __future__ import annotations

from backupd.postgres.source.waiters import longest_waited_for, still_waiting

ALTER, TRUNCATE = (11, 16390), (12, 16400)


def test_a_wait_counts_from_its_first_look() -> None:
    """Whoever waits on keeps the moment; whoever is gone, or waits for another relation, does not."""
    first = still_waiting({}, [ALTER], 5.0)
    second = still_waiting(first, [ALTER, TRUNCATE], 6.0)
    assert second == {ALTER: 5.0, TRUNCATE: 6.0}
    assert still_waiting(second, [TRUNCATE], 7.0) == {TRUNCATE: 6.0}
    assert still_waiting(second, [(11, 16400)], 7.0) == {(11, 16400): 7.0}


def test_only_who_waits_for_too_long_counts() -> None:
    """The one who has waited longest, once that is as long as others may."""
    assert longest_waited_for({}, 5.0) is None
    assert longest_waited_for({ALTER: 5.5, TRUNCATE: 6.0}, 5.0) is None
    assert longest_waited_for({TRUNCATE: 5.0, ALTER: 4.0}, 5.0) == 16390


def test_tries_that_are_cut_short_are_not_late() -> None:
    """A tool that gives up after a moment and comes back each time is not one long wait."""
    since: dict[tuple[int, int], float] = {}
    for at in range(20):
        since = still_waiting(since, [ALTER] if at % 3 else [], float(at))
        assert longest_waited_for(since, at - 5.0) is None
