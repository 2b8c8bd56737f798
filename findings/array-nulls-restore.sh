#!/usr/bin/env bash
# A database whose setting array_nulls is off cannot be restored as it was by its own pg_dump and pg_restore.
#
# One would guess that pg_dump neutralises every setting that changes how its text is read, as it does with
# client_encoding, standard_conforming_strings, xmloption, row_security. It leaves array_nulls, which decides whether
# an unquoted NULL in an array is a null or the text 'NULL'. With --create, the archive carries the database's
# settings and sets them first; then the same server reads back another row than it wrote:
#
#   {NULL,x} with a null in it    ->    {"NULL",x} with the text NULL; pg_restore --exit-on-error: status 0
#
# The same in a column's default. In an array of integers it is an error, and so the table stays empty. Writing is not
# concerned: nulls are printed NULL, texts "NULL", whatever the setting.
#
# Seen with 16.14, 17.10 and 18.4 (and by hand with Debian's 15.18).
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# What is in the row, and whether its first element is a null.
first="SELECT marks, marks[1] IS NULL FROM t"

for major in 16 17 18; do
  server $major
  sql postgres -c 'CREATE DATABASE app' -c 'ALTER DATABASE app SET array_nulls = off'
  sql app -c "SET array_nulls = on" -c "CREATE TABLE t (marks text[] DEFAULT '{NULL,x}')"
  sql app -c "INSERT INTO t DEFAULT VALUES"
  expect "before" '{NULL,x}|t' "$(sql app -c "$first")"

  "$bin/pg_dump" -Fc --create -d app -f "$work/dump"
  sql postgres -c 'DROP DATABASE app'
  status=0
  "$bin/pg_restore" --exit-on-error --create -d postgres "$work/dump" || status=$?
  expect "status of pg_restore" 0 "$status"
  expect "after" '{"NULL",x}|f' "$(sql app -c "$first")"
  sql app -c 'TRUNCATE t' -c 'INSERT INTO t DEFAULT VALUES'
  expect "a new row's default" '{"NULL",x}|f' "$(sql app -c "$first")"

  sql app -c 'CREATE TABLE numbers (n int[])' -c 'INSERT INTO numbers VALUES (ARRAY[NULL, 1])'
  "$bin/pg_dump" -Fc --create -d app -f "$work/dump"
  sql postgres -c 'DROP DATABASE app'
  status=0
  "$bin/pg_restore" --create -d postgres "$work/dump" 2>"$work/said" || status=$?
  expect "status of pg_restore with integers" 1 "$status"
  expect "said" 'invalid input syntax for type integer: "NULL"' "$(grep -o 'invalid input syntax.*' "$work/said")"
done
