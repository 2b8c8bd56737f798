#!/usr/bin/env bash
# COPY … FREEZE leaves long values unmarked: the first VACUUM after a restore reads them all, and 18 writes them again.
#
# One would guess that a table filled by COPY … FREEZE is as after VACUUM FREEZE, as the manual has it, and nothing is
# left to do. Values that are stored out of line go into the table's TOAST table, whose visibility map stays empty.
# After 1,000 rows with a value of 3,000 bytes each, a checkpoint, and VACUUM FREEZE of one part at a time:
#
#                                   the table's 8 pages    the TOAST table's 500 pages
#   visible to all, frozen          7, 7                   0, 0
#   WAL of VACUUM, 17               6 kB                   41 kB
#   WAL of VACUUM, 18, whose        57 kB                  3.2 MB: all values
#   initdb turns checksums on
#
# Seen with 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

for major in 17 18; do
  server $major
  sql postgres -c "ALTER SYSTEM SET autovacuum = off" -c "SELECT pg_reload_conf()" >"$work/said"
  sql postgres >"$work/seen" <<'SQL'
BEGIN;
CREATE TABLE t (i int, value text);
ALTER TABLE t ALTER value SET STORAGE EXTERNAL;
COPY t FROM PROGRAM $$awk 'BEGIN { for (i = 1; i <= 1000; i++) printf "%d\t%03000d\n", i, i }'$$ (FREEZE);
COMMIT;
SELECT pg_relation_size('t') / 8192, pg_relation_size(reltoastrelid) / 8192 FROM pg_class WHERE relname = 't';
CHECKPOINT;
SELECT pg_current_wal_insert_lsn() AS before \gset
VACUUM (FREEZE, PROCESS_TOAST false) t;
SELECT pg_current_wal_insert_lsn() AS between \gset
VACUUM (FREEZE, PROCESS_MAIN false) t;
SELECT pg_current_wal_insert_lsn() AS after \gset
SELECT pg_wal_lsn_diff(:'between', :'before') < 100000, pg_wal_lsn_diff(:'after', :'between') > 3000000;
SQL
  expect "pages of the table and of its values" "8|500" "$(sed -n 1p "$work/seen")"
  most=f
  [ $major = 17 ] || most=t
  expect "WAL of less than 100 kB, and of more than 3 MB" "t|$most" "$(sed -n 2p "$work/seen")"
  [ $major = 17 ] || continue
  sql postgres -c 'CREATE EXTENSION pg_visibility' -c 'CREATE TABLE again (LIKE t INCLUDING ALL)'
  sql postgres -c 'COPY t TO STDOUT' >"$work/rows"
  sql postgres -c 'BEGIN' -c 'TRUNCATE again' -c 'COPY again FROM STDIN (FREEZE)' -c 'COMMIT' <"$work/rows"
  summary="pg_visibility_map_summary"
  expect "visible and frozen pages" "(7,7) (0,0)" \
    "$(sql postgres -F ' ' -c "SELECT $summary(oid), $summary(reltoastrelid) FROM pg_class WHERE relname = 'again'")"
done
