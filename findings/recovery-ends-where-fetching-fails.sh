#!/usr/bin/env bash
# A recovery that could not fetch one file of WAL ends there, and the server opens for writing, with rows missing.
#
# One would guess that a server waits or stops while its archive cannot be reached. What restore_command says by its
# status is "there is no such file", whatever the reason, and the first missing file is the end of recovery; only from
# 126 on it is a failure. Of five rows, each in a file of its own, with the second one's file failing once:
#
#   status of restore_command                   afterwards
#   1, as of cp, rclone                         the server is open, on a new timeline, with 1 row of 5
#   7, as of curl, connection refused           the same
#   125                                         the same
#   126, 127 (command not found)                "could not restore file …", the server stops
#   255, as of ssh                              the same
#   0, with no file                             the server is open, on a new timeline, with 1 row of 5
#   1, and recovery_target_time in the future   "recovery ended before configured recovery target was reached", it stops
#
# pg_ctl's status is 0, and the log has "archive recovery complete". The new timeline's files go into the same archive,
# so that the next recovery follows it. A target, even one in the future, makes of the early end an error.
#
# Seen with 17.10 and 18.4. The manual asks for a status other than zero for files that are not there.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# recovered STATUS[-NAME] SETTINGS: the rows and the log of a copy of the base backup that could not fetch one file.
recovered() {
  local folder=$work/$major-$1 settings=$2 status=0
  cp -a "$work/$major-base" "$folder"
  plain rm -f "$folder"/.s.PGSQL* "$folder/postmaster.pid"
  plain touch "$folder/recovery.signal"
  printf "archive_mode = off\nrestore_command = '%s/fetch-%s %%f %%p'\n%s\n" "$work" "$1" "$settings" \
    >>"$folder/postgresql.auto.conf"
  cat >"$work/fetch-$1" <<SHELL
#!/bin/sh
[ "\$1" != "$second" ] || exit ${1%%-*}
cp "$archive/\$1" "\$2" 2>/dev/null
SHELL
  chmod 755 "$work/fetch-$1"
  plain "$bin/pg_ctl" -D "$folder" -l "$folder/log" -w -o "-c listen_addresses= -k $folder -F" start >"$work/said" 2>&1 ||
    status=$?
  if [ "$status" = 0 ]; then
    for _ in $(seq 100); do
      [ "$(PGHOST=$folder sql postgres -c 'SELECT pg_is_in_recovery()' 2>&1)" = t ] || break
      sleep 0.1
    done
  fi
  PGHOST=$folder sql postgres -c 'SELECT count(*) FROM item' 2>"$work/errors" || true
  grep -Eo 'selected new timeline ID: 2|archive recovery complete|(could not restore file|recovery ended before conf).*' \
    "$folder/log" | sed 's/ "[0-9A-F]*"//' || true
  plain "$bin/pg_ctl" -D "$folder" -m immediate stop >"$work/said" 2>&1 || true
}

for major in 17 18; do
  server "$major"
  archive=$work/$major-archive
  mkdir "$archive" "$work/$major-base"
  [ "$(id -u)" != 0 ] || chown nobody "$archive" "$work/$major-base"
  chmod 700 "$work/$major-base"
  sql postgres -c 'ALTER SYSTEM SET archive_mode = on' -c "ALTER SYSTEM SET archive_command = 'cp %p $archive/%f'" \
    -c 'CREATE TABLE item (i integer)'
  data=$work/$major
  plain "$bin/pg_ctl" -D "$data" -l "$data/log" -w -o "-c listen_addresses= -k $data -F" restart >"$work/said"
  plain env PGHOST="$PGHOST" PGUSER=postgres "$bin/pg_basebackup" -D "$work/$major-base" -c fast 2>"$work/said"
  for i in 1 2 3 4 5; do
    [ "$i" != 2 ] || second=$(sql postgres -c 'SELECT pg_walfile_name(pg_current_wal_lsn())')
    sql postgres -c "INSERT INTO item VALUES ($i)" -c 'SELECT pg_switch_wal()' >"$work/said"
  done
  last=$(sql postgres -c 'SELECT pg_walfile_name(pg_current_wal_lsn())')
  sql postgres -c 'SELECT pg_switch_wal()' -c 'SELECT txid_current()' -c 'SELECT pg_switch_wal()' >"$work/said"
  for _ in $(seq 100); do [ ! -e "$archive/$last" ] || break; sleep 0.1; done
  for status in 0 1 7 125; do
    expect "$status" "1 selected new timeline ID: 2 archive recovery complete" "$(recovered $status '' | paste -sd' ')"
  done
  for status in 126 127 255; do
    expect "$status" "could not restore file" "$(recovered $status '' | grep -o 'could not restore file')"
  done
  expect "1, with a target" "recovery ended before configured recovery target was reached" \
    "$(recovered 1-target "recovery_target_time = '2100-01-01'" | paste -sd' ')"
done
