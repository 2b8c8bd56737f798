#!/usr/bin/env bash
# pg_restore takes a directory archive whose file was cut short: rows are missing, one is wrong, and status is 0.
#
# One would guess that an archive knows how much belongs into it, or that a compressed file that ends early is an error,
# as it is to zstd, lz4 and gzip themselves. The table of contents of the directory format names a file for each
# table, and neither its size nor its rows. A copy that was broken off, or a disk that was full, leaves of 10,000 rows:
#
#   pg_dump -Fd with    cut to                              rows restored    pg_restore's status, standard error
#   none                a line's end, in the middle         5,074            0, empty
#   lz4                 all but 20 bytes                    8,886            0, empty
#   zstd                all but 20 bytes                    8,886            0, empty
#   gzip                all but 20 bytes                    none             1, "could not close data file"
#   any of them         nothing                             none             0, empty
#
# With lz4 and zstd the last of these rows has lost its end: 'name 8' instead of 'name 8886', which is a value like any
# other. An archive of the custom format that was cut is refused. So files of the directory format need checksums of
# their own, made where pg_dump wrote them.
#
# Seen with 17.10; without lz4 and zstd, which it is built without, also with 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# try ARCHIVE: what a restore of it into a new database ends with, brings and says.
try() {
  local status=0
  sql postgres -c 'DROP DATABASE IF EXISTS copy' -c 'CREATE DATABASE copy' 2>"$work/said"
  "$bin/pg_restore" -d copy "$1" 2>"$work/errors" || status=$?
  sql copy -c 'SELECT count(*), max(id) FROM item' -c 'SELECT name FROM item ORDER BY id DESC LIMIT 1' | paste -sd' ' |
    sed "s/^/$status: /"
}

for major in 17 18; do
  server "$major"
  methods=(none gzip)
  [ "$major" = 18 ] || methods+=(lz4 zstd)
  sql postgres -c 'CREATE DATABASE app'
  sql app -c 'CREATE TABLE item (id integer, name text)' \
    -c "INSERT INTO item SELECT i, 'name ' || i FROM generate_series(1, 10000) AS i"
  for method in "${methods[@]}"; do
    archive=$work/$major-$method
    "$bin/pg_dump" -Fd -Z "$method" -d app -f "$archive"
    expect "$method, whole" "0: 10000|10000 name 10000" "$(try "$archive")"
    rows=$(find "$archive" -name '[0-9]*.dat*')
    size=$(stat -c %s "$rows")
    case $method in
      none) keep=73896 awaited="0: 5074|5074 name 5074" ;;
      gzip) keep=$((size - 20)) awaited="1: 0| " ;;
      *) keep=$((size - 20)) awaited="0: 8886|8886 name 8" ;;
    esac
    truncate -s "$keep" "$rows"
    expect "$method, cut" "$awaited" "$(try "$archive" | sed 's/| *$/| /')"
    case $method in
      gzip) expect "said" 1 "$(grep -c 'could not close data file' "$work/errors")" ;;
      *) expect "said" 0 "$(wc -c <"$work/errors")" ;;
    esac
    truncate -s 0 "$rows"
    expect "$method, empty" "0: 0| " "$(try "$archive" | sed 's/| *$/| /')"
  done
  "$bin/pg_dump" -Fc -d app -f "$work/custom"
  truncate -s -1200 "$work/custom"
  expect "the custom format, cut" "1: 0| " "$(try "$work/custom" | sed 's/| *$/| /')"
  expect "said" 1 "$(grep -c 'could not read from input file: end of file' "$work/errors")"
done
