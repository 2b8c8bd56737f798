"""Cases of keyrings and signed documents, FORMAT.md §3 and §5."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from case import Case
from crafting import REPOSITORY, Change, CraftKeyring, pseudonym, segment_key, text
from expecting import OK, bent, case, damage, refused, with_field

from backupd.seal import suite
from backupd.seal.documents import Signer


def keyrings() -> Iterator[Case]:
    me, other, signer, stranger = suite.generate(), suite.generate(), Signer(bytes(range(32))), Signer(bytes(32))

    def craft(recipient: suite.KeyPair = me, by: Signer = signer, **changes: Any) -> CraftKeyring:
        return CraftKeyring(recipient, by, **changes)

    def with_line(at: int, change: Change) -> Change:
        return lambda lines: [*lines[:at], json.dumps(change(json.loads(lines[at]))), *lines[at + 1 :]]

    index, unlisted = damage("does not match its signed index"), damage("its index does not list there")
    many = damage("more lines than its index lists keys")
    table = damage("the index of")
    good = b"".join(pseudonym(at).encode() + segment_key(at) for at in range(2))
    rest = pseudonym(1).encode() + segment_key(1)
    cases: list[tuple[str, str, dict[str, str], CraftKeyring, bytes]] = [
        ("keyring-good", "nothing", OK, craft(), good),
        (
            "keyring-shredded",
            "nothing; the first segment was shredded",
            OK,
            craft(lines=lambda v: [*v[:3], v[4]]),
            rest,
        ),
        ("keyring-all-shredded", "nothing; every segment was shredded", OK, craft(lines=lambda v: v[:3]), b""),
        (
            "keyring-other-identity",
            "sealed to another identity",
            {"expect": "KeyRefusedError", "message": "does not open"},
            craft(other),
            b"",
        ),
        (
            "keyring-signature",
            "the signature is wrong",
            damage("the signature of"),
            craft(lines=lambda v: [v[0].replace('"be"', '"bf"'), *v[1:]]),
            b"",
        ),
        (
            "keyring-stranger",
            "signed by nobody trusted",
            damage("is not signed by a trusted signer"),
            craft(by=stranger),
            b"",
        ),
        ("keyring-format-1", "format 1", refused("is written in format 1"), craft(body=with_field("format", 1)), b""),
        (
            "keyring-feature",
            "an unknown feature",
            refused("features this program does not know"),
            craft(body=with_field("features", ["future"])),
            b"",
        ),
        (
            "keyring-kind",
            "a document of another kind",
            damage("another kind"),
            craft(body=with_field("kind", "snapshot")),
            b"",
        ),
        (
            "keyring-created",
            "made on a day that no year has",
            damage("'case'"),
            craft(body=with_field("created", "2030-02-30T03:04:05.000000Z")),
            b"",
        ),
        (
            "keyring-run",
            "another run's name: the file key is sealed to this one",
            damage("are not authentic"),
            craft(body=with_field("run", "20300102T030405Z-ffffffff")),
            b"",
        ),
        ("keyring-index-cut", "the index is cut short", table, craft(table=lambda d: d[:-1]), b""),
        (
            "keyring-index-class",
            "an entry's class is beyond the list",
            table,
            craft(body=with_field("classes", ["c1" * 8])),
            b"",
        ),
        (
            "keyring-index-database",
            "an entry's database is beyond the list",
            table,
            craft(body=with_field("databases", [])),
            b"",
        ),
        (
            "keyring-index-tag",
            "a tag is no hex",
            damage("'case'"),
            craft(body=with_field("classes", ["../../x", "c2" * 8])),
            b"",
        ),
        (
            "keyring-index-twice",
            "the index lists a segment twice",
            damage("lists a segment twice"),
            craft(table=lambda d: d[:52] + d[:16] + d[68:]),
            b"",
        ),
        (
            "keyring-index-base64",
            "the index is not base64",
            damage("base64 that cannot be read"),
            craft(body=with_field("entries", "!!!!")),
            b"",
        ),
        (
            "keyring-entry-flipped",
            "a bit of a sealed line is flipped",
            index,
            craft(lines=lambda v: [*v[:4], bent(v[4], 1)]),
            b"",
        ),
        ("keyring-entries-exchanged", "two segments' sealed bytes are exchanged", index, craft(lines=exchanged), b""),
        (
            "keyring-entry-twice",
            "a line stands twice, another is not there",
            unlisted,
            craft(lines=lambda v: [*v[:-1], v[-2]]),
            b"",
        ),
        ("keyring-entry-more", "a line stands twice", many, craft(lines=lambda v: [*v, v[-1]]), b""),
        ("keyring-entry-order", "lines are not in order", unlisted, craft(lines=lambda v: [*v[:3], v[4], v[3]]), b""),
        (
            "keyring-entry-beyond",
            "a line's place is beyond the index",
            unlisted,
            craft(lines=with_line(4, lambda v: [2, v[1]])),
            b"",
        ),
        (
            "keyring-entry-negative",
            "a line's place is negative",
            damage("'case'"),
            craft(lines=with_line(4, lambda v: [-1, v[1]])),
            b"",
        ),
        (
            "keyring-entry-form",
            "a line is an object",
            damage("'case'"),
            craft(lines=with_line(4, lambda v: {"place": v[0], "sealed": v[1]})),
            b"",
        ),
        (
            "keyring-wrap",
            "a bit of a recipient's wrap is flipped",
            damage("does not match its check"),
            craft(lines=bent_wrap),
            b"",
        ),
        (
            "keyring-wrap-and-check",
            "a wrap is changed and its check made to fit",
            damage("are not authentic"),
            craft(lines=bent_wrap_checked),
            b"",
        ),
        (
            "keyring-wrap-twice",
            "nothing; a recipient has two wraps, as one had who was configured twice",
            OK,
            craft(lines=second_wrap),
            good,
        ),
        ("keyring-cut", "cut before its lines end", damage("is cut short"), craft(lines=lambda v: v[:2]), b""),
        (
            "keyring-trailing",
            "a line that is not JSON in place of the last one",
            damage("cannot be read"),
            craft(lines=lambda v: [*v[:-1], "x"]),
            b"",
        ),
    ]
    for name, about, expected, made, plain in cases:
        fields = {"secret": text(me.secret), "trusted": signer.public}
        yield case(name, about, "keyring", expected, fields, made.bytes(), plain)
    cut = craft().bytes()[:-1]
    fields = {"secret": text(me.secret), "trusted": signer.public}
    yield case("keyring-no-newline", "the last newline is missing", "keyring", damage("is cut short"), fields, cut, b"")


def exchanged(lines: list[str]) -> list[str]:
    one, two = json.loads(lines[3]), json.loads(lines[4])
    return [*lines[:3], json.dumps([0, two[1]]), json.dumps([1, one[1]])]


def bent_wrap(lines: list[str]) -> list[str]:
    line = json.loads(lines[2])
    line["wraps"][0] = json.loads(bent(json.dumps(line["wraps"][0]), "sealed"))
    return [*lines[:2], json.dumps(line), *lines[3:]]


def second_wrap(lines: list[str]) -> list[str]:
    line = json.loads(lines[2])
    line["wraps"] *= 2
    joined = b"".join(wrap["recipient"].encode() + base64.b64decode(wrap["sealed"]) for wrap in line["wraps"])
    line["check"] = hashlib.sha256(joined).hexdigest()
    return [*lines[:2], json.dumps(line), *lines[3:]]


def bent_wrap_checked(lines: list[str]) -> list[str]:
    lines = bent_wrap(lines)
    line = json.loads(lines[2])
    wrap = line["wraps"][0]
    joined = wrap["recipient"].encode() + base64.b64decode(wrap["sealed"])
    line["check"] = hashlib.sha256(joined).hexdigest()
    return [*lines[:2], json.dumps(line), *lines[3:]]


def documents() -> Iterator[Case]:
    signer, stranger = Signer(bytes(range(32))), Signer(bytes(32))
    base = {"kind": "repository", "format": 2, "features": [], "repository": REPOSITORY}

    def signed(by: Signer = signer, kind: str = "repository", **more: Any) -> bytes:
        return by.sign(json.dumps({**base, **more}).encode(), kind)

    def both(data: bytes) -> bytes:
        """A second signature, by a stranger, before the first."""
        body, _, line = data.partition(b"\n")
        strange = json.loads(stranger.sign(body, "repository").split(b"\n")[1])["signatures"]
        return body + b"\n" + json.dumps({"signatures": strange + json.loads(line)["signatures"]}).encode() + b"\n"

    def as_before(by: Signer) -> bytes:
        """Signed under the label of format 1."""
        body, _, _ = signed().partition(b"\n")
        signature = suite.sign(bytes(range(32)), b"backupd/1 repository\n" + body)
        line = {"signatures": [{"key": by.public, "signature": text(signature)}]}
        return body + b"\n" + json.dumps(line).encode() + b"\n"

    cases = [
        ("document-good", "nothing", OK, signed()),
        ("document-unknown-field", "nothing; unknown fields are kept", OK, signed(future={"a": [1]})),
        ("document-two-signers", "nothing; a stranger signed it too", OK, both(signed())),
        (
            "document-flipped",
            "a bit of the body is flipped",
            damage("the signature of"),
            signed().replace(b"0f0f", b"0f0e", 1),
        ),
        (
            "document-signed-as-other",
            "signed as a document of another kind",
            damage("the signature of"),
            signed(kind="snapshot"),
        ),
        (
            "document-stranger",
            "signed by nobody trusted",
            damage("is not signed by a trusted signer"),
            signed(stranger),
        ),
        (
            "document-unsigned",
            "no signatures",
            damage("is not signed by a trusted signer"),
            signed().partition(b"\n")[0] + b'\n{"signatures":[]}\n',
        ),
        (
            "document-signature-form",
            "the signature's line is not JSON",
            damage("'case'"),
            signed().partition(b"\n")[0] + b"\nx\n",
        ),
        (
            "document-signature-key",
            "a signer's key is no key",
            damage("'case'"),
            signed().replace(signer.public.encode(), b"zz" * 32),
        ),
        ("document-format-1", "format 1", refused("is written in format 1"), signed(format=1)),
        ("document-label-1", "signed as in format 1", damage("the signature of"), as_before(signer)),
        (
            "document-feature",
            "an unknown feature",
            refused("features this program does not know"),
            signed(features=["future"]),
        ),
        ("document-three-lines", "a third line", damage("is not a document of two lines"), signed() + b"{}\n"),
        ("document-cut", "cut in its second line", damage("'case'"), signed()[:-20]),
        ("document-no-newline", "the last newline is missing", damage("is not a document of two lines"), signed()[:-1]),
        (
            "document-body-only",
            "only a body",
            damage("is not a document of two lines"),
            signed().partition(b"\n")[0] + b"\n",
        ),
        ("document-not-json", "signed, but no JSON", damage("'case'"), signer.sign(b"nope", "repository")),
    ]
    for name, about, expected, data in cases:
        fields = {"kind": "repository", "trusted": signer.public}
        yield case(name, about, "document", expected, fields, data, data.partition(b"\n")[0])
