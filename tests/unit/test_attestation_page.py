"""The page of an attestation: everything in it, nothing fetched, and nothing a name could do to it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from backupd.model.attestation import (
    METHODS,
    NOT_CLAIMED,
    NOT_COVERED,
    Attestation,
    DestroyedKey,
    HoldTold,
    RestoreTold,
    StoreProof,
    decode_attestation,
    encode_attestation,
)
from backupd.model.documents import LedgerHead
from backupd.pages import Signature, render_attestation
from backupd.pages import attestation as texts

DAY = "2030-01-{:02}T03:04:05.000006Z"
HOSTILE = """'"><script>alert(1)</script><img src=x onerror=y>{{ 7*7 }}</style>"""


def proof(**changes: Any) -> StoreProof:
    said = {
        "store": "zurich-disk",
        "location": "zurich",
        "shredded": DAY.format(2),
        "cleared": DAY.format(3),
        "absent": DAY.format(10),
        "late": False,
        "observed": DAY.format(11),
        "snapshots": [f"daily_2030-01-{day:02}" for day in range(4, 11)],
        "keyrings": [f"keyrings/20300101T000000Z-{'0a' * 4}/20300101T000000Z-{'0b' * 4}.keyring"],
        "methods": list(METHODS),
    }
    return StoreProof(**{**said, **changes})


def sample(**changes: Any) -> Attestation:
    said = {
        "repository": "0123456789abcdef" * 2,
        "region": "be",
        "tenant": "fedcba9876543210" * 2,
        "incarnation": 1,
        "scope": "",
        "apart": ["support"],
        "cause": "erasure-requested",
        "to": None,
        "since": DAY.format(1),
        "deadline": DAY.format(20),
        "due": DAY.format(20),
        "purge_by": DAY.format(1),
        "began": DAY.format(2),
        "late": False,
        "stores": [proof()],
        "keys": [
            DestroyedKey(
                generation=f"20300101T000000Z-{number:08x}",
                segment=f"{number:032x}",
                public=f"{number:064x}" if number else None,
                stores=["zurich-disk"] if number else [],
            )
            for number in range(3)
        ],
        "holds": [HoldTold(hold="CASE-1", since=DAY.format(1), review=DAY.format(9), released=None, due=None)],
        "restores": [RestoreTold(seq=17, at=DAY.format(9), snapshot=f"20300101T000000Z-{'ab' * 32}", override="DPO-7")],
        "residual": "none",
        "not_claimed": list(NOT_CLAIMED),
        "not_covered": list(NOT_COVERED),
        "ledger": LedgerHead(seq=21, head="ef" * 32),
        "issued": DAY.format(11),
        "performer": "cd" * 32,
    }
    return Attestation(**{**said, **changes})


def page_of(one: Attestation) -> str:
    signed = [Signature("cd" * 32, "1" * 16, "performer"), Signature("ce" * 32, "2" * 16, "other")]
    return render_attestation(one, "aa" * 32, signed)


class Reader(HTMLParser):
    """Elements and their attributes, and the text between."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_what_the_document_says() -> None:
    """Every id, date, store, hold and restore; both blocks to sign; and the command with the key."""
    one, page = sample(), Reader(page_of(sample()))
    for text in (
        one.tenant, "zurich-disk, zurich", "2030-01-10 03:04:05 UTC", "daily_2030-01-07", f"{2:064x}",
        "its keyring expired", "CASE-1", "not released", "DPO-7", "every data class but support", "ef" * 32, "aa" * 32,
        "Performer", "Validator", f"backupd attest verify FILE --keeper {'cd' * 32} --ledger FOLDER", "in time",
    ):  # fmt: skip
        assert text in page.text, text
    assert "Delivered late" not in page.text


@pytest.mark.parametrize(
    ("codes", "known"),
    [(METHODS, texts.METHODS), (NOT_CLAIMED, texts.NOT_CLAIMED), (NOT_COVERED, texts.NOT_COVERED)],
)
def test_every_code_has_its_sentence(codes: tuple[str, ...], known: dict[str, str]) -> None:
    """A code that is written has a sentence here, and the page shows it."""
    assert set(codes) == set(known)
    shown = " ".join(Reader(page_of(sample())).text.split())
    assert all(sentence in shown for sentence in known.values())


def test_a_late_delivery_stands_at_the_top() -> None:
    """Nobody has to compare dates to see that it was late."""
    page = page_of(sample(late=True, stores=[proof(late=True)]))
    assert page.index("Delivered late:") < page.index("<h2>")
    assert "in time" not in page


def test_nothing_is_fetched_and_nothing_runs() -> None:
    """No element that loads or runs anything, and a policy that would stop it."""
    page = page_of(sample())
    tags = {tag for tag, _ in Reader(page).elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base", "a", "svg"}
    assert not re.search(r"url\(|@import|https?:|//", page)
    assert "default-src 'none'" in page


def test_hostile_names_stay_text() -> None:
    """Whatever a store, its place, its snapshots or a class are called, the page has the same elements."""
    hostile = proof(store=HOSTILE[:63], location=HOSTILE[:63], snapshots=[HOSTILE], keyrings=[HOSTILE], methods=["new"])
    tame = proof(store="a", location="b", snapshots=["c"], keyrings=["d"], methods=["new"])
    pages = [
        Reader(page_of(sample(stores=[one], apart=[name], not_covered=["newer"])))
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
