"""Restore one snapshot into a new database:

1. Read the ledger; choose the snapshot, and check its record. What was purged since is left out.
2. Open the segments' keys; read every segment's manifest; plan.
3. Check the target: the name is free, the roles are there, programs fit. Nothing is changed before this.
4. Create the missing roles, if asked to, and the database, under a temporary name.
5. Schema up to the tables; large objects; rows, checked as they pass; values of sequences.
6. Indexes, constraints, triggers; materialized views; statistics, if asked to.
7. Owner, privileges and settings of the database, and its final name.

After any failure from step 4 on, the database under the temporary name is dropped. A restore that is killed leaves it
there, and the next one names it. Into plain files it is the same, with a folder in place of the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, UsageError
from backupd.model.ledger import Restored
from backupd.model.text import counted
from backupd.operations.ledger.history import LedgerHistory
from backupd.operations.phases import Phases
from backupd.operations.restore.choose import choose, naming, read_history
from backupd.operations.restore.contents import SnapshotContents
from backupd.operations.restore.database import DatabaseBuilder
from backupd.operations.restore.files import FolderWriter
from backupd.operations.restore.types import RestoreReport, Snapshot
from backupd.planning.restore import RestorePlan
from backupd.postgres.target.pg_restore import FOREIGN_KEYS, SchemaArchive, joined_schema
from backupd.repository.repository import Repository
from backupd.trace import Trace, Warned

if TYPE_CHECKING:
    from backupd.operations.restore.opened_choice import OpenedChoice
    from backupd.operations.restore.types import RestoreEnvironment, RestoreRequest


def restore(
    request: RestoreRequest,
    repository: Repository,
    environment: RestoreEnvironment,
    history: LedgerHistory | None = None,
) -> RestoreReport:
    """Restore one snapshot.

    Returns when the database has its final name. `history` is the ledger to obey; None for the store's. Raises
    UsageError when no snapshot fits, RefusedError when the target does not or nothing is left to restore,
    KeyRefusedError, DamageError, also for a ledger that cannot be followed, BusyError when a keeper removed what was
    needed meanwhile, the store's errors, SourceError when PostgreSQL refuses something, and BrokenKeysError when rows
    refer to what is left out.
    """
    phases = Phases(environment.clock, environment.trace, request.label)
    with ExitStack() as stack:
        with phases.phase("planning"):
            history = history or read_history(repository, environment)
            choice = choose(request, repository, environment, history)
            stack.enter_context(history.beside_keepers())
            stack.enter_context(naming(choice.snapshot))
            contents = stack.enter_context(SnapshotContents(repository, choice, request.readers))
            plan = contents.plan(request.selection, exact=choice.exact)
            _require_rows(request, plan)
            head, files, lacking = contents.schema(plan)
        without = frozenset[str]() if request.selection.closed else FOREIGN_KEYS
        with joined_schema(head, files, without=without, changes=request.changes) as schema:
            left_out = schema.left_out
            del files, head
            _warn_of_keys(request, choice, schema, environment.trace)
            _warn_of_objects(lacking, environment.trace)
            snapshot = _snapshot(choice, contents, plan, schema)
            builder = FolderWriter if request.folder is not None else DatabaseBuilder
            built = builder(request, environment, phases, snapshot).run()
    return RestoreReport(
        snapshot=choice.snapshot,
        exported=choice.record.exported,
        label=request.label,
        segments=len(choice.segments),
        purged=choice.purged,
        aged=choice.aged,
        unselected=choice.unselected,
        foreign_keys=left_out,
        exact=choice.exact,
        tables=len(plan.tables),
        rows=plan.rows,
        bytes=plan.bytes,
        verified=plan.spans + contents.verified,
        roles_created=built.roles,
        broken_keys=built.broken_keys,
        unfilled_views=built.unfilled_views,
        left_out=built.left_out,
        phases=phases.taken(),
        seconds=phases.seconds(),
        noted=note_restore(choice, request, environment),
    )


def _snapshot(choice: OpenedChoice, contents: SnapshotContents, plan: RestorePlan, schema: SchemaArchive) -> Snapshot:
    record = choice.record
    return Snapshot(
        contents,
        plan,
        schema,
        choice.snapshot,
        record.exported,
        record.server,
        tuple(map(choice.name_of, choice.segments)),
        choice.exact,
    )


def _warn_of_keys(request: RestoreRequest, choice: OpenedChoice, schema: SchemaArchive, trace: Trace) -> None:
    """Say before a row is loaded that a foreign key may stop the restore at its end, and how not to let it."""
    left_out = {"purged": choice.purged, "expired": choice.aged, "not asked for": choice.unselected}
    told = ", ".join(f"{counted(count, 'segment')} {why}" for why, count in left_out.items() if count)
    keys = sum(entry.description in FOREIGN_KEYS for entry in schema.keys)
    if keys and told and request.folder is None and not request.without_broken_keys:
        trace.emit(
            Warned(
                f"rows are left out ({told}): if others refer to them by one of {counted(keys, 'foreign key')}, this "
                "restore stops at its end",
                hint="To have such keys hold for new rows only, stop it now and give --without-broken-keys.",
            )
        )


_NAMED = 5
_NOT_NAMED = ("ACL", "COMMENT", "SECURITY LABEL")
_OF_OTHERS = ("SCHEMA", "USER MAPPING", "PUBLICATION TABLES IN SCHEMA")
"""Kinds of objects whose names hold that of a schema or role, which may be a tenant's."""


def _warn_of_objects(lacking: Sequence[tuple[str, str]], trace: Trace) -> None:
    """Say which objects cannot be made without others that were purged or not asked for, as views over both."""
    named = [kind if kind in _OF_OTHERS else f"{kind} {name}" for kind, name in lacking if kind not in _NOT_NAMED]
    if named:
        more = [f"{len(named) - _NAMED} more"] if len(named) > _NAMED else []
        trace.emit(
            Warned(
                f"left out, as they need what is left out: {', '.join([*named[:_NAMED], *more])}",
                hint="What was purged cannot come back: have the application define them without it. What was not "
                "asked for comes with a restore of everything.",
            )
        )


def _require_rows(request: RestoreRequest, plan: RestorePlan) -> None:
    patterns = request.selection.tables
    if patterns and not plan.tables:
        raise UsageError(
            "no table of the snapshot fits what is asked for, or none has rows", hint=_pattern_hint(patterns)
        )
    counted_rows = ((schema, table) for schema, table, _ in plan.facts.tables)
    filled = ((table.schema, table.name) for table in plan.tables)
    unfit = request.selection.unfit({*counted_rows, *filled, *plan.empty})
    if unfit:
        raise UsageError(
            f"no table of the snapshot fits {len(unfit)} of the {len(patterns)} patterns for tables",
            hint=_pattern_hint(unfit),
        )


def _pattern_hint(patterns: Sequence[str]) -> str:
    """Return what to do about patterns that fit nothing. No table is named: its schema may be a tenant's name."""
    bare = next((pattern for pattern in patterns if "." not in pattern), None)
    example = f'"*.{bare}" fits a table of that name in any schema' if bare else 'as in "public.note" or "public.*"'
    return f"Patterns are over schema.table: {example}. `backupd ls` lists what a snapshot holds."


def note_restore(choice: OpenedChoice, request: RestoreRequest, environment: RestoreEnvironment) -> bool:
    """Append the restore to the ledger.

    Returns whether that was done. The database exists by now, so a ledger that cannot be written is a warning.
    """
    if environment.note is None:
        return False
    try:
        environment.note(Restored(snapshot=choice.snapshot, purpose=request.purpose, override=environment.override))
    except BackupdError as error:
        environment.trace.emit(Warned(f"this restore is not recorded in the ledger: {error.message}", hint=error.hint))
        return False
    return True
