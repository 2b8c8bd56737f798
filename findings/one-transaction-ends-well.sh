#!/usr/bin/env bash
# psql --single-transaction restores nothing after an error, and says so with status 0.
#
# One would guess that whoever asks for all or nothing is told which of the two it was, as pg_restore -1 tells. One
# statement that fails, such as a role that is not there, ends the transaction; the rest is refused line by line; then
# COMMIT is sent, which the server carries out as ROLLBACK:
#
#   psql -1 -f dump                           status 0, no table
#   psql -f dump                              status 0, all but the one statement
#   psql -1 -v ON_ERROR_STOP=1 -f dump        status 3, no table
#   pg_restore -1 of an archive               status 1, no table
#   psql -1 -c … -c … with an error           status 1, no table
#
# So the option that was added for safety loses everything, and a script goes on. Standard error has the errors, among
# rows of "commands ignored until end of transaction block".
#
# Seen with 16.14, 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# The status of a restore into a new database, and how many tables there are then.
restored() {
  local status=0
  sql postgres -c 'DROP DATABASE IF EXISTS copy' -c 'CREATE DATABASE copy' 2>"$work/said"
  "$@" >"$work/said" 2>&1 || status=$?
  echo "$status, $(sql copy -c "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")"
}

for major in 16 17 18; do
  server $major
  sql postgres -c 'CREATE DATABASE app' -c 'CREATE ROLE clerk'
  sql app -c 'CREATE TABLE t (i int)' -c 'CREATE TABLE u (i int)' -c 'GRANT SELECT ON t TO clerk'
  "$bin/pg_dump" -d app -f "$work/text"
  "$bin/pg_dump" -Fc -d app -f "$work/dump"
  sql app -c 'DROP OWNED BY clerk' -c 'DROP ROLE clerk'
  expect "psql -1" "0, 0" "$(restored "$bin/psql" -Xq -1 -d copy -f "$work/text")"
  expect "psql" "0, 2" "$(restored "$bin/psql" -Xq -d copy -f "$work/text")"
  expect "psql -1, ON_ERROR_STOP" "3, 0" "$(restored "$bin/psql" -Xq -1 -v ON_ERROR_STOP=1 -d copy -f "$work/text")"
  expect "pg_restore -1" "1, 0" "$(restored "$bin/pg_restore" -1 -d copy "$work/dump")"
  expect "psql -1 -c" "1, 0" "$(restored "$bin/psql" -Xq -1 -d copy -c 'CREATE TABLE t (i int)' \
    -c 'GRANT SELECT ON t TO clerk')"
done
