"""The servers the other tests stand on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import psycopg
import pytest
from doubles.servers.postgres import Server
from fix_postgres import Database


def test_every_version_runs_as_itself(server: Server, database: Database) -> None:
    """The `server` fixture gives each version by itself, and never runs it as root."""
    assert int(database.sql("SHOW server_version_num")[0][0]) // 10000 == server.major
    owner = (server.folder / "data").stat().st_uid
    assert owner != 0


def test_a_password_is_asked_over_loopback(pg17: Server, make_database: Callable[..., Database]) -> None:
    """Over TCP a password is needed, so that tests can look for where it leaks."""
    database = make_database(pg17)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(pg17.tcp(database.name))
    with psycopg.connect(pg17.tcp(database.name), password=pg17.password) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_client_programs_stand_beside_the_server(server: Server) -> None:
    """pg_dump of the server's own version is at hand."""
    text = subprocess.run([server.bin / "pg_dump", "--version"], check=True, capture_output=True, text=True).stdout
    assert f" {server.major}." in text
