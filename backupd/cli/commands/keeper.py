"""`purge`, `expire` and `plan`: what a keeper removes, and the proof that it is in time.

`ingest`: the keeper takes what nodes handed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupd.cli import output
from backupd.cli.options import EXIT_STATUS, ConfigOption, JsonOption, RegionArgument, StoresOption, day, load_context
from backupd.cli.progress import watched
from backupd.errors import BackupdError, RefusedError

if TYPE_CHECKING:
    from backupd.model.answers import PlannedPurges, RegionPurge, StoreExpiry, StoreIngest
    from backupd.model.ledger import Expired
    from backupd.operations.keeper.expire import ExpiryPlan
    from backupd.operations.keeper.ingest_checks import Ingested
    from backupd.operations.keeper.prove import InScope, RegionProof
    from backupd.operations.keeper.purge import PurgeRun
    from backupd.operations.keeper.types import Keeper

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")]
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
    app.command("purge", epilog=EXIT_STATUS)(purge)
    app.command("expire", epilog=EXIT_STATUS)(expire)
    app.command("plan", epilog=EXIT_STATUS)(plan)
    app.command("ingest", epilog=EXIT_STATUS)(ingest)


def purge(
    ctx: typer.Context,
    region: RegionArgument = None,
    dry_run: DryRunOption = False,
    confirm: ConfirmOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Purge the tenants whose date has come, and finish what was begun. Runs on the keeper, every day.

    Their keys go first, then their objects, on every store; then the stores' own snapshots are looked into until none
    holds anything of them. A store that is out of reach is caught up with the next time.

    \b
    Examples:
      backupd purge --dry-run
      backupd purge be
    """
    from backupd.model.answers import PlannedPurges, PurgeAnswer, RegionPurge, of_value
    from backupd.operations.keeper.purge import Purging, plan_purges, purge_due
    from backupd.wiring.keeper import open_sole_keeper

    context = load_context(ctx, config)
    answers: list[RegionPurge] = []
    status = 0
    with watched(context.clock, quiet=as_json) as trace:
        for name in context.regions(region or []):
            with open_sole_keeper(context, name, trace) as keeper:
                if dry_run:
                    with Purging(keeper) as purging:
                        planned = of_value(plan_purges(keeper, purging), PlannedPurges)
                        answers.append(RegionPurge(region=name, plan=planned))
                    continue
                done = purge_due(keeper, confirm)
                answers.append(_as_object(name, done))
                status = status or next((error.exit_code for error in done.errors.values()), 0)
                if not as_json:
                    output.print_lines(_purged(name, done))
    if as_json:
        output.print_json(PurgeAnswer(regions=tuple(answers)))
    elif dry_run:
        for one in answers:
            output.print_lines(_planned(one.region, one.plan))
    return status


def expire(
    ctx: typer.Context,
    region: RegionArgument = None,
    store: StoresOption = None,
    dry_run: DryRunOption = False,
    confirm: ConfirmOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Expire snapshots by the retention rules, with all that only they need. Runs on the keeper, every day.

    Leftovers of uploads that were cut off go, too. Every snapshot is listed with the reasons that keep it or let it go;
    a dry run lists the same and removes nothing. Downloads no packs.

    \b
    Examples:
      backupd expire --dry-run
      backupd expire be --store zurich
    """
    from backupd.model.answers import ExpireAnswer, StoreExpiry
    from backupd.wiring.keeper import open_sole_keeper

    context = load_context(ctx, config)
    answers: list[StoreExpiry] = []
    status = 0
    with watched(context.clock, quiet=as_json) as trace:
        for name in context.regions(region or []):
            places = context.stores_of(name, store)
            with open_sole_keeper(context, name, trace) as keeper:
                for place in places:
                    try:
                        planned, done = _expire(keeper, place, dry_run=dry_run, confirm=confirm)
                    except BackupdError as error:
                        status = status or error.exit_code
                        answers.append(StoreExpiry(region=name, store=place, error=output.as_object(error)))
                        if not as_json:
                            output.print_failure(error, f"{name} on {place}")
                        continue
                    answers.append(StoreExpiry(region=name, store=place, plan=_plan_object(planned), expired=done))
                    if not as_json:
                        output.print_lines(_expired(name, planned, done))
    if as_json:
        output.print_json(ExpireAnswer(stores=tuple(answers)))
    return status


def plan(
    ctx: typer.Context, region: RegionArgument = None, config: ConfigOption = None, as_json: JsonOption = False
) -> int:
    """Prove that the promised window is kept, by the configuration and by what the stores really show.

    The inequality is written out. The stores' own snapshots and the keeper's past runs are compared with what the
    configuration says of them, and every marked tenant's dates are given. The exit status tells when it does not hold.

    \b
    Example:
      backupd plan be
    """
    from backupd.operations.keeper.prove import prove_region
    from backupd.wiring.keeper import deletion_budget, open_book

    context = load_context(ctx, config)
    found: list[RegionProof] = []
    for name in context.regions(region or []):
        with open_book(context, name) as book:
            book.sync()
            found.append(
                prove_region(book, deletion_budget(context, name), context.clock.now(), context.config.copies_of(name))
            )
    if as_json:
        output.print_json({"regions": found})
    else:
        for one in found:
            output.print_lines(_proof(one))
    return 0 if all(one.holds for one in found) else RefusedError.exit_code


def _expire(keeper: Keeper, store: str, *, dry_run: bool, confirm: int | None) -> tuple[ExpiryPlan, Expired | None]:
    from backupd.operations.keeper.expire import Expiry
    from backupd.repository.state.keyring_cache import KeyringCache

    with KeyringCache.opened(keeper.cache_path(store), keeper.repository) as census:
        expiry = Expiry(keeper, store, census)
        planned = expiry.plan()
        return planned, None if dry_run else expiry.execute(planned, confirm)


def _as_object(region: str, done: PurgeRun) -> RegionPurge:
    from backupd.model.answers import PlannedPurges, RefusedPurge, RegionPurge, StorePurge, of_value

    return RegionPurge(
        region=region,
        plan=of_value(done.plan, PlannedPurges),
        done=tuple(of_value(one, StorePurge) for one in done.done),
        refused=tuple(RefusedPurge(life=key, reason=reason) for key, reason in done.refused.items()),
        errors={store: output.as_object(error) for store, error in done.errors.items()},
    )


def _plan_object(planned: ExpiryPlan) -> dict[str, Any]:
    return {
        "decisions": planned.decisions,
        "objects": planned.objects,
        "bytes": planned.bytes,
        "alarms": planned.alarms,
        "left_alone": planned.left_alone,
    }


def _planned(region: str, planned: PlannedPurges) -> Iterator[str]:
    yield f"{region}: {len(planned.due)} due, {len(planned.unfinished)} unfinished, {len(planned.late)} turned up late"
    for tenant, incarnation, scope in planned.due:
        yield f"  would purge tenant {tenant}, life {incarnation}" + (f", {scope}" if scope else "")


def _purged(region: str, done: PurgeRun) -> Iterator[str]:
    yield f"{region}: {len(done.plan.due)} purges begun, {len(done.plan.unfinished)} gone on with"
    for one in done.done:
        rest = "gone from the store's own snapshots, too" if one.absent else f"waits for {', '.join(one.waits_for)}"
        yield (
            f"  tenant {one.life.tenant} on {one.store}: {one.keyrings} keyrings, {one.objects} objects removed,"
            f" {output.human_bytes(one.bytes)}; {rest}"
        )
    for key, reason in done.refused.items():
        yield f"  tenant {key.tenant}: {reason}"
    for store, error in done.errors.items():
        yield f"  {store}: {error.message}. {error.hint}"


def _expired(region: str, planned: ExpiryPlan, done: Expired | None) -> Iterator[str]:
    yield f"{region} on {planned.store}:"
    for decision in planned.decisions:
        word = "keep  " if decision.keep else "expire"
        yield f"  {word} {decision.snapshot.name[:25]}  {'; '.join(decision.reasons)}"
    for alarm in planned.alarms:
        yield f"  ALARM: {alarm.message}"
    for generation, why in planned.left_alone.items():
        yield f"  generation {generation} is left as it is: {why}"
    if done is None:
        yield f"  would remove {planned.objects} objects, {output.human_bytes(planned.bytes)}"
    else:
        yield f"  removed {done.snapshots} snapshots and {done.objects} objects, {output.human_bytes(done.bytes)}"


_COPIES = {
    "store": "store {0}",
    "store-snapshots": "the own snapshots of store {0}, seen to live {1}",
    "declared": "{0}, declared to live {1}, and seen by nobody",
}


def _kept(copy: InScope) -> str:
    return "" if copy.kept is None else output.human_duration(copy.kept)


def _proof(one: RegionProof) -> Iterator[str]:
    yield f"{one.region}: {'holds' if one.holds else 'DOES NOT HOLD'}: {one.configured.inequality}"
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
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Take what nodes handed in, on stores with `ingest`. Runs on the keeper, every few minutes.

    Each object is read, compared with its name, checked as an honest node would have made it, and copied to its place,
    where no node can change it; a snapshot's record comes last. What no honest node hands in is told, taken nowhere,
    and makes the exit status that of a refusal.

    \b
    Example:
      backupd ingest be
    """
    from backupd.model.answers import IngestAnswer, StoreIngest
    from backupd.operations.keeper.ingest import ingest as run
    from backupd.operations.keeper.ingest import troubles
    from backupd.wiring.keeper import adopt_repositories, handoff_stores, open_keeper

    context = load_context(ctx, config)
    answers: list[StoreIngest] = []
    status = 0
    with watched(context.clock, quiet=as_json) as trace:
        for name in context.regions(region or []):
            places = [place for place in context.stores_of(name, store) if place in handoff_stores(context, name)]
            if not places:
                continue
            adopt_repositories(context, name)
            with open_keeper(context, name, trace) as keeper:
                for place in places:
                    try:
                        done = run(keeper, place)
                    except BackupdError as error:
                        status = status or error.exit_code
                        answers.append(StoreIngest(region=name, store=place, error=output.as_object(error)))
                        if not as_json:
                            output.print_failure(error, f"{name} on {place}")
                        continue
                    refused = troubles(done)
                    status = status or (refused.exit_code if refused else 0)
                    answers.append(_ingest_object(name, done))
                    if not as_json:
                        output.print_lines(_told(name, done))
                        if refused:
                            output.print_failure(refused, f"{name} on {place}")
    if as_json:
        output.print_json(IngestAnswer(stores=tuple(answers)))
    return status


def _ingest_object(region: str, done: Ingested) -> StoreIngest:
    from backupd.model.answers import StoreIngest

    return StoreIngest(
        region=region,
        store=done.store,
        taken=dict(done.taken),
        bytes=done.bytes,
        dropped=done.dropped,
        waiting=dict(done.waiting),
        refused=dict(done.refused),
    )


def _told(region: str, done: Ingested) -> Iterator[str]:
    taken = ", ".join(f"{number} {kind}s" for kind, number in done.taken.items()) or "nothing"
    yield f"{region} on {done.store}: took {taken}, {output.human_bytes(done.bytes)}"
    if done.dropped:
        yield f"  {done.dropped} objects were not needed"
    for name, missing in done.waiting.items():
        yield f"  {name} waits for {missing}"
    for name, why in done.refused.items():
        yield f"  REFUSED {name}: {why}"
