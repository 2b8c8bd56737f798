"""Sizes and spans of time as people read them. Pure."""

from __future__ import annotations

from datetime import timedelta


def human_bytes(count: float) -> str:
    """`742 MB`, `1.3 GB`: three digits, powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def human_duration(span: timedelta) -> str:
    """`4.2 s`, `3 min 20 s`, `2 h 5 min`, `28 d`."""
    seconds = span.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d"
