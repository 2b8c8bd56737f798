"""What messages say: the worst in the title, one paragraph for each thing, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from backupd.model.amounts import human_duration
from backupd.model.status import AlarmSeverity
from backupd.planning.alarms.notices import About, Notice

_SHOWN = 20


class Message(NamedTuple):
    """What is sent."""

    title: str
    body: str
    severity: str
    """`error`, `warning`, or `over`."""


def message(machine: str, notices: Sequence[Notice], now: datetime) -> Message:
    """One message of all these, worst first."""
    wrong = [notice for notice in notices if notice.about is not About.OVER]
    grave = any(notice.alarm.severity is AlarmSeverity.ERROR for notice in wrong)
    first = notices[0].alarm
    more = f", and {len(notices) - 1} more" if len(notices) > 1 else ""
    title = f"backupd on {machine}: {first.region}: {first.code}{' is over' if not wrong else ''}{more}"
    lines = [_paragraph(notice, now) for notice in notices[:_SHOWN]]
    if len(notices) > _SHOWN:
        lines.append(f"... and {len(notices) - _SHOWN} more; `backupd status` says all.")
    return Message(title, "\n\n".join(lines), "error" if grave else "warning" if wrong else "over")


def _paragraph(notice: Notice, now: datetime) -> str:
    alarm = notice.alarm
    where = f"{alarm.region}, {alarm.subject}" if alarm.subject else alarm.region
    if notice.about is About.OVER:
        return f"OVER ({where}, {alarm.code}): no longer true that {alarm.message}."
    since = human_duration(max(timedelta(), now - notice.since))
    still = f" since {since}" if notice.about is About.STILL else ""
    return f"{alarm.severity.upper()}{still} ({where}, {alarm.code}): {alarm.message}. {alarm.hint}"
