# Sourced by scripts/install.

export PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1

choose_python() {  # the distribution's first, for it lies where units look
  local candidate
  for candidate in ${python:-/usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$candidate" - 2>/dev/null <<'X'
import ensurepip, os, sys, venv
hidden = ("/home/", "/root/", "/run/user/")
sys.exit(sys.version_info < (3, 11) or os.path.realpath(sys.base_prefix).startswith(hidden))
X
    then
      python=$candidate
      return
    fi
  done
  fail "no Python 3.11 or newer with venv, outside of home folders, is here. Run: apt-get install --yes python3-venv"
}

build_wheels() {  # everything that can fail for want of a network happens before anything that runs is touched
  local borrowed tools="$wheels/tools"
  if [ -n "${BACKUPD_PACKAGES:-}" ]; then  # for tests: a folder that has the libraries already
    borrowed=$(echo "$home"/lib/python3*/site-packages)/borrowed.pth
    [ -e "$borrowed" ] || echo "$BACKUPD_PACKAGES" >"$borrowed"
  else  # only what requirements.lock holds, with the hashes it has there; the build's own needs likewise
    { "$home/bin/python" scripts/lib/locked.py >"$wheels/locked" &&
      "$home/bin/python" scripts/lib/locked.py =hatchling >"$wheels/locked-tools" &&
      "$home/bin/python" -m pip wheel --quiet --require-hashes --requirement "$wheels/locked" --wheel-dir "$wheels" &&
      "$home/bin/python" -m pip install --quiet --require-hashes --requirement "$wheels/locked-tools" --target "$tools"
    } || fail "the libraries could not be fetched; nothing was changed. Without a network: scripts/install --help"
  fi
  PYTHONPATH="$tools" "$home/bin/python" -m pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir "$wheels" . ||
    fail "the program could not be built; nothing was changed"
}

stopped=()
start_again() {
  if [ ${#stopped[@]} != 0 ]; then
    systemctl restart --no-block "${stopped[@]}" && say "started ${stopped[*]}"
    stopped=()
  fi
}

stop_running() {
  live || return 0
  trap start_again EXIT
  mapfile -t stopped < <(systemctl list-units --plain --no-legend --state=active,activating,reloading 'backupd*.service' |
    cut -d ' ' -f 1)
  [ ${#stopped[@]} = 0 ] || { say "stopped ${stopped[*]}, to go on when all is in place"; systemctl stop "${stopped[@]}"; }
}

put_program() {
  local fresh=
  choose_python
  if ! "$home/bin/python" -c 'import pip' 2>/dev/null; then  # none, or its interpreter was upgraded away
    "$python" -m venv --clear "$home"
    fresh=yes
  fi
  wheels=$(mktemp --directory)
  build_wheels
  (cd "$wheels" && sha256sum -- *.whl) >"$wheels/wheels.sha256"
  if [ -n "$fresh" ] || ! cmp -s "$wheels/wheels.sha256" "$records/wheels.sha256"; then
    stop_running
    "$home/bin/python" -m pip install --quiet \
      --no-index --no-deps --force-reinstall "$wheels"/*.whl
    install -D -m 0644 "$wheels/wheels.sha256" "$records/wheels.sha256"
    say "put     $home: $("$home/bin/backupd" --version)"
    changed=yes
  fi
  rm -rf "$wheels"
  [ -e /usr/local/bin/backupd ] || { mkdir -p /usr/local/bin && ln -s "$home/bin/backupd" /usr/local/bin/backupd; }
}

put_files() {
  local unit
  for unit in systemd/*.service; do
    put "$unit" "$units/${unit##*/}" 0644
  done
  put systemd/sysusers.conf /usr/local/lib/sysusers.d/backupd.conf 0644
  put systemd/tmpfiles.conf /usr/local/lib/tmpfiles.d/backupd.conf 0644
  put systemd/backupd-as /usr/local/sbin/backupd-as 0755
  put README.md "$doc/README.md" 0644
  put systemd/alerts.yml "$doc/alerts.yml" 0644
  put systemd/dashboard.json "$doc/dashboard.json" 0644
  put backupd/config/example.toml "$doc/backupd.toml" 0644
  if [ ! -e "$root/etc/backupd/backupd.toml" ]; then
    install -D -m 0640 backupd/config/example.toml "$root/etc/backupd/backupd.toml"
    say "put     $root/etc/backupd/backupd.toml, an example"
    example=yes
  fi
}

put_printed() {  # man pages and completion, which the program prints of itself
  local made page shell
  made=$(mktemp --directory)
  "$home/bin/backupd" manual --man "$made/man"
  quiet=yes
  for page in "$made"/man/*/*; do
    put "$page" "$share/${page#"$made/"}" 0644
  done
  [ "$quiet" = yes ] || say "put     $(find "$made/man" -type f | wc -l) man pages below $share/man"
  quiet=
  for shell in bash zsh fish; do
    "$home/bin/backupd" completion "$shell" >"$made/$shell"
  done
  put "$made/bash" "$share/bash-completion/completions/backupd" 0644
  put "$made/zsh" "$share/zsh/site-functions/_backupd" 0644
  put "$made/fish" /etc/fish/completions/backupd.fish 0644  # fish reads nothing below /usr/local of its own accord
  rm -rf "$made"
}

make_users_and_folders() {
  systemd-sysusers ${root:+--root="$root"} backupd.conf
  systemd-tmpfiles --create ${root:+--root="$root"} backupd.conf
}

next_steps() {
  if [ -n "$root" ]; then
    say "The program itself is built where it runs: chroot $root and run scripts/install of a checkout there."
    return
  fi
  command -v pg_dump >/dev/null || say "PostgreSQL's client programs are missing. Run: apt-get install --yes postgresql-client"
  if [ -n "${example:-}" ] || ! systemctl is-enabled --quiet backupd.service backupd-keeper.service backupd-drill.service 2>/dev/null; then
    cat <<'X'
Next:
  1. write /etc/backupd/backupd.toml         (backupd config check)
  2. put secrets into /etc/backupd/credentials/node, each named as credential:NAME says
  3. backupd-as node init                    makes the regions' repositories
  4. systemctl enable --now backupd.service  on a keeper backupd-keeper.service, on a drill machine backupd-drill.service
`backupd manual service` says more.
X
  fi
}

case $(dpkg-query --show --showformat '${db:Status-Status}' --admindir "$root/var/lib/dpkg" backupd 2>/dev/null) in
  installed | unpacked | half-*) fail "the Debian package is installed here. Run: apt-get remove backupd; keys and state stay" ;;
esac
command -v systemd-sysusers >/dev/null || fail "systemd is not here. Run: apt-get install --yes systemd"
[ -z "$root" ] || [ -d "$root" ] || fail "there is no folder $root"
[ -n "$root" ] || put_program
put_files
[ -n "$root" ] || { put_printed; drop_stale; }
make_users_and_folders
if live; then
  [ -z "$changed" ] || { [ ${#stopped[@]} != 0 ] || stop_running; systemctl daemon-reload; }
  start_again
else
  [ -n "$root" ] || say "systemd does not run here; units start with the machine once they are enabled."
fi
[ -n "$changed" ] || say "Everything is as it should be; nothing was changed."
next_steps
