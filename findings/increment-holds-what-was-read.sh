#!/usr/bin/env bash
# An incremental backup holds a whole table of which nothing was changed: it is enough to have read it once.
#
# One would guess that a SELECT leaves nothing to back up. The first one after rows were written marks each of them as
# committed; with data checksums that goes to the WAL as an image of the page, so that WAL summaries name every block.
# A table of 20,000 rows in 320 blocks, then a full backup, then only SELECT count(*):
#
#   without checksums    the table's file in the incremental backup has 12 bytes
#   with checksums       it has all of its 2,621,440
#
# Up to 17 initdb leaves checksums off, from 18 on it turns them on: the same server upgraded makes increments as
# large as what was loaded before the full backup and read after it. VACUUM before the full backup avoids it.
#
# Seen with 17.10 and 18.4, the summariser on, autovacuum off.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# The size of the table's file in an increment after STATEMENT, relative to a full backup that follows PREPARATION.
increment() {
  local path backups
  sql postgres -c 'DROP TABLE IF EXISTS t' 2>"$work/said"
  sql postgres -c "CREATE TABLE t AS SELECT i, repeat('x', 90) AS filling FROM generate_series(1, 20000) AS i"
  [ -z "$1" ] || sql postgres -c "$1"
  path=$(sql postgres -c "SELECT pg_relation_filepath('t')")
  backups=$(plain mktemp -d "$PGHOST.XXXX")
  plain "$bin/pg_basebackup" -D "$backups/full" -c fast --no-sync 2>"$work/said"
  sql postgres -c "$2" >"$work/said"
  plain "$bin/pg_basebackup" -D "$backups/next" -c fast --no-sync -i "$backups/full/backup_manifest" 2>"$work/said"
  (cd "$backups/next/$(dirname "$path")" && stat -c %s "INCREMENTAL.$(basename "$path")" "$(basename "$path")") \
    2>"$work/said" || true
}

chmod 777 "$work"
for major in 17 18; do
  server $major
  plain "$bin/pg_ctl" -D "$PGHOST" stop >"$work/said"
  expect "checksums by default" "$((major > 17))" \
    "$("$bin/pg_controldata" -D "$PGHOST" | sed -n 's/^Data page checksum version: *//p')"
  for checksums in disable enable; do
    plain "$bin/pg_checksums" --"$checksums" --no-sync -D "$PGHOST" >"$work/said" 2>&1 || true
    plain "$bin/pg_ctl" -D "$PGHOST" -l "$PGHOST/log" -w start >"$work/said" \
      -o "-c listen_addresses= -k $PGHOST -F -c summarize_wal=on -c autovacuum=off"
    read=12
    [ $checksums = disable ] || read=2621440
    expect "read, checksums ${checksums}d" "$read" "$(increment '' 'SELECT count(*) FROM t')"
    expect "read, vacuumed before, checksums ${checksums}d" 12 "$(increment 'VACUUM t' 'SELECT count(*) FROM t')"
    plain "$bin/pg_ctl" -D "$PGHOST" stop >"$work/said"
  done
done
