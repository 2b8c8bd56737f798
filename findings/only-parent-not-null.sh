#!/usr/bin/env bash
# A database of 17 cannot be restored from its own dump: a table that inherits gets a NOT NULL that it never had.
#
# One would guess that pg_dump brings back what the server allowed. Up to 17, NOT NULL may be set on a parent alone
# (ALTER TABLE ONLY … SET NOT NULL), or taken from a table that inherits, which may then hold nulls. pg_dump writes
# neither: made anew by INHERITS, the table has its parent's NOT NULL, and COPY fails, so that none of its rows come:
#
#   into 17, by pg_restore of 17     status 1, both tables that inherit are empty, also of rows without nulls
#   into 18, by programs of 18       the same
#   ALTER TABLE … DROP NOT NULL      allowed once it is restored into 17; then --data-only brings the rows
#
# 18 itself marks the one NO INHERIT, which is dumped, and refuses the other.
#
# Seen with 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# What a restore into a new database of the running server says: status, refusals, rows of each table.
restored() {
  local status=0
  sql postgres -c 'CREATE DATABASE restored'
  "$bin/pg_restore" -d restored "$work/dump" 2>"$work/refused" || status=$?
  echo "status $status, $(grep -c 'violates not-null' "$work/refused" || true) refused, rows $(sql restored -F ' ' -c \
    'SELECT (SELECT count(*) FROM ONLY special), (SELECT count(*) FROM ONLY freed)')"
}
parent_alone='CREATE TABLE item (price int); CREATE TABLE special () INHERITS (item);
  ALTER TABLE ONLY item ALTER price SET NOT NULL; INSERT INTO special VALUES (NULL), (5);'

server 17
seventeen=$PGHOST
sql postgres -c 'CREATE DATABASE app'
sql app <<SQL
$parent_alone
CREATE TABLE thing (price int NOT NULL);
CREATE TABLE freed () INHERITS (thing);
ALTER TABLE freed ALTER price DROP NOT NULL;
INSERT INTO freed VALUES (NULL), (5);
SQL
"$bin/pg_dump" -Fc -d app -f "$work/dump"
expect "17 into 17" "status 1, 2 refused, rows 0 0" "$(restored)"
sql restored -c 'ALTER TABLE special ALTER price DROP NOT NULL' -c 'ALTER TABLE freed ALTER price DROP NOT NULL'
"$bin/pg_restore" --exit-on-error --data-only -d restored "$work/dump"
expect "rows after DROP NOT NULL" "2 2" \
  "$(sql restored -F ' ' -c 'SELECT (SELECT count(*) FROM special), (SELECT count(*) FROM freed)')"

server 18
PGHOST=$seventeen "$bin/pg_dump" -Fc -d app -f "$work/dump"
expect "17 into 18" "status 1, 2 refused, rows 0 0" "$(restored)"
sql postgres -c 'DROP DATABASE restored' -c 'CREATE DATABASE app'
sql app -c "$parent_alone" -c 'CREATE TABLE freed ()'
"$bin/pg_dump" -Fc -d app -f "$work/dump"
expect "18 into 18" "status 0, 0 refused, rows 2 0" "$(restored)"
