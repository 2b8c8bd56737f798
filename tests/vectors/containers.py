"""Cases of containers, FORMAT.md §6."""

from __future__ import annotations

from collections.abc import Iterator

import zstandard
from case import Case
from crafting import GENERATION, REPOSITORY, SEGMENT, Craft, flip, frame, same, text
from expecting import OK, block, case, damage, moved, number, refused, with_field, without

from backupd.seal import suite


def containers() -> Iterator[Case]:
    pair, other = suite.generate(), suite.generate()
    authentic, short = damage("is not authentic"), damage("is cut short")
    cases: list[tuple[str, str, dict[str, str], Craft]] = [
        ("pack-good", "nothing", OK, Craft(pair)),
        ("part-good", "nothing; a part with one pack", OK, Craft(pair, magic=b"BKPDPART")),
        (
            "pack-unknown-field",
            "nothing; an unknown field in the header is kept",
            OK,
            Craft(pair, header=with_field("x", [1])),
        ),
        ("pack-no-blocks", "nothing; no blocks at all", OK, Craft(pair, plain=[])),
        ("pack-magic", "the magic is another", damage("is neither a pack nor a part"), Craft(pair, magic=b"BKPDPACX")),
        (
            "pack-called-part",
            "a pack's header under a part's magic",
            damage("cannot be read"),
            Craft(pair, whole=lambda d: b"BKPDPART" + d[8:]),
        ),
        (
            "part-called-pack",
            "a part's header under a pack's magic",
            damage("cannot be read"),
            Craft(pair, magic=b"BKPDPART", whole=lambda d: b"BKPDPACK" + d[8:]),
        ),
        ("pack-format-2", "format 2", refused("is written in format 2"), Craft(pair, header=with_field("format", 2))),
        ("pack-format-missing", "no format", damage("cannot be read"), Craft(pair, header=without("format"))),
        (
            "pack-header-not-json",
            "the header is not JSON",
            damage("cannot be read"),
            Craft(pair, raw_header=lambda _: b"{nope"),
        ),
        (
            "pack-header-nested",
            "the header nests deeper than any reader may follow",
            damage("cannot be read"),
            Craft(pair, raw_header=lambda _: b"[" * 5_000),
        ),
        (
            "pack-header-utf8",
            "the header is not UTF-8",
            damage("cannot be read"),
            Craft(pair, raw_header=lambda d: d[:-1] + b',"x":"\xff"}'),
        ),
        (
            "pack-header-length",
            "the header's length is 4 GiB",
            damage("is larger than allowed"),
            Craft(pair, whole=number(8, 0xFFFFFFFF)),
        ),
        (
            "pack-header-length-beyond",
            "the header's length is beyond the end",
            damage("is larger than allowed"),
            Craft(pair, whole=number(8, 4096)),
        ),
        (
            "pack-header-flipped",
            "a bit of the header's random id is flipped",
            damage("the data key of"),
            Craft(pair, whole=lambda d: d.replace(b"1d1d", b"1d1c", 1)),
        ),
        (
            "pack-other-segment",
            "of another segment",
            damage("belongs to another"),
            Craft(pair, header=with_field("segment", "aa" * 16)),
        ),
        (
            "pack-other-generation",
            "of another generation",
            damage("belongs to another"),
            Craft(pair, header=with_field("generation", "20300101T000000Z-ffffffff")),
        ),
        (
            "pack-other-repository",
            "of another repository",
            damage("belongs to another"),
            Craft(pair, header=with_field("repository", "aa" * 16)),
        ),
        ("pack-other-key", "sealed to another segment's key", damage("the data key of"), Craft(other)),
        (
            "pack-data-key-flipped",
            "a bit of the data key's encapsulation is flipped",
            damage("the data key of"),
            Craft(pair, data_key=flip(40)),
        ),
        (
            "pack-data-key-tag-flipped",
            "a bit of the data key's tag is flipped",
            damage("the data key of"),
            Craft(pair, data_key=flip(-1)),
        ),
        (
            "pack-block-flipped",
            "a bit of a block is flipped",
            authentic,
            Craft(pair, blocks=lambda b: [flip(3)(b[0]), *b[1:]]),
        ),
        (
            "pack-block-tag-flipped",
            "a bit of a block's tag is flipped",
            authentic,
            Craft(pair, blocks=lambda b: [b[0], flip(-1)(b[1]), b[2]]),
        ),
        (
            "pack-blocks-swapped",
            "two blocks of one length are swapped",
            authentic,
            Craft(pair, plain=[(1, b"aaaa\n", [5]), (1, b"bbbb\n", [5])], blocks=moved(1, 0)),
        ),
        (
            "pack-block-repeated",
            "a block stands in another's place",
            authentic,
            Craft(pair, plain=[(1, b"aaaa\n", [5]), (1, b"bbbb\n", [5])], blocks=moved(0, 0)),
        ),
        (
            "pack-block-dropped",
            "a block is dropped",
            damage("are not where its trailer says"),
            Craft(pair, blocks=moved(0, 2)),
        ),
        (
            "pack-block-duplicated",
            "a block stands twice",
            damage("are not where its trailer says"),
            Craft(pair, blocks=moved(0, 1, 1, 2)),
        ),
        (
            "pack-block-kind",
            "a data block is listed as a manifest",
            authentic,
            Craft(pair, listing=lambda v: block(1, 0, 2)(block(1, 3, [])({**v, "ids": text(bytes(32))}))),
        ),
        (
            "pack-block-kind-unknown",
            "a block of kind 9",
            damage("impossible block"),
            Craft(pair, listing=block(2, 0, 9)),
        ),
        ("pack-block-label", "sealed under another label", authentic, Craft(pair, label=b"backupd/2 block ")),
        (
            "pack-block-longer",
            "a block's content is longer than listed",
            damage("cannot be read"),
            Craft(pair, listing=lambda v: block(1, 2, 7)(block(1, 3, [7])(v))),
        ),
        (
            "pack-block-shorter",
            "a block's content is shorter than listed",
            damage("is not as long as its trailer says"),
            Craft(pair, listing=lambda v: block(1, 2, 9)(block(1, 3, [9])(v))),
        ),
        (
            "pack-block-huge",
            "a block's content is said to be 16 MiB and 1 byte",
            damage("the trailer of"),
            Craft(pair, listing=lambda v: block(1, 2, (16 << 20) + 1)(block(1, 3, [(16 << 20) + 1])(v))),
        ),
        (
            "pack-block-empty",
            "a block without content",
            damage("impossible block"),
            Craft(pair, listing=lambda v: block(1, 2, 0)(block(1, 3, [0])(v))),
        ),
        (
            "pack-block-ciphertext-huge",
            "a ciphertext is said to be 1 GiB",
            damage("the trailer of"),
            Craft(pair, listing=block(0, 1, 1 << 30)),
        ),
        ("pack-block-negative", "a length is negative", damage("the trailer of"), Craft(pair, listing=block(0, 1, -1))),
        (
            "pack-chunks-sum",
            "a block's chunks are not its length",
            damage("impossible block"),
            Craft(pair, listing=block(0, 3, [8, 8])),
        ),
        (
            "pack-manifest-chunks",
            "a manifest block has chunks",
            damage("impossible block"),
            Craft(pair, listing=block(2, 3, [3])),
        ),
        (
            "pack-ids-missing",
            "a chunk has no id",
            damage("does not name every chunk"),
            Craft(pair, listing=with_field("ids", text(bytes(32)))),
        ),
        (
            "pack-ids-base64",
            "the ids are not base64",
            damage("holds base64 that cannot be read"),
            Craft(pair, listing=with_field("ids", "!!!!")),
        ),
        (
            "pack-frame-no-size",
            "a block's frame does not carry its size",
            damage("cannot be read"),
            Craft(pair, content=without_size),
        ),
        (
            "pack-frame-two",
            "a block holds two frames",
            damage("cannot be read"),
            Craft(pair, content=lambda d: frame(d) + frame(b"more")),
        ),
        (
            "pack-frame-trailing",
            "a block's frame has bytes after it",
            damage("cannot be read"),
            Craft(pair, content=lambda d: frame(d) + b"\0"),
        ),
        ("pack-frame-not", "a block is not compressed", damage("cannot be read"), Craft(pair, content=same)),
        (
            "pack-frame-bomb",
            "a block of 200 bytes holds 16 MiB",
            damage("cannot be read"),
            Craft(pair, content=lambda _: frame(bytes(16 << 20))),
        ),
        (
            "pack-trailer-flipped",
            "a bit of the trailer is flipped",
            damage("the trailer of"),
            Craft(pair, sealed_trailer=flip(5)),
        ),
        (
            "pack-padding-flipped",
            "a bit of the sealed padding is flipped",
            damage("the trailer of"),
            Craft(pair, sealed_trailer=flip(-20)),
        ),
        (
            "pack-padding-not-zero",
            "the padding holds something",
            damage("is not padded with zeros"),
            Craft(pair, trailer=flip(-1)),
        ),
        (
            "pack-trailer-not-json",
            "the trailer is not JSON",
            damage("the trailer of"),
            Craft(pair, listing=lambda _: b"[]"),
        ),
        (
            "pack-trailer-z",
            "Z is beyond the trailer",
            damage("is not padded with zeros"),
            Craft(pair, trailer=number(0, 1 << 20)),
        ),
        (
            "pack-trailer-bomb",
            "the trailer's frame holds more than 64 MiB",
            damage("the trailer of"),
            Craft(pair, listing=lambda _: bytes((64 << 20) + 1)),
        ),
        (
            "pack-trailer-length",
            "the trailer's length is 4 GiB",
            damage("impossible length"),
            Craft(pair, foot=number(0, 0xFFFFFFFF)),
        ),
        (
            "pack-trailer-length-short",
            "the trailer's length is one less",
            damage("the trailer of"),
            Craft(pair, foot=lambda d: (int.from_bytes(d[:4], "little") - 1).to_bytes(4, "little") + d[4:]),
        ),
        (
            "pack-trailer-length-zero",
            "the trailer has no length",
            damage("impossible length"),
            Craft(pair, foot=number(0, 0)),
        ),
        (
            "pack-end-magic",
            "the last magic is another",
            damage("is cut short or has bytes after its end"),
            Craft(pair, foot=flip(-1)),
        ),
        (
            "pack-trailing",
            "a byte after the end",
            damage("is cut short or has bytes after its end"),
            Craft(pair, whole=lambda d: d + b"\0"),
        ),
        ("pack-cut-1", "the last byte is missing", damage("is cut short"), Craft(pair, whole=lambda d: d[:-1])),
        (
            "pack-cut-half",
            "the second half is missing",
            damage("cut short"),
            Craft(pair, whole=lambda d: d[: len(d) // 2]),
        ),
        (
            "pack-cut-trailer",
            "cut where the trailer starts",
            short,
            Craft(pair, sealed_trailer=lambda _: b"", foot=lambda _: b""),
        ),
        ("pack-empty", "nothing is left", damage("cut short"), Craft(pair, whole=lambda _: b"")),
        (
            "part-packs-form",
            "a part names a pack by no hash",
            damage("cannot be read"),
            Craft(pair, magic=b"BKPDPART", header=with_field("packs", [["../../x", 1]])),
        ),
        (
            "part-packs-size",
            "a pack's size is negative",
            damage("cannot be read"),
            Craft(pair, magic=b"BKPDPART", header=with_field("packs", [["ab" * 32, -1]])),
        ),
        (
            "part-packs-missing",
            "a part without a list of packs",
            damage("cannot be read"),
            Craft(pair, magic=b"BKPDPART", header=without("packs")),
        ),
    ]
    for name, about, expected, craft in cases:
        fields = {"secret": text(pair.secret), "repository": REPOSITORY, "generation": GENERATION, "segment": SEGMENT}
        plain = b"".join(data for _, data, _ in craft.plain)
        yield case(name, about, "container", expected, fields, craft.bytes(), plain)


def without_size(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)
