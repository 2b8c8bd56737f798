"""JSON read from a store or a file: one way to decode it, one error for all that can be wrong with it."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

T = TypeVar("T")

_VALUE = re.compile(r"(Invalid (?:enum )?value) .*?( - at `\$[\w.\[\]…]*`)?\Z", re.DOTALL)


class UnreadableError(ValueError):
    """Not JSON, or not of the shape asked for. Callers say what it was that they read."""


def from_json(text: bytes, shape: type[T]) -> T:
    """`text` as a value of `shape`.

    Raises UnreadableError; its message holds field names and types, never a value.
    """
    try:
        # Decoded first because msgspec does not look into strings it skips.
        return msgspec.json.decode(text.decode(), type=shape)
    except msgspec.ValidationError as error:
        # Its own words quote the value of a tag or an enum.
        raise UnreadableError(_VALUE.sub(r"\1\2", str(error))) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError("not readable as JSON") from error
