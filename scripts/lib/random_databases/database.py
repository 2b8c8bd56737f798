"""A random database on a server: the same for a seed on the same version, and whose rows are whose in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import psycopg
from doubles.servers.postgres import Server

from lib.random_databases.extras import Extras
from lib.random_databases.tables import Table, TableMaker
from lib.random_databases.values import BUILT_IN, KEYS, OF_EXTENSIONS, TENANT_TYPES, identifier, literal, odd_name

KINDS = ("column", "table", "schema", "none")
TENANTS = (1, 2, 3, 4)


@dataclass(slots=True)
class RandomDatabase:
    """What was made."""

    seed: int
    kind: str
    tenancy: str = ""
    """The line of configuration that a person writes."""
    shared: list[str] = field(default_factory=list)
    """Patterns of tables whose rows are nobody's."""
    tables: list[Table] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    tenant_type: str = "text"
    tried: int = 0
    refused: list[str] = field(default_factory=list)
    """What the server said to statements that it did not take."""
    maker: TableMaker | None = None
    tenants: tuple[int, ...] = TENANTS
    schemas: dict[str, int] = field(default_factory=dict)
    """Schemas that belong to one tenant each, by their names."""

    def tenant_name(self, server: Server, database: str, tenant: int) -> str:
        """Say how the tenant is called on a command line."""
        if self.kind == "schema":
            return next(name for name, number in self.schemas.items() if number == tenant)[2:]
        assert self.maker is not None
        ((text,),) = server.sql(database, f"SELECT ({self.maker.tenant_value(tenant)}::{self.tenant_type})::text")
        return str(text)

    def rows_of(self, table: Table, tenant: int) -> str:
        """Write a condition for a row, as `t`, to be of this tenant; 0 is nobody."""
        if self.kind == "schema":
            return str(self.schemas.get(table.schema, 0) == tenant).lower()
        if self.kind == "none":
            return str(tenant == 0).lower()
        assert self.maker is not None
        if not tenant:
            return f"({table.tenant()}) IS NULL"
        value = self.maker.tenant_value(tenant)
        return f"coalesce({table.tenant()} = {value}::{self.tenant_type}, false)"


class DatabaseMaker:
    """Makes it, statement by statement; what the server refuses is left out."""

    def __init__(self, seed: int, server: Server, database: str) -> None:
        self.random = Random(seed)
        self.made = RandomDatabase(seed, KINDS[seed % len(KINDS)] if seed % 3 else "column")
        self.server, self.connection = server, server.connect(database)
        self.types: dict[str, Sequence[str]] = dict(BUILT_IN)

    def run(self) -> RandomDatabase:
        made = self.made
        with self.connection:
            self.connection.execute("SET statement_timeout = '20s'")
            self.connection.execute("SET check_function_bodies = off")
            self._extensions()
            self._types()
            made.maker = TableMaker(self.random, self.types, made.tenant_type)
            extras = Extras(self.random, made.maker.name, *self._places(made.maker))
            for statement, name, texts in extras.of_types():
                if (not statement or self.take(statement)) and name:
                    self.types[name] = texts
            for table in self._design(made.maker):
                if all(map(self.take, made.maker.shape(table))):
                    made.tables.append(table)
                    for statement in extras.before_rows(table):
                        self.take(statement)
            for table in list(made.tables):
                taken = [self.take(statement) for statement in made.maker.references(table)]
                if table.follows and not taken[0]:
                    self.take(f"DROP TABLE {table.place} CASCADE")
                    made.tables.remove(table)
            self._fill()
            for table in made.tables:
                for statement in extras.after_rows(table, made.tables):
                    self.take(statement)
            for statement in extras.of_database():
                self.take(statement)
        return made

    def take(self, statement: str) -> bool:
        self.made.tried += 1
        try:
            self.connection.execute(statement.encode())
        except psycopg.Error as error:
            self.made.refused.append(f"{statement[:200]} -- {error.diag.message_primary}")
            return False
        return True

    def _extensions(self) -> None:
        there = {name for (name,) in self.connection.execute("SELECT name FROM pg_available_extensions").fetchall()}
        for name, types in OF_EXTENSIONS.items():
            if name in there and self.random.random() < 0.5:
                schema = odd_name(self.random, 900000 + len(name))
                self.take(f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)}")
                if self.take(f"CREATE EXTENSION {name} SCHEMA {identifier(schema)}"):
                    for kind, texts in types.items():
                        self.types[f"{identifier(schema)}.{kind}"] = texts

    def _types(self) -> None:
        for name in [name for name in self.types if name in BUILT_IN]:
            try:
                self.connection.execute(f"SELECT {literal(self.types[name][0])}::{name}".encode())
            except psycopg.Error:
                del self.types[name]
        kind = self.random.choice(TENANT_TYPES)
        if kind in ("numeric", "citext") and self.random.random() < 0.7:
            kind = "int"
        if kind == "citext":
            self.take("CREATE EXTENSION IF NOT EXISTS citext SCHEMA public")
            ((place,),) = self.connection.execute(
                "SELECT coalesce(min(format('%I.citext', nspname)), 'text') FROM pg_extension"
                " JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'citext'"
            ).fetchall()
            kind = place
            if "citext" in kind:
                self.connection.execute(f"SET search_path = public, {place.rpartition('.')[0]}".encode())
        if kind == "domain":
            self.take("CREATE DOMAIN public.whose AS varchar(20) CHECK (length(VALUE) > 1)")
            kind = "public.whose"
        self.made.tenant_type = kind

    def _places(self, maker: TableMaker) -> tuple[Sequence[str], Sequence[str]]:
        for _ in range(3):
            role = f"rnd {self.made.seed} {maker.name()}"[:60]
            if self.take(f"CREATE ROLE {identifier(role)}"):
                self.made.roles.append(role)
        schemas = ["public"]
        for _ in range(self.random.choice((0, 1, 2))):
            name = maker.name()
            if self.take(f"CREATE SCHEMA {identifier(name)}"):
                schemas.append(name)
        self.plain = schemas
        if self.made.kind == "schema":
            for tenant in TENANTS:
                name = f"t_{maker.name()}"
                if self.take(f"CREATE SCHEMA {identifier(name)}"):
                    self.made.schemas[name] = tenant
        return self.made.roles, schemas

    def _design(self, maker: TableMaker) -> Iterator[Table]:
        kind = self.made.kind
        if kind in ("none", "schema"):
            pattern = _toml("t_(?P<tenant>.+)")
            parts = [
                f"kind = {_toml(kind)}",
                *([f"schema_pattern = {pattern}", 'unclassified = "shared"'] if kind == "schema" else []),
            ]
            self.made.tenancy = f"tenancy = {{ {', '.join(parts)} }}"
            yield from self._unowned(maker)
            return
        shared = [self._table(maker) for _ in range(self.random.randrange(1, 4))]
        self.made.shared = [_pattern(table) for table in shared]
        yield from shared
        owned: list[Table] = []
        if kind == "table":
            root = self._table(maker)
            root.key, root.key_types, root.owner = (maker.name(),), (self.made.tenant_type,), ""
            root.owner = root.key[0]
            yield root
            owned.append(root)
            self.made.tenancy = f'tenancy = {{ kind = "column", table = {_toml(f"{root.schema}.{root.name}")} }}'
        else:
            column = maker.name()
            self.made.tenancy = f'tenancy = {{ kind = "column", column = {_toml(column)}, null_tenant = "shared" }}'
            for _ in range(self.random.randrange(1, 5)):
                table = self._table(maker)
                table.owner = column
                self._parents(maker, table, [*shared, *owned], 0.4)
                yield table
                owned.append(table)
        for _ in range(self.random.randrange(1, 6)):
            table = self._table(maker)
            table.follows = True
            parent = self.random.choice(owned)
            table.parents.append((parent, tuple(maker.name() for _ in parent.key)))
            self._parents(maker, table, shared, 0.4)
            if self.random.random() < 0.2:
                table.parents.append((table, tuple(maker.name() for _ in table.key)))
            yield table
            owned.append(table)

    def _unowned(self, maker: TableMaker) -> Iterator[Table]:
        before: list[Table] = []
        for _ in range(self.random.randrange(2, 7)):
            table = self._table(maker)
            self._parents(maker, table, before, 0.5)
            yield table
            before.append(table)
        for schema in self.made.schemas:
            own: list[Table] = []
            for _ in range(self.random.randrange(1, 4)):
                table = self._table(maker, schema)
                self._parents(maker, table, [*before, *own, *own], 0.5)
                yield table
                own.append(table)

    def _table(self, maker: TableMaker, schema: str = "") -> Table:
        table = Table(schema or self.random.choice(self.plain), maker.name())
        table.key_types = tuple(self.random.choice(KEYS) for _ in range(1 if self.random.random() < 0.7 else 2))
        table.key = tuple(maker.name() for _ in table.key_types)
        return table

    def _parents(self, maker: TableMaker, table: Table, others: Sequence[Table], chance: float) -> None:
        for other in others:
            if self.random.random() < chance / len(others) * 2:
                table.parents.append((other, tuple(maker.name() for _ in other.key)))

    def _fill(self) -> None:
        for table in self.made.tables:
            self.fill(table)

    def fill(self, table: Table) -> None:
        maker = self.made.maker
        assert maker is not None
        owned = bool(table.owner or table.follows)
        tenants: Sequence[int] = TENANTS if owned else (0,)
        if self.made.kind == "column" and table.owner:
            tenants = (*TENANTS, 0)
        if table.schema in self.made.schemas:
            tenants = (self.made.schemas[table.schema],)
        for tenant, keys, statement in self._rows(maker, table, tenants):
            if self.take(statement):
                table.made.setdefault(tenant, []).append(keys)

    def _rows(
        self, maker: TableMaker, table: Table, tenants: Sequence[int]
    ) -> Iterator[tuple[int, tuple[str, ...], str]]:
        for tenant in tenants:
            for _ in range(self.random.choice((1, 2, 3, 8))):
                found = maker.row(table, tenant)
                if found is not None:
                    yield (tenant, *found)


def _pattern(table: Table) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in f"{table.schema}.{table.name}")


def _toml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t").replace("\n", "\\n")
    return f'"{escaped}"'


def row_texts(server: Server, database: str, place: str, condition: str = "true") -> list[str]:
    """Read the rows of a table and of none below it as texts, sorted."""
    with server.connect(database) as connection:
        connection.execute("SET search_path = pg_catalog; SET row_security = off; SET extra_float_digits = 3")
        found = connection.execute(f"SELECT t::text FROM {place} t WHERE {condition}".encode()).fetchall()
    return sorted(text for (text,) in found)
