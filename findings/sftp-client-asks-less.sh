#!/usr/bin/env bash
# OpenSSH's sftp: rename replaces a file or refuses to, and put -f syncs or does not, as the server offers; unsaid.
#
# One would guess that rename onto a name that is taken fails, as it does for SFTP's own request, and as other clients
# have it; and that -f, "flush files to disk immediately after transfer", is an error where the server cannot. sftp
# takes the extension posix-rename@openssh.com where it is offered, and fsync@openssh.com only where it is:
#
#                          sftp-server          sftp-server -P posix-rename,fsync
#   rename new there       replaces, status 0   "Failure", status 1
#   rename -l new there    "Failure", status 1  "Failure", status 1
#   put -f                 syncs, status 0      does not, says nothing, status 0
#
# Most people know one server, where rename replaces, and move a batch to another, where it ends there; or the other
# way round, which costs a file. -l is the request that never replaces.
#
# Seen with sftp and sftp-server of OpenSSH 9.2p1 of Debian 12.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

debian openssh-client=1:9.2p1-2+deb12u10
debian openssh-sftp-server=1:9.2p1-2+deb12u10
cd "$work"

# What one command's batch ends with, under a server with such options; and then what `there` holds.
asked() {
  local status=0
  echo new >new
  echo old >there
  usr/bin/sftp -D "$work/usr/lib/openssh/sftp-server $1" -b <(echo "$2") >said 2>errors || status=$?
  echo "status $status, $(cat there)$(grep -o ': Failure' errors || true)"
}
less="-P posix-rename,fsync"
expect "rename" "status 0, new" "$(asked '' "rename $work/new $work/there")"
expect "rename, less offered" "status 1, old: Failure" "$(asked "$less" "rename $work/new $work/there")"
expect "rename -l" "status 1, old: Failure" "$(asked '' "rename -l $work/new $work/there")"
expect "rename -l, less offered" "status 1, old: Failure" "$(asked "$less" "rename -l $work/new $work/there")"

# The server's own log of what it was asked.
logged="-e -l DEBUG1"
expect "put -f" "status 0, new" "$(asked "$logged" "put -f $work/new $work/there")"
expect "it was synced" 1 "$(grep -c '^fsync "' errors || true)"
expect "put -f, less offered" "status 0, new" "$(asked "$logged $less" "put -f $work/new $work/there")"
expect "it was synced" 0 "$(grep -c '^fsync "' errors || true)"
asked "$less" "put -f $work/new $work/there" >outcome
expect "said" "" "$(cat errors)"
