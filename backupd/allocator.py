"""How this process takes memory from the system: what is freed is given back, however many threads there are."""

from __future__ import annotations

import ctypes
from typing import Final

_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
"""Numbers of glibc's malloc.h."""
_LARGE: Final = 128 << 10
"""glibc's own first value. Set, it stays; else it grows with what is freed, and blocks of half a megabyte then lie in
the heap for good, between others."""


def restrain() -> None:
    """One arena, and large blocks outside of it; does nothing where the C library is another. To be called first."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_ARENA_MAX, 1)
    mallopt(_MMAP_THRESHOLD, _LARGE)
