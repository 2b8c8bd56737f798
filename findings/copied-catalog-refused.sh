#!/usr/bin/env bash
# A table that was made from a system catalog can be dumped, and not restored: some types take no input at all.
#
# One would guess that what a table holds can be written back. CREATE TABLE … AS SELECT * FROM pg_constraint is how a
# catalog is kept before a migration. Its column conbin has the type pg_node_tree, which prints, and which the server
# refuses to read, whatever the text. One check constraint is enough, and one is there in every database:
#
#   made from pg_constraint, pg_attrdef,    pg_dump: status 0; pg_restore: status 1, "cannot accept a value of type
#   pg_index, pg_policy, pg_proc            pg_node_tree"; the table comes back without any row
#   made from pg_statistic_ext_data         the same with pg_ndistinct
#   the same in COPY's binary format        the same
#   the column cast to text                 restored
#
# Nothing objects when the table is made, filled or dumped; it is seen when the restore is needed.
#
# Seen with 17.10 and 18.4.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

for major in 17 18; do
  server $major
  sql postgres -c 'CREATE DATABASE app'
  sql app <<'SQL'
CREATE TABLE item (id int DEFAULT 7, name text, CHECK (id > 0));
CREATE INDEX ON item (lower(name));
ALTER TABLE item ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON item USING (name = current_user);
INSERT INTO item SELECT i % 3 + 1, 'x' FROM generate_series(1, 100) AS i;
CREATE STATISTICS both_columns (ndistinct) ON id, name FROM item;
ANALYZE item;
CREATE SCHEMA kept;
CREATE TABLE kept.pg_constraint AS SELECT * FROM pg_constraint;
CREATE TABLE kept.pg_attrdef AS SELECT * FROM pg_attrdef;
CREATE TABLE kept.pg_index AS SELECT * FROM pg_index;
CREATE TABLE kept.pg_policy AS SELECT * FROM pg_policy;
CREATE TABLE kept.pg_proc AS SELECT * FROM pg_proc;
CREATE TABLE kept.pg_statistic_ext_data AS SELECT stxoid, stxdndistinct FROM pg_statistic_ext_data;
CREATE TABLE kept.as_text AS SELECT conname, conbin::text FROM pg_constraint;
SQL
  for table in pg_constraint pg_attrdef pg_index pg_policy pg_proc pg_statistic_ext_data as_text; do
    sql postgres -c 'DROP DATABASE IF EXISTS copy' -c 'CREATE DATABASE copy' 2>"$work/said"
    sql copy -c 'CREATE SCHEMA kept'
    "$bin/pg_dump" -Fc -t "kept.$table" -d app -f "$work/dump"
    status=0
    "$bin/pg_restore" -d copy "$work/dump" 2>"$work/said" || status=$?
    refused=pg_node_tree
    [ $table != pg_statistic_ext_data ] || refused=pg_ndistinct
    if [ $table = as_text ]; then
      expect "$table" "0" "$status$(grep -o ' cannot accept.*' "$work/said" || true)"
      expect "its rows" "$(sql app -c "SELECT count(*) FROM kept.$table")" \
        "$(sql copy -c "SELECT count(*) FROM kept.$table")"
    else
      expect "$table" "1 cannot accept a value of type $refused" "$status$(grep -o ' cannot accept.*' "$work/said")"
      expect "its rows" 0 "$(sql copy -c "SELECT count(*) FROM kept.$table")"
    fi
  done
  sql app -c 'COPY kept.pg_attrdef TO STDOUT (FORMAT binary)' >"$work/binary"
  sql copy -c 'CREATE TABLE kept.pg_attrdef AS SELECT * FROM pg_attrdef WHERE false'
  sql copy -c 'COPY kept.pg_attrdef FROM STDIN (FORMAT binary)' <"$work/binary" 2>"$work/said" || true
  expect "in binary" "cannot accept a value of type pg_node_tree" "$(grep -o 'cannot accept.*' "$work/said")"
done
