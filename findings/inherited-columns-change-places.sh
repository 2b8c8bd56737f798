#!/usr/bin/env bash
# A restore puts the columns of a table that inherits in another order; an INSERT that names none then mixes them up.
#
# One would guess that the order of columns is part of a table, as pg_dump names them in every COPY. A column added to
# the parent later comes last in the child; pg_dump writes the child as its own columns with INHERITS (parent), and
# that puts everything inherited first:
#
#   in the origin    id, price, note, cost    (note is the child's own, cost came later)
#   restored         id, price, cost, note    pg_restore --exit-on-error: status 0
#
# The rows are right, as COPY names the columns. The application's INSERT INTO child VALUES (2, 10, 4, 5) is accepted
# by both, and 4 is the note in one, the cost in the other. So do SELECT *, COPY child TO and FROM, and functions that
# take rows apart by place. Where the types differ, there is an error instead. Partitions keep their order.
#
# Seen with 16.14, 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

columns() {
  sql "$1" -c "SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = '$2'::regclass AND attnum > 0 AND NOT attisdropped"
}

for major in 16 17 18; do
  server $major
  sql postgres -c 'CREATE DATABASE origin' -c 'CREATE DATABASE restored'
  sql origin <<'SQL'
CREATE TABLE item (id int, price numeric);
CREATE TABLE special (note numeric) INHERITS (item);
ALTER TABLE item ADD cost numeric;
INSERT INTO special VALUES (1, 10, 4, 5);
CREATE TABLE sale (id int, price numeric) PARTITION BY RANGE (id);
CREATE TABLE first_sale (price numeric, id int);
ALTER TABLE sale ATTACH PARTITION first_sale DEFAULT;
ALTER TABLE sale ADD cost numeric;
SQL
  status=0
  "$bin/pg_dump" -Fc -d origin | "$bin/pg_restore" --exit-on-error -d restored || status=$?
  expect "status of pg_restore" 0 "$status"
  expect "in the origin" "id, price, note, cost" "$(columns origin special)"
  expect "restored" "id, price, cost, note" "$(columns restored special)"
  expect "a partition restored" "price, id, cost" "$(columns restored first_sale)"
  for database in origin restored; do
    sql $database -c 'INSERT INTO special VALUES (2, 10, 4, 5)'
  done
  both="SELECT string_agg(id || ': ' || note || ' ' || cost, ', ' ORDER BY id) FROM special"
  expect "note and cost in the origin" "1: 4 5, 2: 4 5" "$(sql origin -c "$both")"
  expect "note and cost restored" "1: 4 5, 2: 5 4" "$(sql restored -c "$both")"
done
