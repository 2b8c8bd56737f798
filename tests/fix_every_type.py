"""A database with every awkward thing the server at hand can hold, from the files in tests/every_type.

A file whose first line says `-- needs: a, b` is applied where the server has these extensions (or `icu`, or `xml`); one
that says `-- since: 17` from that major version on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from doubles.paths import TESTS
from doubles.servers.postgres import Server
from doubles.servers.shared_postgres import exclusive
from fix_postgres import Database

FILES = TESTS / "every_type"
TEMPLATE = "every_type_template"


def applied_files(server: Server) -> list[Path]:
    """The files for this server, in order."""
    chosen = [path for path in sorted(FILES.glob("[0-9]*.sql")) if _fits(path.read_text().splitlines()[0], server)]
    assert len(chosen) > 10, "tests/every_type is nearly empty"
    return chosen


def _fits(first_line: str, server: Server) -> bool:
    if since := re.match(r"-- since: (\d+)", first_line):
        return server.major >= int(since[1])
    if needs := re.match(r"-- needs: (.*)", first_line):
        return all(_has(server, feature) for feature in needs[1].split(", "))
    return True


def _has(server: Server, feature: str) -> bool:
    if feature == "icu":
        return server.sql("postgres", "SELECT count(*) > 100 FROM pg_collation WHERE collprovider = 'i'") == [(True,)]
    if feature == "xml":
        try:
            server.sql("postgres", "SELECT '<a/>'::xml")
        except psycopg.errors.FeatureNotSupported:
            return False
        return True
    return bool(server.sql("postgres", f"SELECT 1 FROM pg_available_extensions WHERE name = '{feature}'"))


def install_extension(server: Server) -> None:
    """Put our own extension where the server looks for extensions, if we may."""
    for folder in (server.bin.parent / "share" / "extension", server.bin.parent / "share" / "postgresql" / "extension"):
        if (folder / "plpgsql.control").exists():
            break
    else:
        folder = Path(f"/usr/share/postgresql/{server.major}/extension")
    for source in sorted((FILES / "extension").iterdir()):
        target = folder / source.name
        try:
            if not target.exists() or target.read_bytes() != source.read_bytes():
                target.write_bytes(source.read_bytes())
        except OSError:
            return


@pytest.fixture(scope="session")
def every_type_template() -> Callable[[Server], str]:
    """The name of a template database that holds every type, filled on first use of the server."""

    def every_type_template(server: Server) -> str:
        with exclusive(server.folder.parent / f"{server.major}.every_type"):
            install_extension(server)
            if not server.sql("postgres", f"SELECT 1 FROM pg_database WHERE datname = '{TEMPLATE}'"):
                server.create_database("every_type_filling")
                for path in applied_files(server):
                    server.script("every_type_filling", path)
                server.sql("every_type_filling", "ANALYZE")
                server.sql("postgres", f"ALTER DATABASE every_type_filling RENAME TO {TEMPLATE}")
        return TEMPLATE

    return every_type_template


@pytest.fixture
def make_every_type(
    every_type_template: Callable[[Server], str], make_database: Callable[..., Database]
) -> Callable[..., Database]:
    """A database of every type, to change at will."""

    def make(server: Server, **options: str) -> Database:
        database = make_database(server, template=every_type_template(server), **options)
        database.script(FILES / "each-database.sql")
        return database

    return make


@pytest.fixture
def every_type(server: Server, make_every_type: Callable[..., Database]) -> Database:
    """A database of every type on each supported version in turn."""
    return make_every_type(server)
