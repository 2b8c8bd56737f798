#!/usr/bin/env bash
# rclone: on a WebDAV server a changed file of the same size is never sent again, and check finds no difference.
#
# One would guess that what cannot be compared is sent, or that a check that could not check fails. WebDAV by itself has
# neither hashes nor settable times, so that sizes are all there is. After a file's content was changed from "key one" to
# "key two":
#
#   rclone sync, copy             "There was nothing to transfer", status 0
#   rclone sync --checksum        the same: "falling back to --size-only"
#   rclone check                  "0 differences found", "1 hashes could not be checked", status 0
#   rclone check --download       "1 differences found", status 1
#   rclone sync --update, or
#   --ignore-times                the file is sent
#
# Files that keep their size when they change, as keys, counters, a SQLite database, a database's segments, stay as they
# were at first in the backup. --update sends what is newer here than its upload there, and so not a file that was
# restored from an older one, or moved over it.
#
# Seen with rclone 1.60.1 of Debian 12, its own serve webdav being the server.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

debian rclone=1.60.1+dfsg-2+b5
mkdir "$work/far" "$work/near"
"$work/usr/bin/rclone" --config /dev/null serve webdav "$work/far" --addr 127.0.0.1:0 2>"$work/log" &
server=$!
stop() {
  kill "$server" 2>/dev/null || true
  leave
}
trap stop EXIT
for _ in $(seq 100); do ! grep -q 'Started on' "$work/log" || break; sleep 0.1; done
address=$(grep -o 'http://[0-9.:]*' "$work/log" | head -1)

# rclone COMMAND OPTION…: its status, in what it said the words of `words`, and what the server has then.
asked() {
  local status=0
  "$work/usr/bin/rclone" --config /dev/null "$1" -v "${@:2}" "$work/near" ":webdav,vendor=other,url='$address':" \
    >"$work/said" 2>&1 || status=$?
  echo "$status $(grep -Eo "$words" "$work/said" | paste -sd,), $(cat "$work/far/file")"
}

echo "key one" >"$work/near/file"
words='Copied \(new\)'
expect "at first" "0 Copied (new), key one" "$(asked sync)"
sleep 1.1
echo "key two" >"$work/near/file"
words='There was nothing to transfer|falling back to --size-only'
expect "sync" "0 There was nothing to transfer, key one" "$(asked sync)"
expect "copy" "0 There was nothing to transfer, key one" "$(asked copy)"
expect "sync --checksum" "0 falling back to --size-only,There was nothing to transfer, key one" "$(asked sync --checksum)"
words='[0-9]+ differences found|[0-9]+ hashes could not be checked'
expect "check" "0 0 differences found,1 hashes could not be checked, key one" "$(asked check)"
expect "check --download" "1 1 differences found" "$(asked check --download | cut -d, -f1)"
words='Copied \(replaced existing\)'
expect "sync --update" "0 Copied (replaced existing), key two" "$(asked sync --update)"
echo "key six" >"$work/near/file"
touch -d '1 day ago' "$work/near/file"
expect "sync --update, an older file" "0 , key two" "$(asked sync --update)"
expect "sync --ignore-times" "0 Copied (replaced existing), key six" "$(asked sync --ignore-times)"
