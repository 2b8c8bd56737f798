"""`restore`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from re import fullmatch
from typing import TYPE_CHECKING

import typer

from backupd.cli.commands.restore.anew import Paper, Task, restore_anew
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
    KeepOption,
    KeysFileOption,
    MemberOption,
    NoBackupBeforeOption,
    OverrideOption,
    PassfileOption,
    PlanOption,
    RegionArgument,
    RunbookOption,
    ScratchOption,
    SnapshotOption,
    SuffixOption,
    TableOption,
    TargetDirOption,
    TargetOption,
    TenantOption,
    TriggersFireOption,
    WithoutBrokenKeysOption,
)
from backupd.cli.commands.restore.places.cleaning import clean as clean_up
from backupd.cli.commands.restore.places.where import Where
from backupd.cli.commands.restore.region import restore_whole
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
    database: DatabaseArgument = None,
    target: TargetOption = None,
    target_dir: TargetDirOption = None,
    scratch: ScratchOption = None,
    keep: KeepOption = False,
    suffix: SuffixOption = None,
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
    """Restore a database, or all of a region, anew.

    The database is filled under a temporary name and gets its own when everything is there: rows, sequences, large
    objects, indexes, constraints, owners, privileges, comments. Every row is compared with what was read when it was
    backed up. A failed restore leaves none. The ledger is read first: what was
    purged since is left out, and a ledger that cannot be believed, or is older than the snapshot, is damage and stops
    the restore. A tenant, some tables or a data class can be restored alone; only their objects are read.

    Without a DATABASE, all of the region's are restored, each under its name with a suffix, as they were at a time.
    What is missing or fails is told, the others are restored, and the exit status is that of the first failure; the
    same command goes on from there.

    With --target-dir plain files are written, with --scratch a server is made for it that no network reaches.

    With --in-place one tenant's rows in a running database become those of the snapshot: compared first, and with
    --apply backed up and then written in one transaction that leaves everybody else's rows as they are. What stands
    in the way is found before anything is written. Sequences are only raised, and stay so if it is not completed.

    \b
    Examples:
      backupd restore be app --target "host=db2 dbname=app_restored" --identity ops.identity
      backupd restore be app --snapshot 2026-03-31T14:00 --globals --target "dbname=app" --identity ops.identity
      backupd restore be app --tenant acme --target "dbname=app_acme" --identity ops.identity
      backupd restore be app --tenant acme --target-dir acme --identity ops.identity
      backupd restore be app --scratch /srv/look --keep --identity ops.identity
      backupd restore be --snapshot 2026-03-31T14:00 --globals --target "host=db2" --identity ops.identity
      backupd restore be app --plan --identity ops.identity
      backupd restore be --runbook --identity ops.identity > runbook.txt
      backupd restore be app --clean --target "host=db2 dbname=postgres"
      backupd restore be app --tenant acme --in-place --target "host=db1 dbname=app" --identity ops.identity
    """
    from backupd.operations.restore import RestoreRequest
    from backupd.planning.restoring.selection import Selection

    wiring = wired(context, config)
    place = wiring.regions([region])[0]
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
        "--target-dir": target_dir,
        "--scratch": scratch,
        "--keep": keep,
        "--suffix": suffix,
    }
    alone = {
        "--apply": apply,
        "--no-backup-before": no_backup_before,
        "--accept": accept,
        "--keys-file": keys_file,
        "--triggers-fire": triggers_fire,
    }
    _refuse(anew if in_place else alone, in_place=in_place)
    whole = database is None
    if whole:
        part = {"--tenant": tenant, "--table": table, "--class": data_class, "--member": member}
        _refuse_part({**part, "--in-place": in_place})
    else:
        wiring.databases(place, database)
    paper = Paper.PLAN if plan else Paper.RUNBOOK if runbook else None
    where = Where(target, passfile, target_dir, scratch, keep, suffix)
    where.check(paper=paper is not None, whole=whole)
    if in_place and len(tenants) != 1:
        raise UsageError("--in-place needs one --tenant", hint="Others are restored into new databases, or one by one.")
    if clean:
        clean_up(wiring, where)
        return 0
    source, name = where.source(wiring, whole=whole)
    accepted = kinds(accept or [])
    _require_residency(wiring, place, override)
    pair = open_identity(identity, passphrase_file)
    with wiring.repository(place, store) as repository, watched(wiring.clock, quiet=as_json) as trace:
        tell_signers(wiring, repository)
        world = replace(_world(wiring, place, store, trace, pair.secret), override=override)
        if in_place:
            asked = Asked(
                place,
                database or "",
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
            database or "",
            snapshot,
            source,
            name,
            folder=target_dir,
            member=member,
            jobs=jobs,
            roles=globals_,
            analyze=analyze,
            without_broken_keys=without_broken_keys,
            selection=Selection(tenants, frozenset(data_class or ()), tuple(table or ())),
        )
        task = Task(wiring, place, repository, world, paper, as_json)
        if whole:
            return restore_whole(task, request, where)
        restore_anew(task, request, where)
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


def _refuse_part(options: Mapping[str, object]) -> None:
    given = [name for name, value in options.items() if value]
    if given:
        raise UsageError(f"{given[0]} goes with a DATABASE", hint="Without one, all of the region are restored.")


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
