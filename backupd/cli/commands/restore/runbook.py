"""The command `restore runbook`, which prints the steps of a restore with a snapshot's own names, to keep on paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from backupd.cli import output
from backupd.cli.commands.restore.options import (
    AnyDatabaseArgument,
    MemberOption,
    PartOptions,
    RegionArgument,
    SnapshotOptions,
)
from backupd.cli.commands.restore.output import database_name, expected_time, region_status, same_time
from backupd.cli.commands.restore.preview import preview_each, preview_one
from backupd.cli.commands.restore.task import configured, opened
from backupd.cli.run import Reply
from backupd.model.ids import SHORT_NAME
from backupd.model.text import counted

if TYPE_CHECKING:
    from backupd.cli.commands.restore.task import RestoreTask
    from backupd.operations.restore.preview import Preview
    from backupd.operations.restore.region import DatabaseOutcome, RegionContents

_IDENTITY = "--identity FILE.identity"


def runbook(
    ctx: typer.Context,
    region: RegionArgument,
    database: AnyDatabaseArgument = None,
    member: MemberOption = None,
    *,
    options: SnapshotOptions,
) -> int:
    """Print what to do, step by step, with this snapshot's sizes, to keep.

    It names no tenant, and no secret but where it is kept.

    \b
    Examples:
      backupd restore runbook be app --identity ops.identity
      backupd restore runbook be --identity ops.identity > runbook.txt
    """
    from backupd.operations.restore import RestoreRequest
    from backupd.wiring.restore import programs_alone

    context, place = configured(ctx, options, region, database)
    PartOptions(member=member).selection(database)
    with opened(context, place, options) as task:
        request = RestoreRequest(database or "", options.snapshot, programs_alone(context), "", member=member)
        status = 0
        if database is None:
            finding, planned = preview_each(task, request)
            lines = list(_region_lines(task, finding, planned))
            status = region_status(finding, planned)
        else:
            lines = list(_database_lines(task, preview_one(task, request)))
    return Reply({"region": place, "runbook": lines}, lines, status=status, literal=True).print(as_json=options.as_json)


def _database_lines(task: RestoreTask, found: Preview) -> Iterator[str]:
    region, label = task.region, found.label
    size, snapshot = output.human_bytes, found.snapshot[:SHORT_NAME]
    expected = expected_time(found.expected, "not measured on this machine yet: restore once, and print this again")
    if found.expected is not None:
        expected += " on this machine, indexes included"
    yield f"RUNBOOK: {label} of region {region}"
    yield f"  made on {task.context.clock.now():%Y-%m-%d %H:%M} UTC, for snapshot {snapshot} of {found.exported}"
    yield (
        f"  {counted(found.tables, 'table')} with rows, {counted(found.rows, 'row')}, {size(found.bytes)}; "
        f"from {task.store}: {counted(found.objects, 'object')}, {size(found.fetched)}"
    )
    yield f"  expected: {expected}"
    purged = counted(found.purged, "segment")
    yield f"  the ledger was obeyed up to entry {found.ledger}; not coming back, as purged: {purged}"
    yield ""
    yield from _needed()
    yield from _numbered(_database_steps(task, label, snapshot))
    yield ""
    yield "IF IT STOPS: no database has the final name. Its message says what to do; the same command starts again."
    yield '     backupd restore clean --target "host=SERVER dbname=postgres user=postgres"'
    yield from _without_backupd(task, f" --database {label}", found.head)


def _region_lines(
    task: RestoreTask, finding: RegionContents, planned: Sequence[DatabaseOutcome[Preview]]
) -> Iterator[str]:
    region, time = task.region, same_time(finding)
    heads = [outcome.result.head for outcome in planned if outcome.result is not None]
    target = '--suffix "" --target "host=SERVER user=postgres"'
    yield f"RUNBOOK: all databases of region {region}"
    yield f"  made on {task.context.clock.now():%Y-%m-%d %H:%M} UTC, for the snapshots at {time}, from {task.store}"
    for outcome in planned:
        name, snapshot = database_name("", outcome.found), outcome.found.snapshot[:SHORT_NAME]
        yield f"  {name}: snapshot {snapshot}: {_expectation(outcome)}"
    yield from (f"  {label}: no snapshot" for label in finding.missing)
    yield ""
    yield from _needed()
    yield from _numbered(
        [
            *_checks(task),
            ("What will be done?", f"backupd restore preview {region} --snapshot {time} {_IDENTITY}"),
            (
                "Restore. What fails is reported, the others are restored; the same command goes on.",
                f"backupd restore region {region} --snapshot {time} --globals --analyze {target} {_IDENTITY}",
            ),
        ]
    )
    yield from _without_backupd(task, "", heads[-1] if heads else "")


def _expectation(outcome: DatabaseOutcome[Preview]) -> str:
    plan = outcome.result
    if plan is None:
        return "cannot be restored"
    return (
        f"{counted(plan.rows, 'row')}, {output.human_bytes(plan.bytes)}, {expected_time(plan.expected, 'not measured')}"
    )


def _needed() -> Iterator[str]:
    """Yield what must be there before the first step."""
    yield "BEFORE: a machine with the configuration, Python 3.11, backupd, and PostgreSQL's client programs;"
    yield "  an identity file and its passphrase (two people, two places); a server with room for the database."
    yield "  The original stays as it is: everything goes into a new database."


def _numbered(steps: Iterable[tuple[str, str]]) -> Iterator[str]:
    for number, (what, command) in enumerate(steps, start=1):
        yield ""
        yield f"{number}. {what}"
        yield f"     {command}"


def _checks(task: RestoreTask) -> Iterator[tuple[str, str]]:
    yield "Does the identity open the backups? (seconds)", f"backupd key check {task.region} {_IDENTITY}"
    yield "Is the store whole? (reads no rows)", f"backupd verify {task.region}"


def _database_steps(task: RestoreTask, label: str, snapshot: str) -> Iterator[tuple[str, str]]:
    place = f"{task.region} {label} --snapshot {snapshot}"
    target = f'--target "host=SERVER dbname={label}_restored user=postgres"'
    yield from _checks(task)
    yield "What will be done?", f"backupd restore preview {place} {_IDENTITY}"
    yield (
        "Restore. Every row is compared with what was signed.",
        f"backupd restore database {place} --globals --analyze {target} {_IDENTITY}",
    )
    psql = 'psql "host=SERVER dbname=postgres user=postgres" -c'
    yield (
        f"Hand it over: stop the application. Rename the old database away, if {label} is its name and it is there.",
        f'{psql} \'ALTER DATABASE "{label}" RENAME TO "{label}_before"\'',
    )
    yield (
        "Give its name to the restored one, and start the application.",
        f'{psql} \'ALTER DATABASE "{label}_restored" RENAME TO "{label}"\'',
    )


def _without_backupd(task: RestoreTask, database: str, head: str) -> Iterator[str]:
    """Yield the way with nothing but the store: fetch the region's folder, and use the script in it.

    `head` is the last entry of the ledger, against which one that was cut short since is seen.
    """
    section, region = task.context.config.stores[task.store], task.region
    yield ""
    yield "IF BACKUPD CANNOT BE INSTALLED: fetch the region's folder, and use the script that lies in it."
    if section.kind == "directory":
        yield f"     cp -r {section.path}/{region} store"
    else:
        yield f"     sftp -P {section.port} -r {section.user}@{section.host}:{section.path}/{region} store"
    yield "     python3 -m venv env && env/bin/pip install 'cryptography>=50' zstandard"
    sha256 = task.repository.info().help.get("recover")
    if sha256:
        yield f"     echo '{sha256}  store/recover' | sha256sum --check"
        yield "  If that does not say OK, the script is somebody else's: take one from a checkout of backupd."
    keepers = task.context.config.trust.keepers
    believed = "".join(f" --keeper {key}" for key in keepers)
    witness = f" --ledger-at-least {head}" if head else ""
    given = f"--identity FILE.identity{believed}{witness}{database}"
    yield f"     env/bin/python store/recover store {given} --out recovered"
    if head:
        yield "  On a machine that never read this ledger, add this to each command above, but key check and psql:"
        yield f"    {witness}"
    yield from (f"  The public key of a keeper, whose ledger is believed: {key}" for key in keepers)
