#!/usr/bin/env bash
# schedule: a daily job in a time zone runs twice on the day after the hour of its time was missing.
#
# One would guess a job lost, or run an hour late, on the day that has no 02:30, and nothing afterwards. In Zurich,
# where 28 March 2027 goes from 02:00 to 03:00, every().day.at("02:30", "Europe/Zurich"), asked each minute, ran at
#
#   27 March 02:30, 28 March 03:30, 29 March 01:30, 29 March 02:30, 30 March 02:30
#
# The run at 01:30 is one too many. In autumn, when 02:30 comes twice, it ran once. Without a zone, on a machine that
# is in Zurich itself, it ran once a day in spring, too: at 03:00 on the 28th.
#
# Seen with schedule 1.2.2, pytz 2026.6.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages schedule==1.2.2 pytz==2026.6
cat >"$work/days.py" <<'PYTHON'
import datetime
import sys
import zoneinfo

import schedule

ZURICH = zoneinfo.ZoneInfo("Europe/Zurich")
now = datetime.datetime.fromisoformat(sys.argv[1]).replace(tzinfo=datetime.UTC)
zone = sys.argv[2:]


class Clock(datetime.datetime):
    """The time that the library is given; local time is that of TZ."""

    @classmethod
    def now(cls, tz=None):
        return now.astimezone(tz) if tz else now.astimezone().replace(tzinfo=None)


schedule.datetime.datetime = Clock
ran = []
schedule.every().day.at("02:30", *zone).do(lambda: ran.append(now.astimezone(ZURICH).strftime("%d %H:%M")))
for _ in range(4 * 24 * 60):
    now += datetime.timedelta(minutes=1)
    schedule.run_pending()
print(", ".join(ran))
PYTHON
expect "spring, in a zone" "27 02:30, 28 03:30, 29 01:30, 29 02:30, 30 02:30" \
  "$(TZ=UTC "$python" "$work/days.py" 2027-03-26T12:00 Europe/Zurich)"
expect "autumn, in a zone" "30 02:30, 31 02:30, 01 02:30, 02 02:30" \
  "$(TZ=UTC "$python" "$work/days.py" 2027-10-29T12:00 Europe/Zurich)"
expect "spring, in the machine's own zone" "27 02:30, 28 03:00, 29 02:30, 30 02:30" \
  "$(TZ=Europe/Zurich "$python" "$work/days.py" 2027-03-26T12:00)"
