"""The sections about what the daemon does by itself, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from backupd.config.section import Section
from backupd.config.text.fields import Duration, Share, TimetableText, Zone, within
from backupd.model.timetables import Timetable, parse_timetable

_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

KINDS = ("backup", "ingest", "sync", "purge", "expire", "verify", "observe", "drill")
"""What can be given a timetable."""


class ScheduleSection(Section):
    """`[schedule]`: when the daemon works, where a region does not say otherwise."""

    zone: Zone = "UTC"
    """Of times that name none."""
    backup: TimetableText = parse_timetable("daily 01:30")
    ingest: TimetableText = parse_timetable("every 10m")
    """Taking what nodes hand in, on stores that have them do so."""
    sync: TimetableText = parse_timetable("every 1h")
    """Reading the configured query for tenants' dates."""
    purge: TimetableText = parse_timetable("daily 03:30")
    expire: TimetableText = parse_timetable("daily 04:00")
    verify: TimetableText = parse_timetable("daily 05:00")
    observe: TimetableText = parse_timetable("every 15m")
    """Looking how the region stands on its stores."""
    drill: TimetableText = parse_timetable("weekly sun 06:00")
    verify_share: Share = "10%"
    """Of the content that each verify reads, least recently read first."""


class RegionScheduleSection(Section):
    """`[regions.NAME.schedule]`: None is what `[schedule]` says."""

    zone: Zone | None = None
    backup: TimetableText | None = None
    ingest: TimetableText | None = None
    sync: TimetableText | None = None
    purge: TimetableText | None = None
    expire: TimetableText | None = None
    verify: TimetableText | None = None
    observe: TimetableText | None = None
    drill: TimetableText | None = None
    verify_share: Share | None = None

    def over(self, general: ScheduleSection) -> ScheduleSection:
        """What holds for the region."""
        written = {name: value for name, value in self if value is not None}
        return general.model_copy(update=written)


class DaemonSection(Section):
    """`[daemon]`: how the daemon runs its jobs."""

    heavy: Annotated[int, Field(ge=1, le=64)] = 2
    """Backups, verifications, drills and removals at once, on this machine."""
    heavy_per_region: Annotated[int, Field(ge=1, le=64)] = 1
    """The same in one region."""
    deadline: Annotated[Duration, within(_SECOND)] = _DAY + _HOUR
    """A job that takes longer is ended."""
    stall: Annotated[Duration, within(_SECOND)] = _HOUR
    """A job that neither tells of progress nor computes for so long is ended."""
    stop_within: Annotated[Duration, within(_SECOND, _HOUR)] = timedelta(seconds=80)
    """From the signal to the daemon's end: less than TimeoutStopSec= of its unit."""
    spread: Annotated[Duration, within(timedelta(0), _DAY)] = 2 * _MINUTE
    """What was missed is caught up with within so much after the start, so that not all machines begin at once."""
    retry_after: Annotated[Duration, within(_SECOND, _DAY)] = _MINUTE
    """From a failure that trying again can help to the next try; doubled each time, up to an hour."""


def timetable_of(section: ScheduleSection, kind: str) -> Timetable:
    """When `kind`, one of KINDS, is due."""
    found: Timetable = getattr(section, kind)
    return found
