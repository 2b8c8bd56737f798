"""When each kind of work was last done for a region, by what its stores and its ledger say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from backupd.operations.service.jobs import JobKind

_BY_STORE: Mapping[JobKind, str] = {JobKind.PURGE: "kept", JobKind.EXPIRE: "expired"}


def last_done(answer: Any, labels: Iterable[str]) -> dict[JobKind, datetime]:
    """Read from what `backupd status REGION --json` printed; kinds of which nothing is known are left out.

    Work that has to be done on every store, and for every database in `labels`, counts from where it was done last of
    all. A store that could not be reached says nothing.
    """
    found: dict[JobKind, datetime | None] = {}
    for region in _tables(answer, "regions"):
        stores = [one for one in _tables(region, "stores") if not one.get("error")]
        for kind, name in _BY_STORE.items():
            found[kind] = _oldest(_instant(store.get(name)) for store in stores)
        found[JobKind.BACKUP] = _oldest(_published(stores, labels))
        found[JobKind.DRILL] = _instant(region.get("drilled"))
    return {kind: at for kind, at in found.items() if at is not None}


def _published(stores: Iterable[Mapping[str, Any]], labels: Iterable[str]) -> Iterator[datetime | None]:
    for store in stores:
        ages = {one.get("label"): one.get("published") for one in _tables(store, "databases")}
        for label in labels:
            yield _instant(ages.get(label))


def _oldest(instants: Iterable[datetime | None]) -> datetime | None:
    """None where one of them is missing."""
    known = list(instants)
    return min((one for one in known if one is not None), default=None) if None not in known else None


def _tables(value: Any, name: str) -> list[Mapping[str, Any]]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _instant(value: object) -> datetime | None:
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return instant if instant is None or instant.tzinfo is not None else None
