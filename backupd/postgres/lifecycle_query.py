"""The operator's own query for the dates of tenants."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from backupd.errors import ConfigError
from backupd.postgres.connect import Source, connect
from backupd.postgres.source.identity import ambiguous_type

REQUIRED: Final = frozenset({"tenant", "unsubscribed_at", "erase_requested_at"})
OPTIONAL: Final = frozenset({"data_class", "moved_to", "live_purged_at"})
_TIMEOUT = "120s"


@dataclass(frozen=True, slots=True)
class TenantDates:
    """One row of the query: the application's dates of one tenant."""

    tenant: str = field(repr=False)
    unsubscribed_at: datetime | None
    erase_requested_at: datetime | None
    data_class: str | None = None
    """A data class with dates of its own; None means the whole tenant."""
    moved_to: str | None = None
    live_purged_at: datetime | None = None
    """Time at which the application removed the tenant's rows."""


def read_tenant_dates(source: Source, sql: str) -> list[TenantDates]:
    """Run the query and return its rows, read in a transaction that can change nothing.

    A time without a zone is taken as UTC, a date as the beginning of its day. Raises ConfigError when columns are
    missing, unknown or of another type, when the tenant's type has several spellings of one value, or when a tenant is
    NULL or named twice; SourceError and its subclasses for PostgreSQL's errors.
    """
    with connect(source) as connection:
        # Its author meant the names as a session of his own finds them.
        connection.execute(
            f"BEGIN READ ONLY; SET LOCAL statement_timeout = '{_TIMEOUT}'; SET LOCAL search_path TO DEFAULT"
        )
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(sql.encode())
            _check_columns(cursor)
            _check_identity(cursor)
            found = [_dates(row) for row in cursor]
    if len({(one.tenant, one.data_class) for one in found}) != len(found):
        raise ConfigError("the lifecycle query names a tenant twice", hint="Make it return one row a tenant and class.")
    return found


def _check_columns(cursor: psycopg.Cursor[Any]) -> None:
    named = {column.name for column in cursor.description or ()}
    for wrong, what in ((REQUIRED - named, "lacks"), (named - REQUIRED - OPTIONAL, "has unknown")):
        if wrong:
            raise ConfigError(
                f"the lifecycle query {what} columns: {', '.join(sorted(wrong))}",
                hint=f"It returns {', '.join(sorted(REQUIRED))}, and may return {', '.join(sorted(OPTIONAL))}.",
            )


def _check_identity(cursor: psycopg.Cursor[Any]) -> None:
    """Refuse a tenant column of a type whose text does not identify the tenant."""
    (oid,) = (column.type_code for column in cursor.description or () if column.name == "tenant")
    type_ = ambiguous_type(cursor.connection, oid)
    if type_ is not None:
        raise ConfigError(
            f'column "tenant" of the lifecycle query is {type_}: one tenant may have several spellings',
            hint="Return the tenant as the tables write it, of an integer type, uuid or text.",
        )


def _dates(row: dict[str, Any]) -> TenantDates:
    if row["tenant"] is None:
        raise ConfigError("the lifecycle query returns a row without a tenant")
    return TenantDates(
        tenant=str(row["tenant"]),
        unsubscribed_at=_instant(row["unsubscribed_at"], "unsubscribed_at"),
        erase_requested_at=_instant(row["erase_requested_at"], "erase_requested_at"),
        data_class=row.get("data_class"),
        moved_to=row.get("moved_to"),
        live_purged_at=_instant(row.get("live_purged_at"), "live_purged_at"),
    )


def _instant(value: object, column: str) -> datetime | None:
    match value:
        case None:
            return None
        case datetime():
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        case date():
            return datetime.combine(value, time(), UTC)
    raise ConfigError(f'column "{column}" of the lifecycle query is no time', hint="Cast it to timestamptz.")
