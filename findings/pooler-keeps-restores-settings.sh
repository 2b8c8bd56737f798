#!/usr/bin/env bash
# A restore through PgBouncer succeeds, and the application that connects afterwards finds no table.
#
# One would guess that a pooler in transaction mode refuses it, or that it ends with the session that did it. What
# pg_restore sets for itself stays in the server's session, which the next client gets, until the pooler closes it:
#
#   pg_restore by the pooler            status 0
#   the next client: SELECT * FROM t    'relation "t" does not exist', as search_path is empty
#   its other settings                  no limit on statements, locks or idle transactions; row_security off, so that
#                                       a role under policies gets an error instead of its rows; functions are made
#                                       without being checked
#   pg_dump by the pooler               no harm: it leaves in a transaction, whose session the pooler closes
#   pool_mode = session                 no harm
#
# server_reset_query, which undoes this, is for session mode alone, unless server_reset_query_always is set.
#
# Seen with PgBouncer 1.18.0 of Debian 12, PostgreSQL 17.10.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

debian pgbouncer=1.18.0-1+deb12u1
debian libevent-2.1-7=2.1.12-stable-8+deb12u1
debian libc-ares2=1.18.1-3
server 17
direct=$PGHOST
sql postgres -c 'CREATE DATABASE app' -c "ALTER DATABASE app SET statement_timeout = '1min'"
sql app -c 'CREATE TABLE t AS SELECT 1 AS i'
"$bin/pg_dump" -Fc -d app -f "$work/dump"

# In such a mode, after a program's work on a database: what the next client sees.
next() {
  local pooler=$work/$1-$2
  export PGHOST=$direct
  sql postgres -c 'DROP DATABASE IF EXISTS copy' -c 'CREATE DATABASE copy' \
    -c "ALTER DATABASE copy SET statement_timeout = '1min'" 2>"$work/said"
  mkdir -m 777 "$pooler"
  cat >"$pooler/ini" <<INI
[databases]
* = host=$direct user=postgres
[pgbouncer]
unix_socket_dir = $pooler
pidfile = $pooler/pid
logfile = $pooler/log
listen_addr =
auth_type = any
pool_mode = $1
INI
  LD_LIBRARY_PATH=$work/usr/lib/x86_64-linux-gnu plain "$work/usr/sbin/pgbouncer" -qd "$pooler/ini"
  export PGHOST=$pooler PGPORT=6432
  for _ in $(seq 600); do
    [ ! -S "$pooler/.s.PGSQL.6432" ] || break
    sleep 0.1
  done
  "${@:3}" >"$work/said"
  sql "$2" -c 'SELECT * FROM t' 2>&1 | head -1
  sql "$2" -c 'SHOW search_path' -c 'SHOW statement_timeout' -c 'SHOW row_security' | paste -sd'|'
  unset PGPORT
  kill "$(cat "$pooler/pid")"
}
unharmed='1
"$user", public|1min|on'
expect "after pg_restore" 'ERROR:  relation "t" does not exist
|0|off' "$(next transaction copy "$bin/pg_restore" --exit-on-error -d copy "$work/dump")"
expect "after pg_dump" "$unharmed" "$(next transaction app "$bin/pg_dump" -d app)"
expect "after pg_restore, pool_mode = session" "$unharmed" \
  "$(next session copy "$bin/pg_restore" --exit-on-error -d copy "$work/dump")"
