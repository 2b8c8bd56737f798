"""Shares of an identity: any that are enough restore it, and what is wrong with others is named, never repeated."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations

import pytest

from backupd.errors import KeyRefusedError, RefusedError, UsageError
from backupd.operations.keys import ShareText, combine_shares, split_identity
from backupd.seal import escrow, suite

PAIR = suite.generate()
MADE, PAGES = split_identity(PAIR.secret, 4, 3)
OTHERS = split_identity(suite.generate().secret, 3, 2)[1]


def texts(*pages: str) -> list[ShareText]:
    return [ShareText(f"page {number}", page) for number, page in enumerate(pages, start=1)]


def changed(page: str, number: int, word: str) -> str:
    """The page with one word in the place of another."""
    assert f"{number:>3}. " in page
    return re.sub(rf"(?<!\d){number}\. \w+", f"{number}. {word}", page)


def word(page: str, number: int) -> str:
    return re.findall(rf"(?<!\d){number}\. (\w+)", page)[0]


def test_any_three_restore_it() -> None:
    """Whichever, in whatever order, and all four as well."""
    for some in [*combinations(PAGES, 3), PAGES, PAGES[::-1]]:
        assert combine_shares(texts(*some), None) == PAIR


def test_two_are_too_few_also_when_one_is_given_twice() -> None:
    """It says how many are missing."""
    with pytest.raises(KeyRefusedError, match="2 shares are given, and 3 are needed"):
        combine_shares(texts(*PAGES[:2]), None)
    with pytest.raises(KeyRefusedError, match="2 shares are given") as refused:
        combine_shares(texts(PAGES[0], PAGES[1], PAGES[0]), None)
    assert "twice counts once" in refused.value.hint


def test_shares_of_two_sets_are_told_apart() -> None:
    """Also of two splits of one identity; the share that does not belong is named."""
    with pytest.raises(KeyRefusedError, match="'page 3' belongs to another set of shares than 'page 1'"):
        combine_shares(texts(*PAGES[:2], OTHERS[0]), None)
    again = split_identity(PAIR.secret, 4, 3)[1]
    with pytest.raises(KeyRefusedError, match="another set"):
        combine_shares(texts(PAGES[0], PAGES[1], again[2]), None)


@pytest.mark.parametrize("number", [1, 2, 4, 40, 81, 82, 84])
def test_a_mistyped_word_is_named_by_its_number(number: int) -> None:
    """One that is no word of the list, and one that is, which only the checksum can tell; neither is repeated."""
    with pytest.raises(KeyRefusedError, match=rf"^word {number} of 'page 2' is none of the list's$") as refused:
        combine_shares(texts(PAGES[0], changed(PAGES[1], number, "accademic"), PAGES[2]), None)
    assert "accademic" not in refused.value.message + refused.value.hint
    other = "academic" if word(PAGES[1], number) != "academic" else "acid"
    with pytest.raises(KeyRefusedError, match=rf"^word {number} of 'page 2' wrong$|^several words"):
        combine_shares(texts(PAGES[0], changed(PAGES[1], number, other), PAGES[2]), None)


def test_most_single_words_are_found() -> None:
    """By the checksum alone, at every place but where the kind of share is said."""
    found = 0
    for number in range(3, 85):
        other = "academic" if word(PAGES[0], number) != "academic" else "acid"
        with pytest.raises(KeyRefusedError) as refused:
            combine_shares(texts(changed(PAGES[0], number, other), *PAGES[1:3]), None)
        found += refused.value.message == f"word {number} of 'page 1' wrong"
    assert found == 82


def test_two_wrong_words_are_no_riddle() -> None:
    """Nothing false is named."""
    page = changed(changed(PAGES[0], 10, word(PAGES[0], 11)), 11, word(PAGES[0], 10))
    assert page != PAGES[0]
    with pytest.raises(KeyRefusedError, match=r"^several words of 'page 1' wrong$"):
        combine_shares(texts(page, *PAGES[1:3]), None)


def test_a_word_left_out_is_counted() -> None:
    """Eighty-three words are not a share."""
    page = re.sub(r"(?<!\d)17\. \w+", "", PAGES[0])
    with pytest.raises(KeyRefusedError, match="'page 1' has 83 words, and a share has 84"):
        combine_shares(texts(page, *PAGES[1:3]), None)


def test_typed_in_one_go() -> None:
    """Without numbers, in capitals, a blank line between shares; then somebody has to say whose it is to be."""
    bare = "\n\n".join(" ".join(re.findall(r"\d+\. (\w+)", page)).upper() for page in PAGES[:3])
    assert combine_shares([ShareText("standard input", bare)], PAIR.public) == PAIR
    with pytest.raises(UsageError, match="which recipient"):
        combine_shares([ShareText("standard input", bare)], None)
    with pytest.raises(KeyRefusedError, match="is wanted"):
        combine_shares([ShareText("standard input", bare)], suite.generate().public)


def test_a_page_is_a_page() -> None:
    """It fits on a sheet, names its recipient, and says what it is."""
    assert len(PAGES[0].splitlines()) < 40
    assert max(map(len, PAGES[0].splitlines())) <= 100
    assert MADE.recipient in PAGES[0]
    assert "share 1 of 4" in PAGES[0]


@pytest.mark.parametrize(("shares", "threshold"), [(3, 1), (1, 1), (3, 4), (17, 2), (0, 0)])
def test_numbers_that_make_no_sense(shares: int, threshold: int) -> None:
    """Are refused before anything is made."""
    with pytest.raises(RefusedError, match="cannot be made"):
        escrow.split(PAIR.secret, shares, threshold)


def escrow_shares() -> list[escrow.Share]:
    return [escrow.parse(re.findall(r"\d+\. (\w+)", page), f"page {at}") for at, page in enumerate(PAGES[:3], 1)]


def test_shares_that_do_not_belong_together_are_refused() -> None:
    """Of one number of a set, and of one threshold, but not of one split: the library's own digest says so."""
    first, second, third = escrow_shares()
    with pytest.raises(KeyRefusedError, match="do not belong together"):
        escrow.combine([first, second, replace(third, words=second.words)])


def test_shares_that_would_restore_nothing_are_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Combinations of the new ones are tried first."""
    monkeypatch.setattr(escrow, "combine", lambda _: b"another secret")
    with pytest.raises(RefusedError, match="do not restore the identity"):
        escrow.split(PAIR.secret, 3, 2)
