# Sourced by scripts/package: puts a tree together as it will lie on the machine, and packs it.

umask 022
export PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
# The time that everything in the package bears: that of the last commit.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || stat --format=%Y pyproject.toml)
export SOURCE_DATE_EPOCH
next=$((${version#3.} + 1))
architecture=$(dpkg --print-architecture)
machine=$(uname -m)
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
library=$tree/opt/backupd/lib/python$version/site-packages
mkdir -p "$library" "$tree/opt/backupd/bin" "$tree/DEBIAN"

put_libraries() {  # wheels only: nothing is built for a Python that may not be here
  local platforms=() glibc
  if [ -n "${BACKUPD_PACKAGES:-}" ]; then  # for tests: a folder that has the libraries already
    echo "$BACKUPD_PACKAGES" >"$library/borrowed.pth"
    return
  fi
  for glibc in 2_34 2_28 2_17; do
    platforms+=(--platform "manylinux_${glibc}_$machine")
  done
  "$python" scripts/lib/locked.py >"$work/locked"
  # pip judges such a condition by the Python that it runs on, not by the target's.
  ! grep -q 'python_\(full_\)\?version' "$work/locked" || fail "a library is wanted by some versions of Python only"
  "$python" -m pip install --quiet --require-hashes --no-deps --only-binary :all: --requirement "$work/locked" \
    --target "$library" --implementation cp --python-version "$version" "${platforms[@]}" --platform "manylinux2014_$machine" ||
    fail "the libraries could not be fetched"
}

put_program() {  # from the folder of wheels, not by its path, which would be noted in the package
  "$python" -m pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir "$work/wheels" . ||
    fail "the program could not be built"
  "$python" -m pip install --quiet --no-index --no-deps --find-links "$work/wheels" --target "$library" --upgrade backupd
  rm -rf "$library/bin"
  find "$library" -name __pycache__ -prune -exec rm -rf {} +  # made on the machine, for its own Python
  ln -s "/usr/bin/python$version" "$tree/opt/backupd/bin/python"
  printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = %s\n' "$version" >"$tree/opt/backupd/pyvenv.cfg"
  printf '#!/opt/backupd/bin/python\nfrom backupd.cli.main import run\n\nrun()\n' >"$tree/opt/backupd/bin/backupd"
  chmod 0755 "$tree/opt/backupd/bin/backupd"
}

put_files() {
  local usr=$tree/usr unit doc=$tree/usr/share/doc/backupd
  mkdir -p "$usr/bin" "$usr/lib/systemd/system" "$doc"
  ln -s /opt/backupd/bin/backupd "$usr/bin/backupd"
  for unit in systemd/*.service; do
    sed 's|/usr/local/share/doc|/usr/share/doc|' "$unit" >"$usr/lib/systemd/system/${unit##*/}"
  done
  install -D -m 0644 systemd/sysusers.conf "$usr/lib/sysusers.d/backupd.conf"
  install -D -m 0644 systemd/tmpfiles.conf "$usr/lib/tmpfiles.d/backupd.conf"
  install -D -m 0755 systemd/backupd-as "$usr/sbin/backupd-as"
  install -m 0644 README.md systemd/alerts.yml systemd/dashboard.json "$doc"
  install -m 0644 backupd/config/example.toml "$doc/backupd.toml"
  install -m 0644 LICENSE "$doc/copyright"
}

put_printed() {  # man pages and completion, which the program prints of itself
  local share=$tree/usr/share
  "$python" -m backupd manual --man "$share/man"
  find "$share/man" -type f -exec gzip -9n {} +
  mkdir -p "$share/bash-completion/completions" "$share/zsh/vendor-completions" "$share/fish/vendor_completions.d"
  "$python" -m backupd completion bash >"$share/bash-completion/completions/backupd"
  "$python" -m backupd completion zsh >"$share/zsh/vendor-completions/_backupd"
  "$python" -m backupd completion fish >"$share/fish/vendor_completions.d/backupd.fish"
}

put_control() {
  local script
  sed -e "s/@VERSION@/$full/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@PYTHON@/$version/g" -e "s/@NEXT@/3.$next/" \
    -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$tree" | cut -f 1)/" scripts/lib/debian/control >"$tree/DEBIAN/control"
  for script in preinst postinst prerm postrm; do
    install -m 0755 "scripts/lib/debian/$script" "$tree/DEBIAN/$script"
  done
  sed -i "s/@EXAMPLE@/$(sha256sum <backupd/config/example.toml | cut -d ' ' -f 1)/" "$tree/DEBIAN/postrm"
  (cd "$tree" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
}

full=$("$python" -c 'import backupd; print(backupd.__version__)')-$revision+python$version
put_libraries
put_program
put_files
put_printed
put_control
mkdir -p "$out"
file=$out/backupd_${full}_$architecture.deb
dpkg-deb --root-owner-group -Zxz -z3 --build "$tree" "$file" >/dev/null
echo "$file"
