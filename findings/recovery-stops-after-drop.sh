#!/usr/bin/env bash
# Recovery to a moment before DROP DATABASE brings back a database whose files are gone, unless others were writing.
#
# One would guess that the time of the target decides. Recovery stops before the first commit that is later than the
# target; what lies in the WAL before that commit is done, and DROP DATABASE removes the files, and marks the database
# as invalid, some records before its own commit. On a server where nothing else was committed in between:
#
#   target two seconds before DROP DATABASE      "cannot connect to invalid database"; its folder is not there
#   the same, and one row committed into another
#   database between target and DROP             the database, with all rows
#
# Both end with "archive recovery complete" and a log that says that it stopped before the commit of the DROP. So an
# accident at night, or on a server that has one database, cannot be undone by naming the minute before: recovery has
# to stop at, or before, some commit that precedes the DROP.
#
# Seen with 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

chmod 777 "$work"

# What of the database is there after a recovery; the argument says what is committed between target and DROP.
recovered() {
  local copy=$work/copy-$1 oid target dropped=$work/dropped-$1
  sql postgres -c 'CREATE DATABASE shop'
  sql shop -c 'CREATE TABLE item AS SELECT generate_series(1, 1000) AS i'
  plain "$bin/pg_basebackup" -D "$copy" -c fast --no-sync -X none 2>"$work/said"
  oid=$(sql postgres -c "SELECT oid FROM pg_database WHERE datname = 'shop'")
  sql log -c "INSERT INTO entry VALUES ('before')"
  sleep 1
  target=$(sql postgres -c 'SELECT now()')
  sleep 2
  [ "$1" = quiet ] || sql log -c "INSERT INTO entry VALUES ('between')"
  sql postgres -c 'DROP DATABASE shop' -c 'CHECKPOINT' -c 'SELECT pg_switch_wal()' >"$work/said"
  sql log -c "INSERT INTO entry VALUES ('after')"
  plain cp -r "$work/$major/pg_wal" "$dropped"
  plain tee -a "$copy/postgresql.auto.conf" >"$work/said" <<CONF
restore_command = 'cp $dropped/%f %p 2>&1'
recovery_target_time = '$target'
recovery_target_action = promote
CONF
  plain touch "$copy/recovery.signal"
  # The origin's socket lies in its folder, and so in the copy.
  plain "$bin/pg_ctl" -D "$copy" -l "$work/log-$1" -w -o "-c listen_addresses= -k $work -F" start >"$work/said"
  for _ in $(seq 100); do
    [ "$(PGHOST=$work sql postgres -c 'SELECT pg_is_in_recovery()')" != f ] || break
    sleep 0.1
  done
  PGHOST=$work sql shop -c 'SELECT count(*) FROM item' 2>&1 |
    grep -o 'cannot connect to invalid database "shop"\|^[0-9]*' | head -n 1
  grep -c 'archive recovery complete' "$work/log-$1"
  if [ -e "$copy/base/$oid" ]; then echo folder; else echo "no folder"; fi
  plain "$bin/pg_ctl" -D "$copy" -m immediate stop >"$work/said"
}

for major in 17 18; do
  server $major
  sql postgres -c "ALTER SYSTEM SET wal_keep_size = '1GB'" -c 'SELECT pg_reload_conf()' >"$work/said"
  sql postgres -c 'CREATE DATABASE log'
  sql log -c 'CREATE TABLE entry (text text)'
  expect "nothing between" 'cannot connect to invalid database "shop" 1 no folder' "$(recovered quiet | paste -sd' ')"
  expect "a row of another database between" "1000 1 folder" "$(recovered busy | paste -sd' ')"
  rm -rf "$work/copy-quiet" "$work/copy-busy" "$work"/dropped-* "$work"/log-*
done
