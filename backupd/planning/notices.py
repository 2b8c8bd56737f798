"""What people are told, and when: on change, again as a reminder, and never in a flood. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from backupd.model.status import Alarm, AlarmSeverity

_HOUR: Final = timedelta(hours=1)


class NoticeKind(StrEnum):
    NEW = "new"
    STILL = "still"
    OVER = "over"


class Known(msgspec.Struct, frozen=True):
    """An alarm in force, or one that is over and of which this is still to be said."""

    alarm: Alarm
    since: datetime
    told: datetime | None = None
    """When people last heard of it; None: not yet."""
    told_state: str = ""
    over: bool = False


class Memory(msgspec.Struct, frozen=True):
    """What must survive a restart, so that nothing is told twice."""

    known: dict[str, Known] = {}
    sent: tuple[datetime, ...] = ()
    """Messages of the last hour."""


class Notice(msgspec.Struct, frozen=True):
    """One line of a message."""

    about: NoticeKind
    alarm: Alarm
    since: datetime


class NoticeLimits(msgspec.Struct, frozen=True):
    """How often people want to hear."""

    remind_every: timedelta
    most_an_hour: int
    """Messages; each may hold several notices."""


def follow_alarms(memory: Memory, alarms: Iterable[Alarm], now: datetime) -> Memory:
    """The memory with what is in force now. What ended before anybody heard of it is forgotten."""
    found: dict[str, Known] = {}
    for alarm in alarms:
        before = memory.known.get(alarm.key)
        found[alarm.key] = (
            Known(alarm, now)
            if before is None
            else Known(alarm, now if before.over else before.since, before.told, before.told_state)
        )
    for key, before in memory.known.items():
        if key not in found and before.told is not None:
            found[key] = msgspec.structs.replace(before, over=True)
    return Memory(found, _recent(memory.sent, now))


def due(memory: Memory, manners: NoticeLimits, now: datetime) -> list[Notice]:
    """What to say in one message, worst first; nothing while as many as may be were sent within the last hour.

    What has no room now is said later, if it still is so then.
    """
    if len(_recent(memory.sent, now)) >= manners.most_an_hour:
        return []
    told = ((_about(one, manners, now), one) for one in memory.known.values())
    found = [Notice(about, one.alarm, one.since) for about, one in told if about is not None]
    return sorted(
        found,
        key=lambda one: (one.about is NoticeKind.OVER, one.alarm.severity is not AlarmSeverity.ERROR, one.alarm.key),
    )


def mark_sent(memory: Memory, notices: Sequence[Notice], now: datetime) -> Memory:
    """The memory after these were sent."""
    keys = {notice.alarm.key: notice for notice in notices}
    known: dict[str, Known] = {}
    for key, one in memory.known.items():
        if key not in keys:
            known[key] = one
        elif keys[key].about is not NoticeKind.OVER or not one.over:
            known[key] = msgspec.structs.replace(one, told=now, told_state=keys[key].alarm.state)
    return Memory(known, (*_recent(memory.sent, now), now))


def _about(one: Known, manners: NoticeLimits, now: datetime) -> NoticeKind | None:
    if one.over:
        return NoticeKind.OVER
    if one.told is None:
        # A clock that was set back makes nobody wait.
        waited = abs(now - one.since) >= timedelta(seconds=one.alarm.patience)
        return NoticeKind.NEW if waited else None
    if one.told_state != one.alarm.state:
        return NoticeKind.NEW
    return NoticeKind.STILL if abs(now - one.told) >= manners.remind_every else None


def _recent(sent: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
    return tuple(at for at in sent if abs(now - at) < _HOUR)
