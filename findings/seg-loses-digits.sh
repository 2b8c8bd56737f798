#!/usr/bin/env bash
# A dump of the contrib type seg rounds to six digits: other values come back, and unique ones are refused.
#
# One would guess that its text is exact, as that of float4 is since 12, or that a value is rounded when it is written.
# seg keeps seven or more digits, compares and indexes by them, and prints six:
#
#   in the origin        1234567 and 1234568 are two values, a primary key holds both, SELECT shows 1.23457e+06 twice
#   restored             1.23457e+06, equal to neither; pg_restore --exit-on-error: status 0; dumps are the same text
#   with a primary key   "could not create unique index": the archive cannot be restored as it is
#
# COPY in binary is no way out: seg has no binary form ("no binary output function available").
#
# Seen with 17.10.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

server 17
sql postgres -c 'CREATE DATABASE origin' -c 'CREATE DATABASE restored'
sql origin <<'SQL'
CREATE EXTENSION seg;
CREATE TABLE plain (length seg);
INSERT INTO plain VALUES ('1234567'), ('1234568');
CREATE TABLE keyed (length seg PRIMARY KEY);
INSERT INTO keyed TABLE plain;
SQL
found="SELECT count(*) FILTER (WHERE length IN ('1234567', '1234568')), string_agg(length::text, ' ') FROM"
expect "in the origin" "2 1.23457e+06 1.23457e+06" "$(sql origin -F ' ' -c "$found plain")"
status=0
"$bin/pg_dump" -Fc -T keyed -d origin | "$bin/pg_restore" --exit-on-error -d restored || status=$?
expect "status of pg_restore" 0 "$status"
expect "restored" "0 1.23457e+06 1.23457e+06" "$(sql restored -F ' ' -c "$found plain")"
for database in origin restored; do
  sql $database -c 'COPY plain TO STDOUT' >"$work/$database.rows"
done
expect "COPY" equal "$(cmp "$work/origin.rows" "$work/restored.rows" && echo equal)"

"$bin/pg_dump" -Fc -t keyed -d origin | "$bin/pg_restore" -d restored 2>"$work/refused" || status=$?
expect "status with a primary key" 1 "$status"
expect "said" "could not create unique index" "$(grep -o 'could not create unique index' "$work/refused")"
missing='no binary output function available for type seg'
expect "in binary" "$missing" "$(sql origin -c 'COPY plain TO STDOUT (FORMAT binary)' 2>&1 | grep -o "$missing")"
