"""What a database holds, as the exported snapshot showed it: tables with all that mapping and reading them needs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TableKind(StrEnum):
    TABLE = "table"
    PARTITION = "partition"
    """A leaf; it holds rows."""
    PARTITIONED = "partitioned table"
    """A parent: its rows are its partitions'; foreign keys may point to it."""
    MATVIEW = "materialized view"
    FOREIGN = "foreign table"


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    schema: str
    table: str

    @property
    def dotted(self) -> str:
        """`schema.table`, as patterns are matched against it. Schemas may be named after tenants: data."""
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key that leads from a row to at most one other."""

    name: str
    columns: tuple[str, ...]
    target: TableName
    target_columns: tuple[str, ...]
    operators: tuple[str, ...]
    """`OPERATOR(schema.=)` for each pair; the target's column stands on the left."""
    required: bool
    """Every column is NOT NULL and the constraint is validated: each row has a target."""


@dataclass(frozen=True, slots=True)
class Table:
    """One relation with columns; sizes and counts are PostgreSQL's, estimates where it says so."""

    name: TableName
    oid: int
    kind: TableKind
    columns: tuple[str, ...]
    """As pg_dump lists them: neither dropped nor generated, in the order of their numbers."""
    foreign_keys: tuple[ForeignKey, ...] = ()
    parents: tuple[TableName, ...] = ()
    """Partitioned tables it is a partition of, nearest first."""
    blocks: int = 0
    """Heap blocks, from the real size of the file."""
    size: int = 0
    """Bytes with TOAST, without indexes."""
    rows: int | None = None
    """Estimate; None when the table was never analyzed."""
    width: int | None = None
    """Mean bytes of a row, an estimate; None when unknown."""
    distinct: tuple[tuple[str, float], ...] = ()
    """Candidates for tenant columns with PostgreSQL's n_distinct (negative: a share of the rows)."""
    ambiguous: tuple[tuple[str, str], ...] = ()
    """Candidates for tenant columns, and columns that foreign keys lead to, in whose type values of different text are
    equal: each with its type."""
    logged: bool = True
    extension: str | None = None
    """The extension it is a member of."""
    condition: str | None = None
    """Of an extension's configuration table: the text after FROM that chooses the user's rows; may be empty."""

    @property
    def dumped(self) -> bool:
        """Whether its rows belong into a backup."""
        return self.kind in (TableKind.TABLE, TableKind.PARTITION) and (
            self.extension is None or self.condition is not None
        )


@dataclass(frozen=True, slots=True)
class Inventory:
    """Every relation that holds rows or is pointed to by those that do, ordered by name."""

    database: str
    tables: tuple[Table, ...]

    def by_name(self) -> dict[TableName, Table]:
        return {table.name: table for table in self.tables}
