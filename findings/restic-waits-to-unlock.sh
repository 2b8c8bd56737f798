#!/usr/bin/env bash
# restic on an append-only SFTP server: every backup succeeds a minute and a half late, and no one can prune any more.
#
# One would guess that it works, as a backup only adds, or that it fails at once with "permission denied". OpenSSH's
# sftp-server can refuse requests by name, such as -P remove, and a backup of restic ends by removing its own lock:
#
#   backup                      tries that ten times, then ten times more, with growing pauses: some 95 s for 5 bytes;
#                               says "file does not exist", which is not so; status 0, the snapshot is there
#   afterwards                  the lock is there, too
#   forget --keep-last 1,
#   by an account that may      status 1, "repository is already locked", until that account says unlock
#
# Seen with restic 0.14.0 and sftp-server of OpenSSH 9.2p1 of Debian 12, started by restic without SSH. (Takes two
# minutes.)
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

debian restic=0.14.0-1+b5
debian openssh-sftp-server=1:9.2p1-2+deb12u10
export HOME=$work RESTIC_PASSWORD=secret
echo rows >"$work/rows"
restic() {
  "$work/usr/bin/restic" -q -r "sftp:host:$work/repository" -o "sftp.command=$served" "$@" 2>"$work/said"
}
served=$work/usr/lib/openssh/sftp-server
restic init
served+=" -P remove"
SECONDS=0
status=0
restic backup "$work/rows" || status=$?
expect "status of the backup" 0 "$status"
expect "it took more than a minute" 1 "$((SECONDS > 60))"
expect "tries" 20 "$(grep -c 'returned error, retrying' "$work/said")"
expect "said" "file does not exist" "$(grep -o 'file does not exist' "$work/said" | sort -u)"
served=${served% -P remove}
expect "snapshots" 1 "$(find "$work/repository/snapshots" -type f | wc -l)"
expect "locks" 1 "$(find "$work/repository/locks" -type f | wc -l)"
restic forget --keep-last 1 || status=$?
expect "status of forget" 1 "$status"
expect "said" "repository is already locked" "$(grep -o 'repository is already locked' "$work/said")"
restic unlock
status=0
restic forget --keep-last 1 || status=$?
expect "status of forget after unlock" 0 "$status"
