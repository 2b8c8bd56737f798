"""The numbering of a database's definitions, which the index keeps for a generation."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from backupd.operations.backup.generation import keyed_tag
from backupd.planning.incremental.steady_numbers import Numbering, SteadyNumber, steady_numbers

if TYPE_CHECKING:
    from backupd.operations.backup.collect import RunTarget

_MEMBER = struct.Struct("<16sII")
"""A member's tag, its number and its place."""


def numbering_of(onto: RunTarget, database: str, what: str) -> Numbering:
    """Return a function that numbers a list of a database as in the last run; the index gets tags and no names."""

    def number(keys: Sequence[bytes]) -> list[SteadyNumber]:
        generation, index = onto.generation, onto.index
        name = keyed_tag(generation, "numbering", database, what)
        tags = [keyed_tag(generation, "member", database, what, key.decode("latin-1"))[:16] for key in keys]
        before = index.numbering(name)
        whole = len(before) - len(before) % _MEMBER.size
        known = {tag: SteadyNumber(*numbers) for tag, *numbers in _MEMBER.iter_unpack(before[:whole])}
        found = steady_numbers(tags, known)
        after = b"".join(_MEMBER.pack(tag, *numbers) for tag, numbers in zip(tags, found, strict=True))
        if after != before:
            index.set_numbering(name, after)
        return found

    return number
