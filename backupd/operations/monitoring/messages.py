"""Messages about alarms as text, requests to heartbeat URLs, and attempts to send with a bound on their time.

A message has the worst alarm in its title, and one paragraph with advice for each alarm. A heartbeat URL is a dead
man's switch: it is requested as long as all is well, and its service calls people when no request comes.
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
    """One message to people, in plain text."""

    title: str
    body: str
    severity: str
    """`error`, `warning`, `over`, or `test`."""


def test_message(machine: str) -> Message:
    """Return the message that shows whether a target is reached; it reports nothing."""
    return Message(
        f"backupd on {machine}: test",
        "This is a test by `backupd doctor --notify`: messages of backupd on this machine arrive here.",
        "test",
    )


def compose(machine: str, notices: Sequence[Notice], now: datetime) -> Message:
    """Write one message of all these notices, which come worst first."""
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
        return f"RESOLVED ({where}, {alarm.code}). It was: {alarm.message}."
    since = human_duration(max(timedelta(), now - notice.since))
    still = f" since {since}" if notice.about is NoticeKind.STILL else ""
    return f"{alarm.severity.upper()}{still} ({where}, {alarm.code}): {alarm.message}. {alarm.hint}"


_STUCK: Final = 8
"""Attempts under way to one receiver, above which it is left alone until one of them returns."""


class SendAttempts:
    """Attempts to send to several receivers at once, each in a thread of its own.

    One thread makes them; an attempt that never returns is left behind when the process ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def make(self, tasks: Mapping[str, Callable[[], bool]], seconds: float) -> dict[str, str]:
        """Run all tasks for at most so many seconds, and return why a task failed, by its name."""
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
    """A URL to request as long as all is well. Its knowledge is enough to keep the service quiet: it is a secret."""

    name: str
    """The place in the configuration that names it."""
    url: str = field(repr=False)

    def request(self, seconds: float) -> bool:
        """Request the URL, and say whether it answered with success. Raises OSError, ValueError."""
        request = urllib.request.Request(self.url, headers=_AGENT)  # noqa: S310 - `is_known` looked at the scheme
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310 - the same
            return bool(200 <= answer.status < 300)


def is_known(url: str) -> bool:
    """Say whether a text is a URL that can be requested."""
    return url.startswith(_SCHEMES)
