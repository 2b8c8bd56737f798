"""The lines that say how a tenant stands, and where its rows are, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from backupd.model.text import counted, counts, day

if TYPE_CHECKING:
    from backupd.operations.keeper.locate import TenantLocation, Unseen
    from backupd.operations.tenants.standing import TenantStanding

_UNSEEN = {
    "handed-in": "{0}: {1} handed in and not taken, anybody's",
    "uploads": "{0}: {1} under way or cut off, anybody's",
    "retired": "{0}: declared gone, and seen by nobody",
    "away": "{0}: does not answer, and may hold something",
    "declared": "copies '{0}': declared, and seen by nobody",
}

ELSEWHERE = {
    "live-database": "the live database",
    "node-spools": "spools of nodes",
    "node-indexes": "indexes of nodes",
    "keyring-copies-elsewhere": "copies of keyrings elsewhere",
    "store-snapshots-not-shown": "snapshots that a store does not show",
    "retired-stores": "stores declared gone",
    "declared-copies": "declared copies",
    "restored-databases": "restored databases",
    "statutory-records": "records that law asks to be kept",
    "other-regions": "other regions",
}


def standing_lines(one: TenantStanding) -> Iterator[str]:
    """Yield the lines that describe how a tenant stands."""
    cause = (one.cause or "").replace("-", " ")
    scope = f", class {one.scope}" if one.scope else ""
    yield f"tenant {one.tenant}, incarnation {one.incarnation}{scope}: {one.state.value}"
    if one.since is not None:
        yield f"  {cause} on {day(one.since)}; purged by {day(one.purge_by)}, gone by {day(one.deadline)}"
    if one.holds:
        yield f"  held by {', '.join(one.holds)}"
    if one.stores:
        yield f"  not cleared yet: {', '.join(one.stores)}"
    if one.overdue:
        yield f"  LATE: {one.overdue}"


def rest_lines(region: str, one: TenantStanding) -> Iterator[str]:
    """Yield what is left to do about a tenant whom every store was cleared of, and where their rows may still be."""
    from backupd.planning.incarnations import State

    if one.state is not State.CLEARED:
        return
    yield "  keys and objects are gone from every store; what a store's own snapshots still hold ages out"
    yield f"  when that is gone, too, have it attested: `backupd tenant attest {region} TENANT`"
    yield "  the application's database was not touched: rows that are there are the application's to remove"


def _until(place: Unseen) -> str:
    return f", gone by {day(place.until)}" if place.until else ""


def location_lines(one: TenantLocation) -> Iterator[str]:
    """Yield the lines that say how one incarnation of a tenant stands, and where something of it is."""
    yield from standing_lines(one.standing)
    if one.gone_by is None or one.gone_by != one.standing.deadline:  # else it stands in the line before
        yield f"  {'gone by ' + day(one.gone_by) if one.gone_by else 'no date'}: {one.rule}"
    if one.unreadable_since:
        yield f"  no keyring holds a key since {day(one.unreadable_since)}"
    for copy in one.copies:
        yield (
            f"  {copy.store}, generation {copy.generation}: {counts(segment=copy.segments, object=copy.objects)},"
            f" {copy.readable} readable, in {counted(len(copy.snapshots), 'snapshot')}"
        )
        if copy.server_snapshots:
            yield f"    and in the store's own {', '.join(copy.server_snapshots)}"
        if copy.keyrings:
            yield f"    keys in {', '.join(copy.keyrings)}"
        if copy.key_snapshots:
            yield f"    keys in the store's own {', '.join(copy.key_snapshots)}"
    for place in one.unseen:
        objects = counted(place.objects, "upload" if place.kind == "uploads" else "object")
        yield f"  {_UNSEEN[place.kind].format(place.name, objects)}{_until(place)}"
    yield f"  not looked for here: {', '.join(ELSEWHERE.get(code, code) for code in one.not_covered)}"
