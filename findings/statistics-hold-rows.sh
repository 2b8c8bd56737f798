#!/usr/bin/env bash
# A dump without the rows of a table holds its values all the same: pg_dump --statistics of 18 writes them down.
#
# One would guess that --exclude-table-data, or --no-data, keeps what is in a table out of a dump. Statistics hold the
# most common values and the borders between others, as text, of each column and of each expression that is indexed:
#
#   pg_dump --statistics --exclude-table-data=person    no row; names twice: of the column, of the index lower(name)
#   pg_restore --no-data of an archive with statistics  the same
#   pg_restore --schema-only, or --no-statistics        none
#   pg_dump without --statistics                        none: it is off by default, while pg_restore's is on
#
# So a dump for a developer, from which personal data was left out by name, has some of it.
#
# Seen with 18.4; these options are new in 18.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

server 18
sql postgres -c 'CREATE DATABASE app'
sql app <<'SQL'
CREATE TABLE person (name text);
INSERT INTO person SELECT 'Person ' || i % 3 FROM generate_series(1, 1000) AS i;
CREATE INDEX ON person (lower(name));
ANALYZE;
SQL
# Lines of rows, and lines with names.
held() {
  "$@" >"$work/held"
  echo "$(grep -c '^Person' "$work/held" || true) $(grep -ci 'person [0-2]' "$work/held" || true)"
}
values='{"Person 1","Person 0","Person 2"}'
expect "a dump" "1000 1000" "$(held "$bin/pg_dump" -d app)"
expect "without the rows" "0 0" "$(held "$bin/pg_dump" -d app --exclude-table-data=person)"
expect "without the rows, with statistics" "0 2" \
  "$(held "$bin/pg_dump" -d app --exclude-table-data=person --statistics)"
expect "most common values" "${#values}" "$(grep -o '{"Person [^}]*}' "$work/held" | tr -d '\n' | wc -c)"

"$bin/pg_dump" -Fc --statistics -d app -f "$work/dump"
for options in "--no-data:0 2" "--schema-only:0 0" "--no-data --no-statistics:0 0" ":1000 1002"; do
  # shellcheck disable=SC2086
  expect "pg_restore ${options%:*}" "${options#*:}" "$(held "$bin/pg_restore" ${options%:*} -f - "$work/dump")"
done
