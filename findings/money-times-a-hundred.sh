#!/usr/bin/env bash
# A dump of `money` restored under another lc_monetary: every amount is a hundred times what it was, and nobody
# objects.
#
# One would guess that pg_dump writes money in a form every server reads alike, as it does with dates and intervals,
# or that loading it elsewhere is an error. It writes what lc_monetary prints, and the reader takes the other locale's
# decimal sign for one that separates thousands, wherever that stands. From Ireland to Germany, with one currency:
#
#   €12.34 in the origin, 12.34 as numeric    ->    1.234,00 €, 1234.00 as numeric; psql's exit status is 0
#
# It is an error only if an amount reaches a thousand, because then both signs are in it: "€1,234.50" is refused.
# Tables of small amounts pass. So do the same with dollars, from en_US to es_AR or es_CL.
#
# Seen with 16.14, 17.10 and 18.4 (and by hand with Debian's 15.18), locales of glibc 2.36. PostgreSQL's manual says
# of money that it "might not work" to load it under another lc_monetary.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

debian locales=2.36-9+deb12u14
gunzip "$work/usr/share/i18n/charmaps/UTF-8.gz"
mkdir "$work/compiled"
for locale in en_IE de_DE; do
  I18NPATH=$work/usr/share/i18n \
    localedef -i "$locale" -f "$work/usr/share/i18n/charmaps/UTF-8" "$work/compiled/$locale.UTF-8"
done
export LOCPATH=$work/compiled

# The amount as a number, after a dump that was taken under one locale was loaded under another.
moved() {
  sql postgres -c 'DROP DATABASE IF EXISTS here' -c 'DROP DATABASE IF EXISTS there' \
    -c 'CREATE DATABASE here' -c 'CREATE DATABASE there' \
    -c "ALTER DATABASE here SET lc_monetary = '$1.UTF-8'" \
    -c "ALTER DATABASE there SET lc_monetary = '$2.UTF-8'" 2>"$work/said"
  sql here -c 'CREATE TABLE bill (amount money)' -c "INSERT INTO bill VALUES ($3::numeric::money)"
  "$bin/pg_dump" -d here -f "$work/dump.sql"
  if sql there -f "$work/dump.sql" >"$work/said" 2>&1; then
    sql there -c 'SELECT amount::numeric FROM bill'
  else
    grep -o 'invalid input syntax for type money' "$work/said"
  fi
}

for major in 16 17 18; do
  server $major
  expect "12.34 from Ireland to Ireland" 12.34 "$(moved en_IE en_IE 12.34)"
  expect "12.34 from Ireland to Germany" 1234.00 "$(moved en_IE de_DE 12.34)"
  expect "12.34 from Germany to Ireland" 1234.00 "$(moved de_DE en_IE 12.34)"
  expect "1234.50 from Ireland to Germany" "invalid input syntax for type money" "$(moved en_IE de_DE 1234.50)"
done
