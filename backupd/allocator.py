"""Set how glibc's malloc takes memory from the system, so that freed memory is given back however many threads run."""

from __future__ import annotations

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
"""Parameter numbers of `mallopt`, from glibc's malloc.h."""
LARGE: Final = 4 << 20
"""Bytes from which a block is mapped on its own, usually.

Once set, the threshold stays; otherwise glibc raises it as large blocks are freed. With glibc's initial 128 KiB
a restore of 700 MB took 1.3 s longer, for the page faults of its buffers, and no less memory (measured).
"""
KEPT: Final = 4 << 20
"""Free bytes at the heap's end that are kept for the next block: a page that was given back has to be cleared first."""


def restrain(large: int = LARGE) -> None:
    """Limit malloc to one arena, and map blocks of at least `large` bytes outside of it.

    Call this before any thread starts. It does nothing where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_ARENA_MAX, 1)
    mallopt(_MMAP_THRESHOLD, large)
    mallopt(_TRIM_THRESHOLD, KEPT)
