"""What `quota` prints, as bytes. Pure."""

from __future__ import annotations

import re

from backupd.store.base import Space

_UNITS = {"": 1024, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
"""Without a unit `quota` counts blocks of 1 KiB."""
_LINE = re.compile(r"(?m)^\s*\S+[ \t\n]+([\d.]+)([KMGT]?)\*?[ \t]+([\d.]+)([KMGT]?)[ \t]+([\d.]+)([KMGT]?)(?=\s|$)")


def parse_quota(output: bytes) -> Space | None:
    """The tightest of the limits in lines of file system, usage, soft and hard limit; None when there is none.

    The soft limit counts where there is one: going on above it is borrowed time.
    """
    text = output.decode("utf-8", "replace")
    spaces = []
    for usage, usage_unit, soft, soft_unit, hard, hard_unit in _LINE.findall(text):
        limits = [limit for limit in (_bytes(soft, soft_unit), _bytes(hard, hard_unit)) if limit]
        if limits:
            spaces.append(Space(free=max(0, min(limits) - _bytes(usage, usage_unit)), total=min(limits)))
    return min(spaces, key=lambda space: space.free, default=None)


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * _UNITS[unit])
