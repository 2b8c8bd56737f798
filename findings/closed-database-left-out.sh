#!/usr/bin/env bash
# pg_dumpall leaves out a database that takes no connections, says nothing, and exits with 0.
#
# One would guess an error: pg_dumpall promises all databases of a server, and has options for leaving some out. ALTER
# DATABASE … ALLOW_CONNECTIONS false is how a customer's database is suspended, or kept from being used while it is
# moved. Of three databases, one closed:
#
#   pg_dumpall                               dumps two; standard error is empty, status 0
#   pg_dumpall --exclude-database=closed     the same, byte for byte
#   pg_dump -d closed                        status 1, "is not currently accepting connections"
#
# So the backup that was made while it was suspended cannot be told from one of a server that never had it.
#
# Seen with 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# What late minor versions write around the text is random.
all() {
  "$bin/pg_dumpall" "$@" 2>"$work/errors" >"$work/all.sql" || echo "status $?"
  grep -v restrict "$work/all.sql"
}

for major in 17 18; do
  server $major
  sql postgres -c 'CREATE DATABASE open' -c 'CREATE DATABASE closed'
  sql closed -c 'CREATE TABLE t AS SELECT 1 AS i'
  expect "databases made by the dump" "closed open" "$(all | awk '/^CREATE DATABASE/ { print $3 }' | paste -sd' ')"
  sql postgres -c 'ALTER DATABASE closed ALLOW_CONNECTIONS false'
  all >"$work/open"
  expect "once one is closed" open "$(awk '/^CREATE DATABASE/ { print $3 }' "$work/open" | paste -sd' ')"
  expect "failures" 0 "$(grep -c '^status' "$work/open" || true)"
  expect "standard error" "" "$(cat "$work/errors")"
  expect "as if it were excluded" "$(sha256sum <"$work/open")" "$(all --exclude-database=closed | sha256sum)"
  status=0
  "$bin/pg_dump" -d closed 2>"$work/errors" || status=$?
  expect "pg_dump of it" "1 is not currently accepting connections" \
    "$status $(grep -o 'is not currently.*' "$work/errors")"
done
