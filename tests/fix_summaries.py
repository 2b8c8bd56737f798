"""PostgreSQL servers 17 and 18 that summarize their WAL."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doubles.servers import postgres
from doubles.servers.postgres import FAST, Server
from fix_postgres import Database, quick_folder

SUMMARIZING = {
    **FAST,
    "fsync": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "summarize_wal": "on",
    "max_prepared_transactions": "20",
    "max_wal_size": "1GB",
}
MAJORS = (17, 18)


@pytest.fixture(scope="session")
def summarizing_of() -> Iterator[Callable[[int], Server]]:
    """The process's summarizing server of a major version, started on first use."""
    base = Path(tempfile.mkdtemp(prefix="backupd-wal-", dir=quick_folder()))
    base.chmod(0o755)
    servers: dict[int, Server] = {}

    def server_of(major: int) -> Server:
        if major not in servers:
            servers[major] = postgres.start(major, base / str(major), SUMMARIZING)
        return servers[major]

    yield server_of
    for server in servers.values():
        postgres.stop(server)
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(params=MAJORS, ids=lambda major: f"pg{major}")
def summarized(
    request: pytest.FixtureRequest,
    summarizing_of: Callable[[int], Server],
    make_database: Callable[..., Database],
) -> Database:
    """An empty database on each server that summarizes its WAL."""
    return make_database(summarizing_of(request.param))
