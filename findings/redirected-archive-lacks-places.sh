#!/usr/bin/env bash
# pg_dump -Fc >file writes another archive than pg_dump -Fc -f file: pg_restore has to read through it for one table.
#
# One would guess that both are the same bytes, but for the time in the header; at most that a pipe, in which nobody can
# go back, is worse. At its end, pg_dump goes back and writes into the table of contents where each table begins. Its
# standard output it has opened for appending, and so in a regular file, too, the filled table of contents lands behind
# the end, where no one looks, and the first one stays without places. 12 MB before the table that is asked for:
#
#                                    size            pg_restore -t last reads
#   pg_dump -Fc -Z0 -f file          12.6 MB         less than 0.1 MB
#   pg_dump -Fc -Z0 >file            1.5 kB more     12 MB
#   pg_dump -Fc -Z0 | cat >file      as the first    12 MB
#
# All three restore the same rows. Of an archive of a terabyte, one table, or each worker of -j, begins by reading what
# lies before. pg_restore -l shows no difference.
#
# Seen with 16.14, 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

for major in 16 17 18; do
  server $major
  sql postgres -c 'CREATE DATABASE app'
  sql app <<'SQL'
CREATE TABLE first (row text);
INSERT INTO first SELECT repeat(md5(i::text), 100) FROM generate_series(1, 4000) AS i;
CREATE TABLE last (row text);
INSERT INTO last VALUES ('the only row');
SQL
  "$bin/pg_dump" -Fc -Z0 -d app -f "$work/by-name"
  "$bin/pg_dump" -Fc -Z0 -d app >"$work/redirected"
  "$bin/pg_dump" -Fc -Z0 -d app | cat >"$work/piped"
  "$python" - "$bin/pg_restore" "$work" >"$work/seen" <<'PYTHON'
import os
import subprocess
import sys
from pathlib import Path

pg_restore, folder = sys.argv[1:]


def bytes_read():
    """What this process and those it has waited for have read until now."""
    return int(Path("/proc/self/io").read_text().split()[1])


least = os.path.getsize(f"{folder}/by-name")
for name in ("by-name", "redirected", "piped"):
    before = bytes_read()
    command = [pg_restore, "--data-only", "-t", "last", "-f", "-", f"{folder}/{name}"]
    rows = subprocess.run(command, check=True, capture_output=True).stdout
    read = bytes_read() - before
    part = "all before" if read > 12_000_000 else "little" if read < 100_000 else str(read)
    size = os.path.getsize(f"{folder}/{name}")
    larger = "larger" if size > least else "as large"
    print(f"{name}: {larger}, reads {part}, {'the row' if b'the only row' in rows else 'no row'}")
PYTHON
  expect "-f file" "by-name: as large, reads little, the row" "$(sed -n 1p "$work/seen")"
  expect ">file" "redirected: larger, reads all before, the row" "$(sed -n 2p "$work/seen")"
  expect "a pipe" "piped: as large, reads all before, the row" "$(sed -n 3p "$work/seen")"
done
