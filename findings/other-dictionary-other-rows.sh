#!/usr/bin/env bash
# zstandard: with another dictionary than it was compressed with, a frame is read without an error, as other text.
#
# One would guess that a frame names its dictionary, as the format has a field for it, or that the wrong one yields
# garbage that is noticed. A dictionary that was trained has an id, and so is refused where it does not fit; sample rows
# given as they are, which the module takes as well, have the id 0: none. Frames carry no checksum unless asked for, and
# copies from the dictionary are places in it, so that one of equal length gives whole words of its own. Of
# "… lives in Zurich since 2019-08; …", compressed with rows of 2019 and read with rows of 2026:
#
#                                      read by                  what comes
#   raw dictionary                     the same                 2019-08
#                                      rows of 2026             2026-08, no error
#                                      none                     ZstdError "Data corruption detected"
#   the same, write_checksum=True      rows of 2026             ZstdError "Restored data doesn't match checksum"
#   trained, dict_id by default        trained on other rows    ZstdError "Dictionary mismatch"
#   zstd -D of the command line        rows of 2026             status 1: it writes a checksum
#
# So a dictionary that is made anew under its old name changes what is read of everything before.
#
# Seen with zstandard 0.25.0 (zstd 1.5.7), zstd 1.5.4 of Debian 12.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages zstandard==0.25.0
debian zstd=1.5.4+dfsg2-5+deb12u1
cat >"$work/read.py" <<'PYTHON'
import sys
from pathlib import Path

import zstandard

folder = Path(sys.argv[1])


def rows(year, first=0, count=50):
    text = " ".join(f"person {n} lives in Zurich since {year}-{n % 12 + 1:02};" for n in range(first, first + count))
    return text.encode()


def read(name, frame, dictionary):
    try:
        content = zstandard.ZstdDecompressor(dict_data=dictionary).decompress(frame).decode()
        print(f"{name}: {content}")
    except zstandard.ZstdError as error:
        print(f"{name}: {str(error).removeprefix('decompression error: ')}")


def trained(year, **options):
    samples = [f"{year}: ".encode() + rows(year, n * 9, 4) for n in range(400)]
    return zstandard.train_dictionary(2000, samples, **options)


old, new = (zstandard.ZstdCompressionDict(rows(year)) for year in (2019, 2026))
(folder / "old").write_bytes(old.as_bytes())
(folder / "new").write_bytes(new.as_bytes())
frame = zstandard.ZstdCompressor(dict_data=old).compress(rows(2019, 7, 1))
print("id:", zstandard.get_frame_parameters(frame).dict_id)
read("same", frame, old)
read("other", frame, new)
read("none", frame, None)
read("checksum", zstandard.ZstdCompressor(dict_data=old, write_checksum=True).compress(rows(2019, 7, 1)), new)
read("trained", zstandard.ZstdCompressor(dict_data=trained(2019)).compress(rows(2019, 7, 1)), trained(2026))
(folder / "text").write_bytes(rows(2019, 7, 1))
PYTHON
"$python" "$work/read.py" "$work" >"$work/outcomes"
while IFS='|' read -r name seen; do
  expect "$name" "$name: $seen" "$(grep "^$name: " "$work/outcomes")"
done <<'SEEN'
id|0
same|person 7 lives in Zurich since 2019-08;
other|person 7 lives in Zurich since 2026-08;
none|Data corruption detected
checksum|Restored data doesn't match checksum
trained|Dictionary mismatch
SEEN
zstd=$work/usr/bin/zstd
"$zstd" -q -D "$work/old" "$work/text" -o "$work/text.zst"
expect "zstd -D, the same" "person 7 lives in Zurich since 2019-08;" "$("$zstd" -dcq -D "$work/old" "$work/text.zst")"
status=0
"$zstd" -dc -D "$work/new" "$work/text.zst" >"$work/content" 2>"$work/said" || status=$?
expect "zstd -D, other rows" "1 Restored data doesn't match checksum" \
  "$status $(grep -o "Restored data doesn't match checksum" "$work/said")"
