"""The error of a table that cannot be locked at once. This module is light: worker processes import it, too."""

from __future__ import annotations

from backupd.errors import SourceBusyError


def busy_table(oid: int | None) -> SourceBusyError:
    """Make the error of a table that cannot be locked at once.

    The table is given by its oid, as its name may be data; None where it is unknown.
    """
    if oid is None:
        return SourceBusyError("a table could not be locked", hint="The next attempt may find the tables free.")
    return SourceBusyError(
        f"somebody else has locked the table with oid {oid}, or waits for its lock",
        hint=f"`SELECT {oid}::regclass` in the database names it. Once the migration is over, a backup can succeed.",
    )
