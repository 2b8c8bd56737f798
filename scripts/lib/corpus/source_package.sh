# Unpacks the source of a Debian package into the working folder: bash source_package.sh PACKAGE
# With lists of its own, so that the machine's package manager learns of nothing.
set -euo pipefail
address=$(sed -n 's/^URIs: *//p; s/^deb  *\(\[[^]]*\]  *\)\{0,1\}\([^ ]*\) .*/\2/p' \
  /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -1)
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mkdir -p lists/partial cache/archives/partial
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $address $suite main" >sources.list
options=(-o "Dir::Etc::sourcelist=$PWD/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$PWD/lists"
  -o "Dir::Cache=$PWD/cache" -o APT::Sandbox::User=root --quiet=2)
apt-get "${options[@]}" update
apt-get "${options[@]}" source --download-only "$1"
mkdir source
tar -xf ./*.orig.tar.* -C source --strip-components 1
