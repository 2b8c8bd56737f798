"""PostgreSQL servers and databases in them. A missing version is a failure, never a skip."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from doubles.servers import shared_postgres
from doubles.servers.postgres import Server, quoted

MAJORS = tuple(int(one) for one in os.environ.get("BACKUPD_TEST_MAJORS", "15,17,18").split(","))
"""The versions that tests take in turn: 15 and the newest two, or those that `scripts/matrix` names."""


@dataclass(frozen=True, slots=True)
class Database:
    """One database on one server."""

    server: Server
    name: str

    @property
    def conninfo(self) -> str:
        return self.server.conninfo(self.name)

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.server.sql(self.name, *statements)

    def script(self, path: Path) -> None:
        self.server.script(self.name, path)


def unique(prefix: str) -> str:
    """A name nobody else has."""
    return f"{prefix}_{secrets.token_hex(4)}"


def quick_folder() -> Path:
    """Memory where there is plenty: creating a database there takes a tenth of the time."""
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 << 30
    return memory if usable else Path(tempfile.gettempdir())


@pytest.fixture(scope="session")
def postgres_of(request: pytest.FixtureRequest) -> Iterator[Callable[[int], Server]]:
    """The run's server of a major version, started on first use."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or secrets.token_hex(8)
    base = quick_folder() / f"backupd-pg-{run[:16]}"
    handles: list[Any] = []
    servers: dict[int, Server] = {}

    def server_of(major: int) -> Server:
        if major not in servers:
            servers[major], handle = shared_postgres.borrow(major, base)
            handles.append(handle)
        return servers[major]

    yield server_of
    for handle in handles:
        handle.close()


@pytest.fixture(scope="session")
def pg15(postgres_of: Callable[[int], Server]) -> Server:
    return postgres_of(15)


@pytest.fixture(scope="session")
def pg16(postgres_of: Callable[[int], Server]) -> Server:
    return postgres_of(16)


@pytest.fixture(scope="session")
def pg17(postgres_of: Callable[[int], Server]) -> Server:
    return postgres_of(17)


@pytest.fixture(scope="session")
def pg18(postgres_of: Callable[[int], Server]) -> Server:
    return postgres_of(18)


@pytest.fixture(scope="session", params=MAJORS, ids=lambda major: f"pg{major}")
def server(request: pytest.FixtureRequest, postgres_of: Callable[[int], Server]) -> Server:
    """Each of `MAJORS` in turn."""
    return postgres_of(request.param)


@pytest.fixture
def make_database() -> Iterator[Callable[..., Database]]:
    """New databases with names of their own, dropped after the test: `make_database(server, template=…, name=…)`."""
    made: list[Database] = []

    def make(server: Server, *, template: str = "template0", name: str | None = None, options: str = "") -> Database:
        database = Database(server, name or unique("db"))
        server.create_database(database.name, template, options)
        made.append(database)
        return database

    yield make
    for database in made:
        database.server.drop_database(database.name)


@pytest.fixture
def database(server: Server, make_database: Callable[..., Database]) -> Database:
    """An empty database on every supported version in turn."""
    return make_database(server)


@pytest.fixture
def make_role() -> Iterator[Callable[..., str]]:
    """New roles, dropped after the test (drop what they own first): `make_role(server, "LOGIN", name=…)`."""
    made: list[tuple[Server, str]] = []

    def make(server: Server, options: str = "LOGIN", *, name: str | None = None) -> str:
        role = name or unique("role")
        server.sql("postgres", f"CREATE ROLE {quoted(role)} {options}")
        made.append((server, role))
        return role

    yield make
    for server, role in reversed(made):
        server.sql("postgres", f"DROP ROLE IF EXISTS {quoted(role)}")
