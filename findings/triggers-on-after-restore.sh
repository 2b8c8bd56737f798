#!/usr/bin/env bash
# pg_restore --data-only --disable-triggers leaves every trigger of the table on, also those that were off.
#
# One would guess that it puts triggers back as it found them. It disables all of a table's, loads the rows, and
# enables all, which is one state of four:
#
#   disabled          ->  enabled: it fires from now on
#   always            ->  enabled: it no longer fires under session_replication_role = replica
#   replica           ->  enabled: it fires for ordinary statements, and no longer under replica
#   enabled           ->  enabled
#
# pg_restore's status is 0, and the archive knew better: a whole restore of the same archive brings the four states
# back. pg_dump's plain text with the same options does the same. A table that is filled again this way, beside a
# trigger that was switched off for good, runs that trigger with the next row.
#
# Seen with 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

states="SELECT string_agg(tgname || ' ' || tgenabled::text, ', ' ORDER BY tgname) FROM pg_trigger
  WHERE tgrelid = 't'::regclass AND NOT tgisinternal"

for major in 17 18; do
  server $major
  sql postgres -c 'CREATE DATABASE app' -c 'CREATE DATABASE whole'
  sql app <<'SQL'
CREATE TABLE t (i int);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.i = -NEW.i; RETURN NEW; END $$;
CREATE TRIGGER plain BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION noted();
CREATE TRIGGER always BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION noted();
CREATE TRIGGER replica BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION noted();
CREATE TRIGGER retired BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION noted();
ALTER TABLE t ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER replica, DISABLE TRIGGER retired;
INSERT INTO t VALUES (1);
SQL
  before="always A, plain O, replica R, retired D"
  expect "before" "$before" "$(sql app -c "$states")"
  "$bin/pg_dump" -Fc -d app -f "$work/dump"
  "$bin/pg_restore" --exit-on-error -d whole "$work/dump"
  expect "after a whole restore" "$before" "$(sql whole -c "$states")"

  sql app -c 'TRUNCATE t'
  status=0
  "$bin/pg_restore" --exit-on-error --data-only --disable-triggers -d app "$work/dump" || status=$?
  expect "status of pg_restore" 0 "$status"
  expect "after it" "always O, plain O, replica O, retired O" "$(sql app -c "$states")"
  sql app -c 'INSERT INTO t VALUES (2)'
  expect "rows, and one more" "-2, 1" "$(sql app -c "SELECT string_agg(i::text, ', ' ORDER BY i) FROM t")"
  sql app -c 'ALTER TABLE t DISABLE TRIGGER retired' -c 'TRUNCATE t'
  "$bin/pg_dump" --data-only --disable-triggers -d whole | sql app >"$work/said"
  expect "after plain text" "always O, plain O, replica O, retired O" "$(sql app -c "$states")"
done
