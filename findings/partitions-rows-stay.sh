#!/usr/bin/env bash
# Named to pg_dump, a partitioned table is a name without rows: left out it is all there, asked for it is empty.
#
# One would guess that the name of a partitioned table stands for its rows, as it does in SELECT, TRUNCATE, VACUUM, in
# a publication and in GRANT. For pg_dump, rows are the partitions', which have names of their own. Of a table person
# with one partition and one row, always with status 0 and nothing said:
#
#   pg_dump --exclude-table-data=person                 the row
#   pg_dump --exclude-table=person                      the row, in a table of its own
#   pg_dump -t person                                   no row
#   pg_restore -t person, of an archive of all          no row
#   pg_dump --exclude-table-data-and-children=person    no row
#   pg_dump --table-and-children=person                 the row
#
# So personal data that is left out by name is in the dump from the day its table is partitioned, and the copy that is
# made of one table before a change has nothing in it. The last two options are there since 16; pg_restore has none.
#
# Seen with 16.14, 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# Definitions of tables and rows.
held() {
  "$@" >"$work/held" 2>"$work/errors"
  [ ! -s "$work/errors" ] || cat "$work/errors"
  echo "$(grep -c '^CREATE TABLE' "$work/held" || true) $(grep -c '^Person' "$work/held" || true)"
}

for major in 16 17 18; do
  server $major
  sql postgres -c 'CREATE DATABASE app'
  sql app <<'SQL'
CREATE TABLE person (name text, joined date) PARTITION BY RANGE (joined);
CREATE TABLE person_2026 PARTITION OF person FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO person VALUES ('Person 1', '2026-03-01');
SQL
  "$bin/pg_dump" -Fc -d app -f "$work/dump"
  for seen in "--exclude-table-data=person:2 1" "--exclude-table=person:1 1" "--table=person:1 0" \
    "--exclude-table-data-and-children=person:2 0" "--table-and-children=person:2 1"; do
    expect "pg_dump ${seen%:*}" "${seen#*:}" "$(held "$bin/pg_dump" -d app "${seen%:*}")"
  done
  expect "pg_restore -t person" "1 0" "$(held "$bin/pg_restore" -t person -f - "$work/dump")"
done
