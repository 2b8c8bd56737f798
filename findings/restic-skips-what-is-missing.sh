#!/usr/bin/env bash
# restic backs up without a folder that is not there, and restores without a file that is not in it, with status 0.
#
# One would guess status 3, which restic has for files that could not be read, or any other than 0, as with borg and
# tar. A folder that was not mounted, or is misspelt, beside one that is there:
#
#                                       restic                                 borg    tar
#   backup of both                      0, "does not exist, skipping"          1       2
#   the same, by --files-from           0, "does not match any files"
#   backup of the missing one alone     1
#   restore of what is not in it        0, with --include; nothing restored    1       2
#   dump of what is not in it           2
#   paths in the snapshot's record      the one that was there
#   forget --keep-last 1 afterwards     keeps this one and the last with both: it goes by equal paths
#
# So the job is green on the night when the disk is missing, and a rehearsal that restores one file by a path that has
# changed is green with nothing restored.
#
# Seen with restic 0.14.0, borg 1.2.4 and tar 1.34 of Debian 12, whose python3 borg needs.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

for package in restic=0.14.0-1+b5 borgbackup=1.2.4-1 python3-msgpack=1.0.3-2+b1 python3-packaging=23.0-1 \
  tar=1.34+dfsg-1.2+deb12u1; do
  debian $package
done
export HOME=$work RESTIC_PASSWORD=secret RESTIC_REPOSITORY=$work/restic
export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes PYTHONPATH=$work/usr/lib/python3/dist-packages
restic=$work/usr/bin/restic
mkdir "$work/here" "$work/away"
echo rows | tee "$work/here/file" >"$work/away/file"
"$restic" -q init

# status COMMAND…: what it ends with, in the folder.
status() {
  local status=0
  (cd "$work" && "$@" >out 2>errors) || status=$?
  echo "$status"
}
borg() {
  /usr/bin/python3 "$work/usr/bin/borg" "$@"
}

expect "restic, both there" 0 "$(status "$restic" -q backup here away)"
mv "$work/away" "$work/elsewhere"
expect "restic, one missing" "0 away does not exist, skipping" \
  "$(status "$restic" -q backup here away) $(cat "$work/errors")"
printf '%s\n' "$work/here" "$work/away" >"$work/list"
expect "by a list" "0 does not match any files" \
  "$(status "$restic" -q backup --files-from "$work/list") $(grep -o 'does not match any files' "$work/errors")"
expect "the missing one alone" 1 "$(status "$restic" -q backup away)"
expect "restore" "0 " "$(status "$restic" -q restore latest --target restored --include away) $(cat "$work/errors")"
expect "restored" 0 "$(find "$work/restored" -type f 2>"$work/said" | wc -l)"
expect "dump" 2 "$(status "$restic" -q dump latest away)"
expect "paths" "2 1 1" "$("$restic" snapshots --json | /usr/bin/python3 -c 'import json, sys
print(*(len(one["paths"]) for one in json.load(sys.stdin)))')"
"$restic" -q forget --keep-last 1
expect "kept" "2 1" "$("$restic" snapshots --json | /usr/bin/python3 -c 'import json, sys
print(*(len(one["paths"]) for one in json.load(sys.stdin)))')"

borg init -e none "$work/repository"
expect "borg, one missing" 1 "$(status borg create "$work/repository::one" here away)"
expect "borg, extract" 1 "$(status borg extract "$work/repository::one" away)"
tar=$work/bin/tar
expect "tar, one missing" 2 "$(status "$tar" -cf "$work/one.tar" here away)"
expect "tar, extract" 2 "$(status "$tar" -xf "$work/one.tar" away)"
