"""The page of an attestation: everything in it, nothing fetched, and nothing a name could do to it."""

from __future__ import annotations

import re

import msgspec
import pytest
from doubles.samples.attestation_pages import HOSTILE, PageReader, page_of, proof, sample

from backupd.cli.tenant_lines import ELSEWHERE
from backupd.model.attestation import (
    DECLARED,
    METHODS,
    NOT_CLAIMED,
    NOT_COVERED,
    RETIRED,
    decode_attestation,
    encode_attestation,
)
from backupd.pages import attestation


def test_the_page_shows_what_the_document_says() -> None:
    """Every id, date, store, hold and restore; both blocks to sign; and the command with the key."""
    one, page = sample(), PageReader(page_of(sample()))
    for text in (
        one.tenant, "Store zurich-disk, in zurich", "2030-01-10 03:04:05 UTC", "daily_2030-01-07",
        f"20300101T000000Z-{2:08x}, 20300102T000000Z-0c0c0c0c", "expired", "CASE-1",
        "not released", "DPO-7", "every data class but support", "ef" * 32, "aa" * 32,
        "geneva, since 2030-01-05", "by decision OPS-311", "tape: kept at most 30.0 days",
        "Performer", "Validator", f"backupd attest verify FILE --keeper {'cd' * 32} --ledger FOLDER", "in time",
    ):  # fmt: skip
        assert text in page.text, text
    assert "Deleted, late" not in page.text
    top = " ".join(page.text.split())
    assert "Deleted, in time: gone since" in top
    assert top.index("Deleted, in time") < top.index("Looked at again on") < top.index("Subject")
    assert "Residual" not in top


@pytest.mark.parametrize(
    ("codes", "known"),
    [
        (METHODS, attestation.METHODS),
        (NOT_CLAIMED, attestation.NOT_CLAIMED),
        ((*NOT_COVERED, RETIRED, DECLARED), attestation.NOT_COVERED),
    ],
)
def test_every_code_has_its_sentence(codes: tuple[str, ...], known: dict[str, str]) -> None:
    """A code that is written has a sentence here, and the page shows it."""
    assert set(codes) == set(known)
    shown = " ".join(PageReader(page_of(sample())).text.split())
    assert all(sentence in shown for sentence in known.values())


def test_a_terminal_has_words_for_what_is_not_looked_for() -> None:
    """For each code of an attestation that says so."""
    assert ELSEWHERE.keys() == {*NOT_COVERED, RETIRED, DECLARED}


def test_stores_without_snapshots_are_not_said_to_have_been_looked_into() -> None:
    """Of nothing, nothing is claimed; and whoever never saw the program is told what the words mean."""
    bare = " ".join(PageReader(page_of(sample(stores=[proof(snapshots=[])]))).text.split())
    assert "none shows snapshots of itself that could" in bare
    assert "Seen to be gone" in bare
    assert "none had to be looked into" in bare
    assert "was looked into" not in bare
    assert "snapshots too" not in bare
    shown = " ".join(PageReader(page_of(sample())).text.split())
    assert "none of the snapshots it shows of itself, holds a section" in shown
    for word in ("segment", "section", "packs", "keyrings", "object", "ledger"):
        assert word in shown.partition("What was done")[2].partition("What is not claimed")[0]


def test_a_late_delivery_stands_at_the_top() -> None:
    """Nobody has to compare dates to see that it was late."""
    page = page_of(sample(late=True, stores=[proof(late=True)]))
    assert page.index("Deleted, late:") < page.index("<h2>")
    assert "in time" not in page


def test_nothing_is_fetched_and_nothing_runs() -> None:
    """No element that loads or runs anything, and a policy that would stop it."""
    page = page_of(sample())
    tags = {tag for tag, _ in PageReader(page).elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base", "a", "svg"}
    assert not re.search(r"url\(|@import|https?:|//", page)
    assert "default-src 'none'" in page


def test_hostile_names_stay_text() -> None:
    """Whatever a store, its place, its snapshots or a class are called, the page has the same elements."""
    hostile = proof(store=HOSTILE[:63], location=HOSTILE[:63], snapshots=[HOSTILE], keyrings=[HOSTILE], methods=["new"])
    tame = proof(store="a", location="b", snapshots=["c"], keyrings=["d"], methods=["new"])
    pages = [
        PageReader(page_of(sample(stores=[one], apart=[name], not_covered=["newer"])))
        for one, name in ((hostile, HOSTILE[:63]), (tame, "e"))
    ]
    assert pages[0].elements == pages[1].elements
    assert HOSTILE in pages[0].text
    assert "49" not in pages[0].text.replace(HOSTILE, "")


def test_a_document_with_fields_of_a_later_program_is_read() -> None:
    """Unknown members are left out, and what is written is read again as it was."""
    one = sample()
    assert decode_attestation(encode_attestation(one), "it") == one
    more = {**msgspec.to_builtins(one), "colour": "green"}
    assert decode_attestation(msgspec.json.encode(more), "it") == one
