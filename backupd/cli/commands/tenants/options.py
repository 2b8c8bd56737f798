"""What all `tenant` commands share: whom they mean, when, and how they tell how a tenant stands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.errors import UsageError

if TYPE_CHECKING:
    from backupd.model.ids import RegionName, TenantId
    from backupd.operations.tenants.told import TenantStanding
    from backupd.wiring.context import Context

RegionOption = Annotated[str, typer.Argument(metavar="REGION", show_default=False)]
TenantArgument = Annotated[
    str,
    typer.Argument(
        metavar="TENANT",
        show_default=False,
        help="The tenant as the database names it; - reads the name from standard input, which no list of processes "
        "shows.",
    ),
]
IdOption = Annotated[bool, typer.Option("--id", help="TENANT is the opaque id that `tenant list` shows, not a name.")]
ClassOption = Annotated[
    str, typer.Option("--class", metavar="CLASS", show_default=False, help="Only this class, which has its own dates.")
]
AtOption = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", show_default=False, help="When it happened (ISO 8601, UTC). [default: now]"),
]
ReferenceArgument = Annotated[
    str, typer.Argument(metavar="REFERENCE", show_default=False, help="A number that can be looked up; never a name.")
]
_ID = 32


def tenant_of(context: Context, region: RegionName, given: str, *, is_id: bool) -> TenantId:
    """The id of the tenant somebody means.

    Raises UsageError for an id that is none, or an empty name.
    """
    from backupd.model.ids import TenantId
    from backupd.wiring.context import tenant_tags

    text = sys.stdin.readline().rstrip("\n") if given == "-" else given
    if is_id:
        if len(text) != _ID or set(text) - set("0123456789abcdef"):
            raise UsageError("that is no tenant's id", hint="`backupd tenant list` shows them: 32 hex digits.")
        return TenantId(text)
    if not text:
        raise UsageError("no tenant is named")
    return tenant_tags(context, region).tenant_id(text)


def told(one: TenantStanding) -> Iterator[str]:
    scope = f", class {one.scope}" if one.scope else ""
    yield f"tenant {one.tenant}, life {one.incarnation}{scope}: {one.state.value}"
    if one.since is not None:
        yield f"  {one.cause} on {day(one.since)}; purged by {day(one.purge_by)}, gone by {day(one.deadline)}"
    if one.holds:
        yield f"  held by {', '.join(one.holds)}"
    if one.stores:
        yield f"  not cleared yet: {', '.join(one.stores)}"
    if one.overdue:
        yield f"  LATE: {one.overdue}"


def region_of(context: Context, name: str) -> RegionName:
    return context.regions([name])[0]


def instant_of(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f'"{text[:40]}" is no time', hint="Write it like 2026-11-01 or 2026-11-01T14:00 (UTC)."
        ) from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def day(instant: datetime | None) -> str:
    return "" if instant is None else f"{instant:%Y-%m-%d}"
