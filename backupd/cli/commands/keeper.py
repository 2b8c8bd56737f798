"""The commands of a keeper: `purge` and `expire` remove, `plan` proves that this is in time, `ingest` takes in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import output
from backupd.cli.consent import DryRunOption, YesOption, is_asked, require_consent
from backupd.cli.options import (
    EXIT_STATUS,
    ConfigOption,
    JsonOption,
    QuietOption,
    RegionArgument,
    StoresOption,
    load_context,
)
from backupd.cli.progress import watched
from backupd.cli.run import Reply, Results, for_each, for_each_store
from backupd.errors import RefusedError
from backupd.model.text import counted, counts, day

if TYPE_CHECKING:
    from backupd.model.answers import PlannedPurges
    from backupd.model.ids import RegionName
    from backupd.model.ledger import Expired
    from backupd.operations.expiry.run import ExpiryPlan
    from backupd.operations.keeper.ingest_checks import Ingested
    from backupd.operations.keeper.prove import InScope, RegionProof
    from backupd.operations.keeper.purge import PurgeRun
    from backupd.operations.keeper.types import Keeper

ConfirmOption = Annotated[
    int | None,
    typer.Option(
        "--confirm",
        metavar="N",
        show_default=False,
        help="Allow that exactly N go in one run, where that is more than is usual.",
    ),
]


def add(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("purge", epilog=EXIT_STATUS)(purge)
    app.command("expire", epilog=EXIT_STATUS)(expire)
    app.command("plan", epilog=EXIT_STATUS)(plan)
    app.command("ingest", epilog=EXIT_STATUS)(ingest)


def purge(
    ctx: typer.Context,
    region: RegionArgument = None,
    dry_run: DryRunOption = False,
    confirm: ConfirmOption = None,
    yes: YesOption = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Purge the tenants whose date has come, and finish what was begun. Runs on the keeper, every day.

    Their keys go first, then their content, on every store; then the stores' own snapshots are looked into until none
    holds anything of them. A store that is out of reach is caught up with the next time.

    \b
    Examples:
      backupd purge --dry-run
      backupd purge be
    """
    from backupd.model.answers import PlannedPurges, PurgeAnswer, RegionPurge, of_value
    from backupd.operations.keeper.purge import Purging, plan_purges, purge_due
    from backupd.wiring.keeper import open_sole_keeper

    def plan_region(name: RegionName) -> Reply:
        with open_sole_keeper(context, name, trace) as keeper, Purging(keeper) as purging:
            planned = of_value(plan_purges(keeper, purging), PlannedPurges)
        return Reply(RegionPurge(region=name, plan=planned), _planned_lines(name, planned))

    def purge_region(name: RegionName) -> Reply:
        with open_sole_keeper(context, name, trace) as keeper:
            return _purged(name, purge_due(keeper, confirm))

    context = load_context(ctx, config)
    names = context.regions(region or [])
    asked = is_asked(yes=yes or confirm is not None)
    if dry_run or asked:
        with watched(context.clock, quiet=as_json) as trace:
            planned = for_each(names, plan_region, as_json=as_json)
        if dry_run:
            return planned.finish("regions", PurgeAnswer)
        if due := sum(len(reply.value.plan.due) for reply in planned.replies):
            require_consent(f"Purge {due} tenant{'s' if due > 1 else ''} for good?")
    with watched(context.clock, quiet=as_json or quiet) as trace:
        return for_each(names, purge_region, as_json=as_json, quiet=quiet).finish("regions", PurgeAnswer)


def expire(
    ctx: typer.Context,
    region: RegionArgument = None,
    store: StoresOption = None,
    dry_run: DryRunOption = False,
    confirm: ConfirmOption = None,
    false: Annotated[
        list[str] | None,
        typer.Option(
            "--false",
            metavar="SNAPSHOT",
            show_default=False,
            help="Remove this snapshot's record alone, whatever the rules say: nobody of yours made it. Repeatable.",
        ),
    ] = None,
    yes: YesOption = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Expire snapshots by the retention rules, with all that only they need. Runs on the keeper, every day.

    Leftovers of uploads that were cut off go, too. Every snapshot is listed with the reasons that keep it or let it go;
    a dry run lists the same and removes nothing. From a pack that is needed in part, the rest is taken out when it is
    most of the pack, or too old for its data class.

    With --false, one record goes that a thief of a node signed, and the ledger says so, so that nothing misses it; also
    where somebody removed it by hand. What only it needed goes later: not before it is two days old.

    \b
    Examples:
      backupd expire --dry-run
      backupd expire be --store zurich
    """
    from backupd.model.answers import ExpireAnswer, StoreExpiry
    from backupd.wiring.keeper import open_sole_keeper

    context = load_context(ctx, config)
    places = [(name, context.stores_of(name, store)) for name in context.regions(region or [])]

    def run(*, dry_run: bool) -> Results:
        with watched(context.clock, quiet=as_json or quiet) as trace:
            return for_each_store(
                places,
                lambda name: open_sole_keeper(context, name, trace),
                lambda keeper, place: (
                    _expire(keeper, place, dry_run=dry_run, confirm=confirm)
                    if not false
                    else _remove_false(keeper, place, false, dry_run=dry_run)
                ),
                as_json=as_json,
                part=StoreExpiry,
                quiet=quiet and not dry_run,
            )

    if not dry_run and is_asked(yes=yes or confirm is not None):
        planned = [reply.value.plan for reply in run(dry_run=True).replies]
        if objects := sum(plan["objects"] for plan in planned if isinstance(plan, dict)):
            require_consent(f"Remove {objects} object{'s' if objects > 1 else ''} for good?")
    return run(dry_run=dry_run).finish("stores", ExpireAnswer)


def plan(
    ctx: typer.Context, region: RegionArgument = None, config: ConfigOption = None, as_json: JsonOption = False
) -> int:
    """Prove that the promised window is kept, by the configuration and by what the stores really show.

    The inequality is written out. The stores' own snapshots and the keeper's past runs are compared with what the
    configuration says of them, and every marked tenant's dates are given. The exit status says when it does not hold.

    \b
    Example:
      backupd plan be
    """
    from backupd.operations.keeper.prove import prove_region
    from backupd.wiring.keeper import deletion_budget, open_book

    context = load_context(ctx, config)

    def prove(name: RegionName) -> Reply:
        with open_book(context, name, trace) as book:
            budget, copies = deletion_budget(context, name), context.config.copies_of(name)
            found = prove_region(book, budget, context.clock.now(), copies)
        return Reply(found, _proof_lines(found), status=0 if found.holds else RefusedError.exit_code)

    with watched(context.clock, quiet=as_json) as trace:
        return for_each(context.regions(region or []), prove, as_json=as_json).finish("regions")


def _expire(keeper: Keeper, store: str, *, dry_run: bool, confirm: int | None) -> Reply:
    """Expire the snapshots of one store, or say what would be expired."""
    from backupd.model.answers import StoreExpiry
    from backupd.operations.expiry.run import Expiry
    from backupd.repository.state.keyring_cache import KeyringCache

    with KeyringCache.opened(keeper.cache_path(store), keeper.repository, keeper.tags) as cache:
        expiry = Expiry(keeper, store, cache)
        planned = expiry.plan()
        done = None if dry_run else expiry.execute(planned, confirm)
    plan_facts = {
        "decisions": planned.decisions,
        "objects": planned.objects,
        "rewrites": planned.rewrites,
        "bytes": planned.bytes,
        "alarms": planned.alarms,
        "left_alone": planned.left_alone,
        "junk": planned.junk,
        "moved": planned.moved,
        "lacking": sorted(planned.lacking),
    }
    value = StoreExpiry(region=keeper.region, store=store, plan=plan_facts, expired=done)
    return Reply(value, _expired_lines(keeper.region, planned, done))


def _remove_false(keeper: Keeper, store: str, snapshots: Sequence[str], *, dry_run: bool) -> Reply:
    """Remove records that are none of ours from a store, or say what would be removed."""
    from backupd.model.answers import StoreExpiry
    from backupd.model.ids import SnapshotName
    from backupd.operations.expiry.false_records import find_false, remove_false
    from backupd.repository.state.keyring_cache import KeyringCache

    names = sorted({SnapshotName(name) for name in snapshots})
    with KeyringCache.opened(keeper.cache_path(store), keeper.repository, keeper.tags) as cache:
        found = find_false(keeper, store, names, cache) if dry_run else remove_false(keeper, store, names, cache)
    plan_facts = {"objects": found.objects, "bytes": found.bytes}
    value = StoreExpiry(region=keeper.region, store=store, plan=plan_facts, expired=None if dry_run else found)
    said = f"{'would remove' if dry_run else 'removed'} {counted(found.objects, 'object')}"
    return Reply(value, [f"{keeper.region} on {store}: {said} of {counted(found.snapshots, 'false snapshot')}"])


def _purged(region: str, done: PurgeRun) -> Reply:
    """Return the reply of a region whose due tenants were purged."""
    from backupd.model.answers import PlannedPurges, RefusedPurge, RegionPurge, StorePurge, of_value

    value = RegionPurge(
        region=region,
        plan=of_value(done.plan, PlannedPurges),
        done=tuple(of_value(one, StorePurge) for one in done.done),
        refused=tuple(RefusedPurge(incarnation=key, reason=reason) for key, reason in done.refused.items()),
        errors={store: output.as_object(error) for store, error in done.errors.items()},
        forgeries=done.forgeries,
    )
    grown = RefusedError.exit_code if done.grown else 0
    status = next((error.exit_code for error in done.errors.values()), grown)
    return Reply(value, _purged_lines(region, done), status=status)


def _planned_lines(region: str, planned: PlannedPurges) -> Iterator[str]:
    yield f"{region}: {len(planned.due)} due, {len(planned.unfinished)} unfinished, {len(planned.late)} turned up late"
    for tenant, incarnation, scope in planned.due:
        yield f"  would purge tenant {tenant}, incarnation {incarnation}" + (f", {scope}" if scope else "")


def _purged_lines(region: str, done: PurgeRun) -> Iterator[str]:
    yield f"{region}: {counted(len(done.plan.due), 'purge')} started, {len(done.plan.unfinished)} resumed"
    for one in done.done:
        rest = "gone from the store's own snapshots, too" if one.absent else f"waits for {', '.join(one.waits_for)}"
        yield (
            f"  tenant {one.incarnation.tenant} on {one.store}: {counts(keyring=one.keyrings, pack=one.objects)}"
            f" rewritten without {output.human_bytes(one.bytes)} of it; {rest}"
        )
    for key, reason in done.refused.items():
        yield f"  tenant {key.tenant}: {reason}"
    for store, error in done.errors.items():
        yield f"  {store}: {error.message}. {error.hint}"


def _expired_lines(region: str, planned: ExpiryPlan, done: Expired | None) -> Iterator[str]:
    yield f"{region} on {planned.store}:"
    for decision in planned.decisions:
        word = "keep  " if decision.keep else "expire"
        yield f"  {word} {decision.snapshot.name[:25]}  {'; '.join(decision.reasons)}"
    for alarm in planned.alarms:
        yield f"  ALARM: {alarm.message}"
    for generation, why in planned.left_alone.items():
        yield f"  generation {generation} is left as it is: {why}"
    for name, why in planned.moved.items():
        yield f"  '{name}' stays: {why}"
    if planned.lacking:
        stay = counted(len(planned.waiting), "leftover")
        yield f"  Until what is missing is put back (`backupd manual incidents`), {stay} of uploads may be it and stay."
        yield f"  If nobody of yours made the snapshot that needs it: `backupd expire {region} --false SNAPSHOT`."
    for name, why in planned.junk.items():
        yield f"  no record needs '{name}', and it goes when it is two days old: {why}"
    if done is None:
        yield f"  would remove {counted(planned.objects, 'object')}, {output.human_bytes(planned.bytes)}"
        if planned.rewrites:
            yield f"  {counted(planned.rewrites, 'pack')} of them, of which a part stays"
    else:
        yield f"  removed {counts(snapshot=done.snapshots, object=done.objects)}, {output.human_bytes(done.bytes)}"


_COPIES = {
    "store": "store {0}",
    "store-snapshots": "the own snapshots of store {0}, seen to live {1}",
    "declared": "{0}, declared to live {1}, and seen by nobody",
}


def _kept(copy: InScope) -> str:
    return "" if copy.kept is None else output.human_duration(copy.kept)


def _verdict(one: RegionProof) -> str:
    """Say whether the promise is kept, and if not, what is to blame: the terms, what was seen, or a late tenant."""
    if one.holds:
        return "holds"
    if not one.configured.holds:
        return "DOES NOT HOLD"
    late = sum(1 for tenant in one.tenants if tenant.overdue)
    if late and one.actual.holds:
        return f"IS NOT KEPT, {counted(late, 'tenant')} overdue, though by its terms it holds"
    return "IS NOT KEPT, as what was seen is below, though by its terms it holds"


def _proof_lines(one: RegionProof) -> Iterator[str]:
    yield f"{one.region}: {_verdict(one)}: {one.configured.inequality}"
    for term in one.configured.terms:
        yield f"  {term.value.total_seconds() / 86400:7.1f} d  {term.name} ({term.source})"
    yield "  the repair slack has room for what comes of a run that was cut off:"
    for term in one.repairs:
        yield f"  {term.value.total_seconds() / 86400:7.1f} d  {term.name} ({term.source})"
    for copy in one.copies:
        yield f"  copies of keyrings, all to be gone: {_COPIES[copy.kind].format(copy.name, _kept(copy))}"
    for finding in one.findings:
        yield f"  {finding.severity.value}: {finding.message}. {finding.hint}"
    for tenant in one.tenants:
        late = f"  LATE: {tenant.overdue}" if tenant.overdue else ""
        yield (
            f"  tenant {tenant.tenant}: {tenant.state.value}, purged by {day(tenant.purge_by)},"
            f" gone by {day(tenant.deadline)}{late}"
        )
    if not one.tenants:
        yield "  no tenant is leaving"


def ingest(
    ctx: typer.Context,
    region: RegionArgument = None,
    store: StoresOption = None,
    quiet: QuietOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Take what nodes handed in, on stores with `ingest`. Runs on the keeper, every few minutes.

    Each object is read, compared with its name, checked as an honest node would have made it, and copied to its place,
    where no node can change it; a snapshot's record comes last. What a purge took meanwhile is left out of the copy. An
    object that no honest node hands in is reported, is taken nowhere, and makes the exit status that of a refusal.

    \b
    Example:
      backupd ingest be
    """
    from backupd.model.answers import IngestAnswer, StoreIngest
    from backupd.operations.keeper.ingest import ingest as run
    from backupd.wiring.keeper import adopt_repositories, handoff_stores, open_keeper

    context = load_context(ctx, config)
    places = [
        (name, [place for place in context.stores_of(name, store) if place in handoff_stores(context, name)])
        for name in context.regions(region or [])
    ]

    @contextmanager
    def adopted(name: RegionName) -> Iterator[Keeper]:
        adopt_repositories(context, name)
        with open_keeper(context, name, trace) as keeper:
            yield keeper

    with watched(context.clock, quiet=as_json or quiet) as trace:
        return for_each_store(
            [(name, stores) for name, stores in places if stores],
            adopted,
            lambda keeper, place: _ingested(run(keeper, place), keeper.region),
            as_json=as_json,
            part=StoreIngest,
            quiet=quiet,
        ).finish("stores", IngestAnswer)


def _ingested(done: Ingested, region: str) -> Reply:
    """Return the reply of a store whose handed-in objects were taken."""
    from backupd.model.answers import StoreIngest
    from backupd.operations.keeper.ingest import troubles

    refused = troubles(done)
    value = StoreIngest(
        region=region,
        store=done.store,
        taken=dict(done.taken),
        bytes=done.bytes,
        dropped=done.dropped,
        waiting=dict(done.waiting),
        refused=dict(done.refused),
    )
    return Reply(
        value,
        _ingested_lines(region, done),
        output.failure_lines(refused, f"{region} on {done.store}") if refused else (),
        refused.exit_code if refused else 0,
    )


def _ingested_lines(region: str, done: Ingested) -> Iterator[str]:
    taken = ", ".join(counted(number, kind) for kind, number in done.taken.items()) or "nothing"
    yield f"{region} on {done.store}: took {taken}, {output.human_bytes(done.bytes)}"
    if done.dropped:
        yield f"  not needed: {counted(done.dropped, 'object')}"
    for name, missing in done.waiting.items():
        yield f"  {name} waits for {missing}"
    for name, why in done.refused.items():
        yield f"  REFUSED {name}: {why}"
