#!/usr/bin/env bash
# zstandard: half of its ways to read a file stop after the first frame without a word, and of pzstd's read nothing.
#
# One would guess that one library reads one valid file alike by all its ways, or says what it left. A file of zstd may
# be several frames, as gzip's: two files appended, or what pzstd writes, which begins with a frame that readers skip.
# Rows of 588,895 bytes, as bytes that come out:
#
#                                     two files appended            pzstd's
#   zstd -dc                          588,895                       588,895
#   stream_reader, copy_stream,
#   stream_writer, zstandard.open     588,895                       588,895
#   read_to_iter                      300,000, no error             0, no error
#   decompressobj                     300,000, no error             0, no error
#   decompress                        300,000, no error             ZstdError: expected 4
#   frame_content_size                300,000                       0
#
# decompress with allow_extra_data=False refuses, decompressobj keeps the rest in unused_data or goes on with
# read_across_frames=True. stream_reader goes on although its read_across_frames is False by default.
#
# Seen with zstandard 0.25.0 (zstd 1.5.7), zstd and pzstd 1.5.4 of Debian 12.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages zstandard==0.25.0
debian zstd=1.5.4+dfsg2-5+deb12u1
cd "$work"
seq 1 100000 >rows
head -c 300000 rows >one
tail -c +300001 rows >two
usr/bin/zstd -q one two
cat one.zst two.zst >appended.zst
usr/bin/pzstd -q -p 2 rows -o pzstd.zst
cat >read.py <<'PYTHON'
import io
import sys

import zstandard


def written(way):
    out = io.BytesIO()
    way(out)
    return out.getvalue()


def by_writer(out):
    writer = zstandard.ZstdDecompressor().stream_writer(out, closefd=False)
    writer.write(data)
    writer.flush()


def outcome(way):
    try:
        return len(way())
    except zstandard.ZstdError as error:
        return str(error).partition("; ")[2] or "refused"


data = open(sys.argv[1], "rb").read()
fresh = zstandard.ZstdDecompressor
whole = [
    lambda: fresh().stream_reader(data).read(),
    lambda: written(lambda out: fresh().copy_stream(io.BytesIO(data), out)),
    lambda: written(by_writer),
    lambda: zstandard.open(sys.argv[1], "rb").read(),
    lambda: fresh().decompressobj(read_across_frames=True).decompress(data),
]
first = [
    lambda: b"".join(fresh().read_to_iter(io.BytesIO(data))),
    lambda: fresh().decompressobj().decompress(data),
    lambda: fresh().decompress(data),
]
print(*map(outcome, whole))
print(*map(outcome, first), sep=", ")
print(zstandard.frame_content_size(data))
PYTHON
for file in appended pzstd; do
  expect "zstd -dc, $file" 588895 "$(usr/bin/zstd -dc $file.zst | wc -c)"
  "$python" read.py $file.zst >$file
  expect "ways that go on, $file" "588895 588895 588895 588895 588895" "$(sed -n 1p $file)"
done
expect "ways that stop, appended" "300000, 300000, 300000" "$(sed -n 2p appended)"
expect "ways that stop, pzstd" "0, 0, expected 4" "$(sed -n 2p pzstd)"
expect "frame_content_size" "300000 0" "$(sed -n 3p appended) $(sed -n 3p pzstd)"
