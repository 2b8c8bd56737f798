"""The command `restore in-place`, which restores one tenant into the running database."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import output
from backupd.cli.commands.restore.options import (
    DatabaseArgument,
    PassfileOption,
    RegionArgument,
    RunningOption,
    SnapshotOptions,
    tenant_names,
)
from backupd.cli.commands.restore.task import configured, opened
from backupd.cli.consent import YesOption, is_asked, show_and_ask
from backupd.cli.run import Reply
from backupd.errors import RefusedError, UsageError
from backupd.model.ids import SHORT_NAME
from backupd.model.text import counted
from backupd.planning.inplace import ACCEPTABLE, HARMLESS, SENTENCES, ConflictKind

if TYPE_CHECKING:
    from backupd.cli.commands.restore.task import RestoreTask
    from backupd.operations.inplace import InPlaceReport, InPlaceRequest
    from backupd.operations.inplace.types import Before
    from backupd.postgres.connect import Source

_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/#-]{0,63}")
_TenantOption = Annotated[
    str,
    typer.Option(
        "--tenant", metavar="TENANT", show_default=False, help="Whose rows. - reads the name from standard input."
    ),
]


@dataclass(frozen=True, slots=True)
class InPlaceOptions:
    """The options that say how the rows of a running database are changed."""

    apply: Annotated[bool, typer.Option("--apply", help="Back up, then write, not only compare.")] = False
    yes: YesOption = False
    no_backup_before: Annotated[
        str | None,
        typer.Option(
            "--no-backup-before",
            metavar="REFERENCE",
            show_default=False,
            help="With --apply: do not back up first; where it is written down why, or what did.",
        ),
    ] = None
    accept: Annotated[
        list[str] | None,
        typer.Option(
            "--accept",
            metavar="CONFLICT",
            show_default=False,
            help="table-new, shared-row-changed or deferrable-key need not stop it; may be repeated.",
        ),
    ] = None
    triggers_fire: Annotated[bool, typer.Option("--triggers-fire", help="Let triggers and rules act.")] = False
    keys_file: Annotated[
        Path | None,
        typer.Option(
            "--keys-file",
            metavar="FILE",
            show_default=False,
            help="Write the keys of rows that differ into this new file.",
        ),
    ] = None
    passfile: PassfileOption = None


def in_place(
    ctx: typer.Context,
    region: RegionArgument,
    database: DatabaseArgument,
    tenant: _TenantOption,
    target: RunningOption,
    *,
    change: InPlaceOptions,
    options: SnapshotOptions,
) -> int:
    """Make one tenant's rows in a running database those of a snapshot.

    Without --apply they are compared only. With it the database is backed up, and then the rows are written in one
    transaction that leaves everybody else's as they are. On a terminal it shows the comparison before, and asks. What
    stands in the way is found before anything is written. Sequences are only raised, and stay so if it is not
    completed.

    \b
    Examples:
      backupd restore in-place be app --tenant acme --target "host=db1 dbname=app" --identity ops.identity
      backupd restore in-place be app --tenant acme --apply --target "host=db1 dbname=app" --identity ops.identity
    """
    from backupd.operations.inplace import InPlaceRequest, restore_in_place
    from backupd.wiring.context import tenancy_of
    from backupd.wiring.restore import restore_target

    context, place = configured(ctx, options, region, database)
    name = _one_tenant(tenant)
    source, running = restore_target(context, target, change.passfile)
    accepted = _kinds(change.accept or [])
    _require_reference(change.no_backup_before)
    with opened(context, place, options) as task, _key_writer(change.keys_file) as write_key:
        request = InPlaceRequest(
            database,
            options.snapshot,
            source,
            running,
            name,
            tenancy_of(context, place, database),
            apply=change.apply,
            before=_before(task, change, database, source, running),
            accepted=accepted,
            triggers_fire=change.triggers_fire,
            lock_timeout=context.config.node.lock_timeout.total_seconds(),
            report_key=write_key,
        )
        if change.apply and is_asked(yes=change.yes):
            _ask(task, request)
        report = restore_in_place(request, task.repository, task.world)
    return Reply(
        {"region": place, "target": running, "report": report},
        _lines(report, request),
        status=RefusedError.exit_code if change.apply and report.blocked else 0,
    ).print(as_json=options.as_json)


def _ask(task: RestoreTask, request: InPlaceRequest) -> None:
    """Show what would be written, and ask. Raises RefusedError when nobody agrees."""
    from backupd.operations.inplace import restore_in_place

    shown = replace(request, apply=False, before=None, report_key=None)
    show_and_ask(_lines(restore_in_place(shown, task.repository, task.world), shown), "Write that?", task.world.trace)


def _one_tenant(given: str) -> str:
    names = tenant_names([given])
    if len(names) != 1:
        raise UsageError("one tenant is restored in place", hint="Others are restored one by one, or somewhere new.")
    return next(iter(names))


def _kinds(names: list[str]) -> frozenset[ConflictKind]:
    """Return the conflicts that `--accept` names. Raises UsageError for a name that it does not take."""
    known = {kind.value: kind for kind in ACCEPTABLE}
    unknown = sorted(set(names) - known.keys())
    if unknown:
        raise UsageError(f'--accept does not take "{unknown[0]}"', hint=f"It takes {', '.join(sorted(known))}.")
    return frozenset(known[name] for name in names)


def _require_reference(given: str | None) -> None:
    if given is not None and not _REFERENCE.fullmatch(given):
        raise UsageError(
            "--no-backup-before is no reference",
            hint="Give the number of a ticket or a snapshot's name, not a sentence.",
        )


def _before(task: RestoreTask, change: InPlaceOptions, label: str, source: Source, name: str) -> Before | str | None:
    """Return the step that backs the database up, or the reference to why none does; None where nothing is written.

    None, too, on a machine that makes no backups.
    """
    if change.no_backup_before or not change.apply:
        return change.no_backup_before
    from backupd.wiring.backup import backup_target

    context = task.context
    if context.config.node.signing_key_file is None:
        return None
    from backupd.operations.inplace.run import BackupBefore

    stores = context.stores_of(task.region)
    targets = [backup_target(context, task.region, store, label, task.world.trace) for store in stores]
    return BackupBefore(targets, source, name)


@contextmanager
def _key_writer(path: Path | None) -> Iterator[Callable[[str, str, str], None] | None]:
    """Give a function that writes keys of rows into a new file, which only its owner may read; None without a file."""
    if path is None:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(
            f"the file for keys cannot be made ({error.strerror})", hint="Name one that does not exist yet."
        ) from None
    with os.fdopen(descriptor, "w") as file:
        yield lambda table, change, key: print(
            json.dumps({"table": table, "change": change, "key": json.loads(key)}), file=file
        )


def _lines(report: InPlaceReport, request: InPlaceRequest) -> list[str]:
    word = "restored" if report.applied else "nothing was written" if request.apply else "preview"
    snapshot = f"{report.label} of {report.exported}, snapshot {report.snapshot[:SHORT_NAME]}"
    lines = [f'{word}: one tenant in "{request.database}", {snapshot}']
    if report.tables:
        headings = ("table", "delete", "update", "insert")
        rows = [(one.table, one.deletes, one.updates, one.inserts) for one in report.tables]
        lines += [f"  {line}" for line in output.aligned(output.TextTable(headings, rows))]
    else:
        lines.append("  no row differs")
    notes = HARMLESS | request.accepted | ({ConflictKind.TRIGGERS} if request.triggers_fire else set())
    for conflict in report.conflicts:
        sentence, advice = SENTENCES[conflict.kind]
        weight = "note" if conflict.kind in notes else "conflict"
        lines += [f"  {weight} {conflict.kind.value}: {conflict.table}: {conflict.count} {sentence}", f"    {advice}"]
    lines.append(f"  triggers and rules: {'off' if report.triggers == 'off' else 'they fire'}")
    if report.applied:
        lines += [
            f"  backed up before: {report.before}",
            f"  {counted(report.others, 'row')} of others in the same tables: unchanged",
            f"  {counted(report.sequences, 'sequence')} raised",
            "  the tenant's rows are those of the snapshot"
            if report.settled
            else "  rows were written for the tenant meanwhile: a preview shows which",
            "  recorded in the ledger"
            if report.noted
            else "  not recorded in the ledger: this machine does not write it",
        ]
    phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in report.phases)
    return [*lines, f"  {report.seconds:.1f} s in all: {phases}"]
