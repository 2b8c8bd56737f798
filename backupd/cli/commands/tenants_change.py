"""`tenant unsubscribe`, `resubscribe`, `erase`, `hold`, `release` and `move`: what happens to one tenant."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupd.cli import output
from backupd.cli.options import (
    AtOption,
    ClassOption,
    ConfigOption,
    IdOption,
    JsonOption,
    ReferenceArgument,
    RegionOption,
    TenantArgument,
    instant_of,
    load_context,
    region_of,
    tenant_of,
    told,
)
from backupd.cli.progress import watched
from backupd.errors import UsageError

if TYPE_CHECKING:
    from backupd.model.ids import RegionName, TenantId
    from backupd.operations.keeper.types import Keeper
    from backupd.operations.tenants.changes import Changed, TenantDesk
    from backupd.wiring.context import Context


def unsubscribe(
    ctx: typer.Context,
    region: RegionOption,
    tenant: TenantArgument,
    at: AtOption = None,
    data_class: ClassOption = "",
    is_id: IdOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mark a tenant who unsubscribed: the dates of its purge run from then.

    \b
    Example:
      backupd tenant unsubscribe be acme --at 2026-11-01
    """
    from backupd.operations.tenants import changes

    since = instant_of(at)
    _change(
        ctx,
        config,
        (region, tenant, is_id),
        lambda desk, one: changes.unsubscribe(desk, one, since, data_class),
        as_json=as_json,
    )


def resubscribe(
    ctx: typer.Context,
    region: RegionOption,
    tenant: TenantArgument,
    data_class: ClassOption = "",
    is_id: IdOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a tenant back: its dates are cancelled.

    After a purge there is nothing to take back: a new incarnation begins, with nothing of the old one.

    \b
    Example:
      backupd tenant resubscribe be acme
    """
    from backupd.operations.tenants import changes

    _change(
        ctx,
        config,
        (region, tenant, is_id),
        lambda desk, one: changes.resubscribe(desk, one, data_class),
        as_json=as_json,
    )


def erase(
    ctx: typer.Context,
    region: RegionOption,
    tenant: TenantArgument,
    at: AtOption = None,
    data_class: ClassOption = "",
    is_id: IdOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Erase a tenant on request, now: its keys are removed from every keyring, then its objects from every store.

    There is no way back. What the stores' own snapshots still hold ages out; `tenant where` says until when.

    \b
    Example:
      backupd tenant erase be acme --at 2026-11-20T10:00
    """
    from backupd.operations.keeper.purge import Purging
    from backupd.operations.tenants import changes
    from backupd.wiring.keeper import open_keeper

    context, since = load_context(ctx, config), instant_of(at)
    name = region_of(context, region)
    tenant_id = tenant_of(context, name, tenant, is_id=is_id)
    with watched(context.clock, quiet=as_json) as trace, open_keeper(context, name, trace) as keeper:
        desk = desk_of(context, name, keeper)
        changed = changes.erase(desk, tenant_id, since, data_class)
        with Purging(keeper) as purging:
            done = purging.purge(changed.life.key)
            errors = dict(purging.errors)
        changed = changes.Changed(changed.events, keeper.book.states.incarnations[changed.life.key])
        _tell_change(desk, changed, as_json=as_json, purged=done)
    for store, error in errors.items():
        output.print_lines([f"{store}: {error.message}", f"  {error.hint}"], sys.stderr)
    return next((error.exit_code for error in errors.values()), 0)


def hold(
    ctx: typer.Context,
    region: RegionOption,
    tenant: TenantArgument,
    reference: ReferenceArgument,
    review: Annotated[
        str, typer.Option("--review", metavar="DATE", show_default=False, help="When somebody looks at it again.")
    ],
    is_id: IdOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold a tenant: nothing of it is purged or expired until the hold is released. Nobody else is kept by it.

    \b
    Example:
      backupd tenant hold be acme CASE-2026-17 --review 2027-05-01
    """
    from backupd.operations.tenants import changes

    until = instant_of(review)
    if until is None:
        raise UsageError("a hold needs a date of review")
    _change(
        ctx,
        config,
        (region, tenant, is_id),
        lambda desk, one: changes.hold(desk, one, reference, until),
        as_json=as_json,
    )


def release(
    ctx: typer.Context,
    region: RegionOption,
    tenant: TenantArgument,
    reference: ReferenceArgument,
    is_id: IdOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Release a hold. What it kept beyond its date is purged soon after.

    \b
    Example:
      backupd tenant release be acme CASE-2026-17
    """
    from backupd.operations.tenants import changes

    _change(
        ctx,
        config,
        (region, tenant, is_id),
        lambda desk, one: changes.release(desk, one, reference),
        as_json=as_json,
    )


def move(
    ctx: typer.Context,
    region: RegionOption,
    tenant: TenantArgument,
    to: Annotated[str, typer.Option("--to", metavar="REGION", show_default=False, help="Where it lives from now on.")],
    at: AtOption = None,
    is_id: IdOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that a tenant's residency moved: here it is purged on a clock of its own, there it starts with backups.

    \b
    Example:
      backupd tenant move be acme --to ch
    """
    from backupd.operations.tenants import changes

    since = instant_of(at)
    _change(
        ctx,
        config,
        (region, tenant, is_id),
        lambda desk, one: changes.move(desk, one, to, since),
        as_json=as_json,
    )


def _change(
    ctx: typer.Context,
    config: Any,
    who: tuple[str, str, bool],
    change: Callable[[TenantDesk, TenantId], Changed],
    *,
    as_json: bool,
) -> None:
    from backupd.wiring.keeper import open_keeper

    context = load_context(ctx, config)
    region, given, is_id = who
    name = region_of(context, region)
    tenant_id = tenant_of(context, name, given, is_id=is_id)
    with watched(context.clock, quiet=as_json) as trace, open_keeper(context, name, trace) as keeper:
        desk = desk_of(context, name, keeper)
        _tell_change(desk, change(desk, tenant_id), as_json=as_json)


def desk_of(context: Context, region: RegionName, keeper: Keeper) -> TenantDesk:
    from backupd.operations.tenants.changes import TenantDesk
    from backupd.wiring.keeper import deletion_budget

    return TenantDesk(
        book=keeper.book,
        clock=context.clock,
        budget=deletion_budget(context, region),
        release_within=context.config.regions[region].lifecycle.release_within,
        own_clocks=context.config.own_clocks(),
        regions=frozenset(context.config.regions) - {region},
    )


def _tell_change(desk: TenantDesk, changed: Changed, *, as_json: bool, purged: object = ()) -> None:
    from backupd.operations.tenants.standing import standing

    how = standing(desk.book.states, changed.life, desk.clock.now(), desk.budget.expiry_gap)
    if as_json:
        output.print_json({"changed": bool(changed.events), "tenant": how, "purged": purged})
        return
    if not changed.events:
        output.print_lines(["it is so already; nothing was changed"])
    output.print_lines(told(how))
