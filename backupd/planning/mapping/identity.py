"""One identity for each tenant: columns in which one tenant may have several spellings are refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from backupd.model.inventory import Table, TableName
from backupd.model.tenancy import Column, ForeignKeyPath, Route

AMBIGUOUS_CURE = (
    "Make it an integer, a uuid, or text in a deterministic collation, or map the table by another column or path: "
    "segments, deletion and attestations know a tenant by its text."
)


def several_spellings(tables: Mapping[TableName, Table], name: TableName, route: Route) -> str | None:
    """Return the reason why different texts in the tenant's column may be one tenant to the database; None if not so.

    That depends on the column's type and on that of every column it refers to, because a foreign key compares by the
    latter.
    """
    if not isinstance(route, Column | ForeignKeyPath):
        return None
    end = route.steps[-1].key.target if isinstance(route, ForeignKeyPath) else name
    waiting, seen = [(end, route.column)], {(end, route.column)}
    while waiting:
        name, column = waiting.pop()
        table = tables[name]
        type_ = dict(table.ambiguous).get(column)
        if type_ is not None:
            return f"{name.dotted}.{column} says whose rows are, and is {type_}: one tenant may have several spellings"
        referred = {
            (key.target, target)
            for key in table.foreign_keys
            for own, target in zip(key.columns, key.target_columns, strict=True)
            if own == column
        }
        waiting += referred - seen
        seen |= referred
    return None
