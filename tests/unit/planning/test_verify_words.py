"""What verify says of a mismatch, and what it reads first."""

from __future__ import annotations

from fractions import Fraction

import pytest

from backupd.errors import UsageError
from backupd.model.ids import ObjectHash, Pseudonym
from backupd.planning.verify import Mismatch, ReadCandidate, choose, parse_share

SEGMENT = Pseudonym("5e" * 16)


@pytest.mark.parametrize(
    ("mismatch", "sentence"),
    [
        (Mismatch("packs/x", "is missing"), "'packs/x' is missing"),
        (Mismatch("packs/x", "is missing", SEGMENT), f"'packs/x' is missing (segment {SEGMENT})"),
        (Mismatch("packs/x", "section 3 of 'packs/x' is cut short"), "section 3 of 'packs/x' is cut short"),
        (Mismatch("packs/x", "'packs/x, section 3' is cut short"), "'packs/x, section 3' is cut short"),
        (Mismatch("packs/x", "'packs/y' is missing"), "'packs/x' 'packs/y' is missing"),
    ],
)
def test_a_mismatch_names_its_object_once(mismatch: Mismatch, sentence: str) -> None:
    """Wherever the message quotes it already; and its segment behind."""
    assert mismatch.sentence == sentence


def test_what_was_never_read_comes_first() -> None:
    """Then what was read longest ago, even at the beginning of time; of equals, by name."""
    names = [ObjectHash(letter * 64) for letter in "abcdef"]
    times = [3.0, 2.0, None, 0.0, None, 2.0]
    found = [ReadCandidate(name, 1, at) for name, at in zip(names, times, strict=True)]
    assert [one.key[0] for one in choose(found, Fraction(1))] == list("cedbfa")
    assert [one.key[0] for one in choose(found, Fraction(1, 2))] == list("ced")
    assert [one.key[0] for one in choose(found, Fraction(501, 1000))] == list("cedb")


def test_a_share_that_cannot_be_read_is_quoted_and_the_words_are_named() -> None:
    """Cut where it is long: it may be pasted."""
    with pytest.raises(UsageError) as raised:
        parse_share("x" * 41)
    assert raised.value.message == f'cannot read "{"x" * 40}" of the data'
    assert raised.value.hint == "Say all, none, or a percentage such as 5%."
