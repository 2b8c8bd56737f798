"""The things that a drill's findings count, by name: for a person with an identity, and never for a report or a log."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from backupd.model.report import CheckName

_MOST = 200
"""Findings of one code that are named: the names are the word of a restored server, which could go on forever."""
_PASSWORD = re.compile(r"PASSWORD '(?:[^']|'')*'")


@dataclass(frozen=True, slots=True)
class NamedFinding:
    """One thing that a finding of a report counts."""

    check: CheckName
    code: str
    what: str = field(repr=False)
    """What it is, by its names: a table and the tenant, an index, a role's statement."""
    details: tuple[str, ...] = field(default=(), repr=False)
    """Lines on how it differs: `- ` before what the snapshot has, `+ ` before what was restored."""


class FindingNames:
    """The names of one drill's findings, while it runs; at most a few hundred of each code."""

    def __init__(self) -> None:
        self._found: list[NamedFinding] = []
        self._counts: Counter[tuple[CheckName, str]] = Counter()

    def add(self, check: CheckName, code: str, what: str, details: Iterable[str] = ()) -> None:
        """Keep the name of what was found; beyond a number of them it is only counted."""
        self._counts[check, code] += 1
        if self._counts[check, code] <= _MOST:
            self._found.append(NamedFinding(check, code, _text(what), tuple(map(_text, details))))

    def listed(self) -> tuple[NamedFinding, ...]:
        """Return what was found in the order of the checks; the last of a code says how many more there were."""
        more = [
            NamedFinding(check, code, f"and {count - _MOST} more")
            for (check, code), count in self._counts.items()
            if count > _MOST
        ]
        order = {key: place for place, key in enumerate(self._counts)}
        return tuple(sorted([*self._found, *more], key=lambda one: (one.check.number, order[one.check, one.code])))


def _text(name: str) -> str:
    """Return a name with bytes that are no text spelt out, as databases in SQL_ASCII have them."""
    return name.encode(errors="backslashreplace").decode()


def without_password(statement: str) -> str:
    """Return a role's statement with its password left out."""
    return _PASSWORD.sub("PASSWORD '…'", statement)
