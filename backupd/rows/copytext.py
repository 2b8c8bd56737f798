"""Values as COPY's text format writes them (PostgreSQL documentation, COPY, File Formats)."""

from __future__ import annotations

import re
from typing import Final

NULL: Final = b"\\N"
"""The text of a NULL value; a real value of the same characters is written escaped."""
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_PLAIN: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def unescape(text: bytes) -> str:
    """Return the value that COPY wrote as `text`, which must not be `NULL`."""
    return _ESCAPED.sub(lambda match: _PLAIN.get(match[1], match[1]), text).decode()
