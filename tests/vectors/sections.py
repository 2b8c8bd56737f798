"""Cases of sections, FORMAT.md §6."""

from __future__ import annotations

from collections.abc import Iterator

import zstandard
from case import Case
from crafting import GENERATION, KEY, NUMBER, REPOSITORY, SEGMENT, Craft, flip, frame, integers, same, text
from expecting import OK, block, case, damage, moved, number

PAIRS = [([b"aaaa\n"], b""), ([b"bbbb\n"], b"")]
"""Two blocks of one length."""


def sections() -> Iterator[Case]:
    authentic, short = damage("is not authentic"), damage("is cut short")
    trailer, places = damage("the trailer of"), damage("are not where its trailer says")
    label = f"backupd/2 section {REPOSITORY} {GENERATION} {SEGMENT}"
    cases: list[tuple[str, str, dict[str, str], Craft]] = [
        ("section-good", "nothing", OK, Craft()),
        ("section-chunks", "nothing; chunks only", OK, Craft([([b"a\n", b"", b"b\n"], b"")])),
        ("section-manifest", "nothing; a manifest only", OK, Craft([([], b'["facts",{}]\n')])),
        ("section-no-blocks", "nothing; no blocks at all", OK, Craft([])),
        (
            "section-unpadded",
            "nothing; a writer that does not pad",
            OK,
            Craft(trailer=lambda d: d.rstrip(b"\0") + b"\0" * 3),
        ),
        ("section-key", "another key", authentic, Craft(key=bytes(32))),
        ("section-number", "another section's number", authentic, Craft(number=NUMBER + 1)),
        ("section-other-segment", "of another segment", authentic, Craft(label=label.replace("5e", "5f"))),
        ("section-other-generation", "of another generation", authentic, Craft(label=label.replace("0a0b", "0a0c"))),
        ("section-other-repository", "of another repository", authentic, Craft(label=label.replace("0f0f", "0e0f"))),
        ("section-label", "sealed under another label", authentic, Craft(label=label.replace("section", "block"))),
        ("section-block-counted", "blocks are counted from 1", authentic, Craft(first=1)),
        (
            "section-block-flipped",
            "a bit of a block is flipped",
            authentic,
            Craft(blocks=lambda b: [flip(3)(b[0]), *b[1:]]),
        ),
        (
            "section-block-tag",
            "a bit of a block's tag is flipped",
            authentic,
            Craft(blocks=lambda b: [b[0], flip(-1)(b[1]), b[2]]),
        ),
        ("section-blocks-swapped", "two blocks of one length are swapped", authentic, Craft(PAIRS, blocks=moved(1, 0))),
        ("section-block-repeated", "a block stands in another's place", authentic, Craft(PAIRS, blocks=moved(0, 0))),
        ("section-block-dropped", "a block is dropped", places, Craft(blocks=moved(0, 2))),
        ("section-block-duplicated", "a block stands twice", places, Craft(blocks=moved(0, 1, 1, 2))),
        (
            "section-block-unlisted",
            "the last block is not listed",
            places,
            Craft(listing=lambda v: v[:2], chunks=lambda v: v),
        ),
        (
            "section-block-longer",
            "a block's content is longer than listed",
            damage("cannot be read"),
            Craft(listing=block(2, 1, 3)),
        ),
        (
            "section-block-shorter",
            "a block's content is shorter than listed",
            damage("is not as long as its trailer says"),
            Craft(listing=block(2, 1, 5)),
        ),
        (
            "section-block-huge",
            "a block's content is said to be 16 MiB and 1 byte",
            damage("an impossible block"),
            Craft(listing=block(2, 1, (16 << 20) + 1)),
        ),
        (
            "section-block-empty",
            "a block without content",
            damage("an impossible block"),
            Craft(listing=block(2, 1, 0)),
        ),
        (
            "section-block-ciphertext",
            "a ciphertext is said to be 1 GiB",
            damage("an impossible block"),
            Craft(listing=block(0, 0, 1 << 30)),
        ),
        (
            "section-chunk-beyond",
            "a block's chunks are longer than its content",
            damage("an impossible block"),
            Craft(chunks=lambda _: [8, 10, 8]),
        ),
        (
            "section-chunk-huge",
            "a chunk is said to be 4 GiB",
            damage("an impossible block"),
            Craft(chunks=lambda _: [8, 0xFFFFFFFF, 8]),
        ),
        (
            "section-chunk-count",
            "more chunks than the trailer has lengths of",
            trailer,
            Craft(listing=block(0, 2, 1_000_000)),
        ),
        (
            "section-frame-no-size",
            "a block's frame does not carry its size",
            damage("cannot be read"),
            Craft(content=without_size),
        ),
        (
            "section-frame-two",
            "a block holds two frames",
            damage("cannot be read"),
            Craft(content=lambda d: frame(d) + frame(b"more")),
        ),
        (
            "section-frame-trailing",
            "a block's frame has bytes after it",
            damage("cannot be read"),
            Craft(content=lambda d: frame(d) + b"\0"),
        ),
        ("section-frame-not", "a block is not compressed", damage("cannot be read"), Craft(content=same)),
        (
            "section-frame-bomb",
            "a block of 200 bytes holds 16 MiB",
            damage("cannot be read"),
            Craft(content=lambda _: frame(bytes(16 << 20))),
        ),
        ("section-trailer-flipped", "a bit of the trailer is flipped", authentic, Craft(sealed_trailer=flip(5))),
        (
            "section-padding-flipped",
            "a bit of the sealed padding is flipped",
            authentic,
            Craft(sealed_trailer=flip(-20)),
        ),
        ("section-padding-not-zero", "the padding holds something", trailer, Craft(trailer=flip(-1))),
        (
            "section-trailer-blocks",
            "the number of blocks is 4 billion",
            trailer,
            Craft(trailer=lambda d: integers(0xFFFFFFFF) + d[4:]),
        ),
        ("section-trailer-short", "the trailer ends within its list", trailer, Craft(trailer=lambda d: d[:20])),
        (
            "section-trailer-length",
            "the trailer's length is 4 GiB",
            damage("impossible length"),
            Craft(foot=number(0, 0xFFFFFFFF)),
        ),
        (
            "section-trailer-length-short",
            "the trailer's length is one less",
            authentic,
            Craft(foot=lambda d: integers(int.from_bytes(d, "little") - 1)),
        ),
        (
            "section-trailer-length-zero",
            "the trailer has no length",
            damage("impossible length"),
            Craft(foot=number(0, 0)),
        ),
        ("section-trailing", "a byte after the end", trailer, Craft(whole=lambda d: d + b"\0")),
        ("section-cut-1", "the last byte is missing", damage("'case'"), Craft(whole=lambda d: d[:-1])),
        ("section-cut-half", "the second half is missing", damage("'case'"), Craft(whole=lambda d: d[: len(d) // 2])),
        ("section-cut-start", "the first byte is missing", places, Craft(whole=lambda d: d[1:])),
        ("section-empty", "nothing is left", short, Craft(whole=lambda _: b"")),
    ]
    fields = {"key": text(KEY), "repository": REPOSITORY, "generation": GENERATION, "segment": SEGMENT}
    for name, about, expected, craft in cases:
        plain = b"".join(b"".join(chunks) + manifest for chunks, manifest in craft.plain)
        yield case(name, about, "section", expected, {**fields, "number": str(NUMBER)}, craft.bytes(), plain)


def without_size(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)
