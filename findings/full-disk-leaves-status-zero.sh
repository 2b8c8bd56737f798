#!/usr/bin/env bash
# On a full disk, pg_dump -Fc >file and pg_dumpall -g >file end with status 0, and leave an empty file or a part.
#
# One would guess that what could not be written is an error, as it is for pg_dump's plain text and for larger dumps.
# What is still in memory when the program ends is written last, and here nobody looks at whether that worked; it is up
# to 4 kB of an archive, which is all of a small one, and all that pg_dumpall -g ever writes. Into /dev/full, where each
# write fails with "No space left on device":
#
#   pg_dump -Fc >/dev/full, a small database      status 0, standard error empty
#   pg_dumpall -g (or -r) >/dev/full              status 0, standard error empty
#   psql -v FETCH_COUNT=10 -c SELECT …            status 0, standard error empty; also with -o
#   psql -c SELECT …, -c COPY … TO STDOUT         status 1, "No space left on device"
#   pg_dump (plain), pg_dump -Ft, pg_dumpall      status 1, the same
#   pg_dump -Fc of a larger database              status 1, the same
#   pg_dump -Fc -f, pg_dumpall -g -f              status 1
#
# So a job that writes roles and a small archive by > every night goes on reporting that all is well. -f asks for an
# fsync as well, which is where it is seen.
#
# Seen with 16.14, 17.10 and 18.4, and /dev/full of Linux.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# full NAME PROGRAM…: its status, and whether it said anything, with its standard output on the full device.
full() {
  local status=0 name=$1
  shift
  "$bin/$1" "${@:2}" >/dev/full 2>"$work/errors" || status=$?
  expect "$name" "$awaited" "$status $(grep -o 'No space left on device' "$work/errors" | sort -u)"
}

for major in 16 17 18; do
  server "$major"
  sql postgres -c 'CREATE DATABASE small' -c 'CREATE DATABASE large' -c 'CREATE ROLE reader'
  sql small -c "CREATE TABLE item AS SELECT i, 'name ' || i AS name FROM generate_series(1, 100) AS i"
  sql large -c "CREATE TABLE item AS SELECT i, md5(i::text) AS name FROM generate_series(1, 20000) AS i"
  awaited="0 "
  full "pg_dump -Fc" pg_dump -Fc -d small
  full "pg_dumpall -g" pg_dumpall -g
  full "pg_dumpall -r" pg_dumpall -r
  full "psql, rows in parts" psql -XAtq -v ON_ERROR_STOP=1 -v FETCH_COUNT=10 -d small -c 'SELECT * FROM item'
  full "and with -o" psql -XAtq -v ON_ERROR_STOP=1 -v FETCH_COUNT=10 -o /dev/full -d small -c 'SELECT * FROM item'
  awaited="1 No space left on device"
  full "psql" psql -XAtq -d small -c 'SELECT * FROM item'
  full "psql, COPY" psql -XAtq -d small -c 'COPY item TO STDOUT'
  full "pg_dump" pg_dump -d small
  full "pg_dump -Ft" pg_dump -Ft -d small
  full "pg_dump -Fc, larger" pg_dump -Fc -d large
  full "pg_dumpall" pg_dumpall
  for name in "pg_dump -Fc -d small" "pg_dumpall -g"; do
    status=0
    read -ra command <<<"$name"
    "$bin/${command[0]}" "${command[@]:1}" -f /dev/full 2>"$work/errors" || status=$?
    expect "$name -f" 1 "$status"
  done
done
