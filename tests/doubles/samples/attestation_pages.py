"""Attestations nobody issued, as pages, and a reader of pages."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from backupd.model.attestation import (
    DECLARED,
    METHODS,
    NOT_CLAIMED,
    NOT_COVERED,
    RETIRED,
    Attestation,
    AttestedHold,
    AttestedRestore,
    DeclaredCopy,
    DestroyedSegment,
    RetiredStore,
    StoreProof,
)
from backupd.model.documents import LedgerHead
from backupd.pages import CheckedSignature, render_attestation

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
            DestroyedSegment(
                generation=f"20300101T000000Z-{number:08x}",
                segment=f"{number:032x}",
                keyrings=[f"20300101T000000Z-{number:08x}", "20300102T000000Z-0c0c0c0c"] if number else [],
                stores=["zurich-disk"] if number else [],
            )
            for number in range(3)
        ],
        "holds": [AttestedHold(hold="CASE-1", since=DAY.format(1), review=DAY.format(9), released=None, due=None)],
        "restores": [
            AttestedRestore(seq=17, at=DAY.format(9), snapshot=f"20300101T000000Z-{'ab' * 32}", override="DPO-7")
        ],
        "residual": "none",
        "not_claimed": list(NOT_CLAIMED),
        "retired": [RetiredStore(store="geneva", at=DAY.format(5), decision="OPS-311", purging=True)],
        "copies": [DeclaredCopy(copy="tape", kept=30 * 86400, until=DAY.format(9))],
        "not_covered": [*NOT_COVERED, RETIRED, DECLARED],
        "ledger": LedgerHead(seq=21, head="ef" * 32),
        "issued": DAY.format(11),
        "performer": "cd" * 32,
    }
    return Attestation(**{**said, **changes})


def page_of(one: Attestation) -> str:
    signed = [CheckedSignature("cd" * 32, "1" * 16, "performer"), CheckedSignature("ce" * 32, "2" * 16, "other")]
    return render_attestation(one, "aa" * 32, signed)


class PageReader(HTMLParser):
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
