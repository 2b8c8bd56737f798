"""What messages say: the worst in the title, one paragraph for each thing, and what to do about it.

Asking others for something, all at once, without ever waiting for one longer than is good.

A dead man's switch: somebody elsewhere is asked for a page as long as all is well, and calls when nobody does.
"""

from __future__ import annotations

import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from backupd.model.status import AlarmSeverity
from backupd.model.text import human_duration
from backupd.planning.notices import Notice, NoticeKind

_SHOWN = 20


class Message(NamedTuple):
    """What is sent."""

    title: str
    body: str
    severity: str
    """`error`, `warning`, or `over`."""


def message(machine: str, notices: Sequence[Notice], now: datetime) -> Message:
    """One message of all these, worst first."""
    wrong = [notice for notice in notices if notice.about is not NoticeKind.OVER]
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
    if notice.about is NoticeKind.OVER:
        return f"OVER ({where}, {alarm.code}): no longer true that {alarm.message}."
    since = human_duration(max(timedelta(), now - notice.since))
    still = f" since {since}" if notice.about is NoticeKind.STILL else ""
    return f"{alarm.severity.upper()}{still} ({where}, {alarm.code}): {alarm.message}. {alarm.hint}"


_STUCK: Final = 8
"""Attempts that never came back, above which somebody is left alone until one does."""


class Attempts:
    """For one thread, which makes them; each runs in a thread of its own that nobody waits for at the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def make(self, tasks: Mapping[str, Callable[[], bool]], seconds: float) -> dict[str, str]:
        """Do all of them within so many seconds; by name, what was not done, and why."""
        results: dict[str, str] = {}
        begun = []
        for name, task in tasks.items():
            if self._open[name] >= _STUCK:
                results[name] = "earlier attempts still hang"
                continue
            results[name] = "did not answer in time"
            thread = threading.Thread(target=self._one, args=(name, task, results), daemon=True, name="attempt")
            thread.start()
            begun.append(thread)
        end = time.monotonic() + seconds
        for thread in begun:
            thread.join(max(0.0, end - time.monotonic()))
        with self._lock:
            return {name: why for name, why in results.items() if why}

    def _one(self, name: str, task: Callable[[], bool], results: dict[str, str]) -> None:
        with self._lock:
            self._open[name] += 1
        try:
            done = task()
        except Exception:  # noqa: BLE001 - whatever it is, it was not done; its text may hold a URL
            done = False
        with self._lock:
            self._open[name] -= 1
            results[name] = "" if done else "was refused"


_SCHEMES: Final = ("https://", "http://")
_AGENT: Final = {"User-Agent": "backupd"}


@dataclass(frozen=True, slots=True)
class HeartbeatUrl:
    """One URL; whoever knows it can keep the other side quiet, so it is a secret."""

    name: str
    """Where the configuration names it."""
    url: str = field(repr=False)

    def beat(self, seconds: float) -> bool:
        """Whether the other side said that it heard. Raises OSError, ValueError."""
        request = urllib.request.Request(self.url, headers=_AGENT)  # noqa: S310 - `is_known` looked at the scheme
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310 - the same
            return bool(200 <= answer.status < 300)


def is_known(url: str) -> bool:
    """Whether it is a URL that can be asked for."""
    return url.startswith(_SCHEMES)
