"""Spans of time as proofs and reasons write them. Pure."""

from __future__ import annotations

from datetime import timedelta

_UNITS = (
    (timedelta(days=1), "d"),
    (timedelta(hours=1), "h"),
    (timedelta(minutes=1), "min"),
    (timedelta(seconds=1), "s"),
)


def spell(span: timedelta) -> str:
    """`30 d`, `36 h`, `90 min`, `-51 d`: exact, in the largest unit that goes in without a rest."""
    for unit, name in _UNITS:
        if span % unit == timedelta():
            return f"{span // unit} {name}"
    return f"{span.total_seconds():.6f}".rstrip("0") + " s"


def spell_about(span: timedelta) -> str:
    """For what was measured: days and hours, whole and rounded up, as `3 d 2 h` or `35 d`."""
    hours = -(-span // timedelta(hours=1))
    days, rest = divmod(hours, 24)
    told = [f"{number} {name}" for number, name in ((days, "d"), (rest, "h")) if number]
    return " ".join(told) or "0 h"
