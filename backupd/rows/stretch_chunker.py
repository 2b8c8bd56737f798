"""The chunker of a stretch: consecutive extents of one table in one stream, whose rows begin with the number of theirs.

Each extent is cut as if it were read by itself, so that it has the same chunks whichever way it is read.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

from backupd.rows.tenant_chunker import SHORTEST_CHUNK, Chunker, Cut, TenantBuffer


class RowsOutOfOrderError(Exception):
    """A row of an earlier extent came after one of a later one."""


class Border(NamedTuple):
    """The beginning of another extent among the cuts of one block."""

    cuts: int
    """The cuts before it."""
    extent: int


class StretchChunker(Chunker):
    """The chunker of a routed stretch. `feed` and `finish` raise RowsOutOfOrderError."""

    def __init__(self, *, mask: int, seed: int, limit: int) -> None:
        super().__init__(routed=True, mask=mask, seed=seed, limit=limit)
        self._split = self._marked
        self._tabs = 2
        self._mark = b"0"
        self.borders: list[Border] = []
        """The borders in what `feed` returned last."""

    def feed(self, block: bytes) -> list[Cut]:
        self.borders = []
        return super().feed(block)

    def _marked(self, lines: list[bytes], cuts: list[Cut]) -> None:
        buffers, bits, seed, extent = self._buffers, self._mask, self._seed, self._mark
        for line in lines:
            mark, tenant, row = line.split(b"\t", 2)
            if mark != extent:
                self._pass(mark, cuts)
                extent = mark
            try:
                buffer = buffers[tenant]
            except KeyError:
                buffer = buffers[tenant] = TenantBuffer(tenant)
            rows = buffer.rows
            rows.append(row)
            if not crc32(row, seed) & bits and len(rows) >= SHORTEST_CHUNK:
                self._cut(buffer, cuts)

    def _pass(self, mark: bytes, cuts: list[Cut]) -> None:
        """End all chunks: the rows of another extent follow."""
        if int(mark) < int(self._mark):
            raise RowsOutOfOrderError
        cuts += self._rest()
        self._buffers.clear()
        self._mark = mark
        self.borders.append(Border(len(cuts), int(mark)))

    def _counted(self, tenant: bytes | None, size: int, rows: int) -> int:
        return super()._counted(tenant, size, rows) + (len(self._mark) + 1) * rows

    def _begin_long_row(self, head: bytes, cuts: list[Cut]) -> None:
        mark, _, rest = head.partition(b"\t")
        if mark != self._mark:
            self._pass(mark, cuts)
        super()._begin_long_row(rest, cuts)
