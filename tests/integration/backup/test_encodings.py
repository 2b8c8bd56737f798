"""Databases in every encoding come back byte for byte, also with bytes that stand for nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from doubles.servers.postgres import Server
from doubles.stores.snapshots import look
from fix_drills import Drills
from fix_postgres import Database, unique
from fix_regions import CLASSES, Region

from backupd.errors import UnmappedError
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.planning.selection import Selection

ODD = {
    "SQL_ASCII": r"caf\351 du port \377",
    "LATIN1": r"caf\351 \205",
    "LATIN2": r"\261\352\205",
    "LATIN3": r"\245 \256",
    "WIN1252": r"x\201y",
    "WIN874": r"\333",
    "KOI8R": r"\307\317\304",
    "ISO_8859_6": r"\241",
    "EUC_JP": r"\244\242\374\374",
    "EUC_KR": r"\311\241",
    "EUC_CN": r"\252\241",
    "EUC_TW": r"\375\376",
    "UTF8": r"\303\251\364\217\277\277",
}
"""Text of each encoding; most have bytes that UTF-8 knows nothing for."""
NAMES = {
    "KOI8R": "тенант",
    "LATIN2": "Zażółć",
    "WIN1252": "Zoé€",
    "EUC_JP": "東京",
    "UTF8": "Zoé",
}
"""Tenants whose names are the same text in any encoding."""
NAMED = "SET client_encoding = 'UTF8'"
"""Python has no codec for the encoding of some."""
ROWS = "SELECT id, tenant, convert_to(x, getdatabaseencoding()::name) FROM public.t ORDER BY id"


def filled(make: Callable[..., Database], server: Server, encoding: str) -> Database:
    database = make(server, options=f"ENCODING '{encoding}' LOCALE 'C'")
    name = NAMES.get(encoding, "plain")
    database.sql(
        f"SET client_encoding = '{encoding if encoding == 'SQL_ASCII' else 'UTF8'}'",
        "CREATE TABLE public.t (id int PRIMARY KEY, tenant text, x text)",
        f"INSERT INTO public.t VALUES (1, '{name}', 'plain'), (2, '{name}', convert_from('{ODD[encoding]}', "
        f"'{encoding}')), (3, 'other', E'tab\\tnewline\\n\\\\')",
    )
    return database


@pytest.mark.parametrize("encoding", ODD)
def test_rows_of_every_encoding_come_back(
    encoding: str,
    pg15: Server,
    make_database: Callable[..., Database],
    region: Region,
    restored: Callable[..., Database],
) -> None:
    """Whole, and one tenant alone, whose name is text whatever the encoding."""
    database = filled(make_database, pg15, encoding)
    region.tenancy = Tenancy(kind=TenancyKind.COLUMN, column="tenant", classes=CLASSES)
    region.backup(database)
    assert restored(pg15).sql(NAMED, ROWS) == database.sql(NAMED, ROWS)
    name = NAMES.get(encoding, "plain")
    alone = restored(pg15, selection=Selection(frozenset({name})))
    assert alone.sql(NAMED, ROWS) == database.sql(NAMED, ROWS)[:2]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "EUC_JP"])
def test_a_drill_compares_them(
    encoding: str, pg15: Server, make_database: Callable[..., Database], region: Region, drills: Drills
) -> None:
    """Equal as they are, and red when a byte of them was changed."""
    database = filled(make_database, pg15, encoding)
    region.tenancy = Tenancy(kind=TenancyKind.COLUMN, column="tenant", classes=CLASSES)
    region.backup(database)
    assert drills.run().verdict == "pass"
    assert drills.run(None, "UPDATE public.t SET x = 'plain' WHERE id = 2").verdict == "fail"


def test_a_role_whose_name_is_no_text_there_is_no_fault(
    pg15: Server, make_database: Callable[..., Database], make_role: Callable[..., str], region: Region
) -> None:
    """Roles are the server's: where this database cannot list them, another one does."""
    role = make_role(pg15, "NOLOGIN", name=unique("\N{LATIN CAPITAL LETTER A WITH GRAVE}"))
    database = filled(make_database, pg15, "EUC_JP")
    region.tenancy = Tenancy(kind=TenancyKind.COLUMN, column="tenant", classes=CLASSES)
    found = look(region.repository, region.backup(database).snapshot, region.identity.secret)
    assert role.encode() in found.of(None, "structure").files["globals"]


def test_a_tenant_who_is_no_text_is_refused(
    pg15: Server, make_database: Callable[..., Database], region: Region
) -> None:
    """Nobody could name such a tenant to restore or to erase it."""
    database = make_database(pg15, options="ENCODING 'SQL_ASCII' LOCALE 'C'")
    database.sql(
        "CREATE TABLE public.t (id int, tenant text)",
        r"INSERT INTO public.t VALUES (1, convert_from('\351', 'SQL_ASCII'))",
    )
    region.tenancy = Tenancy(kind=TenancyKind.COLUMN, column="tenant", classes=CLASSES)
    with pytest.raises(UnmappedError, match="no text in SQL_ASCII"):
        region.backup(database)
