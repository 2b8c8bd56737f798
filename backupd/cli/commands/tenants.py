"""The group `tenant`: how tenants stand, where their rows still are, and the proof that a tenant is gone.

The commands that change a tenant stand in `tenants_change`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from backupd.cli import output
from backupd.cli.commands.tenants_change import COMMANDS, desk_of
from backupd.cli.options import (
    EXIT_STATUS,
    ClassOption,
    ConfigOption,
    IdOption,
    JsonOption,
    RegionOption,
    TenantArgument,
    load_context,
    region_of,
    tenant_of,
)
from backupd.cli.progress import watched
from backupd.cli.run import Reply
from backupd.cli.tenant_lines import location_lines, standing_lines
from backupd.errors import RefusedError, StoreGoneError
from backupd.model.text import counted, day

if TYPE_CHECKING:
    from backupd.model.ids import TenantId
    from backupd.operations.attestation import Issued
    from backupd.operations.tenants.standing import Happened, TenantStanding
    from backupd.planning.incarnations import IncarnationKey, TenantStates


def list_(ctx: typer.Context, region: RegionOption, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """List every tenant that the ledger names: late ones first, then by the next date.

    A tenant that it does not name is active and not listed. The exit status says when a tenant is late.

    \b
    Example:
      backupd tenant list be
    """
    from backupd.operations.tenants.standing import standings
    from backupd.wiring.keeper import deletion_budget, open_book

    context = load_context(ctx, config)
    name = region_of(context, region)
    with watched(context.clock, quiet=as_json) as trace, open_book(context, name, trace) as book:
        found = standings(book.states, context.clock.now(), deletion_budget(context, name).expiry_gap)
    headings = ("tenant", "incarnation", "class", "state", "since", "purge by", "gone by", "holds", "late")
    return Reply(
        {"region": region, "tenants": found},
        [output.TextTable(headings, [_row(one) for one in found])],
        status=RefusedError.exit_code if any(one.overdue for one in found) else 0,
    ).print(as_json=as_json)


def show(
    ctx: typer.Context,
    region: RegionOption,
    tenant: TenantArgument,
    is_id: IdOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show a tenant's incarnations and everything the ledger says of it.

    \b
    Example:
      backupd tenant show be acme
    """
    from backupd.operations.tenants.standing import history, incarnations_of, standing
    from backupd.wiring.keeper import deletion_budget, open_book

    context = load_context(ctx, config)
    name = region_of(context, region)
    tenant_id = tenant_of(context, name, tenant, is_id=is_id)
    with watched(context.clock, quiet=as_json) as trace, open_book(context, name, trace) as book:
        now, gap = context.clock.now(), deletion_budget(context, name).expiry_gap
        found = [standing(book.states, one, now, gap) for one in incarnations_of(book.states, tenant_id)]
        past = history(book, tenant_id)
        known = book.states.knows(tenant_id)
    lines = [line for one in found for line in standing_lines(one)]
    if not known:
        lines = [f"tenant {tenant_id}: no ledger entry names it; `backupd tenant where` says whether a backup does"]
    return Reply(
        {"tenant": tenant_id, "incarnations": found, "history": past}, [*lines, *map(_happened_line, past)]
    ).print(as_json=as_json)


def where(
    ctx: typer.Context,
    region: RegionOption,
    tenant: TenantArgument,
    is_id: IdOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say where a tenant's rows still are, and by when nothing is left.

    Looks on every store: folders, keys, records, and the store's own snapshots. A store that does not answer is named,
    and makes the exit status that of one. A tenant that nothing knows is `unknown`. Runs on the keeper.

    \b
    Example:
      backupd tenant where be acme
    """
    from backupd.operations.keeper.locate import locate_tenant
    from backupd.operations.keeper.sightings import search_for_tenant
    from backupd.wiring.context import QUICKLY
    from backupd.wiring.keeper import deletion_budget, open_keeper, tenant_register

    context = load_context(ctx, config)
    name = region_of(context, region)
    tenant_id = tenant_of(context, name, tenant, is_id=is_id)
    with watched(context.clock, quiet=as_json) as trace, open_keeper(context, name, trace, QUICKLY) as keeper:
        known = search_for_tenant(keeper, tenant_id, tenant_register(context, name)).known
        found = locate_tenant(keeper, deletion_budget(context, name), tenant_id, known=known)
    lines = (line for one in found for line in location_lines(one))
    away = any(place.kind == "away" for one in found for place in one.unseen)
    status = StoreGoneError.exit_code if away else 0
    return Reply({"tenant": tenant_id, "incarnations": found, "known": known}, lines, status=status).print(
        as_json=as_json
    )


def sync(ctx: typer.Context, region: RegionOption, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Read the configured query, and bring the ledger up to what it says.

    A tenant without a row is left as it is. The exit status says when a row asks for what is not possible, or when the
    newest snapshots hold rows of a tenant that the application says it has purged before.

    \b
    Example:
      backupd tenant sync be
    """
    from backupd.model.answers import SyncAnswer
    from backupd.operations.keeper.locate import find_remaining_rows
    from backupd.operations.tenants.sync import sync as run
    from backupd.postgres.lifecycle_query import read_tenant_dates
    from backupd.wiring.keeper import lifecycle_query, open_keeper

    context = load_context(ctx, config)
    name = region_of(context, region)
    source, sql = lifecycle_query(context, name)
    with ExitStack() as stack:
        trace = stack.enter_context(watched(context.clock, quiet=as_json))
        rows = read_tenant_dates(source, sql)  # before the stores, so that nobody waits for the database there
        keeper = stack.enter_context(open_keeper(context, name, trace))
        done = run(desk_of(context, name, keeper), keeper.tags, rows)
        purged = {keeper.tags.tenant_id(row.tenant): row.live_purged_at for row in rows if row.live_purged_at}
        lingering = sorted(find_remaining_rows(keeper, purged)) if purged else []
    remarks = [f"{tenant}: {why}" for tenant, why in done.refused.items()]
    remarks += [f"{tenant}: the newest snapshots still hold rows of it" for tenant in lingering]
    return Reply(
        SyncAnswer(tenants=done.tenants, events=tuple(done.events), refused=done.refused, lingering=tuple(lingering)),
        [f"{region}: {counted(done.tenants, 'tenant')} read, {counted(len(done.events), 'change')}"],
        remarks,
        RefusedError.exit_code if remarks else 0,
    ).print(as_json=as_json)


def _happened_line(happened: Happened) -> str:
    fields = msgspec.to_builtins(happened.event)
    values = (f"{name}={value}" for name, value in fields.items() if value and name not in ("tenant", "segments"))
    return f"  {happened.at}  #{happened.seq}  {' '.join(values)}"


def _row(one: TenantStanding) -> tuple[output.Cell, ...]:
    dates = day(one.since), day(one.purge_by), day(one.deadline)
    return (one.tenant, one.incarnation, one.scope, one.state.value, *dates, " ".join(one.holds), one.overdue or "")


def attest(
    ctx: typer.Context,
    region: RegionOption,
    tenant: TenantArgument,
    data_class: ClassOption = "",
    is_id: IdOption = False,
    incarnation: Annotated[
        int | None,
        typer.Option(
            "--incarnation", min=1, metavar="N", show_default=False, help="Which one. [default: the last purged]"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", show_default=False, help="Also write it to this new file."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Attest that nothing of a purged tenant is left. Runs on the keeper.

    Every store is looked at again, its own snapshots too, and the ledger is compared from its first entry. While
    anything was not seen, it is refused, and everything that is open is named. The signed document is put on every
    store and into the ledger; it says what came late.

    \b
    Example:
      backupd tenant attest be acme --out acme.attestation.json
    """
    from backupd.operations.attestation import attest as run
    from backupd.operations.attestation.files import check_new, write_new
    from backupd.wiring.keeper import open_keeper

    context = load_context(ctx, config)
    name = region_of(context, region)
    tenant_id = tenant_of(context, name, tenant, is_id=is_id)
    if out is not None:
        check_new(out)
    locations = {store: context.config.stores[store].location for store in context.stores_of(name)}
    with watched(context.clock, quiet=as_json) as trace, open_keeper(context, name, trace) as keeper:
        issued = run(keeper, _incarnation_of(keeper.book.states, tenant_id, data_class, incarnation), locations)
    if out is not None:
        write_new(out, issued.document)
    value = {"sha256": issued.sha256, "attestation": issued.attestation}
    return Reply(value, _issued_lines(issued, out)).print(as_json=as_json)


def _incarnation_of(states: TenantStates, tenant: TenantId, scope: str, incarnation: int | None) -> IncarnationKey:
    """Return the incarnation to attest: the one of this number, or the last one that was purged."""
    from backupd.planning.incarnations import IncarnationKey

    if incarnation is not None:
        return IncarnationKey(tenant, incarnation, scope)
    purged = [one.key for one in states.of(tenant) if one.key.scope == scope and one.purged]
    if not purged:
        raise RefusedError(
            f"the purge of tenant {tenant} has not begun", hint="`backupd tenant show` tells how it stands."
        )
    return purged[-1]


def _issued_lines(issued: Issued, out: Path | None) -> Iterator[str]:
    one = issued.attestation
    late = "LATE" if one.late else "in time"
    yield f"attested: tenant {one.tenant}, incarnation {one.incarnation}: nothing is left, {late} (due {one.due[:10]})"
    yield f"  attestations/{issued.sha256}.json on {', '.join(store.store for store in one.stores)}"
    if out is not None:
        yield f"  and in {out}"


def add(app: typer.Typer) -> None:
    """Add the group to the program."""
    group = typer.Typer(rich_markup_mode=None, help="Tenants who leave, come back, are held, or move.")
    commands: tuple[tuple[str, Callable[..., int]], ...] = (
        ("list", list_),
        ("show", show),
        ("where", where),
        *COMMANDS.items(),
        ("attest", attest),
        ("sync", sync),
    )
    for name, command in commands:
        group.command(name, epilog=EXIT_STATUS)(command)
    app.add_typer(group, name="tenant")
