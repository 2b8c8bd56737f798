#!/usr/bin/env bash
# What was added to a table of an extension is not in a dump: no index, no trigger, no policy; a column costs the rows.
#
# One would guess that pg_dump leaves out what the extension's script makes anew, and dumps what others made. An index,
# a trigger, a policy is no member of the extension, which pg_depend shows; still it goes with its table. On a table
# whose rows the extension asks to have dumped (pg_extension_config_dump, as those of jobs, topologies or settings):
#
#   index, foreign key, check, default,     none in the dump; standard error empty, status 0
#   trigger, rule, policy, ENABLE ROW LEVEL SECURITY
#   rows                                              in the dump
#   a column added                                    named in COPY; pg_restore: 'column "extra" … does not exist',
#                                                     status 1, the table comes back with no row at all
#
# So a job table runs without its index, and without the policy that kept tenants apart. With ALTER EXTENSION …
# DROP TABLE before, and the extension dropped, all is dumped.
#
# Seen with 17.10 and 18.4, and an extension that consists of one table.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

additions=$(cat <<'SQL'
SELECT 'index ' || count(*) FROM pg_index WHERE indrelid = 'job'::regclass AND NOT indisprimary
UNION ALL SELECT 'constraint ' || count(*) FROM pg_constraint
  WHERE conrelid = 'job'::regclass AND conname IN ('named', 'owned')
UNION ALL SELECT 'trigger ' || count(*) FROM pg_trigger WHERE tgrelid = 'job'::regclass AND tgname = 'told'
UNION ALL SELECT 'rule ' || count(*) FROM pg_rewrite WHERE ev_class = 'job'::regclass
UNION ALL SELECT 'policy ' || count(*) FROM pg_policy WHERE polrelid = 'job'::regclass
UNION ALL SELECT 'secured ' || relrowsecurity::int FROM pg_class WHERE oid = 'job'::regclass
UNION ALL SELECT 'default ' || count(*) FROM pg_attrdef WHERE adrelid = 'job'::regclass
UNION ALL SELECT 'row ' || count(*) FROM job
SQL
)

for major in 17 18; do
  server $major
  folder=$("$bin/pg_config" --sharedir)/extension
  printf "default_version = '1'\nrelocatable = true\n" >"$folder/jobs.control"
  cat >"$folder/jobs--1.sql" <<'SQL'
CREATE TABLE job (id int PRIMARY KEY, name text, owner int);
SELECT pg_catalog.pg_extension_config_dump('job', '');
SQL
  for database in app copy later whole; do sql postgres -c "CREATE DATABASE $database"; done
  sql app <<'SQL'
CREATE EXTENSION jobs;
CREATE TABLE person (id int PRIMARY KEY);
INSERT INTO person VALUES (1);
CREATE INDEX ON job (name);
ALTER TABLE job ADD CONSTRAINT named CHECK (name <> ''), ADD CONSTRAINT owned FOREIGN KEY (owner) REFERENCES person,
  ALTER name SET DEFAULT 'unnamed', ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON job USING (owner = 1);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER told BEFORE INSERT ON job FOR EACH ROW EXECUTE FUNCTION tell();
CREATE RULE heard AS ON DELETE TO job DO ALSO NOTIFY job;
INSERT INTO job VALUES (1, 'nightly', 1);
SQL
  expect "origin" "index 1,constraint 2,trigger 1,rule 1,policy 1,secured 1,default 1,row 1" \
    "$(sql app -c "$additions" | paste -sd,)"
  "$bin/pg_dump" -Fc -d app -f "$work/dump" 2>"$work/errors"
  expect "pg_dump says" "" "$(cat "$work/errors")"
  "$bin/pg_restore" --exit-on-error -d copy "$work/dump"
  expect "restored" "index 0,constraint 0,trigger 0,rule 0,policy 0,secured 0,default 0,row 1" \
    "$(sql copy -c "$additions" | paste -sd,)"

  sql app -c 'ALTER TABLE job ADD extra text'
  "$bin/pg_dump" -Fc -d app -f "$work/dump"
  status=0
  "$bin/pg_restore" -d later "$work/dump" 2>"$work/errors" || status=$?
  expect "a column added" '1 column "extra" of relation "job" does not exist' \
    "$status $(grep -o 'column "extra" of relation "job" does not exist' "$work/errors")"
  expect "rows" 0 "$(sql later -c 'SELECT count(*) FROM job')"

  sql app -c 'ALTER EXTENSION jobs DROP TABLE job' -c 'DROP EXTENSION jobs'
  "$bin/pg_dump" -Fc -d app -f "$work/dump"
  "$bin/pg_restore" --exit-on-error -d whole "$work/dump"
  expect "no longer of the extension" "index 1,constraint 2,trigger 1,rule 1,policy 1,secured 1,default 1,row 1" \
    "$(sql whole -c "$additions" | paste -sd,)"
done
