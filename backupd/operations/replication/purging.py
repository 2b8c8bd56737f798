"""What is purged while it is copied: the ledger is read again, and what came too late goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.catalog.memory.census import KeyringCache
from backupd.operations.keeper.removing.purge import check_shrunk, clear, shred
from backupd.planning.deletion.explained import explained

if TYPE_CHECKING:
    from backupd.model.ids import GenerationId, Pseudonym
    from backupd.operations.replication.values import Copying


class Purges:
    """Purges of one generation's segments, on whatever store. For one thread."""

    def __init__(self, copying: Copying, generation: GenerationId) -> None:
        self._copying = copying
        self._generation = generation
        self._before: frozenset[Pseudonym] = self._told()
        """Of these nothing was ever copied in this run."""

    def read(self) -> frozenset[Pseudonym]:
        """Every segment that is purged, or being so, by the ledger as it is now on all stores that can be reached."""
        self._copying.keeper.book.sync()
        return self._told()

    def catch_up(self) -> frozenset[Pseudonym]:
        """As `read`, after removing from the target what was purged since the beginning."""
        purged = self.read()
        if late := purged - self._before:
            keeper, target = self._copying.keeper, self._copying.target
            refs = [(self._generation, segment) for segment in late]
            with KeyringCache.opened(keeper.census(target), keeper.repository) as census:
                check_shrunk(keeper.book, target, census, self._copying.sink)
                shred(keeper, target, census, refs)
            clear(self._copying.sink, refs)
            keeper.book.give(target)
        return purged

    def _told(self) -> frozenset[Pseudonym]:
        entries = self._copying.keeper.book.chain.entries()
        return explained(entries, None).purged_in(self._generation)
