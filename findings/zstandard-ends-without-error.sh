#!/usr/bin/env bash
# zstandard: a file that was cut short reads as a shorter one, without an error, by all of its ways but one.
#
# One would guess an error where a frame ends before its end, as gzip.open, bz2.open, lzma.open and other bindings of the
# same library have it. Of 584,490 bytes, compressed by the module itself and short of the last byte, come:
#
#   stream_reader, copy_stream, read_to_iter,
#   decompressobj, stream_writer, zstandard.open      524,288, no error
#   decompress                                        ZstdError "did not decompress full frame"
#   pyzstd.open, backports.zstd.open                  EOFError "Compressed file ended before the end-of-stream marker …"
#   lz4.frame.open, gzip.open, bz2.open, lzma.open    EOFError, the same
#   zstd -dc                                          status 1, "premature end"
#
# The first frame's header names the size of the content, which none of the six compares. decompressobj's attribute eof
# is False then; the others have none. So a dump that was copied while it was still being written, read by
# zstandard.open, is a shorter dump, to the end of a row or not.
#
# Seen with zstandard 0.25.0, pyzstd 0.20.0, backports.zstd 1.8.0, lz4 4.4.5, Python 3.11, zstd 1.5.4 of Debian 12.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages zstandard==0.25.0 pyzstd==0.20.0 backports.zstd==1.8.0 lz4==4.4.5
debian zstd=1.5.4+dfsg2-5+deb12u1
cat >"$work/read.py" <<'PYTHON'
import bz2
import gzip
import io
import lzma
import sys
from pathlib import Path

import lz4.frame
import pyzstd
import zstandard
from backports import zstd

folder = Path(sys.argv[1])
rows = b"".join(b"%d name %d\n" % (i, i * 7919 % 1000) for i in range(40_000))
frame = zstandard.ZstdCompressor(level=3).compress(rows)
cut = frame[:-1]
(folder / "cut.zst").write_bytes(cut)
reader = zstandard.ZstdDecompressor()


def copied():
    out = io.BytesIO()
    reader.copy_stream(io.BytesIO(cut), out)
    return out.getvalue()


def written():
    out = io.BytesIO()
    with reader.stream_writer(out, closefd=False) as writer:
        writer.write(cut)
    return out.getvalue()


def fed():
    one = reader.decompressobj()
    content = one.decompress(cut) + one.flush()
    return content if not one.eof else b""


def opened(module, suffix, compress):
    path = folder / f"cut.{suffix}"
    path.write_bytes(compress(rows)[:-1])
    return lambda: module.open(path).read()


ways = {
    "decompress": lambda: reader.decompress(cut),
    "stream_reader": lambda: reader.stream_reader(io.BytesIO(cut)).read(),
    "copy_stream": copied,
    "read_to_iter": lambda: b"".join(reader.read_to_iter(io.BytesIO(cut))),
    "decompressobj": fed,
    "stream_writer": written,
    "zstandard.open": lambda: zstandard.open(folder / "cut.zst", "rb").read(),
    "zstandard.open, text": lambda: "".join(zstandard.open(folder / "cut.zst", "rt")).encode(),
    "pyzstd.open": lambda: pyzstd.open(folder / "cut.zst").read(),
    "backports.zstd.open": lambda: zstd.open(folder / "cut.zst").read(),
    "lz4.frame.open": opened(lz4.frame, "lz4", lz4.frame.compress),
    "gzip.open": opened(gzip, "gz", gzip.compress),
    "bz2.open": opened(bz2, "bz2", bz2.compress),
    "lzma.open": opened(lzma, "xz", lzma.compress),
}
print(len(rows), zstandard.frame_content_size(cut))
for name, way in ways.items():
    try:
        content = way()
        print(f"{name}: {len(content)} bytes, {rows.startswith(content)}")
    except (zstandard.ZstdError, EOFError) as error:
        print(f"{name}: {type(error).__name__} {error}")
PYTHON
"$python" "$work/read.py" "$work" >"$work/outcomes"
expect "all, and as the frame says" "584490 584490" "$(sed -n 1p "$work/outcomes")"
expect "decompress" "decompress: ZstdError decompression error: did not decompress full frame" \
  "$(sed -n 2p "$work/outcomes")"
line=3
for name in stream_reader copy_stream read_to_iter decompressobj stream_writer zstandard.open "zstandard.open, text"; do
  expect "zstandard" "$name: 524288 bytes, True" "$(sed -n ${line}p "$work/outcomes")"
  line=$((line + 1))
done
for name in pyzstd.open backports.zstd.open lz4.frame.open gzip.open bz2.open lzma.open; do
  expect "others" "$name: EOFError Compressed file ended before the end-of-stream marker was reached" \
    "$(sed -n ${line}p "$work/outcomes")"
  line=$((line + 1))
done
status=0
"$work/usr/bin/zstd" -dc "$work/cut.zst" >"$work/content" 2>"$work/said" || status=$?
expect "zstd -dc" "1 premature end" "$status $(grep -o 'premature end' "$work/said")"
