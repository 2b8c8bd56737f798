#!/usr/bin/env bash
# "Keep one a day" keeps other backups according to who made them (restic) or who prunes (borg).
#
# One would guess that a day is UTC's, or the same for everybody who looks at a repository. restic counts each snapshot
# on the day of the clock that made it, borg on the day of the machine that prunes. Four backups, by UTC:
#
#   1: 2 March 04:00    2: 2 March 06:00    3: 3 March 06:00    4: 3 March 10:30
#
#   restic forget --keep-daily 30, whatever TZ:
#     all four made in UTC                      keeps 2, 4
#     1 made at -08:00 (1 March 20:00)          keeps 1, 2, 4: twice 2 March in its own list, by UTC
#     2 made at +13:00, 3 at -08:00 (2 March)   keeps 3, 4: of 2 March, by UTC, nothing
#   borg prune --keep-daily 30, all four made in UTC:
#     TZ=UTC                                    keeps 1, 2, 4 (1 as the oldest of all)
#     TZ=America/Los_Angeles                    keeps 1, 2, 3, 4
#
# So a job that moves into a container without time zone, or two people who prune, change what is kept: in borg, what
# one keeps as the last of a day (3) the other removes.
#
# Seen with restic 0.14.0 and borg 1.2.4, of Debian 12, whose python3 borg needs.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

for package in restic=0.14.0-1+b5 borgbackup=1.2.4-1 python3-msgpack=1.0.3-2+b1 python3-packaging=23.0-1; do
  debian $package
done
export HOME=$work RESTIC_PASSWORD=secret BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
export PYTHONPATH=$work/usr/lib/python3/dist-packages
echo rows >"$work/rows"

# The numbers of what restic keeps, of snapshots given as ZONE TIME.
restic_keeps() {
  export RESTIC_REPOSITORY
  RESTIC_REPOSITORY=$(mktemp -d "$work/restic.XXXX")
  local number=0
  "$work/usr/bin/restic" -q init
  for made in "$@"; do
    TZ=${made%% *} "$work/usr/bin/restic" -q backup --host h --tag $((number += 1)) --time "${made#* }" "$work/rows"
  done
  TZ=Asia/Tokyo "$work/usr/bin/restic" forget --dry-run --json --group-by host --keep-daily 30 |
    /usr/bin/python3 -c 'import json, sys
print(*sorted(kept["tags"][0] for kept in json.loads(sys.stdin.readline())[0]["keep"]))'
}
one="UTC 2027-03-02 04:00:00"
two="UTC 2027-03-02 06:00:00"
three="UTC 2027-03-03 06:00:00"
four="UTC 2027-03-03 10:30:00"
expect "restic, in UTC" "2 4" "$(restic_keeps "$one" "$two" "$three" "$four")"
west="America/Los_Angeles"
expect "restic, 1 in the west" "1 2 4" "$(restic_keeps "$west 2027-03-01 20:00:00" "$two" "$three" "$four")"
expect "restic, 2 in the east, 3 in the west" "3 4" \
  "$(restic_keeps "$one" "Pacific/Auckland 2027-03-02 19:00:00" "$west 2027-03-02 22:00:00" "$four")"

borg() {
  /usr/bin/python3 "$work/usr/bin/borg" "$@"
}
borg_keeps() {
  TZ=$1 borg prune --dry-run --list --keep-daily 30 "$work/borg" 2>&1 |
    sed -n 's/^Keeping archive .*: *n\([0-9]\) .*/\1/p' | sort | paste -sd' '
}
number=0
borg init -e none "$work/borg"
for made in "$one" "$two" "$three" "$four"; do
  made=${made#* }
  TZ=UTC borg create --timestamp "${made/ /T}" "$work/borg::n$((number += 1))" "$work/rows"
done
expect "borg, pruned in UTC" "1 2 4" "$(borg_keeps UTC)"
expect "borg, pruned in the west" "1 2 3 4" "$(borg_keeps "$west")"
