"""`restore --in-place`: one tenant, into the running database."""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.cli import output
from backupd.errors import RefusedError, UsageError
from backupd.planning.restoring.inplace import ACCEPTABLE, HARMLESS, SENTENCES, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backupd.catalog.repository import Repository
    from backupd.model.ids import RegionName
    from backupd.operations.restore.inplace import InPlaceReport
    from backupd.operations.restore.inplace.values import Before
    from backupd.operations.restore.values import World
    from backupd.postgres.connect import Source
    from backupd.wiring import Wiring

_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/#-]{0,63}")


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of a restore in place."""

    region: RegionName
    label: str
    tenant: str
    source: Source
    name: str
    """Of the running database."""
    snapshot: str
    apply: bool
    reference: str | None
    accept: frozenset[Kind]
    triggers_fire: bool
    keys_file: Path | None


def kinds(names: list[str]) -> frozenset[Kind]:
    """What `--accept` names.

    Raises UsageError.
    """
    known = {kind.value: kind for kind in ACCEPTABLE}
    unknown = sorted(set(names) - known.keys())
    if unknown:
        raise UsageError(f'--accept does not take "{unknown[0]}"', hint=f"It takes {', '.join(sorted(known))}.")
    return frozenset(known[name] for name in names)


def run_in_place(wiring: Wiring, asked: Asked, repository: Repository, world: World, *, as_json: bool) -> int:
    """Preview or restore, and say so; the exit status.

    Raises what the operation raises, UsageError for options that do not fit.
    """
    from backupd.operations.restore.inplace import InPlaceRequest, restore_in_place

    if asked.reference is not None and not _REFERENCE.fullmatch(asked.reference):
        raise UsageError(
            "--no-backup-before is no reference",
            hint="Give the number of a ticket or a snapshot's name, not a sentence.",
        )
    with _keys(asked.keys_file) as tell_key:
        request = InPlaceRequest(
            asked.label,
            asked.snapshot,
            asked.source,
            asked.name,
            asked.tenant,
            wiring.tenancy(asked.region, asked.label),
            apply=asked.apply,
            before=_before(wiring, asked, world),
            accepted=asked.accept,
            triggers_fire=asked.triggers_fire,
            lock_timeout=wiring.config.node.lock_timeout.total_seconds(),
            tell_key=tell_key,
        )
        report = restore_in_place(request, repository, world)
    if as_json:
        output.print_json({"region": asked.region, "target": asked.name, "report": report})
    else:
        output.print_lines(_told(report, asked))
    return RefusedError.exit_code if asked.apply and report.blocked else 0


def _before(wiring: Wiring, asked: Asked, world: World) -> Before | str | None:
    if asked.reference is not None or not asked.apply or wiring.config.node.signing_key_file is None:
        return asked.reference
    from backupd.operations.restore.inplace.before import BackupBefore

    stores = wiring.stores_of(asked.region)
    targets = [wiring.target(asked.region, store, asked.label, world.trace) for store in stores]
    return BackupBefore(targets, asked.source, asked.name)


@contextmanager
def _keys(path: Path | None) -> Iterator[Callable[[str, str, str], None] | None]:
    """Writes keys of rows into a new file that only its owner may read."""
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


def _told(report: InPlaceReport, asked: Asked) -> list[str]:
    word = "restored" if report.applied else "nothing was written" if asked.apply else "preview"
    lines = [f'{word}: one tenant in "{asked.name}", {report.label} of {report.exported}, snapshot {report.snapshot}']
    if report.tables:
        headings = ("table", "delete", "update", "insert")
        rows = [(one.table, one.deletes, one.updates, one.inserts) for one in report.tables]
        lines += [f"  {line}" for line in output.aligned(output.Table(headings, rows))]
    else:
        lines.append("  no row differs")
    notes = HARMLESS | asked.accept | ({Kind.TRIGGERS} if asked.triggers_fire else set())
    for conflict in report.conflicts:
        sentence, advice = SENTENCES[conflict.kind]
        weight = "note" if conflict.kind in notes else "conflict"
        lines += [f"  {weight} {conflict.kind.value}: {conflict.table}: {conflict.count} {sentence}", f"    {advice}"]
    lines.append(f"  triggers and rules: {'off' if report.triggers == 'off' else 'they fire'}")
    if report.applied:
        lines += [
            f"  backed up before: {report.before}",
            f"  {report.others} rows of others in the same tables: unchanged; {report.sequences} sequences raised",
            "  the tenant's rows are those of the snapshot"
            if report.settled
            else "  rows were written for the tenant meanwhile: a preview shows which",
            "  the ledger was told" if report.noted else "  the ledger was not told: this machine does not write it",
        ]
    phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in report.phases)
    return [*lines, f"  {report.seconds:.1f} s in all: {phases}"]
