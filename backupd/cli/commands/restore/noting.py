"""Telling the ledger of restores, on a keeper."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from backupd.model.ids import RegionName
    from backupd.model.stored.ledger import Restored
    from backupd.trace import Trace
    from backupd.wiring import Wiring


def noting(wiring: Wiring, region: RegionName, trace: Trace) -> Callable[[Restored], None] | None:
    """What writes into the ledger, on a keeper."""
    if wiring.config.keeper is None:
        return None

    def note(event: Restored) -> None:
        with wiring.keeper(region, trace) as keeper:
            keeper.book.append(lambda _: [event])

    return note
