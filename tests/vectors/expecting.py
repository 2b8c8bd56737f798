"""Expected results of cases, and the changes made to pieces."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from case import Case
from crafting import Change, text

OK = {"expect": "ok"}


def damage(message: str) -> dict[str, str]:
    return {"expect": "DamageError", "message": message}


def refused(message: str) -> dict[str, str]:
    return {"expect": "RefusedError", "message": message}


def with_field(name: str, value: Any) -> Change:
    return lambda fields: {**fields, name: value}


def without(name: str) -> Change:
    return lambda fields: {key: value for key, value in fields.items() if key != name}


def moved(*order: int) -> Change:
    return lambda items: [items[at] for at in order]


def block(at: int, field: int, value: int) -> Change:
    """A listing with one number of one block replaced."""

    def change(listing: list[list[int]]) -> list[list[int]]:
        listing[at][field] = value
        return listing

    return change


def number(at: int, value: int) -> Change:
    """Four bytes at `at` (from the start) replaced."""
    return lambda data: data[:at] + value.to_bytes(4, "little") + data[at + 4 :]


def case(
    name: str, about: str, reader: str, expected: dict[str, str], fields: dict[str, str], data: bytes, plain: bytes
) -> Case:
    shown = {"about": about, "reader": reader, **expected, **fields}
    if expected is OK:
        shown["sha256"] = hashlib.sha256(plain).hexdigest()
    return Case(name, shown, data)


def bent(line: str, field: str | int) -> str:
    """A line of JSON with a bit flipped in one of its members, which is base64."""
    value = json.loads(line)
    data = bytearray(base64.b64decode(value[field]))
    data[0] ^= 1
    value[field] = text(bytes(data))
    return json.dumps(value)
