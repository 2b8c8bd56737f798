"""The lines of records: each record names the one that its writer wrote before.

A thief of a node's key signs records that follow an honest one, and the honest writer's next one follows it, too.
Nobody knows which of two such lines is true, so nothing of one may drive out anything of the other. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from backupd.model.ids import SnapshotName

Follows: TypeAlias = Mapping[SnapshotName, Sequence[SnapshotName]]
"""By record, those before it by its own word, newest first; of these, later ones may never have come."""
_TIME = len("20260102T030405Z")
_MOST_LINES = 500
"""Nodes and lost state folders begin a few. Somebody who makes more makes work and takes memory."""


def record_lines(there: Follows, gone: Follows) -> tuple[frozenset[SnapshotName], ...]:
    """Return every line of the records that are there: from one that none follows back to the first.

    `gone` are records that were seen earlier. Where a record follows one that nobody here ever saw, its line goes on
    with the newest of that one's time. Of too many lines to look at, each record is a line: no rule then gives its
    place to another, and all go when no rule keeps any of their time.
    """
    known, names = {**gone, **there}, sorted(there)
    before = {name: _before(name, there, known, names) for name in names}
    followed = set(before.values())
    if len(there) - len(followed & there.keys()) > _MOST_LINES:
        return tuple(frozenset({name}) for name in names)
    found: list[frozenset[SnapshotName]] = []
    covered: set[SnapshotName] = set()
    # Those that follow each other in a circle have no end; nobody's writer makes such.
    for end in (*(name for name in names if name not in followed), *names):
        if end in covered:
            continue
        line: set[SnapshotName] = set()
        one: SnapshotName | None = end
        while one is not None and one not in line:
            line.add(one)
            one = before[one]
        covered |= line
        found.append(frozenset(line))
    return tuple(found)


def _before(name: SnapshotName, there: Follows, known: Follows, names: Sequence[SnapshotName]) -> SnapshotName | None:
    """Return the nearest record before one that is there; None for the first of its line."""
    seen, at = {name}, name
    while True:
        following = next((one for one in known[at] if one in known and one not in seen), None)
        if following is None:
            break
        if following in there:
            return following
        seen.add(following)
        at = following
    lost = known[at][-1] if known[at] and known[at][-1] not in known else None
    if lost is None:
        return None
    until = min(bisect_left(names, SnapshotName(f"{lost[:_TIME]}-g")), bisect_left(names, name))
    return names[until - 1] if until else None
