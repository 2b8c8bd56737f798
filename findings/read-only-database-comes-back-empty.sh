#!/usr/bin/env bash
# A database that is read-only by ALTER DATABASE comes back with nothing in it, by psql with status 0.
#
# One would guess that a restore is not stopped by a default that the dump itself carries, as pg_dump sets timeouts
# and the like to what it needs, and pg_dumpall's text begins with SET default_transaction_read_only = off.
# ALTER DATABASE … SET default_transaction_read_only = on is how a database is closed for archiving. The dump makes the
# database, gives it its settings, connects to it anew, and from there on the setting counts:
#
#   pg_dump -Fc --create, pg_restore --create    status 1, no table
#   pg_dump --create, psql                       status 0, no table
#   pg_dumpall, psql                             status 0, no table; its first line holds for its first session
#   pg_dump -Fc, pg_restore, into a new one      everything, and the setting is not there
#   any of them with PGOPTIONS="-c default_transaction_read_only=off"    everything
#
# Seen with 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# The status of a restore, and how many tables and refusals there are then.
restored() {
  local status=0
  sql postgres -c 'DROP DATABASE shop'
  "$@" >"$work/said" 2>&1 || status=$?
  echo "$status, $(sql shop -c "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")," \
    "$(grep -c 'CREATE TABLE in a read-only transaction' "$work/said" || true)"
}

for major in 17 18; do
  server $major
  sql postgres -c 'CREATE DATABASE shop'
  sql shop -c 'CREATE TABLE item AS SELECT 1 AS id'
  sql postgres -c 'ALTER DATABASE shop SET default_transaction_read_only = on'
  "$bin/pg_dump" -Fc --create -d shop -f "$work/dump"
  "$bin/pg_dump" --create -d shop -f "$work/text"
  "$bin/pg_dumpall" -f "$work/all"
  expect "pg_dumpall's beginning" "SET default_transaction_read_only = off;" "$(grep -m1 '^SET' "$work/all")"
  for free in "" "-c default_transaction_read_only=off"; do
    export PGOPTIONS=$free
    seen="1, 0, 1 0, 0, 1 0, 0, 1"
    [ -z "$free" ] || seen="0, 1, 0 0, 1, 0 0, 1, 0"
    expect "status, tables, refusals, options '$free'" "$seen" \
      "$(restored "$bin/pg_restore" --create -d postgres "$work/dump") $(
        restored "$bin/psql" -Xq -d postgres -f "$work/text") $(
        restored "$bin/psql" -Xq -d postgres -f "$work/all")"
  done
  unset PGOPTIONS
  sql postgres -c 'CREATE DATABASE other'
  "$bin/pg_restore" --exit-on-error -d other "$work/dump"
  expect "into another" "1 off" "$(sql other -c 'SELECT count(*) FROM item' -c 'SHOW default_transaction_read_only' |
    paste -sd' ')"
done
