#!/usr/bin/env bash
# zstd's default level stores nine per cent more than its lowest one, for rows compressed in blocks of 150 to 256 KB.
#
# One would guess that a higher level compresses as well or better, and pays for it with time; that may be off by a
# little for odd content, but not for ordinary rows of a log with times, addresses and random session ids. The levels
# are other parameters for small inputs: from 128 to 256 KiB, level 3 searches for matches of four bytes, which are
# found everywhere in digits and cost more than the literals they stand for; below 128 KiB level 4 does. So level 3
# is slower *and* larger than level 1; in blocks of 512 KiB and more the difference is two to three per cent.
#
#   9.4 MB of rows in blocks of 200 KiB: level 1 3,090,350 bytes, level 3 3,375,990, level 4 3,103,451
#   the same in blocks of 128 KiB: level 1 3,086,526, level 3 3,147,351, level 4 3,356,967
#
# With matches of five bytes at least, and tables of 2^16 and 2^15 entries, the search of level 3 makes 3,147,375 bytes
# of the blocks of 200 KiB.
#
# Seen with zstd 1.5.7 in zstandard 0.25.0.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages zstandard==0.25.0
"$python" - >"$work/sizes" <<'PYTHON'
import random

import zstandard

random.seed(7)
ROW = '%d\t%d\t2026-%02d-%02d %02d:%02d:%02d.%06d+00\t{"event": "%s", "ip": "10.%d.%d.%d", "session": "%032x", "amount": %.2f}\t\\N\t%s\n'


def below(limit):
    return random.randrange(limit)


def row(number):
    when = (1 + below(12), 1 + below(28), below(24), below(60), below(60), below(10**6))
    event = random.choice(["login", "logout", "view", "edit"])
    what = (event, below(256), below(256), below(256), random.getrandbits(128), below(10**5) / 100)
    return ROW % (number, below(10**9), *when, *what, "t" if random.random() < 0.8 else "f")


rows = "".join(map(row, range(60000))).encode()


def stored(compressor, block):
    return sum(len(compressor.compress(rows[at : at + block])) for at in range(0, len(rows), block))


for block in (128 << 10, 200 << 10):
    sizes = [stored(zstandard.ZstdCompressor(level=level), block) for level in (1, 3, 4)]
    print(f"blocks of {block >> 10} KiB, levels 1, 3 and 4:", *sizes)
by_hand = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_DFAST, min_match=5, window_log=19, hash_log=16, chain_log=15
)
print("blocks of 200 KiB, by hand:", stored(zstandard.ZstdCompressor(compression_params=by_hand), 200 << 10))
PYTHON
expect "version" "1.5.7" "$("$python" -c 'import zstandard; print(".".join(map(str, zstandard.ZSTD_VERSION)))')"
seen='blocks of 128 KiB, levels 1, 3 and 4: 3086526 3147351 3356967
blocks of 200 KiB, levels 1, 3 and 4: 3090350 3375990 3103451
blocks of 200 KiB, by hand: 3147375'
expect "sizes" "$seen" "$(cat "$work/sizes")"
