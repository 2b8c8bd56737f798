#!/usr/bin/env bash
# pg_dump --snapshot is not a dump of that snapshot: some of what it holds is older or newer, and it exits with 0.
#
# One would guess that a snapshot exported under REPEATABLE READ fixes what pg_dump sees until it ends. It fixes rows
# that were deleted or changed since. What was committed between the export and pg_dump's own locks shows otherwise:
#
#   rows of a table truncated since          0 of 10; the snapshot's own transaction sees 0, too
#   rows of a table whose column's type
#   was changed since                        0 of 10, in a table of the old type
#   a sequence                               12, where it was 10
#   a view over a function renamed since     calls the new name, while the function has the old one: pg_restore says
#                                            "function public.later() does not exist", makes no view, exits with 1
#
# TRUNCATE and rewriting ALTERs do not keep old rows, sequences have no versions, and definitions are printed by
# functions of the server that look into today's catalog. So: lock every table first, then take the snapshot, then
# compare catalogs.
#
# Seen with 16.14, 17.10 and 18.4 (and by hand with Debian's 15.18).
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

for major in 16 17 18; do
  server $major
  sql postgres -c 'CREATE DATABASE app' -c 'CREATE DATABASE again'
  sql app <<'SQL' >"$work/said"
CREATE TABLE deleted AS SELECT generate_series(1, 10) AS i;
CREATE TABLE truncated AS SELECT generate_series(1, 10) AS i;
CREATE TABLE retyped AS SELECT generate_series(1, 10) AS i;
CREATE SEQUENCE numbers;
SELECT nextval('numbers') FROM generate_series(1, 10);
CREATE FUNCTION earlier() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE VIEW calling AS SELECT earlier();
SQL
  coproc holder { "$bin/psql" -XAtq -d app; }
  process=$!
  echo 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot();' >&"${holder[1]}"
  read -r snapshot <&"${holder[0]}"
  sql app <<'SQL' >"$work/said"
DELETE FROM deleted;
TRUNCATE truncated;
ALTER TABLE retyped ALTER i TYPE bigint;
SELECT nextval('numbers') FROM generate_series(1, 2);
ALTER FUNCTION earlier() RENAME TO later;
SQL
  status=0
  "$bin/pg_dump" --snapshot="$snapshot" -Fc -d app -f "$work/dump" || status=$?
  echo 'SELECT count(*) FROM truncated;' >&"${holder[1]}"
  read -r holders <&"${holder[0]}"
  echo '\q' >&"${holder[1]}"
  wait "$process"
  expect "status of pg_dump" 0 "$status"
  expect "rows truncated since, in the snapshot's own transaction" 0 "$holders"

  status=0
  "$bin/pg_restore" -d again "$work/dump" 2>"$work/said" || status=$?
  expect "rows deleted since" 10 "$(sql again -c 'SELECT count(*) FROM deleted')"
  expect "rows truncated since" 0 "$(sql again -c 'SELECT count(*) FROM truncated')"
  expect "rows and type of the column changed since" "0 integer" \
    "$(sql again -F ' ' -c "SELECT count(i), (SELECT format_type(atttypid, -1) FROM pg_attribute
        WHERE attrelid = 'retyped'::regclass AND attname = 'i') FROM retyped")"
  expect "the sequence" 12 "$(sql again -c 'SELECT last_value FROM numbers')"
  expect "status of pg_restore" 1 "$status"
  missing='function public.later() does not exist'
  expect "said" "$missing" "$(grep -o "$missing" "$work/said")"
  expect "functions" earlier "$(sql again -c "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")"
  expect "the view" "" "$(sql again -c "SELECT to_regclass('calling')")"
done
