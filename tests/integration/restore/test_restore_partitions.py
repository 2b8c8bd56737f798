"""Partitions whose rows belong elsewhere on another server come back, each row once, and a drill compares them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from doubles.servers.postgres import Server
from fix_drills import Drills, check
from fix_postgres import Database
from fix_regions import CLASSES, Region

from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.postgres.connect import Source
from backupd.postgres.target import session
from backupd.postgres.target.partition_roots import moving_partitions

TYPES = (
    "CREATE TYPE state AS ENUM ('new', 'open', 'held', 'closed', 'void')",
    "CREATE DOMAIN stated AS state",
    "CREATE TYPE pair AS (s state, n int)",
    "CREATE TYPE span AS RANGE (subtype = state)",
)
KEYS = {
    "enum": ("state", "HASH (k)", "s"),
    "domain": ("stated", "HASH (k)", "s"),
    "array": ("state[]", "HASH (k)", "ARRAY[s, s]"),
    "composite": ("pair", "HASH (k)", "ROW(s, n % 7)::pair"),
    "range": ("span", "HASH (k)", "span(s, s, '[]')"),
    "expression": ("state", "HASH ((k))", "s"),
    "relation": ("regclass", "HASH (k)", "format('public.r%s', n % 9)::regclass"),
}
"""Type of the key, how it divides, and its value in row n with state s."""


def hashed(name: str, type_: str, by: str, value: str) -> list[str]:
    """A table in four partitions, of which two are one level below and have their columns in another order."""
    third = "FOR VALUES WITH (MODULUS 3, REMAINDER {})"
    states = "LATERAL (SELECT (enum_range(NULL::state))[1 + n % 5] AS s) t"
    values = f"n, 'tenant ' || n % 3, {value}, n * 3"
    return [
        f"CREATE TABLE public.{name} (n int NOT NULL, tenant text, k {type_}, u int) PARTITION BY {by}",
        *(f"CREATE TABLE public.{name}_{part} PARTITION OF public.{name} {third.format(part)}" for part in (0, 1)),
        f"CREATE TABLE public.{name}_2 (u int, k {type_}, x int, tenant text, n int NOT NULL) PARTITION BY RANGE (n)",
        f"ALTER TABLE public.{name}_2 DROP x",
        f"ALTER TABLE public.{name} ATTACH PARTITION public.{name}_2 {third.format(2)}",
        f"CREATE TABLE public.{name}_2a PARTITION OF public.{name}_2 FOR VALUES FROM (0) TO (100)",
        f"CREATE TABLE public.{name}_2b PARTITION OF public.{name}_2 DEFAULT",
        f"CREATE INDEX ON public.{name} (n)",
        f"INSERT INTO public.{name} SELECT {values} FROM generate_series(1, 300) n, {states}",
    ]


def fill(database: Database) -> None:
    database.sql(
        "SET search_path = public",
        *TYPES,
        *(f"CREATE TABLE r{number} ()" for number in range(9)),
        *(line for name, key in KEYS.items() for line in hashed(f"by_{name}", *key)),
    )


@pytest.mark.parametrize("major", [15, 18])
def test_rows_whose_partition_another_server_computes_anew(
    postgres_of: Callable[[int], Server],
    major: int,
    make_database: Callable[..., Database],
    region: Region,
    restored: Callable[..., Database],
) -> None:
    """Keys made of OIDs, at any depth of their type: the same rows come back, in whichever partition."""
    database = make_database(postgres_of(major))
    fill(database)
    region.backup(database)
    again = restored(database.server)
    for name in KEYS:
        rows = f"SELECT n, tenant, k::text, u FROM public.by_{name} ORDER BY n"
        assert again.sql(rows) == database.sql(rows)
        moved = f"SELECT n, tableoid::regclass::text FROM public.by_{name} ORDER BY n"
        assert again.sql(moved) != database.sql(moved), "this server puts every row where the other did"


def test_partitions_that_are_the_same_everywhere_are_filled_by_themselves(database: Database) -> None:
    """Numbers, times, text by its bytes, lists: only through these can rows keep their order."""
    database.sql(
        "CREATE TYPE public.state AS ENUM ('a', 'b')",
        *(
            f"CREATE TABLE public.t{number} (k {type_}) PARTITION BY {by}"
            for number, (type_, by) in enumerate(
                [
                    ("int", "HASH (k)"),
                    ("text", "HASH (k)"),
                    ("uuid[]", "HASH (k)"),
                    ("public.state", "LIST (k)"),
                    ("public.state", "RANGE (k)"),
                    ("timestamptz", "RANGE (k)"),
                    ('text COLLATE "C"', "RANGE (k)"),
                    ("date", "RANGE (date_part('year', k))"),
                    ("text", "LIST (lower(k))"),
                ]
            )
        ),
        *(f"CREATE TABLE public.p{number} PARTITION OF public.t{number} DEFAULT" for number in (3, 4, 5, 6, 7, 8)),
        *(
            f"CREATE TABLE public.p{number} PARTITION OF public.t{number} FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
            for number in (0, 1, 2)
        ),
    )
    source = Source(database.server.conninfo("postgres"), client_folders=(database.server.bin,))
    with session.connect(source, database.name) as connection:
        assert moving_partitions(connection) == {}


@pytest.mark.longest
def test_a_drill_compares_rows_that_moved(
    pg17: Server, make_database: Callable[..., Database], region: Region, drills: Drills
) -> None:
    """Sound, lost, changed, added, and given to somebody else."""
    database = make_database(pg17)
    fill(database)
    region.tenancy = Tenancy(kind=TenancyKind.COLUMN, column="tenant", unclassified="shared", classes=CLASSES)
    region.backup(database)
    sound = drills.run()
    assert [(one.name, one.findings) for one in sound.checks if one.verdict in {"fail", "error"}] == []
    for damage, code in {
        "DELETE FROM public.by_enum WHERE n = 7": "rows-lost",
        "UPDATE public.by_enum SET u = 0 WHERE n = 7": "rows-changed",
        "INSERT INTO public.by_enum SELECT * FROM public.by_enum WHERE n = 7": "rows-added",
    }.items():
        damaged = check(drills.run(None, damage), "equality")
        assert (damaged.verdict, [found.code for found in damaged.findings]) == ("fail", [code])
