"""Conditions to check before anything is removed: the clocks agree, and the number of removals is expected."""

from __future__ import annotations

from datetime import datetime

from backupd.errors import RefusedError
from backupd.model.text import stamp
from backupd.operations.keeper.types import Keeper
from backupd.operations.ledger import require_not_behind
from backupd.store.server import server_time


def check_clock(keeper: Keeper, store: str) -> datetime:
    """Return the time as it was compared; raises RefusedError when it is behind the ledger, or not the store's.

    What is judged by its age is judged by this time: the clock may be set meanwhile.

    A clock that is ahead would destroy before its time what nobody can bring back. Raises BusyError when another keeper
    holds the lease on the store, where one was asked for.
    """
    if store in keeper.leases:
        keeper.leases[store].require()
    now = keeper.clock.now()
    require_not_behind(keeper.book.chain, now)
    theirs = server_time(keeper.stores[store].store, keeper.random)
    now = keeper.clock.now()
    if abs(theirs - now) > keeper.rules.clock_tolerance:
        raise RefusedError(
            f"the clock of store '{store}' says {stamp(theirs)}, this machine's {stamp(now)}",
            hint="Set the one that is wrong; nothing was removed, and nothing will be until they agree.",
        )
    return now


def check_plan(made: datetime, keeper: Keeper) -> None:
    """Raise RefusedError for a plan dated in the future: the clock was wrong when it was made."""
    now = keeper.clock.now()
    if made > now:
        raise RefusedError(
            f"the plan was made at {stamp(made)}, and now it is {stamp(now)}",
            hint="The clock was wrong then; plan again. Nothing was removed.",
        )


def check_number(number: int, most: int, confirmed: int | None, what: str) -> None:
    """Raise RefusedError when more would be removed than is usual, unless that very number was confirmed."""
    if number > most and confirmed != number:
        raise RefusedError(
            f"{number} {what} would be removed in one run, and the most without a second word is {most}",
            hint=f"Look at them with --dry-run; if they are right, say --confirm {number}.",
        )
