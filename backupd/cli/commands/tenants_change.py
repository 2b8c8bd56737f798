"""The commands `tenant unsubscribe`, `resubscribe`, `erase`, `hold`, `release` and `move`: each changes one tenant.

They differ in their options and in the change that these ask for; `COMMANDS` makes a command of each.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupd.cli import output
from backupd.cli.consent import DryRunOption, YesOption, is_asked, show_and_ask
from backupd.cli.options import (
    AtOption,
    ClassOption,
    ConfigOption,
    IdOption,
    JsonOption,
    ReferenceArgument,
    RegionOption,
    TenantArgument,
    UnknownOption,
    grouped,
    instant_of,
    load_context,
    parse_instant,
    region_of,
    tenant_named,
    typed_tenant,
)
from backupd.cli.progress import watched
from backupd.cli.run import Reply
from backupd.errors import BackupdError

if TYPE_CHECKING:
    from backupd.model.ids import RegionName, TenantId
    from backupd.operations.keeper.types import Keeper, Purged
    from backupd.operations.tenants.changes import Changed, TenantDesk
    from backupd.operations.tenants.standing import TenantStanding
    from backupd.wiring.context import Context

TenantChange = Callable[["TenantDesk", "TenantId"], "Changed"]


@dataclass(frozen=True, slots=True)
class TenantOptions:
    """The options that every change of a tenant has."""

    is_id: IdOption = False
    config: ConfigOption = None
    as_json: JsonOption = False
    unknown: UnknownOption = False
    dry_run: DryRunOption = False


@dataclass(frozen=True, slots=True)
class RemovalOptions(TenantOptions):
    """The options of a change after which a tenant's rows are removed for good."""

    yes: YesOption = False


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


def command_of(
    requested: Callable[..., TenantChange], options: type[TenantOptions] = TenantOptions, *, purge: bool = False
) -> Callable[..., int]:
    """Make a command of a change: its help is the change's docstring, its options the change's and `options`.

    With `purge` the tenant's incarnation is purged at once after the change.
    """

    def command(ctx: typer.Context, region: str, tenant: str, shared: TenantOptions, **own: Any) -> int:
        change = requested(**own)
        asked = _asked(load_context(ctx, shared.config), region, tenant, shared)
        if shared.dry_run:
            return _preview(asked, change)[1].print(as_json=shared.as_json)
        if isinstance(shared, RemovalOptions) and is_asked(yes=shared.yes):
            stands, preview = _preview(asked, change)
            if purge or stands.purge_by is not None:
                question = "Remove all of it for good?" if purge else "Let it be removed here for good by that day?"
                show_and_ask(preview.lines, question)
        return _change(asked, change, purge=purge)

    keyword = inspect.Parameter.KEYWORD_ONLY
    common = {"ctx": typer.Context, "region": RegionOption, "tenant": TenantArgument}
    command.__doc__ = requested.__doc__
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what `grouped` reads, and mypy knows not
        [
            *(inspect.Parameter(name, keyword, annotation=kind) for name, kind in common.items()),
            *(one.replace(kind=keyword) for one in inspect.signature(requested, eval_str=True).parameters.values()),
            inspect.Parameter("shared", keyword, annotation=options),
        ]
    )
    return grouped(command)


COMMANDS = {
    "unsubscribe": command_of(unsubscribe),
    "resubscribe": command_of(resubscribe),
    "erase": command_of(erase, RemovalOptions, purge=True),
    "hold": command_of(hold),
    "release": command_of(release, RemovalOptions),
    "move": command_of(move, RemovalOptions),
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


@dataclass(frozen=True, slots=True)
class _Asked:
    """The tenant that a command was asked to change, and the options of the command."""

    context: Context
    region: RegionName
    tenant: TenantId
    given: str | None
    """The name as it was typed; None for an id."""
    options: TenantOptions

    @contextmanager
    def keeper(self) -> Iterator[Keeper]:
        """Open the region's keeper. Raises RefusedError for a tenant that nothing knows, but not with `--unknown`."""
        from backupd.operations.keeper.sightings import search_for_tenant
        from backupd.planning.sightings import require_known
        from backupd.wiring.context import QUICKLY
        from backupd.wiring.keeper import open_keeper, tenant_register

        context, quiet = self.context, self.options.as_json
        with watched(context.clock, quiet=quiet) as trace, open_keeper(context, self.region, trace, QUICKLY) as keeper:
            if not self.options.unknown:
                register = tenant_register(context, self.region)
                require_known(search_for_tenant(keeper, self.tenant, register, self.given))
            yield keeper


def _asked(context: Context, region: str, tenant: str, options: TenantOptions) -> _Asked:
    name, text = region_of(context, region), typed_tenant(tenant)
    tenant_id = tenant_named(context, name, text, is_id=options.is_id)
    return _Asked(context, name, tenant_id, None if options.is_id else text, options)


def _preview(asked: _Asked, change: TenantChange) -> tuple[TenantStanding, Reply]:
    """Return what the change would do: the tenant's dates after it, and all that is on the stores now."""
    from backupd.cli.tenant_lines import location_lines
    from backupd.operations.keeper.locate import locate_incarnation

    with asked.keeper() as keeper:
        desk = replace(desk_of(asked.context, asked.region, keeper), dry_run=True)
        found = locate_incarnation(keeper, desk.budget, change(desk, asked.tenant).incarnation)
    value = {"changed": False, "tenant": found.standing, "purged": (), "dry_run": True, "incarnations": (found,)}
    leaving = found.standing.purge_by is not None
    head = "this is how it would stand, and what would go:" if leaving else "this is how it would stand:"
    return found.standing, Reply(value, [head, *location_lines(found)])


def _change(asked: _Asked, change: TenantChange, *, purge: bool) -> int:
    """Make the change in the region's ledger, purge if that was asked for, and print how the tenant stands then."""
    from backupd.operations.keeper.purge import Purging
    from backupd.operations.tenants.changes import Changed

    with asked.keeper() as keeper:
        desk = desk_of(asked.context, asked.region, keeper)
        changed, errors = change(desk, asked.tenant), dict[str, BackupdError]()
        purged: Sequence[Purged] = ()
        if purge:
            with Purging(keeper) as purging:
                purged = purging.purge(changed.incarnation.key)
                errors = dict(purging.errors)
            changed = Changed(changed.events, keeper.book.states.incarnations[changed.incarnation.key])
        _reply(asked.region, desk, changed, purged).print(as_json=asked.options.as_json)
    for store, error in errors.items():
        output.print_lines([f"{store}: {error.message}", f"  {error.hint}"], sys.stderr)
    return next((error.exit_code for error in errors.values()), 0)


def _reply(region: RegionName, desk: TenantDesk, changed: Changed, purged: object) -> Reply:
    from backupd.cli.tenant_lines import rest_lines, standing_lines
    from backupd.operations.tenants.standing import standing

    stands = standing(desk.book.states, changed.incarnation, desk.clock.now(), desk.budget.expiry_gap)

    def lines() -> Iterator[str]:
        if not changed.events:
            yield "it is so already; nothing was changed"
        yield from standing_lines(stands)
        yield from rest_lines(region, stands)

    return Reply({"changed": bool(changed.events), "tenant": stands, "purged": purged}, lines())
