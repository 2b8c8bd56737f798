#!/usr/bin/env bash
# A table that lost pages passes data checksums, pg_amcheck and every backup; its rows are missing, and nothing says so.
#
# One would guess that checksums tell when a page is no longer what was written. A page of zeros is taken for a new one,
# which has none yet, and a file that is shorter for a shorter table. A write that never came to the disk, or a hole that
# a file system left after a crash, leaves just that. Of 10,000 rows in 55 pages, with data checksums on:
#
#                                  one page of zeros    half of the file    an empty file
#   pg_checksums --check           status 0, "Bad checksums:  0", in all three
#   SELECT count(*)                9,815                4,995               0
#   pg_amcheck --heapallindexed    status 0, standard output empty, in all three
#   pg_dump                        status 0, with 9,815, 4,995 and no rows
#   pg_basebackup and
#   pg_verifybackup                status 0, "backup successfully verified", in all three
#   the primary key's own count    10,000               10,000              10,000
#
# The last is a query that is answered by the index alone, as long as the visibility map says that it may be. So whether
# a backup has all rows is no question of checksums: compare counts with those of yesterday, or of the index.
#
# Seen with 17.10.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

stop() {
  plain "$bin/pg_ctl" -D "$data" -m fast stop >"$work/said"
}

server 17
data=$work/17
stop
plain "$bin/pg_checksums" --enable -D "$data" >"$work/said" 2>&1 || true
start() {
  plain "$bin/pg_ctl" -D "$data" -l "$data/log" -w -o "-c listen_addresses= -k $data -F" start >"$work/said"
}
start
expect "checksums" on "$(sql postgres -c 'SHOW data_checksums')"
sql postgres -c 'CREATE DATABASE app'
sql app -c 'CREATE EXTENSION amcheck'
sql app -c 'CREATE TABLE item (id integer PRIMARY KEY, name text)' \
  -c "INSERT INTO item SELECT i, 'name ' || i FROM generate_series(1, 10000) AS i"
sql app -c 'VACUUM item'
file=$data/$(sql app -c "SELECT pg_relation_filepath('item')")
stop
expect "pages" 55 "$(($(stat -c %s "$file") / 8192))"
cp -a "$file" "$work/whole"
for damage in zeros:9815 half:4995 empty:0; do
  cp -a "$work/whole" "$file"
  case $damage in
    zeros:*) dd if=/dev/zero of="$file" bs=8192 seek=10 count=1 conv=notrunc status=none ;;
    half:*) truncate -s $((27 * 8192)) "$file" ;;
    empty:*) truncate -s 0 "$file" ;;
  esac
  echo "-- ${damage%:*}"
  expect "pg_checksums" "Bad checksums:  0" "$(plain "$bin/pg_checksums" --check -D "$data" | grep Bad)"
  start
  expect "count" "${damage#*:}" "$(sql app -c 'SET enable_indexonlyscan = off' -c 'SELECT count(*) FROM item')"
  expect "by the index" 10000 "$(sql app -c 'SET enable_seqscan = off' -c 'SELECT count(*) FROM item')"
  expect "pg_amcheck" "" "$("$bin/pg_amcheck" --heapallindexed -d app)"
  expect "pg_dump" "${damage#*:}" "$("$bin/pg_dump" -a -d app 2>"$work/errors" | grep -c '^[0-9]*.name ' || true)"
  expect "said" "" "$(cat "$work/errors")"
  rm -rf "$work/base"
  "$bin/pg_basebackup" -D "$work/base" -c fast 2>"$work/said"
  expect "pg_verifybackup" "backup successfully verified" "$("$bin/pg_verifybackup" "$work/base" | tail -1)"
  stop
done
