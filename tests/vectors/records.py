"""Cases of records in their place on a store, FORMAT.md §4."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from case import Case
from crafting import GENERATION, REPOSITORY, RUN, Change, same, text
from expecting import OK, case, damage, refused, with_field, without

from backupd.seal.documents import Signer

TIME = "20300102T030405Z"
PACKS = [["ab" * 32, [0, 2, 5, 1], []], ["cd" * 32, [], [3, 4]]]
ELSEWHERE = "20300101T000000Z-ffffffff"


def records() -> Iterator[Case]:
    signer, keeper, stranger = Signer(bytes(range(32))), Signer(bytes(range(1, 33))), Signer(bytes(32))
    info = {"kind": "repository", "format": 2, "features": [], "repository": REPOSITORY, "region": "be"}
    info |= {"created": "2030-01-01T00:00:00.000000Z", "signers": [signer.public], "keepers": [keeper.public]}
    repository = signer.sign(json.dumps({**info, "profile": {}}).encode(), "repository")

    def made(change: Change = same, by: Signer = signer) -> bytes:
        return by.sign(json.dumps(change(body())).encode(), "snapshot")

    stranged, place = damage("is not signed by a trusted signer"), damage("is not in its own place")
    unreadable = damage("snapshots/")
    reduced = with_field("reduced", f"{TIME}-{'ef' * 32}")
    cases: list[tuple[str, str, dict[str, str], bytes]] = [
        ("record-good", "nothing", OK, made()),
        ("record-unknown-field", "nothing; unknown fields are kept", OK, made(with_field("future", {"a": [1]}))),
        ("record-member", "nothing; one of several databases", OK, made(with_field("member", "ab" * 8))),
        ("record-no-packs", "nothing; a snapshot of nothing", OK, made(with_field("packs", []))),
        ("record-reduced", "nothing; what a hold keeps, signed by a keeper", OK, made(reduced, keeper)),
        ("record-keeper", "a keeper signed a record that is not reduced", stranged, made(by=keeper)),
        ("record-stranger", "signed by nobody trusted", stranged, made(by=stranger)),
        ("record-format-1", "format 1", refused("is written in format 1"), made(with_field("format", 1))),
        ("record-feature", "an unknown feature", refused("features this"), made(with_field("features", ["future"]))),
        ("record-kind", "a document of another kind", damage("another kind"), made(with_field("kind", "keyring"))),
        (
            "record-repository",
            "of another repository",
            damage("belongs to another repository"),
            made(with_field("repository", "aa" * 16)),
        ),
        (
            "record-region",
            "of another region",
            damage("belongs to another repository"),
            made(with_field("region", "ch")),
        ),
        ("record-generation", "of another generation", place, made(with_field("generation", ELSEWHERE))),
        ("record-time", "exported at another time", place, made(with_field("exported", "2030-01-02T03:04:06.000000Z"))),
        ("record-exported", "a time in another form", unreadable, made(with_field("exported", "2030-01-02 03:04:05Z"))),
        (
            "record-no-day",
            "a day that no year has",
            unreadable,
            made(with_field("published", "2030-02-30T03:05:00.000000Z")),
        ),
        (
            "record-no-leap-year",
            "29 February 2100",
            unreadable,
            made(with_field("published", "2100-02-29T03:05:00.000000Z")),
        ),
        ("record-leap-year", "nothing; 29 February", OK, made(with_field("published", "2032-02-29T23:59:59.000000Z"))),
        (
            "record-year",
            "the last year there is",
            unreadable,
            made(with_field("published", "9999-12-31T23:59:59.000000Z")),
        ),
        ("record-database", "no database", unreadable, made(without("database"))),
        (
            "record-packs-missing",
            "no packs, but parts",
            unreadable,
            made(lambda v: {**without("packs")(v), "parts": []}),
        ),
        ("record-pack-name", "a pack named by no hash", unreadable, made(with_field("packs", [["../../x", [], []]]))),
        (
            "record-pack-width",
            "a pack without its others",
            unreadable,
            made(with_field("packs", [["ab" * 32, [0, 1]]])),
        ),
        (
            "record-pack-negative",
            "a negative section",
            unreadable,
            made(with_field("packs", [["ab" * 32, [-1, 1], []]])),
        ),
        ("record-pack-text", "ranges as text", unreadable, made(with_field("packs", [["ab" * 32, "0,1", []]]))),
    ]
    for name, about, expected, data in cases:
        fields = {
            "trusted": signer.public,
            "keeper": keeper.public,
            "generation": GENERATION,
            "snapshot": f"{TIME}-{hashlib.sha256(data).hexdigest()}",
            "info": text(repository),
        }
        yield case(name, about, "record", expected, fields, data, content(name))
    fields["snapshot"] = f"{TIME}-{'00' * 32}"
    about, wrong = "under a name with another hash", damage("does not have the hash its name says")
    yield case("record-hash", about, "record", wrong, fields, made(), b"")


def body() -> dict[str, Any]:
    return {
        "kind": "snapshot",
        "format": 2,
        "features": [],
        "repository": REPOSITORY,
        "region": "be",
        "generation": GENERATION,
        "run": RUN,
        "database": "app",
        "member": None,
        "exported": "2030-01-02T03:04:05.678901Z",
        "published": "2030-01-02T03:05:00.000000Z",
        "server": 170000,
        "previous": None,
        "ledger": {"seq": 0, "head": None},
        "packs": PACKS,
        "totals": {"tables": 1, "rows": 2, "bytes": 3, "stored": 4, "added": 5},
    }


def content(name: str) -> bytes:
    """What a reader finds in a good record."""
    packs = [] if name == "record-no-packs" else PACKS
    return "".join(f"{sha256} {manifests} {others}\n" for sha256, manifests, others in packs).encode()
