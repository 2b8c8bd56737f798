"""The operator's own query for the dates of tenants.

`backupd manual trust`, row *the lifecycle query's answers*, says who can write this, and what is checked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any, Final

import psycopg
from psycopg import errors as pg
from psycopg.rows import dict_row

from backupd.errors import ConfigError
from backupd.postgres.connect import Source, connect
from backupd.postgres.failures import reason
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
    missing, unknown or of another type, when the tenant's type has several spellings of one value, when a tenant is
    NULL or named twice, and when something is named without its schema; SourceError and its subclasses for PostgreSQL's
    errors. The search path stays empty: who owns a schema in it, or the database, would have his own functions called
    by a role that may read everything.
    """
    with connect(source) as connection:
        connection.execute(f"BEGIN READ ONLY; SET LOCAL statement_timeout = '{_TIMEOUT}'")
        with connection.cursor(row_factory=dict_row) as cursor:
            _execute(cursor, sql)
            _check_columns(cursor)
            _check_identity(cursor)
            found = [_dates(row) for row in cursor]
    if len({(one.tenant, one.data_class) for one in found}) != len(found):
        raise ConfigError("the lifecycle query names a tenant twice", hint="Make it return one row a tenant and class.")
    return found


def _execute(cursor: psycopg.Cursor[Any], sql: str) -> None:
    try:
        cursor.execute(sql.encode())
    except (pg.UndefinedTable, pg.UndefinedFunction, pg.UndefinedObject) as error:
        raise ConfigError(
            f"the lifecycle query names something that is not there ({reason(error)})",
            hint="Write tables, functions and types of your own with their schema, as public.customer: the search path "
            "is empty, so that nobody's functions are called in the place of PostgreSQL's.",
        ) from None
    except pg.ObjectNotInPrerequisiteState as error:
        raise ConfigError(
            f"the lifecycle query reads a view, or a foreign table ({reason(error)})",
            hint="Write what it selects into the query: a view runs its owner's functions.",
        ) from None


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
