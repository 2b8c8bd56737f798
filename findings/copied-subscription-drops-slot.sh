#!/usr/bin/env bash
# A restored copy of a subscriber cannot be dropped, and dropping its subscription ends the original's replication.
#
# One would guess that the copy is harmless: pg_dump writes it with connect = false, so that it is disabled, has never
# connected, and made no slot on the publisher. It carries the name of the original's slot:
#
#   DROP DATABASE copy          "is being used by logical replication subscription", although it is disabled
#   DROP SUBSCRIPTION           connects to the publisher, asks for the original's slot to be dropped, and waits for as
#                               long as the original uses it, with no error; that the original was only
#                               disabled, or restarted, is enough: "dropped replication slot"
#   the original from then on   'replication slot "fed" does not exist', each few seconds; rows no longer arrive
#
# In the copy, ALTER SUBSCRIPTION … SET (slot_name = NONE) has to come before the DROP; then both drops work.
#
# Seen with 17.10 and 18.4, each as the subscriber of the other.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# Wait until a query of postgres says this.
reached() {
  for _ in $(seq 600); do
    [ "$(PGHOST=$1 sql "$2" -c "$3")" != "$4" ] || return 0
    sleep 0.1
  done
  expect "$3" "$4" "never"
}

declare -A hosts=()
for major in 17 18; do
  server $major
  hosts[$major]=$PGHOST
  plain "$bin/pg_ctl" -D "$PGHOST" stop >"$work/said"
  plain "$bin/pg_ctl" -D "$PGHOST" -l "$PGHOST/log" -w start >"$work/said" \
    -o "-c listen_addresses= -k $PGHOST -F -c wal_level=logical -c wal_retrieve_retry_interval=100ms"
done

for major in 17 18; do
  from=${hosts[$((35 - major))]}
  export PGHOST=${hosts[$major]}
  bin=${programs[$major]}
  echo "== $major subscribes"
  PGHOST=$from sql postgres -c 'CREATE DATABASE shop'
  PGHOST=$from sql shop -c 'CREATE TABLE t (i int PRIMARY KEY)' -c 'CREATE PUBLICATION feed FOR ALL TABLES'
  sql postgres -c 'CREATE DATABASE original' -c 'CREATE DATABASE copy'
  sql original -c 'CREATE TABLE t (i int PRIMARY KEY)'
  sql original -c "CREATE SUBSCRIPTION fed CONNECTION 'host=$from dbname=shop user=postgres' PUBLICATION feed" \
    2>"$work/said"
  PGHOST=$from sql shop -c 'INSERT INTO t VALUES (1)'
  reached "$PGHOST" original 'SELECT count(*) FROM t' 1

  "$bin/pg_dump" -Fc -d original -f "$work/dump"
  "$bin/pg_restore" --exit-on-error -d copy "$work/dump"
  own="oid = (SELECT max(oid) FROM pg_subscription)"
  expect "the copy is enabled, its slot" "f|fed" "$(sql copy -c "SELECT subenabled, subslotname FROM pg_subscription
    WHERE $own")"
  status=0
  sql postgres -c 'DROP DATABASE copy' 2>"$work/said" || status=$?
  expect "DROP DATABASE" "1 is being used by logical replication subscription" \
    "$status $(grep -o 'is being used by.*' "$work/said")"

  sql copy -c 'DROP SUBSCRIPTION fed' 2>"$work/dropping" &
  dropping=$!
  reached "$from" shop "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DROP_REPLICATION_SLOT%'" 1
  expect "slots while it waits" "fed|t" "$(PGHOST=$from sql shop -c "SELECT slot_name, active FROM
    pg_replication_slots")"
  sql original -c 'ALTER SUBSCRIPTION fed DISABLE'
  wait $dropping
  expect "said" 'dropped replication slot "fed" on publisher' "$(grep -o 'dropped.*' "$work/dropping")"
  expect "slots" "" "$(PGHOST=$from sql shop -c 'SELECT slot_name FROM pg_replication_slots')"
  sql original -c 'ALTER SUBSCRIPTION fed ENABLE'
  PGHOST=$from sql shop -c 'INSERT INTO t VALUES (2)'
  for _ in $(seq 600); do
    ! grep -q 'replication slot "fed" does not exist' "$PGHOST/log" || break
    sleep 0.1
  done
  expect "the original says" 'replication slot "fed" does not exist' \
    "$(grep -o 'replication slot "fed" does not exist' "$PGHOST/log" | head -1)"
  expect "its rows" 1 "$(sql original -c 'SELECT count(*) FROM t')"
  sql postgres -c 'DROP DATABASE copy'

  sql original -c 'ALTER SUBSCRIPTION fed DISABLE' -c 'ALTER SUBSCRIPTION fed SET (slot_name = NONE)' \
    -c 'DROP SUBSCRIPTION fed'
  sql postgres -c 'DROP DATABASE original'
done
