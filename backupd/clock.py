"""The only module that reads the time or sleeps; all others are given a clock as an argument."""

from __future__ import annotations

import ctypes
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of time: of this machine, or of a test."""

    def now(self) -> datetime:
        """Return the time of the wall clock, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back, for durations and deadlines."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


_UNSYNCHRONISED = 5
"""What `adjtimex` answers while nothing keeps the kernel's clock right."""
_TIMEX_BYTES = 1024
"""More than any system's `struct timex`; all zero, the call changes nothing."""


def is_synchronised() -> bool | None:
    """Say whether the kernel knows of something that keeps this machine's clock right; None where it does not say."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else bool(state != _UNSYNCHRONISED)
