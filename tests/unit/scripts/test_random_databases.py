"""Random databases: a number makes the same one each time, and it is known whose rows are."""

from __future__ import annotations

from random import Random

import pytest
from doubles.paths import ROOT


def test_a_seed_makes_the_same_tables_and_it_is_known_whose_rows_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a table that follows another, by the other's column; a row of nobody's is no tenant's."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from lib.random_databases.tables import Table, TableMaker

    def made(seed: int) -> list[str]:
        maker = TableMaker(Random(seed), {"text": ("a",), "int": ("1",)}, "int")
        table = Table("s", 'a"b', ("id", "part"), ("int", "text"), owner="whose")
        return [*maker.shape(table), *(str(maker.row(table, tenant)) for tenant in range(5))]

    assert made(7) == made(7)
    assert made(7) != made(8)
    parent = Table("s", 'a"b', ("id",), ("int",), owner="whose")
    child = Table("s", "c", ("id",), ("int",), parents=[(parent, ("of",))], follows=True)
    assert child.tenant() == '(SELECT tp."whose" FROM "s"."a""b" tp WHERE tp."id" = t."of")'
    assert Table("s", "d").tenant() == "NULL"
