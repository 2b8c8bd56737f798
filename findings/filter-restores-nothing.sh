#!/usr/bin/env bash
# The file that tells pg_dump --filter which table to take makes pg_restore --filter restore nothing, with status 0.
#
# One would guess that one format, of one release and for both programs, means the same to both. A pattern may name a
# schema to pg_dump; to pg_restore it is a bare table's name, without schema and without stars. pg_dump ends with an
# error if nothing matches; pg_restore does so with --strict-names only. With table shop.item:
#
#   include table    pg_dump takes                           pg_restore makes of an archive of all
#   shop.item        the table                               nothing; status 0
#   shop.it*         the table                               nothing; status 0
#   it*              error: no matching tables were found    nothing; status 0
#   item             the same error                          the table, of whatever schema
#
# The last makes less than pg_dump does with shop.item: id, an identity and the primary key, comes back as a plain
# integer column without index, and so the application's next INSERT is refused.
#
# Seen with 17.10 and 18.4; the option is there since 17.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

for major in 17 18; do
  server $major
  sql postgres -c 'CREATE DATABASE app' -c 'CREATE DATABASE restored'
  sql app <<'SQL'
CREATE SCHEMA shop;
CREATE TABLE shop.item (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);
INSERT INTO shop.item (name) VALUES ('cup');
SQL
  "$bin/pg_dump" -Fc -d app -f "$work/dump"

  # Lines of SQL that make a table, of pg_dump and of pg_restore, with one file.
  made() {
    local status=0
    echo "include table $1" >"$work/filter"
    "$bin/pg_dump" --filter "$work/filter" -d app >"$work/by_dump" 2>"$work/said" || status=$?
    printf '%s, ' "$(grep -c 'CREATE TABLE' "$work/by_dump" || true) status $status"
    status=0
    "$bin/pg_restore" --filter "$work/filter" -f "$work/by_restore" "$work/dump" || status=$?
    echo "$(grep -c 'CREATE TABLE' "$work/by_restore" || true) status $status"
  }
  expect "shop.item" "1 status 0, 0 status 0" "$(made shop.item)"
  expect "shop.it*" "1 status 0, 0 status 0" "$(made 'shop.it*')"
  expect "it*" "0 status 1, 0 status 0" "$(made 'it*')"
  expect "item" "0 status 1, 1 status 0" "$(made item)"
  expect "pg_dump said of item" "no matching tables were found" "$(grep -o 'no matching.*' "$work/said")"
  "$bin/pg_restore" --strict-names -t shop.item -f "$work/by_restore" "$work/dump" 2>"$work/said" || true
  expect "pg_restore --strict-names of shop.item" 'table "shop.item" not found' "$(grep -o 'table .*' "$work/said")"

  sql restored -c 'CREATE SCHEMA shop'
  "$bin/pg_restore" --exit-on-error --filter "$work/filter" -d restored "$work/dump"
  column="SELECT attidentity::text || ' ' || attnotnull || ' ' ||
    (SELECT count(*) FROM pg_index WHERE indrelid = attrelid) FROM pg_attribute WHERE attrelid = 'shop.item'::regclass AND attname = 'id'"
  expect "identity, not null, indexes in the origin" "a true 1" "$(sql app -c "$column")"
  expect "identity, not null, indexes restored" " true 0" "$(sql restored -c "$column")"
  expect "an INSERT" 'null value in column "id"' \
    "$(sql restored -c "INSERT INTO shop.item (name) VALUES ('pot')" 2>&1 | grep -o 'null value in column "id"')"
done
