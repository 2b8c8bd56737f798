"""Verify's choices keep their laws, for all objects there are to choose from."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import UsageError
from backupd.planning.verify import ReadCandidate, broken_links, choose, parse_share

keys = st.sampled_from([letter * 2 for letter in "abcdefghijklmnop"])
candidates = st.dictionaries(keys, st.tuples(st.integers(0, 1000), st.none() | st.floats(0, 1e9)), max_size=20).map(
    lambda found: [ReadCandidate(key, *value) for key, value in found.items()]
)
shares = st.fractions(0, 1)


@given(candidates, shares)
def test_at_least_the_share_is_chosen_and_no_more_than_needed(found: list[ReadCandidate], share: Fraction) -> None:
    """The bytes chosen reach the share, and without the last one they would not."""
    chosen = choose(found, share)
    wanted = share * sum(candidate.weight for candidate in found)
    assert sum(candidate.weight for candidate in chosen) >= wanted
    assert not chosen or sum(candidate.weight for candidate in chosen[:-1]) < wanted


@given(candidates, shares)
def test_nothing_chosen_was_checked_later_than_something_left(found: list[ReadCandidate], share: Fraction) -> None:
    """Never checked comes first, then the longest ago."""
    chosen = choose(found, share)
    left = [candidate for candidate in found if candidate not in chosen]

    def age(candidate: ReadCandidate) -> float:
        return -1.0 if candidate.checked is None else candidate.checked

    assert not chosen or not left or max(map(age, chosen)) <= min(map(age, left))


@given(candidates)
def test_all_is_all_that_has_bytes(found: list[ReadCandidate]) -> None:
    """A share of one leaves nothing with bytes unread; a share of none reads nothing."""
    assert sum(c.weight for c in choose(found, Fraction(1))) == sum(c.weight for c in found)
    assert choose(found, Fraction(0)) == []


@given(st.dictionaries(st.sampled_from("abcdef"), st.none() | st.sampled_from("abcdef")))
def test_a_chain_is_broken_where_the_one_before_is_not_there(previous: dict) -> None:
    """No more and no fewer links than those."""
    assert broken_links(previous) == sorted((n, b) for n, b in previous.items() if b and b not in previous)


@given(st.integers(0, 100))
def test_percentages_are_read(number: int) -> None:
    """As exact shares."""
    assert parse_share(f"{number}%") == Fraction(number, 100)


@pytest.mark.parametrize(("text", "share"), [("all", 1), ("none", 0), ("0.5%", Fraction(1, 200)), ("100.0%", 1)])
def test_words_and_fractions_are_read(text: str, share: Fraction) -> None:
    """What the help promises."""
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["", "%", "101%", "-1%", "5", "5%%", "1e1%", "ALL", ".%", "٣%", "1.2.3%", "nan%"])
def test_anything_else_is_an_error_of_use(text: str) -> None:
    """Never a silent default."""
    with pytest.raises(UsageError):
        parse_share(text)
