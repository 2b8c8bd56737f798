#!/usr/bin/env bash
# The schema of a faithfully restored database is another text than that of its origin, and only the first time.
#
# One would guess that pg_dump --schema-only of a database and of its restored dump are equal, as a drill that
# compares them needs. A constraint is kept as a tree and printed as SQL; what is printed need not be parsed into the
# same tree:
#
#   written                      CHECK (state IN ('new', 'old'))            with state varchar(9)
#   printed by the origin        (state)::text = ANY ((ARRAY['new'::character varying, …])::text[])
#   printed after one restore    (state)::text = ANY (ARRAY[('new'::character varying)::text, …])
#   after the second and third   as after the first
#
# The cast of the array became casts of its elements. The same in partial indexes and views; not with a column of
# text. Both mean the same, so equal texts are no condition of a good restore: compare with the dump of a second
# restore.
#
# Seen with 16.14, 17.10 and 18.4 (and by hand with Debian's 15.18).
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# What pg_dump prints of the constraint, the index and the view.
printed() {
  "$bin/pg_dump" --schema-only -d "$1" | grep -E 'CONSTRAINT|CREATE INDEX|WHERE'
}

for major in 16 17 18; do
  server $major
  sql postgres -c 'CREATE DATABASE origin' -c 'CREATE DATABASE first' -c 'CREATE DATABASE second'
  sql origin <<'SQL'
CREATE TABLE job (state varchar(9) CHECK (state IN ('new', 'old')), name text CHECK (name IN ('a', 'b')));
CREATE INDEX waiting ON job (state) WHERE state IN ('new', 'old');
CREATE VIEW ready AS SELECT name FROM job WHERE state IN ('new', 'old');
SQL
  "$bin/pg_dump" -Fc -d origin | "$bin/pg_restore" --exit-on-error -d first
  "$bin/pg_dump" -Fc -d first | "$bin/pg_restore" --exit-on-error -d second
  whole="(ARRAY['new'::character varying, 'old'::character varying])::text[]"
  each="ARRAY[('new'::character varying)::text, ('old'::character varying)::text]"
  expect "casts of whole arrays in the origin" 3 "$(printed origin | grep -cF "$whole")"
  expect "casts of whole arrays after a restore" 0 "$(printed first | grep -cF "$whole" || true)"
  expect "casts of elements after a restore" 3 "$(printed first | grep -cF "$each")"
  expect "unchanged column of text" "$(printed origin | grep name_check)" "$(printed first | grep name_check)"
  expect "after the second restore" "$(printed first | sha256sum)" "$(printed second | sha256sum)"
done
