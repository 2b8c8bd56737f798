"""`tenant attest`: the proof that a tenant is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import output
from backupd.cli.commands.tenants.options import (
    ClassOption,
    IdOption,
    RegionOption,
    TenantArgument,
    region_of,
    tenant_of,
)
from backupd.cli.options import ConfigOption, JsonOption, load_context
from backupd.cli.progress import watched
from backupd.errors import RefusedError

if TYPE_CHECKING:
    from backupd.model.ids import TenantId
    from backupd.operations.attestation import Issued
    from backupd.planning.lifecycle.lives import LifeKey, TenantStates


def attest(
    ctx: typer.Context,
    region: RegionOption,
    tenant: TenantArgument,
    data_class: ClassOption = "",
    is_id: IdOption = False,
    incarnation: Annotated[
        int | None,
        typer.Option("--life", min=1, metavar="N", show_default=False, help="Which life. [default: the last purged]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", show_default=False, help="Also write it to this new file."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Attest that nothing of a purged tenant is left. Runs on the keeper.

    Every store is looked at again, its own snapshots too, and the ledger is compared from its first entry. While
    anything was not seen, it is refused, and everything that is open is named. The signed document is put on every
    store and into the ledger; what came late is told in it.

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
        issued = run(keeper, _life_of(keeper.book.lives, tenant_id, data_class, incarnation), locations)
    if out is not None:
        write_new(out, issued.document)
    if as_json:
        output.print_json({"sha256": issued.sha256, "attestation": issued.attestation})
    else:
        output.print_lines(_issued(issued, out))


def _life_of(lives: TenantStates, tenant: TenantId, scope: str, incarnation: int | None) -> LifeKey:
    """The life somebody means: the last one that was purged, unless they say which."""
    from backupd.planning.lifecycle.lives import LifeKey

    if incarnation is not None:
        return LifeKey(tenant, incarnation, scope)
    purged = [life.key for life in lives.of(tenant) if life.key.scope == scope and life.purged]
    if not purged:
        raise RefusedError(
            f"the purge of tenant {tenant} has not begun", hint="`backupd tenant show` tells how it stands."
        )
    return purged[-1]


def _issued(issued: Issued, out: Path | None) -> Iterator[str]:
    one = issued.attestation
    late = "LATE" if one.late else "in time"
    yield f"attested: tenant {one.tenant}, life {one.incarnation}: nothing is left, {late} (due {one.due[:10]})"
    yield f"  attestations/{issued.sha256}.json on {', '.join(store.store for store in one.stores)}"
    if out is not None:
        yield f"  and in {out}"
