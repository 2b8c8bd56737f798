"""A look before a restore in place, by a superuser on the live server, runs no code of those who own the tables."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from fix_inplace import HARM, Shop
from fix_postgres import unique

from backupd.errors import SourceError

TRAP = "IF current_setting('is_superuser') = 'on' THEN RAISE EXCEPTION 'run by a superuser'; END IF;"
FINE = """
CREATE OR REPLACE FUNCTION public.fine(text) RETURNS {type} LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  {act} RETURN {value}; END $$
"""


@pytest.fixture
def owned(shop: Shop) -> Iterator[Shop]:
    """The shop, in which somebody who is no superuser owns tables, and made rules for them after the backup."""
    owner = unique("owner")
    shop.sql(
        f"CREATE ROLE {owner} NOSUPERUSER",
        f"GRANT ALL ON SCHEMA public TO {owner}",
        *(f"ALTER TABLE public.{table} OWNER TO {owner}" for table in ("tag", "customer", "sale", "line", "country")),
    )
    with psycopg.connect(f"{shop.database.conninfo} options='-c role={owner}'", autocommit=True) as connection:
        for statement in (
            FINE.format(type="boolean", act=TRAP, value="true"),
            FINE.replace("fine", "same").format(type="text", act=TRAP, value="$1"),
            "CREATE DOMAIN public.word AS text CHECK (public.fine(VALUE))",
            "CREATE DOMAIN public.longer AS public.word",
            "ALTER TABLE public.tag ADD CHECK (public.fine(word))",
            "ALTER TABLE public.tag ALTER word TYPE public.longer",
            "ALTER TABLE public.country ALTER said TYPE public.word",
            "CREATE UNIQUE INDEX ON public.sale ((public.same(id::text)))",
            "CREATE UNIQUE INDEX ON public.line (sale, place) WHERE public.fine(said)",
        ):
            connection.execute(statement.encode())
    yield shop
    shop.sql(f"REASSIGN OWNED BY {owner} TO CURRENT_USER", f"DROP OWNED BY {owner}", f"DROP ROLE {owner}")


def test_a_look_runs_no_code_of_an_owner(owned: Shop) -> None:
    """Checks, indexes, domains of staged rows: none is evaluated, and each is told."""
    with psycopg.connect(owned.database.conninfo, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE public.customer SET mail = 'wrong' || id WHERE tenant = 2")
        connection.execute("DELETE FROM public.tag WHERE tenant = 2")
        connection.execute("DELETE FROM public.sale WHERE tenant = 2 AND id > 100")
        connection.execute("DELETE FROM public.line WHERE sale > 100 AND sale % 5 = 1")
    report = owned.restore(apply=False)
    told = {(one.table, one.kind.value): one.count for one in report.conflicts}
    assert told == {
        ("public.tag", "owners-code"): 2,
        ("public.sale", "owners-code"): 1,
        ("public.line", "owners-code"): 1,
    }
    assert not report.blocked


def test_what_was_not_tried_is_decided_by_the_write(owned: Shop) -> None:
    """It runs the code as the role that writes, and a row that is refused undoes all of it."""
    then = owned.rows()
    for type_, name, value in (("boolean", "fine", "$1 <> 'w3'"), ("text", "same", "$1")):
        owned.sql(FINE.replace("fine", name).format(type=type_, act="", value=value))
    owned.sql("DELETE FROM public.tag WHERE tenant = 2")
    now = owned.rows()
    with pytest.raises(SourceError):
        owned.restore()
    assert owned.rows() == now
    owned.sql(FINE.format(type="boolean", act="", value="true"))
    assert owned.restore().applied
    assert owned.rows() == then


def test_code_of_a_superuser_is_evaluated(shop: Shop) -> None:
    """As before: a look finds what such a check refuses."""
    shop.sql(*HARM[:1], "DELETE FROM tag", FINE.format(type="boolean", act="", value="$1 <> 'w3'"))
    shop.sql("ALTER TABLE tag ADD CHECK (public.fine(word))")
    assert shop.found()["tag", "check"] > 0
