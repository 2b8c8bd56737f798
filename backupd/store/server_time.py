"""What time it is for the store: guards of destructive work compare it with ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime

from backupd.errors import RefusedError, StoreError
from backupd.model.instants import stamp
from backupd.store.base import Store, put_document
from backupd.store.names import temporary


def clocks_differ(store: str, theirs: datetime, ours: datetime) -> RefusedError:
    """The error for a clock that cannot be trusted, on one of the two sides."""
    return RefusedError(
        f"the clock of store '{store}' says {stamp(theirs)}, this machine's {stamp(ours)}",
        hint="Set the one that is wrong; nothing was done, and nothing will be until they agree.",
    )


def server_time(store: Store, random: Callable[[int], bytes]) -> datetime:
    """The store's clock at a moment during this call, in UTC, cut to the second by some stores.

    Seen by the time of a small object made in `tmp/` and removed again, unless the store lets this account remove
    nothing. Raises StoreError also when that object cannot be found again.
    """
    name, mark = temporary(random), random(16)
    put_document(store, name, mark)
    try:
        seen = store.stat(name)
    finally:
        with contextlib.suppress(StoreError):
            store.remove(name)
    if seen is None:
        raise StoreError(
            "the store does not show an object that was just put there, so it cannot be asked for its time",
            hint="Check whether something else removes what lies in the store's tmp folder.",
        )
    return seen.modified
