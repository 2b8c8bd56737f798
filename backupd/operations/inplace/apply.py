"""Write the changes in one transaction that checks itself before it is committed: step 5 of a restore in place."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from backupd.errors import SourceBusyError, SourceError
from backupd.model.text import counted
from backupd.operations.inplace.compare import InPlaceComparison, around, compare_rows
from backupd.operations.phases import Phases
from backupd.planning.inplace import ACCEPTABLE, ConflictKind
from backupd.postgres.inplace.compare import Digest, digest_others, digest_ours, digest_staged
from backupd.postgres.inplace.conflicts import References
from backupd.postgres.inplace.session import commit, open_transaction
from backupd.postgres.inplace.write import ChangeWriter, lock_rows, lock_tables, raise_sequences
from backupd.postgres.settings import SHORT_WAIT, milliseconds
from backupd.postgres.target import session

if TYPE_CHECKING:
    from backupd.operations.inplace.session import PreparedSession
    from backupd.operations.inplace.types import InPlaceRequest

_ATTEMPTS = 3
"""Attempts in all while somebody else is writing to the tenant's rows."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of one transaction; nothing was written when conflicts came up since the first comparison."""

    found: InPlaceComparison
    committed: bool
    others: int = 0
    """Rows of others in the written tables, whose digests were compared before and after."""
    sequences: int = 0


def apply(ready: PreparedSession, request: InPlaceRequest, phases: Phases, saved: InPlaceComparison | None) -> Applied:
    """Write, check, commit. `saved` is the comparison before a backup was made: the rows must still be the same.

    Raises SourceBusyError when the tenant is being written to, SourceError when PostgreSQL refuses something or a check
    fails; then nothing was changed.
    """
    for left in reversed(range(_ATTEMPTS)):
        try:
            return _attempt(ready, request, phases, saved)
        except SourceBusyError:
            if not left:
                raise
    raise AssertionError


def settled(ready: PreparedSession) -> bool:
    """Check whether the tenant's rows are the snapshot's, seen from outside any transaction.

    Raises psycopg's errors.
    """
    return all(
        digest_ours(ready.connection, pair) == digest_staged(ready.connection, pair) for pair in ready.pairs.values()
    )


def accepted(request: InPlaceRequest) -> frozenset[ConflictKind]:
    """Return the kinds of conflicts that need not stop the restore."""
    fires = {ConflictKind.TRIGGERS} if request.triggers_fire else set()
    return (request.accepted & ACCEPTABLE) | fires


def _attempt(
    ready: PreparedSession, request: InPlaceRequest, phases: Phases, saved: InPlaceComparison | None
) -> Applied:
    connection = ready.connection
    with ExitStack() as stack:
        with phases.phase("locking"):
            stack.enter_context(open_transaction(connection, partial(_lock, ready), request.lock_timeout, phases.clock))
        with phases.phase("comparing"):
            found = compare_rows(ready, request)
            _require_still(ready, request, found)
        if saved is not None and found.ours != saved.ours:
            raise SourceBusyError(
                "the tenant's rows were changed while they were backed up",
                hint="Keep the tenant from being written to, then start again.",
            )
        if found.blocked(accepted(request)):
            return Applied(found, committed=False)
        return _write(ready, phases, found)


def _lock(ready: PreparedSession) -> None:
    lock_tables(ready.connection, (pair.live.sql for pair in ready.pairs.values()), around(ready))
    for pair in ready.pairs.values():
        lock_rows(ready.connection, pair)


def _write(ready: PreparedSession, phases: Phases, found: InPlaceComparison) -> Applied:
    connection = ready.connection
    pairs = [ready.pairs[oid] for oid in found.order]
    # Triggers that fire may write anywhere.
    tables = [pair.live for pair in pairs] if found.quiet else list(ready.live.tables.values())
    with phases.phase("checking"):
        before = [digest_others(connection, table) for table in tables]
    with phases.phase("writing"):
        ChangeWriter(connection, pairs, quiet=found.quiet).write(found.changes)
    with phases.phase("checking"):
        _require_right(ready, before, [digest_others(connection, table) for table in tables])
    with phases.phase("writing"):
        sequences = raise_sequences(connection, pairs, _above(ready), ready.sequences)
        commit(connection)
    return Applied(found, committed=True, others=sum(one.rows for one in before), sequences=sequences)


def _require_still(ready: PreparedSession, request: InPlaceRequest, found: InPlaceComparison) -> None:
    """Raise SourceBusyError when somebody wrote to the rows between the snapshot of this transaction and its locks."""
    seen = References(ready.connection, ready.live, ready.pairs).watched(ready.connection)
    with session.connect(request.target, request.database) as other:
        # Without a limit, it would wait forever behind a session that waits for our own locks.
        other.execute(f"SET lock_timeout = '{milliseconds(SHORT_WAIT)}'".encode())
        now = {oid: digest_ours(other, pair) for oid, pair in ready.pairs.items()}
        if now != found.ours or References(other, ready.live, ready.pairs).watched(other) != seen:
            raise SourceBusyError(
                "the tenant's rows are being written to", hint="Keep the tenant from being written to meanwhile."
            )


def _require_right(ready: PreparedSession, before: list[Digest], after: list[Digest]) -> None:
    connection = ready.connection
    changed = sum(one != other for one, other in zip(before, after, strict=True))
    if changed:
        raise SourceError(
            f"rows of others changed in {counted(changed, 'table')}; nothing was written",
            hint="A trigger, a rule or a cascading foreign key reaches beyond the tenant.",
        )
    wrong = sum(digest_ours(connection, pair) != digest_staged(connection, pair) for pair in ready.pairs.values())
    if wrong:
        raise SourceError(
            f"the tenant's rows would not be those of the snapshot in {counted(wrong, 'table')}; nothing was written",
            hint="A trigger or a generated value changes rows as they are written.",
        )
    violated = References(connection, ready.live, ready.pairs).violated()
    if violated:
        raise SourceError(
            f"{counted(violated, 'row')} would refer to rows that do not exist; nothing was written",
            hint="Look for rows that referred to nothing before: a constraint that is not in force hides them.",
        )


def _above(ready: PreparedSession) -> dict[int, tuple[int, ...]]:
    by_name = ready.live.inventory.by_name()
    return {
        oid: tuple(by_name[name].oid for name in by_name[pair.live.name].parents) for oid, pair in ready.pairs.items()
    }
