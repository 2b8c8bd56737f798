"""The commands `tenant unsubscribe`, `resubscribe`, `erase`, `hold`, `release` and `move`: each changes one tenant.

They differ in their options and in the change that these ask for; `COMMANDS` makes a command of each.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
    grouped,
    instant_of,
    load_context,
    parse_instant,
    region_of,
    standing_lines,
    tenant_of,
)
from backupd.cli.progress import watched
from backupd.cli.run import Reply
from backupd.errors import BackupdError

if TYPE_CHECKING:
    from backupd.model.ids import RegionName, TenantId
    from backupd.operations.keeper.types import Keeper, Purged
    from backupd.operations.tenants.changes import Changed, TenantDesk
    from backupd.wiring.context import Context

TenantChange = Callable[["TenantDesk", "TenantId"], "Changed"]


@dataclass(frozen=True, slots=True)
class TenantOptions:
    """The options that every change of a tenant has."""

    is_id: IdOption = False
    config: ConfigOption = None
    as_json: JsonOption = False


def unsubscribe(at: AtOption = None, data_class: ClassOption = "") -> TenantChange:
    """Mark a tenant who unsubscribed: the dates of its purge run from then.

    \b
    Example:
      backupd tenant unsubscribe be acme --at 2026-11-01
    """
    from backupd.operations.tenants import changes

    since = instant_of(at)
    return lambda desk, tenant: changes.unsubscribe(desk, tenant, since, data_class)


def resubscribe(data_class: ClassOption = "") -> TenantChange:
    """Take a tenant back: its dates are cancelled.

    After a purge there is nothing to take back: a new incarnation begins, with nothing of the old one.

    \b
    Example:
      backupd tenant resubscribe be acme
    """
    from backupd.operations.tenants import changes

    return lambda desk, tenant: changes.resubscribe(desk, tenant, data_class)


def erase(at: AtOption = None, data_class: ClassOption = "") -> TenantChange:
    """Erase a tenant on request, now: its keys are removed from every keyring, then its objects from every store.

    There is no way back. What the stores' own snapshots still hold ages out; `tenant where` says until when.

    \b
    Example:
      backupd tenant erase be acme --at 2026-11-20T10:00
    """
    from backupd.operations.tenants import changes

    since = instant_of(at)
    return lambda desk, tenant: changes.erase(desk, tenant, since, data_class)


def hold(
    reference: ReferenceArgument,
    review: Annotated[
        str, typer.Option("--review", metavar="DATE", show_default=False, help="When somebody looks at it again.")
    ],
) -> TenantChange:
    """Hold a tenant: nothing of it is purged or expired until the hold is released. Nobody else is kept by it.

    \b
    Example:
      backupd tenant hold be acme CASE-2026-17 --review 2027-05-01
    """
    from backupd.operations.tenants import changes

    until = parse_instant(review)
    return lambda desk, tenant: changes.hold(desk, tenant, reference, until)


def release(reference: ReferenceArgument) -> TenantChange:
    """Release a hold. What it kept beyond its date is purged soon after.

    \b
    Example:
      backupd tenant release be acme CASE-2026-17
    """
    from backupd.operations.tenants import changes

    return lambda desk, tenant: changes.release(desk, tenant, reference)


def move(
    to: Annotated[str, typer.Option("--to", metavar="REGION", show_default=False, help="Where it lives from now on.")],
    at: AtOption = None,
) -> TenantChange:
    """Say that a tenant's residency moved: here it is purged on a clock of its own, there it starts with backups.

    \b
    Example:
      backupd tenant move be acme --to ch
    """
    from backupd.operations.tenants import changes

    since = instant_of(at)
    return lambda desk, tenant: changes.move(desk, tenant, to, since)


def command_of(requested: Callable[..., TenantChange], *, purge: bool = False) -> Callable[..., int]:
    """Make a command of a change: its help is the change's docstring, its options the change's and `TenantOptions`.

    With `purge` the tenant's life is purged at once after the change.
    """

    def command(ctx: typer.Context, region: str, tenant: str, shared: TenantOptions, **own: Any) -> int:
        return _change(load_context(ctx, shared.config), (region, tenant), shared, requested(**own), purge=purge)

    keyword = inspect.Parameter.KEYWORD_ONLY
    common = {"ctx": typer.Context, "region": RegionOption, "tenant": TenantArgument}
    command.__doc__ = requested.__doc__
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what `grouped` reads, and mypy knows not
        [
            *(inspect.Parameter(name, keyword, annotation=kind) for name, kind in common.items()),
            *(one.replace(kind=keyword) for one in inspect.signature(requested, eval_str=True).parameters.values()),
            inspect.Parameter("shared", keyword, annotation=TenantOptions),
        ]
    )
    return grouped(command)


COMMANDS = {
    "unsubscribe": command_of(unsubscribe),
    "resubscribe": command_of(resubscribe),
    "erase": command_of(erase, purge=True),
    "hold": command_of(hold),
    "release": command_of(release),
    "move": command_of(move),
}
"""The commands of the group `tenant` that change a tenant, by name."""


def desk_of(context: Context, region: RegionName, keeper: Keeper) -> TenantDesk:
    """Return what changes of a region's tenants need: the ledger, the clock and the rules."""
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


def _change(
    context: Context, place: tuple[str, str], shared: TenantOptions, change: TenantChange, *, purge: bool
) -> int:
    """Make the change in the region's ledger, purge if that was asked for, and print how the tenant stands then."""
    from backupd.operations.keeper.purge import Purging
    from backupd.operations.tenants.changes import Changed
    from backupd.wiring.keeper import open_keeper

    name = region_of(context, place[0])
    tenant = tenant_of(context, name, place[1], is_id=shared.is_id)
    with watched(context.clock, quiet=shared.as_json) as trace, open_keeper(context, name, trace) as keeper:
        desk = desk_of(context, name, keeper)
        changed, errors = change(desk, tenant), dict[str, BackupdError]()
        purged: Sequence[Purged] = ()
        if purge:
            with Purging(keeper) as purging:
                purged = purging.purge(changed.life.key)
                errors = dict(purging.errors)
            changed = Changed(changed.events, keeper.book.states.incarnations[changed.life.key])
        _reply(desk, changed, purged).print(as_json=shared.as_json)
    for store, error in errors.items():
        output.print_lines([f"{store}: {error.message}", f"  {error.hint}"], sys.stderr)
    return next((error.exit_code for error in errors.values()), 0)


def _reply(desk: TenantDesk, changed: Changed, purged: object) -> Reply:
    from backupd.operations.tenants.standing import standing

    stands = standing(desk.book.states, changed.life, desk.clock.now(), desk.budget.expiry_gap)

    def lines() -> Iterator[str]:
        if not changed.events:
            yield "it is so already; nothing was changed"
        yield from standing_lines(stands)

    return Reply({"changed": bool(changed.events), "tenant": stands, "purged": purged}, lines())
