#!/usr/bin/env bash
# OpenSSH's sftp: cp of a file onto itself leaves it empty, by another of its names with status 0.
#
# One would guess cp's own answer, "are the same file", with nothing done. sftp opens the target for writing, which
# empties it, before it asks for copy-data; the server compares only the names under which the two were opened, and
# then there is nothing left to copy:
#
#   cp file file                        status 1, "Failure"; 0 bytes
#   cp file ./file                      status 0, nothing said; 0 bytes
#   cp file link, a hard link           status 0, nothing said; 0 bytes
#   cp file link, a symbolic one        status 0, nothing said; 0 bytes
#   cp file other                       status 0; both have all bytes
#   cp file ./file of coreutils         status 1, "are the same file"; all bytes
#
# A batch that freshens links to the latest backup empties the backup itself.
#
# Seen with sftp and sftp-server of OpenSSH 9.2p1 of Debian 12; sftp has cp since 9.0.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

debian openssh-client=1:9.2p1-2+deb12u10
debian openssh-sftp-server=1:9.2p1-2+deb12u10
mkdir "$work/files"
cd "$work/files"

# What a copy ends with, what it says, and how many bytes the file has afterwards.
copied() {
  local status=0
  rm -f ./*
  printf 'rows of a day\n' >file
  ln file hard
  ln -s file symbolic
  if [ "$1" = sftp ]; then
    "$work/usr/bin/sftp" -D "$work/usr/lib/openssh/sftp-server" -b <(echo "cp file $2") >"$work/said" 2>&1 || status=$?
  else
    cp file "$2" >"$work/said" 2>&1 || status=$?
  fi
  echo "$status $(grep -o 'Failure\|are the same file' "$work/said" || true) $(stat -c %s file)"
}
expect "cp file file" "1 Failure 0" "$(copied sftp file)"
expect "cp file ./file" "0  0" "$(copied sftp ./file)"
expect "cp file, a hard link" "0  0" "$(copied sftp hard)"
expect "cp file, a symbolic link" "0  0" "$(copied sftp symbolic)"
expect "cp file other" "0  14" "$(copied sftp other)"
expect "cp of coreutils" "1 are the same file 14" "$(copied coreutils ./file)"
