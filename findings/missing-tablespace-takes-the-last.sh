#!/usr/bin/env bash
# Tables whose tablespace is missing are restored into the tablespace of some other table, by psql with status 0.
#
# One would guess that they go where all else goes, into the database's own. A dump says SET default_tablespace before
# the first table of each; where that is refused, the setting stays as it was, and so the tables land where the one
# before them did. Origin and copy have fast; slow is not there when the archive is restored:
#
#             in the origin    restored
#   audit     slow             the database's own
#   booking   fast             fast
#   history   slow             fast
#   history_1 slow             fast
#   item      its own          the database's own
#
# pg_restore says "could not set default_tablespace" for each run of such tables, "errors ignored", and ends with 1.
# What was put on slow disks for its size fills the fast ones. With --no-tablespaces, all are in the database's own.
#
# Seen with 16.14, 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# The tablespaces of the tables, by name.
spaces() {
  sql "$1" -c "SELECT relname || ' ' || coalesce(spcname, 'own') FROM pg_class LEFT JOIN pg_tablespace t
    ON t.oid = reltablespace WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1" | paste -sd,
}

for major in 16 17 18; do
  server $major
  for space in fast slow; do
    mkdir "$work/space-$space"
    [ "$(id -u)" != 0 ] || chown nobody "$work/space-$space"
    sql postgres -c "CREATE TABLESPACE $space LOCATION '$work/space-$space'"
  done
  for database in app by_psql by_pg_restore without; do sql postgres -c "CREATE DATABASE $database"; done
  sql app -c 'CREATE TABLE audit (i int) TABLESPACE slow' -c 'CREATE TABLE booking (i int) TABLESPACE fast' \
    -c 'CREATE TABLE history (i int) TABLESPACE slow' -c 'CREATE TABLE history_1 (i int) TABLESPACE slow' \
    -c 'CREATE TABLE item (i int)'
  expect "origin" "audit slow,booking fast,history slow,history_1 slow,item own" "$(spaces app)"
  "$bin/pg_dump" -Fc -d app -f "$work/dump"
  sql postgres -c 'DROP DATABASE app' -c 'DROP TABLESPACE slow'
  status=0
  "$bin/pg_restore" -d by_pg_restore "$work/dump" 2>"$work/errors" || status=$?
  expect "pg_restore" "1 2" "$status $(grep -c 'could not set "*default_tablespace' "$work/errors")"
  there="audit own,booking fast,history fast,history_1 fast,item own"
  expect "restored" "$there" "$(spaces by_pg_restore)"
  "$bin/pg_restore" -f "$work/text" "$work/dump"
  "$bin/psql" -Xq -d by_psql -f "$work/text" >"$work/said" 2>&1
  expect "by psql" "$there" "$(spaces by_psql)"
  "$bin/pg_restore" --exit-on-error --no-tablespaces -d without "$work/dump"
  expect "--no-tablespaces" "audit own,booking own,history own,history_1 own,item own" "$(spaces without)"
  sql postgres -c 'DROP DATABASE by_psql' -c 'DROP DATABASE by_pg_restore' -c 'DROP TABLESPACE fast'
  rmdir "$work/space-fast" "$work/space-slow"
done
