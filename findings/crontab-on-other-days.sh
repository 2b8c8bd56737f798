#!/usr/bin/env bash
# One line of a crontab runs on other days in each of four libraries, and on none in two of them.
#
# One would guess that five fields mean what cron makes of them, or are refused. In cron, if day and weekday are both
# given, either is enough, but both must match if one of them begins with a star; Monday is 1. In March 2027, whose
# first day is a Monday:
#
#                        cronsim, as cron      croniter         celery           APScheduler
#   0 3 1 * 1            1, 8, 15, 22, 29      the same         1                never
#   0 3 */2 * 1          1, 15, 29             18 days          1, 15, 29        9, 23 (Tuesdays)
#   0 3 * * 1-5          Monday to Friday      the same         the same         Tuesday to Saturday
#
# croniter takes */2 for a list of days, celery wants both to match always, and so does APScheduler's from_crontab,
# which counts from Monday 0 besides. A backup "on the first and on Mondays" is made once a month, or in APScheduler
# when the first is a Tuesday: next in June.
#
# Seen with cronsim 2.8, croniter 7.0.0, celery 5.7.0, APScheduler 3.11.3; cron's rules from crontab(5) of Debian 12.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages cronsim==2.8 croniter==7.0.0 celery==5.7.0 apscheduler==3.11.3
cat >"$work/days.py" <<'PYTHON'
import datetime
import itertools
import sys

from apscheduler.triggers.cron import CronTrigger
from celery.schedules import crontab
from croniter import croniter
from cronsim import CronSim

START = datetime.datetime(2027, 3, 1, tzinfo=datetime.UTC)


def by_apscheduler(line):
    trigger, when = CronTrigger.from_crontab(line, timezone=datetime.UTC), START
    while when := trigger.get_next_fire_time(None, when):
        yield when
        when += datetime.timedelta(minutes=1)


def by_celery(line):
    now, schedule = START, crontab.from_string(line)
    schedule.nowfun = lambda: now
    while True:
        now += schedule.remaining_estimate(now)
        yield now


line = sys.argv[1]
by_croniter = croniter(line, START).all_next(datetime.datetime)
for times in (CronSim(line, START), by_croniter, by_celery(line), by_apscheduler(line)):
    days = [when.day for when in itertools.takewhile(lambda when: when.month == 3, times)]
    print(*days or ["never"])
PYTHON
days() {
  "$python" "$work/days.py" "$1" | paste -sd/ | sed 's#/# / #g'
}
odd="1 3 5 7 8 9 11 13 15 17 19 21 22 23 25 27 29 31"
to_friday="1 2 3 4 5 8 9 10 11 12 15 16 17 18 19 22 23 24 25 26 29 30 31"
to_saturday="2 3 4 5 6 9 10 11 12 13 16 17 18 19 20 23 24 25 26 27 30 31"
expect "0 3 1 * 1" "1 8 15 22 29 / 1 8 15 22 29 / 1 / never" "$(days '0 3 1 * 1')"
expect "0 3 */2 * 1" "1 15 29 / $odd / 1 15 29 / 9 23" "$(days '0 3 */2 * 1')"
expect "0 3 * * 1-5" "$to_friday / $to_friday / $to_friday / $to_saturday" "$(days '0 3 * * 1-5')"
