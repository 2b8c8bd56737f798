"""Durations, sizes and rates as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

_SECONDS: dict[str, float] = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES: dict[str, int] = {
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", 1)},
}
_NUMBER_UNIT = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]+)\s*")


def parse_duration(text: str) -> timedelta:
    """The time span of `28d`, `90s`, `1.5h`, `500ms`, `2w`; `m` is minutes.

    Raises ValueError with a sentence for people.
    """
    number, unit = _split(text, "a duration", "28d, 12h, 30s")
    if unit not in _SECONDS:
        raise ValueError(f"has no known unit of time; write one of {', '.join(_SECONDS)}, as in 28d")
    return timedelta(seconds=number * _SECONDS[unit])


def spell_duration(span: timedelta) -> str:
    """The shortest text that `parse_duration` reads as `span`, to the millisecond."""
    seconds = round(span.total_seconds(), 3)
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def parse_size(text: str) -> int:
    """The bytes of `2GiB`, `500MB`, `65536B`; `MB` is 10^6 and `MiB` 2^20.

    Raises ValueError with a sentence for people.
    """
    number, unit = _split(text, "a size", "2GiB, 500MB")
    if unit not in _BYTES:
        raise ValueError("has no known unit of size; write B, KB, MB, GB, TB or KiB, MiB, GiB, TiB, as in 2GiB")
    return round(number * _BYTES[unit])


def parse_bandwidth(text: str) -> int:
    """The bytes per second of `20MB/s` or `160Mbit/s`; 0 for `unlimited`.

    Raises ValueError with a sentence for people.
    """
    if text.strip() == "unlimited":
        return 0
    amount, slash, second = text.rpartition("/")
    if not slash or second.strip() != "s":
        raise ValueError("is not a bandwidth; write an amount per second, as in 20MB/s, or unlimited")
    number, unit = _split(amount, "a bandwidth", "20MB/s, 160Mbit/s, unlimited")
    per_unit = _BYTES.get(f"{unit[:-3]}b", 0) / 8 if unit.endswith("bit") else _BYTES.get(unit, 0)
    rate = round(number * per_unit)
    if rate < 1:
        raise ValueError("is not a bandwidth; write an amount per second, as in 20MB/s, or unlimited")
    return rate


def _split(text: str, what: str, examples: str) -> tuple[float, str]:
    match = _NUMBER_UNIT.fullmatch(text)
    if match is None:
        raise ValueError(f"is not {what}; write a number and a unit, as in {examples}")
    return float(match[1]), match[2].lower()
