"""Rows compared as sets, where a restore may put them into other partitions than they were in at the source.

A set is known by the number of its rows and the sum of their digests, in any order. Columns are taken in the order of
their names: partitions of one table may have them in different ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backupd.errors import DamageError
from backupd.model.inventory import TableName

_MODULUS = 1 << 256


@dataclass(slots=True)
class RowSet:
    """Rows in any order."""

    rows: int = 0
    total: int = 0
    """Sum of the rows' digests."""

    def add(self, other: RowSet) -> None:
        self.rows += other.rows
        self.total = (self.total + other.total) % _MODULUS

    def judge(self, found: RowSet) -> str | None:
        """Return the code of the difference to what was found; None when there is none."""
        if found.rows != self.rows:
            return "rows-lost" if found.rows < self.rows else "rows-added"
        return None if found.total == self.total else "rows-changed"


SetsByTenant = Mapping[TableName, Mapping[str | None, RowSet]]
"""The rows that each tenant (None for nobody) must have in all partitions below a table."""


class RowSetReader:
    """Makes a set of a stream of COPY text."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._order = sorted(range(len(columns)), key=columns.__getitem__)
        self._rest = b""
        self.found = RowSet()

    def feed(self, piece: bytes | memoryview) -> None:
        lines = (self._rest + bytes(piece)).split(b"\n")
        self._rest = lines.pop()
        total = 0
        for line in lines:
            values = line.split(b"\t")
            ordered = b"\t".join([values[place] for place in self._order])
            total += int.from_bytes(hashlib.sha256(ordered).digest())
        self.found.add(RowSet(len(lines), total))

    def finish(self) -> RowSet:
        """Return the set. Raises DamageError when the stream ended within a row."""
        if self._rest:
            raise DamageError("the rows of a partition end within a row")
        return self.found
