"""`tenant list`, `show`, `where` and `sync`: how tenants stand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import typer

from backupd.cli import output
from backupd.cli.commands.tenants.changing import desk_of
from backupd.cli.commands.tenants.options import IdOption, RegionOption, TenantArgument, day, region_of, tenant_of, told
from backupd.cli.options import ConfigOption, JsonOption, load_context
from backupd.cli.progress import watched
from backupd.errors import RefusedError

if TYPE_CHECKING:
    from backupd.operations.keeper.where import TenantLocation, Unseen
    from backupd.operations.tenants.told import Happened, TenantStanding


def list_(ctx: typer.Context, region: RegionOption, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """List every tenant the ledger speaks of: who is late first, then by the next date.

    A tenant nobody spoke of is active and not listed. The exit status tells when somebody is late.

    \b
    Example:
      backupd tenant list be
    """
    from backupd.operations.tenants.told import standings
    from backupd.wiring.keeper import deletion_budget, open_book

    context = load_context(ctx, config)
    name = region_of(context, region)
    with open_book(context, name) as book:
        book.sync()
        found = standings(book.lives, context.clock.now(), deletion_budget(context, name).expiry_gap)
    if as_json:
        output.print_json({"region": region, "tenants": found})
    else:
        rows = [_row(one) for one in found]
        headings = ("tenant", "life", "class", "state", "since", "purge by", "gone by", "holds", "late")
        output.print_table(output.TextTable(headings, rows))
    return RefusedError.exit_code if any(one.overdue for one in found) else 0


def show(
    ctx: typer.Context,
    region: RegionOption,
    tenant: TenantArgument,
    is_id: IdOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a tenant's lives and everything the ledger says of it.

    \b
    Example:
      backupd tenant show be acme
    """
    from backupd.operations.tenants.told import history, lives_of, standing
    from backupd.wiring.keeper import deletion_budget, open_book

    context = load_context(ctx, config)
    name = region_of(context, region)
    tenant_id = tenant_of(context, name, tenant, is_id=is_id)
    with open_book(context, name) as book:
        book.sync()
        now, gap = context.clock.now(), deletion_budget(context, name).expiry_gap
        found = [standing(book.lives, life, now, gap) for life in lives_of(book.lives, tenant_id)]
        past = history(book, tenant_id)
    if as_json:
        output.print_json({"tenant": tenant_id, "lives": found, "history": past})
        return
    for one in found:
        output.print_lines(told(one))
    for happened in past:
        fields = {k: v for k, v in msgspec.to_builtins(happened.event).items() if k not in ("tenant", "segments")}
        output.print_lines(
            [f"  {happened.at}  #{happened.seq}  " + " ".join(f"{k}={v}" for k, v in fields.items() if v)]
        )


def where(
    ctx: typer.Context,
    region: RegionOption,
    tenant: TenantArgument,
    is_id: IdOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say where a tenant's rows still are, and by when nothing is left.

    Looks on every store: folders, keys, records, and the store's own snapshots. Runs on the keeper.

    \b
    Example:
      backupd tenant where be acme
    """
    from backupd.operations.keeper.where import find_where
    from backupd.wiring.keeper import deletion_budget, open_keeper

    context = load_context(ctx, config)
    name = region_of(context, region)
    tenant_id = tenant_of(context, name, tenant, is_id=is_id)
    with watched(context.clock, quiet=as_json) as trace, open_keeper(context, name, trace) as keeper:
        found = find_where(keeper, deletion_budget(context, name), tenant_id)
    if as_json:
        output.print_json({"tenant": tenant_id, "lives": found})
    else:
        for one in found:
            output.print_lines(_where_told(one))


def sync(ctx: typer.Context, region: RegionOption, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Read the configured query, and bring the ledger up to what it says.

    A tenant without a row is left as it is. The exit status tells when a row asks for what is not possible, or when the
    newest snapshots hold rows of a tenant that the application says it has purged before.

    \b
    Example:
      backupd tenant sync be
    """
    from backupd.operations.tenants.lingering import find_lingering
    from backupd.operations.tenants.sync import sync as run
    from backupd.postgres.lifecycle import read_tenant_dates
    from backupd.wiring.keeper import lifecycle_query, open_keeper

    context = load_context(ctx, config)
    name = region_of(context, region)
    source, sql = lifecycle_query(context, name)
    rows = read_tenant_dates(source, sql)
    with watched(context.clock, quiet=as_json) as trace, open_keeper(context, name, trace) as keeper:
        done = run(desk_of(context, name, keeper), keeper.tags, rows)
        purged = {keeper.tags.tenant_id(row.tenant): row.live_purged_at for row in rows if row.live_purged_at}
        lingering = sorted(find_lingering(keeper, purged)) if purged else []
    if as_json:
        output.print_json({**msgspec.to_builtins(done), "lingering": lingering})
    else:
        output.print_lines([f"{region}: {done.tenants} tenants read, {len(done.events)} changes"])
        output.print_lines((f"{tenant}: {why}" for tenant, why in done.refused.items()), sys.stderr)
        output.print_lines(
            (f"{tenant}: the newest snapshots still hold rows of it" for tenant in lingering), sys.stderr
        )
    return RefusedError.exit_code if done.refused or lingering else 0


def _happened_told(happened: Happened) -> str:
    fields = msgspec.to_builtins(happened.event)
    told_of = (f"{name}={value}" for name, value in fields.items() if value and name not in ("tenant", "segments"))
    return f"  {happened.at}  #{happened.seq}  {' '.join(told_of)}"


_UNSEEN = {
    "handed-in": "{0}: {1} objects handed in and not taken, anybody's",
    "uploads": "{0}: {1} uploads under way or cut off, anybody's",
    "retired": "{0}: declared gone, and seen by nobody",
    "declared": "copies '{0}': declared, and seen by nobody",
}


def _until(place: Unseen) -> str:
    return f", gone by {day(place.until)}" if place.until else ""


def _where_told(one: TenantLocation) -> Iterator[str]:
    yield from told(one.standing)
    yield f"  {'gone by ' + day(one.gone_by) if one.gone_by else 'no date'}: {one.rule}"
    if one.unreadable_since:
        yield f"  no keyring holds a key since {day(one.unreadable_since)}"
    for copy in one.copies:
        yield (
            f"  {copy.store}, generation {copy.generation}: {copy.segments} segments, {copy.objects} objects,"
            f" {copy.readable} readable, in {len(copy.snapshots)} snapshots"
        )
        if copy.server_snapshots:
            yield f"    and in the store's own {', '.join(copy.server_snapshots)}"
        if copy.keyrings:
            yield f"    keys in {', '.join(copy.keyrings)}"
        if copy.key_snapshots:
            yield f"    keys in the store's own {', '.join(copy.key_snapshots)}"
    for place in one.unseen:
        yield f"  {_UNSEEN[place.kind].format(place.name, place.objects)}{_until(place)}"
    if one.copies or one.unseen:
        yield f"  not looked for here: {', '.join(one.not_covered)}"


def _row(one: TenantStanding) -> tuple[output.Cell, ...]:
    dates = day(one.since), day(one.purge_by), day(one.deadline)
    return (one.tenant, one.incarnation, one.scope, one.state.value, *dates, " ".join(one.holds), one.overdue or "")
