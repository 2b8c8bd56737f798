"""Tables of random shapes with rows, each of which says for itself whose rows it has: the truth that"
" others are held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from lib.random_databases.values import identifier, key, literal, odd_name, value_of


@dataclass(slots=True)
class Table:
    """A table, and what was put into it."""

    schema: str
    name: str
    key: tuple[str, ...] = ()
    key_types: tuple[str, ...] = ()
    columns: list[tuple[str, str]] = field(default_factory=list)
    """Those that rows give values to, without key and owner's: name and type."""
    owner: str = ""
    """The column that says whose a row is; empty for rows of nobody or of a parent's."""
    parents: list[tuple[Table, tuple[str, ...]]] = field(default_factory=list)
    """Tables it refers to by columns of its own; rows belong to whom the first one's belong, where `owner` is empty."""
    names: list[str] = field(default_factory=list)
    """The names of its keys to them."""
    follows: bool = False
    """Whether its rows are its first parent's."""
    partitioned: bool = False
    primary: bool = True
    """Whether its key is its primary one."""
    made: dict[int, list[tuple[str, ...]]] = field(default_factory=dict)
    """Keys of its rows, by number of the tenant; 0 is nobody."""

    @property
    def place(self) -> str:
        return f"{identifier(self.schema)}.{identifier(self.name)}"

    def tenant(self, alias: str = "t") -> str:
        """Write an expression for whose a row is."""
        if self.owner:
            return f"{alias}.{identifier(self.owner)}"
        if not self.follows:
            return "NULL"
        parent, columns = self.parents[0]
        other = f"{alias}p"
        met = " AND ".join(
            f"{other}.{identifier(theirs)} = {alias}.{identifier(ours)}"
            for theirs, ours in zip(parent.key, columns, strict=True)
        )
        return f"(SELECT {parent.tenant(other)} FROM {parent.place} {other} WHERE {met})"


class TableMaker:
    """Makes tables; each statement goes to `run`, which says whether it was taken."""

    def __init__(self, random: Random, types: Mapping[str, Sequence[str]], tenant_type: str) -> None:
        self.random, self.types, self.tenant_type = random, types, tenant_type
        self.numbers = iter(range(1, 1 << 30))

    def name(self) -> str:
        return odd_name(self.random, next(self.numbers))

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def shape(self, table: Table, *, width: int = 5) -> list[str]:
        """Decide on columns, and write the statements that make the table with its key and its partitions."""
        for _ in range(self.random.randrange(width + 1)):
            table.columns.append((self.name(), self.random.choice(list(self.types))))
        lines = [f"{identifier(name)} {kind} NOT NULL" for name, kind in zip(table.key, table.key_types, strict=True)]
        lines += [f"{identifier(name)} {kind}" for name, kind in table.columns]
        if table.owner and table.owner not in table.key:
            lines.append(f"{identifier(table.owner)} {self.tenant_type} {'NOT NULL' if self.chance(0.6) else ''}")
        for parent, columns in table.parents:
            must = "NOT NULL" if table.follows and parent is table.parents[0][0] else ""
            lines += [f"{identifier(name)} {kind} {must}" for name, kind in zip(columns, parent.key_types, strict=True)]
        self.random.shuffle(lines)
        if self.chance(0.25):
            lines.insert(self.random.randrange(len(lines) + 1), f"{identifier('gone' + self.name())} text")
        lines += self._generated(table)
        table.partitioned = self.chance(0.25)
        names = ", ".join(map(identifier, table.key))
        dropped = [line.rpartition(" ")[0] for line in lines if line.startswith('"gone')]
        method = self.random.choice(("LIST", "RANGE", "HASH")) if table.partitioned else ""
        unlogged = "UNLOGGED " if self.chance(0.06) and not table.partitioned else ""
        made = [f"CREATE {unlogged}TABLE {table.place} ({', '.join(lines)})"]
        if method:
            made[0] += f" PARTITION BY {method} ({identifier(table.key[0])})"
            made += self._partitions(table, method, table.place, 1)
        made += [f"ALTER TABLE {table.place} DROP COLUMN {name}" for name in dropped]
        table.primary = self.chance(0.8)
        made.append(
            f"ALTER TABLE {table.place} ADD {'PRIMARY KEY' if table.primary else 'UNIQUE'}"
            f" ({names}){self._deferrable(table)}"
        )
        return made

    def references(self, table: Table) -> list[str]:
        """Write the statements that make its foreign keys."""
        made = []
        for parent, columns in table.parents:
            ours, theirs = ", ".join(map(identifier, columns)), ", ".join(map(identifier, parent.key))
            action = self.random.choice(("", "", " ON DELETE CASCADE", " ON UPDATE CASCADE", " MATCH FULL"))
            late = self.random.choice(("", "", " DEFERRABLE", " DEFERRABLE INITIALLY DEFERRED"))
            name = self.name()
            table.names.append(name)
            constraint = f"CONSTRAINT {identifier(name)} FOREIGN KEY ({ours}) REFERENCES {parent.place} ({theirs})"
            made.append(f"ALTER TABLE {table.place} ADD {constraint}{action}{late}")
        return made

    def row(self, table: Table, tenant: int) -> tuple[tuple[str, ...], str] | None:
        values: dict[str, str] = {}
        if table.owner:
            values[table.owner] = self.tenant_value(tenant) if tenant else "NULL"
        for parent, columns in table.parents:
            leads = table.follows and parent is table.parents[0][0]
            # A key that does not say whose a row is may lead to rows of the same tenant, or of nobody.
            known = parent.made.get(tenant, []) or ([] if leads else parent.made.get(0, []))
            if not known and leads:
                return None
            empty = not known or (not leads and self.chance(0.3))
            values |= dict(zip(columns, ["NULL"] * len(columns) if empty else self.random.choice(known), strict=True))
        number = next(self.numbers)
        for name, kind in zip(table.key, table.key_types, strict=True):
            values.setdefault(name, key(kind, number))
        for name, kind in table.columns:
            values[name] = value_of(self.types[kind], self.random)
        if not values:
            return (), f"INSERT INTO {table.place} DEFAULT VALUES"
        columns = ", ".join(map(identifier, values))
        return (
            tuple(values[name] for name in table.key),
            f"INSERT INTO {table.place} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({', '.join(values.values())})",
        )

    def tenant_value(self, tenant: int) -> str:
        """Write the tenant, in one of the ways that are the same to the database."""
        if self.tenant_type == "citext":
            return literal(self.random.choice((f"Ténant {tenant}", f"TÉNANT {tenant}", f"ténant {tenant}")))
        if self.tenant_type == "numeric":
            return f"{tenant}.5{'0' * self.random.randrange(3)}"
        if self.tenant_type in ("int", "bigint", "smallint"):
            return str(tenant - 3)
        if self.tenant_type == "uuid":
            return f"'00000000-0000-4000-8000-{tenant:012x}'"
        return literal(f"t'{tenant}\\é")

    def _generated(self, table: Table) -> list[str]:
        made = []
        if self.chance(0.25) and table.key:
            made.append(
                f"{identifier(self.name())} text GENERATED ALWAYS AS ({identifier(table.key[0])}::text || '!') STORED"
                if table.key_types[0] in ("text", "varchar(12)", "int", "bigint", 'text COLLATE "C"')
                else f"{identifier(self.name())} int GENERATED ALWAYS AS (1 + 1) STORED"
            )
        if self.chance(0.2):
            way = self.random.choice(("ALWAYS", "BY DEFAULT"))
            options = self.random.choice(("", " (START 10 INCREMENT 5)", " (INCREMENT -1)", " (CACHE 7 CYCLE)"))
            made.append(f"{identifier(self.name())} bigint GENERATED {way} AS IDENTITY{options}")
        elif self.chance(0.2):
            made.append(f"{identifier(self.name())} {self.random.choice(('smallserial', 'serial', 'bigserial'))}")
        if self.chance(0.15):
            made.append(f"{identifier(self.name())} timestamptz DEFAULT now()")
        return made

    def _partitions(self, table: Table, method: str, parent: str, depth: int) -> list[str]:
        kind = table.key_types[0]
        made = []
        splits = [key(kind, number) for number in sorted(self.random.sample(range(1, 4000), 3))]
        bounds: list[str] = []
        if method == "HASH":
            bounds = [f"FOR VALUES WITH (MODULUS 3, REMAINDER {one})" for one in range(3)]
        elif method == "LIST":
            bounds = [f"FOR VALUES IN ({splits[0]}, {splits[1]})", "DEFAULT"]
        else:
            bounds = [f"FOR VALUES FROM (MINVALUE) TO ({splits[0]})", "DEFAULT"]
        for bound in bounds:
            name = f"{identifier(table.schema)}.{identifier(self.name())}"
            below = self.random.choice(("LIST", "RANGE", "HASH")) if depth < 3 and self.chance(0.25) else ""
            column = identifier(table.key[-1])
            split = f" PARTITION BY {below} ({column})" if below and len(table.key) == 1 else ""
            made.append(f"CREATE TABLE {name} PARTITION OF {parent} {bound}{split}")
            if split:
                made += self._partitions(table, below, name, depth + 1)
        return made

    def _deferrable(self, table: Table) -> str:
        return (
            " DEFERRABLE"
            if self.chance(0.05) and not table.partitioned and not table.owner and not table.follows
            else ""
        )
