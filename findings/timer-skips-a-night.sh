#!/usr/bin/env bash
# A systemd timer at 02:30 does not run at all on the day that has no 02:30, and in autumn "hourly" is every two hours.
#
# One would guess that a daily timer runs every day, an hour late if need be, as cron has it, and that "hourly" and
# "every 30 minutes" go by what has passed. A calendar is looked for in local time, which has no such moment in one
# night, and the same ones twice in another, of which the second are passed over. In Zurich:
#
#   *-*-* 02:30, March 2027    27th, 29th, 30th: 47 hours between two runs
#   *-*-* 03:00                each day
#   hourly, 25 October 2026    00:00, 01:00, 02:00, 03:00 local time: two hours from the third to the fourth
#   *:0/30                     02:00, 02:30, 03:00: an hour and a half from the second to the third
#   hourly UTC                 each hour
#
# A backup that is said to lose an hour at most may lose two, and "one a day" has a day without.
#
# Seen with systemd-analyze of systemd 252.39 of Debian 12, which calculates as timers do.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

debian systemd=252.39-1~deb12u2
debian libsystemd-shared=252.39-1~deb12u2
# The times, in UTC, at which a calendar elapses after one in Zurich.
times() {
  TZ=Europe/Zurich LD_LIBRARY_PATH=$work/usr/lib/x86_64-linux-gnu/systemd \
    "$work/usr/bin/systemd-analyze" calendar --iterations="$3" --base-time="$2" "$1" |
    sed -nE 's/.*\(in UTC\): ... (.*):00 UTC$/\1/p' | sed -E 's/^[0-9]{4}-//' | paste -sd,
}
expect "02:30 in March" "03-27 01:30,03-29 00:30,03-30 00:30" "$(times '*-*-* 02:30' '2027-03-26 12:00' 3)"
expect "03:00 in March" "03-27 02:00,03-28 01:00,03-29 01:00" "$(times '*-*-* 03:00' '2027-03-26 12:00' 3)"
expect "hourly in October" "10-24 22:00,10-24 23:00,10-25 00:00,10-25 02:00" \
  "$(times hourly '2026-10-24 23:30' 4)"
expect "half-hourly in October" "10-25 00:00,10-25 00:30,10-25 02:00" "$(times '*:0/30' '2026-10-25 01:45' 3)"
expect "hourly UTC in October" "10-24 22:00,10-24 23:00,10-25 00:00,10-25 01:00" \
  "$(times '*-*-* *:00 UTC' '2026-10-24 23:30' 4)"
