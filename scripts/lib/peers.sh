# Sourced by scripts/bench: puts the programs it compares with into .venv/peers, the newest of each that can be had.
# Usage: . scripts/lib/peers.sh; install_peers      (`as_root` and `python` are scripts/environment's)

peers=$PWD/.venv/peers
suites=(testing stable)  # Debian's, the newest first; what they hold is unpacked here and not installed

install_peers() {
  local missing=() program
  for program in sshd:openssh-server ssh:openssh-client zstd:zstd age:age restic:restic pgbackrest:pgbackrest; do
    PATH=$PATH:/usr/sbin command -v "${program%:*}" >/dev/null || missing+=("${program#*:}")
  done
  [ ${#missing[@]} = 0 ] || as_root "${missing[@]}"
  mkdir -p "$peers/bin"
  newer restic restic
  newer pgbackrest pgbackrest
  newest_borg
}

newer() {  # PACKAGE PROGRAM: the program of the first suite whose build runs here, else the distribution's stays
  local suite
  for suite in "${suites[@]}"; do
    unpack "$1" "$suite" && "$peers/$1/usr/bin/$2" version >/dev/null 2>&1 && ln -sf "$peers/$1/usr/bin/$2" "$peers/bin/$2" && return
  done
  echo "no newer $2 runs here; the distribution's is measured" >&2
}

unpack() {  # PACKAGE SUITE: with lists of its own, so that the machine's package manager learns of no other suite
  local lists=$peers/lists-$2 address
  address=$(sed -n 's/^URIs: *//p; s/^deb  *\(\[[^]]*\]  *\)\{0,1\}\([^ ]*\) .*/\2/p' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -1)
  [ -n "$address" ] || return 1
  mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $address $2 main" >"$lists/sources.list"
  local options=(-o "Dir::Etc::sourcelist=$lists/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$lists/lists"
    -o "Dir::Cache=$lists/cache" -o APT::Sandbox::User=root --quiet=2)
  apt-get "${options[@]}" update >/dev/null 2>&1 || return 1
  (cd "$lists" && rm -f "$1"_*.deb && apt-get "${options[@]}" download "$1" >/dev/null 2>&1) || return 1
  rm -rf "${peers:?}/$1"
  dpkg-deb -x "$lists/$1"_*.deb "$peers/$1"
}

newest_borg() {  # from its own package on the Python index, built here, in an environment of its own
  pkg-config --exists libacl liblz4 libzstd libxxhash libcrypto 2>/dev/null ||
    as_root build-essential pkg-config libssl-dev libacl1-dev liblz4-dev libzstd-dev libxxhash-dev
  "$python" -m venv "$peers/borg" &&
    "$peers/borg/bin/pip" install --quiet --disable-pip-version-check --root-user-action=ignore --upgrade borgbackup &&
    ln -sf "$peers/borg/bin/borg" "$peers/bin/borg" || echo "borg cannot be built here" >&2
}
