"""The notices that people get, and when: on a change, again as a reminder, and never too many in an hour. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from backupd.model.status import Alarm, AlarmSeverity

_HOUR: Final = timedelta(hours=1)


class NoticeKind(StrEnum):
    """The reason of a notice: the alarm is new or changed, still in force, or over."""

    NEW = "new"
    STILL = "still"
    OVER = "over"


class Known(msgspec.Struct, frozen=True):
    """An alarm in force, or one that is over but not yet reported as over."""

    alarm: Alarm
    since: datetime
    notified: datetime | None = msgspec.field(default=None, name="told")
    """When people were last notified of the alarm; None: not yet."""
    notified_state: str = msgspec.field(default="", name="told_state")
    """The alarm's state in the newest notice of it."""
    over: bool = False


class Memory(msgspec.Struct, frozen=True):
    """The state that must survive a restart, so that no alarm is reported twice."""

    known: dict[str, Known] = {}
    sent: tuple[datetime, ...] = ()
    """When the messages of the last hour were sent."""


class Notice(msgspec.Struct, frozen=True):
    """One line of a message."""

    about: NoticeKind
    alarm: Alarm
    since: datetime


class NoticeLimits(msgspec.Struct, frozen=True):
    """The limits of how often people are notified."""

    remind_every: timedelta
    most_an_hour: int
    """Messages in an hour at most; each may hold several notices."""


def follow_alarms(
    memory: Memory, alarms: Iterable[Alarm], now: datetime, unseen: Collection[str] = frozenset()
) -> Memory:
    """Update the memory by the alarms in force now; an alarm that ended before anybody was notified is dropped.

    No alarm of the regions `unseen` is over: nobody has looked at them yet.
    """
    found: dict[str, Known] = {}
    for alarm in alarms:
        before = memory.known.get(alarm.key)
        found[alarm.key] = (
            Known(alarm, now)
            if before is None
            else Known(alarm, now if before.over else before.since, before.notified, before.notified_state)
        )
    for key, before in memory.known.items():
        if key in found:
            continue
        if before.alarm.region in unseen:
            found[key] = before
        elif before.notified is not None:
            found[key] = msgspec.structs.replace(before, over=True)
    return Memory(found, _recent(memory.sent, now))


def due(memory: Memory, limits: NoticeLimits, now: datetime) -> list[Notice]:
    """Return the notices for one message, worst first; none after `most_an_hour` messages within the last hour.

    A notice that has no room now is returned later, if its alarm is then still in force.
    """
    if len(_recent(memory.sent, now)) >= limits.most_an_hour:
        return []
    kinds = ((_kind(one, limits, now), one) for one in memory.known.values())
    found = [Notice(kind, one.alarm, one.since) for kind, one in kinds if kind is not None]
    return sorted(
        found,
        key=lambda one: (one.about is NoticeKind.OVER, one.alarm.severity is not AlarmSeverity.ERROR, one.alarm.key),
    )


def mark_sent(memory: Memory, notices: Sequence[Notice], now: datetime) -> Memory:
    """Update the memory after these notices were sent."""
    keys = {notice.alarm.key: notice for notice in notices}
    known: dict[str, Known] = {}
    for key, one in memory.known.items():
        if key not in keys:
            known[key] = one
        elif keys[key].about is not NoticeKind.OVER or not one.over:
            known[key] = msgspec.structs.replace(one, notified=now, notified_state=keys[key].alarm.state)
    return Memory(known, (*_recent(memory.sent, now), now))


def _kind(one: Known, limits: NoticeLimits, now: datetime) -> NoticeKind | None:
    if one.over:
        return NoticeKind.OVER
    if one.notified is None:
        # The distance counts, so that a clock that was set back delays no notice.
        waited = abs(now - one.since) >= timedelta(seconds=one.alarm.patience)
        return NoticeKind.NEW if waited else None
    if one.notified_state != one.alarm.state:
        return NoticeKind.NEW
    return NoticeKind.STILL if abs(now - one.notified) >= limits.remind_every else None


def _recent(sent: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
    return tuple(at for at in sent if abs(now - at) < _HOUR)
