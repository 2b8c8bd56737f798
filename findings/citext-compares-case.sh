#!/usr/bin/env bash
# A restore makes comparisons of citext care about case, where the extension has a schema of its own; with status 0.
#
# One would guess that a view or a trigger is restored with the operators it was made with, as pg_dump names schemas
# throughout. IS DISTINCT FROM, NULLIF, CASE x WHEN and JOIN USING have no place for an operator's schema. pg_restore
# sets an empty search_path, finds no = of citext there, and takes that of text, into which citext goes by itself. With
# Person@example.org and person@EXAMPLE.org, citext in schema extensions, where some providers put it:
#
#                                             in the origin    restored
#   email IS DISTINCT FROM former             false            true
#   NULLIF(email, former)                     null             Person@example.org
#   CASE email WHEN former THEN …             found            not found
#   JOIN … USING (email)                      1 row            none
#   email = former, email IN (former)         true             true: printed with OPERATOR(extensions.=)
#   a trigger WHEN (OLD.email IS DISTINCT
#   FROM NEW.email), another case given       does not fire    fires
#   CHECK (email IS NOT DISTINCT FROM former) the row is in    'violates check constraint', the table stays empty
#
# The same with citext in public, as search_path is empty there as well. The copy's definitions have become
# email::text, so that a dump of the copy is restored without a further change.
#
# Seen with 17.10.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

# What views say, and how often the trigger fired when only the case of a letter was changed.
seen() {
  sql "$1" -c 'TABLE shown'
  sql "$1" -c "UPDATE account SET email = 'PERSON@example.org'" -c 'SELECT count(*) FROM fired'
}

server 17
for schema in extensions public; do
  sql postgres -c 'DROP DATABASE IF EXISTS app' -c 'DROP DATABASE IF EXISTS copy' 2>"$work/said"
  sql postgres -c 'CREATE DATABASE app' -c 'CREATE DATABASE copy'
  sql app -v schema=$schema <<'SQL'
CREATE SCHEMA IF NOT EXISTS :"schema";
CREATE EXTENSION citext SCHEMA :"schema";
SET search_path = public, :"schema";
CREATE TABLE account (email citext, former citext);
INSERT INTO account VALUES ('Person@example.org', 'person@EXAMPLE.org');
CREATE VIEW shown AS SELECT email IS DISTINCT FROM former AS a, NULLIF(email, former) AS b,
  CASE email WHEN former THEN 'found' ELSE 'not found' END AS c,
  (SELECT count(*) FROM account AS x JOIN (SELECT former AS email FROM account) AS y USING (email)) AS d,
  email = former AS e, email IN (former, 'z') AS f FROM account;
CREATE TABLE fired (email text);
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql
  AS 'BEGIN INSERT INTO public.fired VALUES (NEW.email::text); RETURN NEW; END';
CREATE TRIGGER changed BEFORE UPDATE ON account FOR EACH ROW WHEN (OLD.email IS DISTINCT FROM NEW.email)
  EXECUTE FUNCTION fire();
SQL
  "$bin/pg_dump" -Fc -d app -f "$work/dump"
  "$bin/pg_restore" --exit-on-error -d copy "$work/dump"
  expect "origin, citext in $schema" "f||found|1|t|t 0" "$(seen app | paste -sd' ')"
  expect "casts to text of email in the dump" 1 "$("$bin/pg_dump" app | grep -c 'email)*::text')"
  expect "in a dump of the copy" 4 "$("$bin/pg_dump" copy | grep -c 'email)*::text')"
  expect "restored" "t|Person@example.org|not found|0|t|t 1" "$(seen copy | paste -sd' ')"

  sql app -v schema=$schema -c "UPDATE account SET email = former" -c "SET search_path = public, $schema" \
    -c "UPDATE account SET former = 'PERSON@example.org'" \
    -c 'ALTER TABLE account ADD CHECK (email IS NOT DISTINCT FROM former)'
  sql postgres -c 'DROP DATABASE copy' -c 'CREATE DATABASE copy'
  "$bin/pg_dump" -Fc -d app -f "$work/dump"
  "$bin/pg_restore" -d copy "$work/dump" 2>"$work/errors" || true
  expect "a check constraint" "violates check constraint" "$(grep -o 'violates check constraint' "$work/errors")"
  expect "rows" "1 0" "$(sql app -c 'SELECT count(*) FROM account') $(sql copy -c 'SELECT count(*) FROM account')"
done
