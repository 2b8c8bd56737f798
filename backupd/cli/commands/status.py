"""`status`: how everything stands, in one screen and one exit status."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from backupd.cli import failures, output
from backupd.cli.options import EXIT_STATUS, ConfigOption, JsonOption, RegionArgument, wired
from backupd.errors import RefusedError

if TYPE_CHECKING:
    from backupd.operations.status import Ages, RegionStatus, StoreStatus


_MODES = {
    "plain": "a writer may remove and overwrite",
    "append-only": "append-only for writers",
    "ingest": "writers hand in, the keeper takes",
}


def add(app: typer.Typer) -> None:
    app.command("status", epilog=EXIT_STATUS)(status)


def status(
    context: typer.Context, region: RegionArgument = None, config: ConfigOption = None, as_json: JsonOption = False
) -> int:
    """Say how regions stand: the newest snapshot published, verified and restored, who is leaving, what stores can do.

    The three ages are never mixed. The exit status is that of the first store that cannot be reached, or 10 when a
    tenant is past its date.

    \b
    Example:
      backupd status
    """
    from backupd.operations.status import region_status

    wiring = wired(context, config)
    found: list[RegionStatus] = []
    for name in wiring.regions(region or []):
        with wiring.standing(name) as (book, repositories):
            separate = wiring.separate_keepers(name)
            handing = wiring.handing(name)
            found.append(region_status(book, repositories, separate, wiring.clock.now(), handing))
    if as_json:
        output.print_json({"regions": [_as_object(one) for one in found]})
    else:
        for one in found:
            output.print_lines(_told(one, wiring.clock.now()))
    unreached = (store.error.exit_code for one in found for store in one.stores if store.error is not None)
    return next(unreached, RefusedError.exit_code if any(one.late for one in found) else 0)


def _as_object(one: RegionStatus) -> dict[str, Any]:
    stores = [
        {"store": store.store, "error": failures.as_object(store.error)}
        if store.error is not None
        else {"mode": store.mode}
        | {name: getattr(store, name) for name in store.__dataclass_fields__ if name != "error"}
        for store in one.stores
    ]
    rest = {name: getattr(one, name) for name in one.__dataclass_fields__ if name != "stores"}
    return {**msgspec.to_builtins(rest), "stores": msgspec.to_builtins(stores)}


def _told(one: RegionStatus, now: datetime) -> Iterator[str]:
    yield f"{one.region}: {one.leaving} tenants leaving" + (
        f", the next deadline is {one.next_deadline:%Y-%m-%d}" if one.next_deadline else ""
    )
    for late in one.late:
        yield f"  LATE: tenant {late.tenant} is {late.overdue}"
    for store in one.stores:
        yield from _store_told(store, now)


def _store_told(store: StoreStatus, now: datetime) -> Iterator[str]:
    if store.error is not None:
        yield f"  {store.store}: {store.error.message}"
        return
    roles = _MODES[store.mode]
    keeper = "a keeper of its own" if store.separate_keeper else "the keeper logs in as the writer does"
    yield f"  {store.store}: {roles}, {keeper}, {len(store.server_snapshots)} snapshots of its own"
    if store.space is not None:
        yield f"    {output.human_bytes(store.space.free)} free of {output.human_bytes(store.space.total)}"
    if store.handing and store.mode == "plain":
        yield "    ingest is configured, and the node's account can write where only the keeper should"
    if store.handed_in:
        yield f"    {store.handed_in} objects wait for `backupd ingest`"
    yield f"    keeper's last run: {_age(store.kept, now)}"
    for ages in store.databases:
        yield _ages_told(ages, now)


def _ages_told(ages: Ages, now: datetime) -> str:
    return (
        f"    {ages.label}: published {_age(ages.published, now)}, verified {_age(ages.verified, now)},"
        f" restored {_age(ages.restored, now)}"
    )


def _age(instant: datetime | None, now: datetime) -> str:
    return "never" if instant is None else f"{output.human_duration(now - instant)} ago"
