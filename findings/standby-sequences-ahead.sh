#!/usr/bin/env bash
# A dump of a standby has other sequences than one of its primary at the same moment: up to 32 values ahead.
#
# One would guess that a standby that has replayed everything is its primary's copy, and that pg_dump of both is the
# same text. nextval writes one record for 33 values and says in it that all of them were handed out, so that none
# comes twice after a crash; a standby knows the record only. With a sequence from which three values were taken:
#
#                  last_value    in the dump                 next value after a restore
#   primary        3             setval('taken', 3, true)    4
#   standby        33            setval('taken', 33, true)   34
#
# One that was never used is alike, and all rows are. No harm, but whoever compares a backup taken from a standby with
# the primary, or counts on numbers without gaps, sees more was taken than was.
#
# Seen with 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

chmod 777 "$work"
for major in 17 18; do
  server $major
  standby=$work/standby-$major
  sql postgres -c 'CREATE DATABASE app'
  plain "$bin/pg_basebackup" -D "$standby" -c fast --no-sync -R 2>"$work/said"
  # The primary's socket lies in its folder here.
  rm -f "$standby"/.s.PGSQL.*
  programs[standby-$major]=$bin
  plain "$bin/pg_ctl" -D "$standby" -l "$standby/log" -w -o "-c listen_addresses= -k $standby -F" start >"$work/said"
  sql app <<'SQL' >"$work/said"
CREATE SEQUENCE taken;
CREATE SEQUENCE fresh;
CREATE TABLE t (i int);
INSERT INTO t SELECT nextval('taken') FROM generate_series(1, 3);
SQL
  reached=$(sql app -c 'SELECT pg_current_wal_insert_lsn()')
  for _ in $(seq 600); do
    [ "$(PGHOST=$standby sql postgres -c "SELECT pg_last_wal_replay_lsn() >= '$reached'")" = f ] || break
    sleep 0.1
  done
  # What late minor versions write around the text is random.
  "$bin/pg_dump" -d app | grep -v restrict >"$work/of_primary"
  PGHOST=$standby "$bin/pg_dump" -d app | grep -v restrict >"$work/of_standby"
  expect "the primary's sequence" 3 "$(sql app -c 'SELECT last_value FROM taken')"
  expect "the standby's sequence" 33 "$(PGHOST=$standby sql app -c 'SELECT last_value FROM taken')"
  expect "lines that differ" "< SELECT pg_catalog.setval('public.taken', 3, true);
> SELECT pg_catalog.setval('public.taken', 33, true);" "$(diff "$work/of_primary" "$work/of_standby" | grep '^[<>]')"
done
