"""`restore`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from re import fullmatch
from typing import TYPE_CHECKING

import typer

from backupd.cli.commands.restore.anew import Paper, clean_up, restore_anew
from backupd.cli.commands.restore.inplace import Asked, kinds, run_in_place
from backupd.cli.commands.restore.noting import noting
from backupd.cli.commands.restore.options import (
    AcceptOption,
    AnalyzeOption,
    ApplyOption,
    CleanOption,
    DatabaseArgument,
    DataClassOption,
    GlobalsOption,
    InPlaceOption,
    JobsOption,
    KeysFileOption,
    MemberOption,
    NoBackupBeforeOption,
    OverrideOption,
    PassfileOption,
    PlanOption,
    RegionArgument,
    RunbookOption,
    SnapshotOption,
    TableOption,
    TargetOption,
    TenantOption,
    TriggersFireOption,
    WithoutBrokenKeysOption,
)
from backupd.cli.commands.store import tell_signers
from backupd.cli.options import (
    EXIT_STATUS,
    ConfigOption,
    IdentityOption,
    JsonOption,
    PassphraseOption,
    StoreOption,
    wired,
)
from backupd.cli.passphrase import open_identity
from backupd.cli.progress import watched
from backupd.errors import UsageError
from backupd.model.stored.ledger import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backupd.model.ids import RegionName
    from backupd.operations.restore.values import World
    from backupd.trace import Trace
    from backupd.wiring import Wiring


def add(app: typer.Typer) -> None:
    app.command("restore", epilog=EXIT_STATUS)(restore)


def restore(
    context: typer.Context,
    region: RegionArgument,
    database: DatabaseArgument,
    target: TargetOption = None,
    snapshot: SnapshotOption = "latest",
    identity: IdentityOption = None,
    passphrase_file: PassphraseOption = None,
    tenant: TenantOption = None,
    table: TableOption = None,
    data_class: DataClassOption = None,
    plan: PlanOption = False,
    runbook: RunbookOption = False,
    clean: CleanOption = False,
    override: OverrideOption = None,
    globals_: GlobalsOption = False,
    without_broken_keys: WithoutBrokenKeysOption = False,
    member: MemberOption = None,
    jobs: JobsOption = 4,
    analyze: AnalyzeOption = False,
    passfile: PassfileOption = None,
    in_place: InPlaceOption = False,
    apply: ApplyOption = False,
    no_backup_before: NoBackupBeforeOption = None,
    accept: AcceptOption = None,
    triggers_fire: TriggersFireOption = False,
    keys_file: KeysFileOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Restore a database into a new one.

    The database is filled under a temporary name and gets its own when everything is there: rows, sequences, large
    objects, indexes, constraints, owners, privileges, comments. Every row is compared with what was read when it was
    backed up. A failed restore leaves none. The ledger is read first: what was
    purged since is left out, and a ledger that cannot be believed, or is older than the snapshot, is damage and stops
    the restore. A tenant, some tables or a data class can be restored alone; only their objects are read.

    With --in-place one tenant's rows in a running database become those of the snapshot: compared first, and with
    --apply backed up and then written in one transaction that leaves everybody else's rows as they are. What stands
    in the way is found before anything is written.

    \b
    Examples:
      backupd restore be app --target "host=db2 dbname=app_restored" --identity ops.identity
      backupd restore be app --snapshot 2026-03-31T14:00 --globals --target "dbname=app" --identity ops.identity
      backupd restore be app --tenant acme --target "dbname=app_acme" --identity ops.identity
      backupd restore be app --plan --identity ops.identity
      backupd restore be app --runbook --identity ops.identity > runbook.txt
      backupd restore be app --clean --target "host=db2 dbname=postgres"
      backupd restore be app --tenant acme --in-place --target "host=db1 dbname=app" --identity ops.identity
    """
    from backupd.operations.restore import RestoreRequest
    from backupd.planning.restoring.selection import Selection

    wiring = wired(context, config)
    place = wiring.regions([region])[0]
    (label,) = wiring.databases(place, database)
    tenants = _names(tenant)
    anew = {
        "--table": table,
        "--class": data_class,
        "--plan": plan,
        "--runbook": runbook,
        "--clean": clean,
        "--globals": globals_,
        "--analyze": analyze,
        "--without-broken-keys": without_broken_keys,
        "--member": member,
    }
    alone = {
        "--apply": apply,
        "--no-backup-before": no_backup_before,
        "--accept": accept,
        "--keys-file": keys_file,
        "--triggers-fire": triggers_fire,
    }
    _refuse(anew if in_place else alone, in_place=in_place)
    paper = Paper.PLAN if plan else Paper.RUNBOOK if runbook else None
    if target is None and paper is None:
        raise UsageError("a restore needs a --target", hint="--plan needs none: it only says what would be done.")
    if in_place and len(tenants) != 1:
        raise UsageError("--in-place needs one --tenant", hint="Others are restored into new databases, or one by one.")
    source, name = wiring.restore_target(target or "dbname=nowhere", passfile)
    accepted = kinds(accept or [])
    if clean:
        clean_up(source, wiring.clock)
        return 0
    _require_residency(wiring, place, override)
    pair = open_identity(identity, passphrase_file)
    with wiring.repository(place, store) as repository, watched(wiring.clock, quiet=as_json) as trace:
        tell_signers(wiring, repository)
        world = replace(_world(wiring, place, store, trace, pair.secret), override=override)
        if in_place:
            asked = Asked(
                place,
                label,
                next(iter(tenants)),
                source,
                name,
                snapshot,
                apply=apply,
                reference=no_backup_before,
                accept=accepted,
                triggers_fire=triggers_fire,
                keys_file=keys_file,
            )
            return run_in_place(wiring, asked, repository, world, as_json=as_json)
        request = RestoreRequest(
            label,
            snapshot,
            source,
            name,
            member=member,
            jobs=jobs,
            roles=globals_,
            analyze=analyze,
            without_broken_keys=without_broken_keys,
            selection=Selection(tenants, frozenset(data_class or ()), tuple(table or ())),
        )
        restore_anew(wiring, place, request, repository, world, paper=paper, as_json=as_json)
    return 0


def _require_residency(wiring: Wiring, region: RegionName, override: str | None) -> None:
    if override is not None and (fullmatch(REFERENCE, override) is None or wiring.config.keeper is None):
        raise UsageError(
            "--override takes the number of a decision, on a keeper",
            hint="The ledger keeps it, and only a keeper writes that; it is never a sentence.",
        )
    wiring.require_residency(region, override)


def _refuse(options: Mapping[str, object], *, in_place: bool) -> None:
    given = [name for name, value in options.items() if value]
    if given:
        raise UsageError(
            f"{given[0]} goes {'without' if in_place else 'with'} --in-place",
            hint="--in-place writes one tenant's rows into a running database; all else makes a new one.",
        )


def _world(wiring: Wiring, region: RegionName, store: str | None, trace: Trace, secret: bytes) -> World:
    from backupd.operations.restore.values import World

    return World(
        secret,
        wiring.clock,
        trace,
        os.urandom,
        store=wiring.stores_of(region, store)[0],
        own_ledger=wiring.known_ledger(region),
        note=noting(wiring, region, trace),
    )


def _names(tenants: list[str] | None) -> frozenset[str]:
    given = tenants or []
    read = [line.rstrip("\n") for line in sys.stdin] if "-" in given else []
    return frozenset(name for name in [*given, *read] if name not in ("-", ""))
