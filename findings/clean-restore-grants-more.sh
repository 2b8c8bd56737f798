#!/usr/bin/env bash
# pg_restore --clean, run twice with one archive, grants what the origin never granted; both times with status 0.
#
# One would guess that --clean makes a second restore the same as the first. Default privileges are the last thing that
# an archive brings, so that no table of its own gets them; --clean drops tables, but not default privileges, which the
# second restore then finds in force when it makes the tables anew. A table that has only its owner's rights is dumped
# without any word on rights, and keeps what it was given. With a table that is older than ALTER DEFAULT PRIVILEGES
# GRANT SELECT ON TABLES TO reader:
#
#                                                       reader may read it
#   in the origin                                       no
#   pg_restore --clean --if-exists into a new database  no
#   the same again                                      yes
#   pg_restore --clean into the origin itself           yes
#   pg_restore --clean --create, again                  no
#
# A nightly refresh of a copy is right in the first night, and not in the second.
#
# Seen with 16.14, 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# Whether the reader may read each of the tables.
readable() {
  sql "$1" -c "SELECT relname || ' ' || has_table_privilege('reader', oid, 'SELECT') FROM pg_class
    WHERE relname IN ('older', 'newer') ORDER BY relname DESC" | paste -sd' '
}
restored() {
  "$bin/pg_restore" --exit-on-error --clean --if-exists "$@" "$work/dump"
}

for major in 16 17 18; do
  server $major
  sql postgres -c 'CREATE ROLE reader' -c 'CREATE DATABASE app' -c 'CREATE DATABASE copy'
  sql app -c 'CREATE TABLE older (i int)' -c 'ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader' \
    -c 'CREATE TABLE newer (i int)'
  "$bin/pg_dump" -Fc -d app -f "$work/dump"
  expect "origin" "older false newer true" "$(readable app)"
  restored -d copy
  expect "restored" "older false newer true" "$(readable copy)"
  restored -d copy
  expect "restored again" "older true newer true" "$(readable copy)"
  restored --create -d postgres
  expect "origin, --create" "older false newer true" "$(readable app)"
  restored -d app
  expect "origin, restored into" "older true newer true" "$(readable app)"
done
