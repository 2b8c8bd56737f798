"""Values as COPY's text format writes them (PostgreSQL documentation, COPY, File Formats)."""

from __future__ import annotations

import re
from typing import Final

NULL: Final = b"\\N"
"""The text of a NULL value; a real value of the same characters is written escaped."""
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_PLAIN: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


_CODECS: Final = {
    "SQL_ASCII": "utf-8",
    "EUC_CN": "gb2312",
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
    **{f"LATIN{number}": f"iso8859-{part}" for number, part in enumerate((1, 2, 3, 4, 9, 10, 13, 14, 15, 16), 1)},
    **{f"ISO_8859_{part}": f"iso8859-{part}" for part in (5, 6, 7, 8)},
    **{f"WIN{page}": f"cp{page}" for page in (866, 874, 1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258)},
}
"""Python's names of PostgreSQL's encodings, where they are not the same."""


def unescape(text: bytes, encoding: str = "UTF8") -> str:
    """Return the value that COPY wrote as `text` in an encoding of PostgreSQL's; it must not be `NULL`.

    Raises ValueError for bytes that stand for no text there.
    """
    plain = _ESCAPED.sub(lambda match: _PLAIN.get(match[1], match[1]), text)
    try:
        return plain.decode(_CODECS.get(encoding, encoding))
    except LookupError:
        return plain.decode("ascii")
