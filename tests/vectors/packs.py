"""Cases of packs' headers and maps, FORMAT.md §6."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from case import Case
from crafting import Change, CraftPack, integers, sections
from expecting import OK, case, damage, moved, refused, with_field, without


def packs() -> Iterator[Case]:
    unreadable, impossible = damage("cannot be read"), damage("lists an impossible section")
    order, there = damage("does not list its sections in order"), damage("the presence map of")
    cases: list[tuple[str, str, dict[str, str], CraftPack]] = [
        ("pack-good", "nothing", OK, CraftPack()),
        ("pack-emptied", "nothing; all sections are gone", OK, CraftPack(there=lambda _: b"\0")),
        ("pack-magic", "the magic is another", damage("is not a pack"), CraftPack(magic=b"BKPDPACX")),
        ("pack-part", "a part of format 1", damage("is not a pack"), CraftPack(magic=b"BKPDPART")),
        ("pack-format-1", "format 1", refused("is written in format 1"), CraftPack(head=with_field("format", 1))),
        ("pack-format-3", "format 3", refused("is written in format 3"), CraftPack(head=with_field("format", 3))),
        ("pack-format-missing", "no format", unreadable, CraftPack(head=without("format"))),
        (
            "pack-feature",
            "an unknown feature",
            refused("features this program does not know"),
            CraftPack(head=with_field("features", ["future"])),
        ),
        ("pack-unknown-field", "an unknown field", unreadable, CraftPack(head=with_field("x", 1))),
        (
            "pack-header-space",
            "white space in the header's JSON",
            unreadable,
            CraftPack(text=lambda d: d.replace(b":", b": ", 1)),
        ),
        ("pack-header-order", "keys that are not sorted", unreadable, CraftPack(text=reordered)),
        ("pack-header-not-json", "the header is not JSON", unreadable, CraftPack(text=lambda _: b"{nope")),
        (
            "pack-header-nested",
            "the header nests deeper than any reader may follow",
            unreadable,
            CraftPack(text=lambda _: b"[" * 5_000),
        ),
        ("pack-header-utf8", "the header is not UTF-8", unreadable, CraftPack(text=lambda d: d[:-1] + b',"x":"\xff"}')),
        (
            "pack-header-length",
            "the header's length is 4 GiB",
            damage("larger than allowed"),
            CraftPack(header=lambda d: d[:8] + b"\xff" * 4 + d[12:]),
        ),
        (
            "pack-header-cut",
            "the header is cut short",
            damage("is cut short"),
            CraftPack(header=lambda d: d[:-30], there=lambda _: b""),
        ),
        (
            "pack-header-cut-start",
            "cut within the header's length",
            damage("is cut short"),
            CraftPack(header=lambda d: d[:10], there=lambda _: b""),
        ),
        (
            "pack-empty",
            "nothing is left",
            damage("is not a pack"),
            CraftPack(header=lambda _: b"", there=lambda _: b""),
        ),
        ("pack-repository", "the repository is no id", unreadable, CraftPack(head=with_field("repository", "../../x"))),
        ("pack-generation", "the generation is no id", unreadable, CraftPack(head=with_field("generation", "../../x"))),
        ("pack-keyring", "a keyring is no id", unreadable, CraftPack(head=with_field("keyrings", ["../../x", "../y"]))),
        ("pack-keyrings-missing", "no list of keyrings", unreadable, CraftPack(head=without("keyrings"))),
        ("pack-no-sections", "no section", unreadable, CraftPack(rows=lambda _: [], there=lambda _: b"")),
        ("pack-row-cut", "a row is cut short", unreadable, CraftPack(table=lambda d: d[:-1])),
        ("pack-no-newline", "no newline behind the JSON", unreadable, CraftPack(header=joined)),
        ("pack-row-keyring", "a row's keyring is beyond the list", impossible, CraftPack(rows=row(1, 1, 2))),
        ("pack-row-number", "a section's number is 0", impossible, CraftPack(rows=row(0, 3, 0))),
        ("pack-row-length", "a section of 23 bytes", impossible, CraftPack(rows=row(2, 4, 23))),
        ("pack-row-length-huge", "a section of 1 GiB and 1 byte", impossible, CraftPack(rows=row(2, 4, (1 << 30) + 1))),
        (
            "pack-too-large",
            "sections of more than 1 GiB in all",
            damage("promises more than a pack may hold"),
            CraftPack(rows=row(2, 4, 1 << 30)),
        ),
        ("pack-rows-order", "rows not in order", order, CraftPack(rows=moved(1, 0, 2, 3))),
        ("pack-rows-order-number", "numbers not in order", order, CraftPack(rows=row(0, 3, 3))),
        ("pack-rows-twice", "a section is listed twice", order, CraftPack(rows=row(1, 3, 1))),
        ("pack-map-missing", "no map", there, CraftPack(there=lambda _: b"")),
        ("pack-map-bit", "the map has a bit behind the last section", there, CraftPack(there=lambda _: b"\x1b")),
    ]
    for name, about, expected, craft in cases:
        yield case(name, about, "pack", expected, {}, craft.bytes(), content(name))


def content(name: str) -> bytes:
    """What a reader finds in a good pack."""
    there = [] if name == "pack-emptied" else [0, 1, 3]
    keyrings = ["20300102T030405Z-0a0b0c0d", "20300103T030405Z-0a0b0c0d"]
    lines = [
        f"{segment.hex()} {keyrings[keyring]} {place} {number} {length} {digest.hex()} {int(at in there)}\n"
        for at, (segment, keyring, place, number, length, digest) in enumerate(sections())
    ]
    return "".join(lines).encode()


def row(at: int, member: int, value: Any) -> Change:
    """The list of rows with one member of one row replaced."""
    return lambda rows: [*rows[:at], [*rows[at][:member], value, *rows[at][member + 1 :]], *rows[at + 1 :]]


def reordered(text: bytes) -> bytes:
    assert text.startswith(b'{"features":[],')
    return b"{" + text[len(b'{"features":[],') : -1] + b',"features":[]}'


def joined(header: bytes) -> bytes:
    text = header[12:].replace(b"}\n", b"}", 1)
    return header[:8] + integers(len(text)) + text
