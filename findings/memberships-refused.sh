#!/usr/bin/env bash
# Memberships of roles that pg_dumpall wrote are refused by a server whose first superuser has another name.
#
# One would guess that a superuser may load all that pg_dumpall --globals-only prints. Since 16 a membership belongs to
# who granted it, and is printed with GRANTED BY; a grantor must hold the role with ADMIN OPTION, or be the superuser
# that initdb made. A superuser of that name, made by the same file a few lines above, is not enough:
#
#   GRANT reader TO alice WITH INHERIT TRUE GRANTED BY postgres;
#   ERROR:  permission denied to grant privileges as role "postgres"
#
# Both roles are there afterwards, alice is no reader, and psql's status is 0, as pg_dumpall's text asks for no more;
# with ON_ERROR_STOP it is 3. So between servers where the first superuser is called postgres and those where it is
# not, as with many providers, every membership is lost. Without its GRANTED BY the same line works.
#
# Seen with 16.14, 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

member="SELECT pg_has_role('alice', 'reader', 'MEMBER')"
for major in 16 17 18; do
  server $major
  sql postgres -c 'CREATE ROLE reader' -c 'CREATE ROLE alice' -c 'GRANT reader TO alice'
  "$bin/pg_dumpall" --globals-only >"$work/globals.sql"
  sql postgres -c 'DROP ROLE reader' -c 'DROP ROLE alice' -c 'CREATE ROLE other SUPERUSER LOGIN'
  PGUSER=other sql postgres -c 'ALTER ROLE postgres RENAME TO admin'

  export PGUSER=admin
  status=0
  "$bin/psql" -Xq -d postgres -f "$work/globals.sql" 2>"$work/refused" || status=$?
  expect "status of psql" 0 "$status"
  expect "said" 'ERROR:  permission denied to grant privileges as role "postgres"' \
    "$(grep -o 'ERROR: .*' "$work/refused")"
  expect "superusers" "admin other postgres" \
    "$(sql postgres -c "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolsuper")"
  expect "alice is a reader" f "$(sql postgres -c "$member")"
  sed -n 's/^\(GRANT .*\) GRANTED BY .*/\1;/p' "$work/globals.sql" >"$work/grants.sql"
  sql postgres -f "$work/grants.sql"
  expect "alice is a reader, without GRANTED BY" t "$(sql postgres -c "$member")"
done
