"""The sections of the daemon: its timetables and limits, and its output: metrics, notifications and a status page."""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from backupd.config.fields import (
    AbsolutePath,
    ConfigSection,
    Duration,
    Listen,
    SecretFile,
    Several,
    Share,
    TimetableText,
    Zone,
    within,
)
from backupd.model.timetables import parse_timetable

_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


class ScheduleSection(ConfigSection):
    """`[schedule]`: when the daemon works, where a region does not say otherwise."""

    zone: Zone = Field(default="UTC", description="The time zone of times that name none.")
    backup: TimetableText = Field(
        default=parse_timetable("daily 01:30"),
        description='When `backupd daemon` backs up. Timetables are `"daily 06:00,18:00 Europe/Brussels"`, '
        '`"weekly mon,thu 04:00"`, `"every 6h"` or `"never"`.',
    )
    ingest: TimetableText = Field(
        default=parse_timetable("every 10m"),
        description="When a keeper takes what nodes hand in, from stores with `ingest`.",
    )
    sync: TimetableText = Field(
        default=parse_timetable("every 1h"), description="When a keeper reads the query for tenants' dates."
    )
    purge: TimetableText = Field(default=parse_timetable("daily 03:30"), description="When a keeper purges.")
    expire: TimetableText = Field(
        default=parse_timetable("daily 04:00"), description="When a keeper expires snapshots."
    )
    verify: TimetableText = Field(default=parse_timetable("daily 05:00"), description="When stores are verified.")
    observe: TimetableText = Field(
        default=parse_timetable("every 15m"), description="When the daemon looks how regions stand on their stores."
    )
    drill: TimetableText = Field(
        default=parse_timetable("weekly sun 06:00"), description="When a machine that drills does so."
    )
    verify_share: Share = Field(
        default="10%",
        description='How much of the content each verification reads, least recently read first: `"all"`, '
        '`"none"` or a percentage.',
    )


class RegionScheduleSection(ConfigSection):
    """`[regions.NAME.schedule]`: timetables of a region; a key that is not set is as in `[schedule]`."""

    zone: Zone | None = Field(default=None, description="Replaces `schedule.zone` for this region.")
    backup: TimetableText | None = Field(default=None, description="Replaces `schedule.backup` for this region.")
    ingest: TimetableText | None = Field(default=None, description="Replaces `schedule.ingest` for this region.")
    sync: TimetableText | None = Field(default=None, description="Replaces `schedule.sync` for this region.")
    purge: TimetableText | None = Field(default=None, description="Replaces `schedule.purge` for this region.")
    expire: TimetableText | None = Field(default=None, description="Replaces `schedule.expire` for this region.")
    verify: TimetableText | None = Field(default=None, description="Replaces `schedule.verify` for this region.")
    observe: TimetableText | None = Field(default=None, description="Replaces `schedule.observe` for this region.")
    drill: TimetableText | None = Field(default=None, description="Replaces `schedule.drill` for this region.")
    verify_share: Share | None = Field(default=None, description="Replaces `schedule.verify_share` for this region.")

    def over(self, general: ScheduleSection) -> ScheduleSection:
        """Return the timetables that apply to the region: its own, and those of `general` where it has none."""
        written = {name: value for name, value in self if value is not None}
        return general.model_copy(update=written)


def _program(arguments: tuple[str, ...]) -> tuple[str, ...]:
    if not arguments or not PurePosixPath(arguments[0]).is_absolute():
        raise ValueError("must be a list whose first element is a program by its absolute path")
    return arguments


class HooksSection(ConfigSection):
    """`[regions.NAME.hooks]`: programs of yours that run around a backup of the region."""

    run_before: Annotated[tuple[str, ...], Several, AfterValidator(_program)] | None = Field(
        default=None,
        description="A program and its arguments, run before a backup of the region. No shell reads them. When it "
        "fails, there is no backup.",
    )
    run_after: Annotated[tuple[str, ...], Several, AfterValidator(_program)] | None = Field(
        default=None, description="The same, run after a backup of the region that succeeded on every store."
    )
    run_on_failure: Annotated[tuple[str, ...], Several, AfterValidator(_program)] | None = Field(
        default=None, description="The same, run after a backup of the region that failed, also by `run_before`."
    )
    deadline: Annotated[Duration, within(_SECOND, _HOUR)] = Field(
        default=5 * _MINUTE, description="How long each of them may take; then it is ended."
    )


class DaemonSection(ConfigSection):
    """`[daemon]`: how the daemon runs its jobs."""

    heavy: Annotated[int, Field(ge=1, le=64)] = Field(
        default=2, description="How many backups, verifications, removals and drills may run at once on this machine."
    )
    heavy_per_region: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="How many of them may run at once in one region."
    )
    deadline: Annotated[Duration, within(_SECOND, _DAY)] = Field(
        default=_DAY - _HOUR,
        description="A job that takes longer is ended. After a day, a keeper takes a backup for one that was killed.",
    )
    stall: Annotated[Duration, within(_SECOND)] = Field(
        default=_HOUR, description="A job that neither reports progress nor computes for this long is ended."
    )
    stop_within: Annotated[Duration, within(_SECOND, _HOUR)] = Field(
        default=timedelta(seconds=80),
        description="How long the daemon may take to end, from the signal on: less than `TimeoutStopSec=` of its unit.",
    )
    spread: Annotated[Duration, within(timedelta(0), _DAY)] = Field(
        default=2 * _MINUTE,
        description="What was missed starts within this time after the daemon, each machine and region at a "
        "moment of its own.",
    )
    retry_after: Annotated[Duration, within(_SECOND, _DAY)] = Field(
        default=_MINUTE,
        description="The time from a failure that trying again can help to the next try. It doubles each "
        "time, up to an hour.",
    )


class MetricsSection(ConfigSection):
    """`[metrics]`: figures for Prometheus; off by default, because several units may share a file, but not a port."""

    listen: Listen | None = Field(
        default=None,
        description='The address and port where the daemon answers Prometheus, as `"127.0.0.1:9840"`. A port '
        "alone is on loopback. Without it, the daemon listens nowhere.",
    )
    textfile: AbsolutePath | None = Field(
        default=None,
        description="A file for the textfile collector of node_exporter, rewritten whenever something changes.",
    )


class NotifySection(ConfigSection):
    """`[notify]`: the people who are notified when something is wrong, and when it is over."""

    urls: Annotated[tuple[SecretFile, ...], Several] = Field(
        default=(),
        description="Files with an [apprise](https://github.com/caronc/apprise/wiki) URL a line: who gets "
        "messages when something is wrong, and when it is over. They hold passwords, so they are "
        "never shown.",
    )
    heartbeat: Annotated[tuple[SecretFile, ...], Several] = Field(
        default=(),
        description="Files with a URL a line that is requested after each look that found nothing wrong, and "
        "only then.",
    )
    remind_every: Annotated[Duration, within(_HOUR, 366 * _DAY)] = Field(
        default=_DAY, description="What is still wrong is reported again after this long."
    )
    most_an_hour: Annotated[int, Field(ge=1, le=60)] = Field(
        default=6, description="How many messages are sent in an hour at most. What has no room goes into the next one."
    )
    timeout: Annotated[Duration, within(_SECOND, _HOUR)] = Field(
        default=timedelta(seconds=30), description="How long one target of a message may take."
    )


class StatusSection(ConfigSection):
    """`[status]`: a page that shows the state of all regions."""

    page: AbsolutePath | None = Field(
        default=None,
        description="The file of a page that shows how everything stands, rewritten by the daemon whenever "
        "something changes.",
    )
