"""The tables of a database as the exported snapshot showed them, with all that mapping and reading them needs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TableKind(StrEnum):
    """The kind of a relation; it decides whether its rows are dumped."""

    TABLE = "table"
    PARTITION = "partition"
    """A leaf partition, which holds rows."""
    PARTITIONED = "partitioned table"
    """A parent: its partitions hold its rows, and foreign keys may refer to it."""
    MATVIEW = "materialized view"
    FOREIGN = "foreign table"


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """The name of a relation with its schema, as in the catalog, without quotes."""

    schema: str
    table: str

    @property
    def dotted(self) -> str:
        """Join schema and table by a dot, as patterns are matched. Schemas may be named after tenants: this is data."""
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key that leads from a row to at most one other."""

    name: str
    columns: tuple[str, ...]
    target: TableName
    target_columns: tuple[str, ...]
    operators: tuple[str, ...]
    """`OPERATOR(schema.=)` for each pair of columns; the target's column stands on the left. Where the two columns have
    different collations, the target's is named before it, by which PostgreSQL compares."""
    required: bool
    """Whether every column is NOT NULL and the constraint is validated, so that each row has a target."""
    foreign_code: bool = False
    """Whether comparing its columns runs a function of a role that is no superuser."""
    temporal: bool = False
    """Whether it compares periods by overlap, so that a row may refer to several rows."""
    validated: bool = True
    """Whether it is enforced, and holds for every row."""
    cascades: bool = False
    """Whether a row is deleted with the one it refers to (ON DELETE CASCADE)."""
    root: str | None = None
    """For a key that a partition has from its partitioned table: the name of the topmost table's key."""
    single: bool = False
    """Whether no two rows refer to the same one: a unique index that compares as the key does says so."""
    backward: bool = False
    """Whether it is followed from the row that is referred to, to the one that refers to it, which is its `target`."""


@dataclass(frozen=True, slots=True)
class Table:
    """One relation with columns. Sizes and counts are PostgreSQL's; some are estimates, and say so."""

    name: TableName
    oid: int
    kind: TableKind
    columns: tuple[str, ...]
    """Columns as pg_dump lists them: neither dropped nor generated, in the order of their numbers."""
    foreign_keys: tuple[ForeignKey, ...] = ()
    parents: tuple[TableName, ...] = ()
    """The partitioned tables it is a partition of, nearest first."""
    blocks: int = 0
    """Heap blocks, from the real size of the file."""
    size: int = 0
    """Bytes including TOAST, without indexes."""
    rows: int | None = None
    """Estimated number of rows; None when the table was never analyzed."""
    width: int | None = None
    """Estimated mean size of a row in bytes; None when unknown."""
    distinct: tuple[tuple[str, float], ...] = ()
    """Candidates for tenant columns with PostgreSQL's n_distinct (negative: a share of the rows)."""
    ambiguous: tuple[tuple[str, str], ...] = ()
    """Columns in whose type values of different text can be equal, each with its type: candidates for tenant columns,
    and columns that foreign keys lead to."""
    logged: bool = True
    extension: str | None = None
    """The extension that the table is a member of."""
    condition: str | None = None
    """For a configuration table of an extension: the text after FROM that selects the user's rows; may be empty."""
    generated: tuple[str, ...] = ()
    """Columns that PostgreSQL computes from others of the row, when it is written or when it is read."""
    primary: tuple[str, ...] = ()
    """Columns of the primary key, in its order."""
    unique: tuple[frozenset[str], ...] = ()
    """The columns of each unique key, the primary one among them, that is made of plain columns and covers all rows."""
    nullable: frozenset[str] = frozenset()
    """Columns that may be null."""

    def has(self, column: str) -> bool:
        """Check whether rows can be asked for this column; it may be generated."""
        return column in self.columns or column in self.generated

    @property
    def dumped(self) -> bool:
        """True when the table's rows belong in a backup."""
        return self.kind in (TableKind.TABLE, TableKind.PARTITION) and (
            self.extension is None or self.condition is not None
        )


@dataclass(frozen=True, slots=True)
class Inventory:
    """Every relation that holds rows or is referred to by such a relation, ordered by name."""

    database: str
    tables: tuple[Table, ...]

    def by_name(self) -> dict[TableName, Table]:
        """Return the tables by their names."""
        return {table.name: table for table in self.tables}
