#!/usr/bin/env bash
# pg_dump by a role that may read everything leaves out how to log in to foreign servers, and exits with 0.
#
# One would guess an error or a warning, as pg_dump has them for a table, a sequence or a subscription that it may not
# read. pg_read_all_data is there for backups; options of user mappings are shown to superusers and to those who may
# use the mapping:
#
#   by a superuser                         CREATE USER MAPPING FOR app SERVER far OPTIONS (password '…', "user" '…');
#   by a role with pg_read_all_data        CREATE USER MAPPING FOR app SERVER far; standard error empty, status 0
#   and with USAGE on the server, too      the same
#   and after GRANT SELECT ON
#   pg_user_mapping                        the same
#
# Restored, foreign tables are there, and no query of them can log in.
#
# Seen with 17.10.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# What the dump makes of the mapping, with status and standard error.
mapping() {
  local status=0
  PGUSER=$1 "$bin/pg_dump" -d app >"$work/dump" 2>"$work/errors" || status=$?
  echo "$status$(cat "$work/errors") $(awk '/^CREATE USER MAPPING/, /;$/' "$work/dump" | paste -sd' ' | tr -s ' ')"
}

server 17
sql postgres -c 'CREATE DATABASE app'
sql app <<'SQL'
CREATE ROLE app;
CREATE ROLE backup LOGIN;
GRANT pg_read_all_data TO backup;
CREATE EXTENSION postgres_fdw;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'far.example');
CREATE USER MAPPING FOR app SERVER far OPTIONS (user 'reader', password 'secret');
SQL
expect "by a superuser" \
  "0 CREATE USER MAPPING FOR app SERVER far OPTIONS ( password 'secret', \"user\" 'reader' );" "$(mapping postgres)"
expect "by a role that reads all" "0 CREATE USER MAPPING FOR app SERVER far;" "$(mapping backup)"
sql app -c 'GRANT USAGE ON FOREIGN SERVER far TO backup'
expect "with USAGE" "0 CREATE USER MAPPING FOR app SERVER far;" "$(mapping backup)"
sql app -c 'GRANT SELECT ON pg_user_mapping TO backup'
expect "with SELECT on the catalog" "0 CREATE USER MAPPING FOR app SERVER far;" "$(mapping backup)"
