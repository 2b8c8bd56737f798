"""A psql that ends before it has done anything."""

from __future__ import annotations

import os

import pytest

from backupd.errors import SourceBusyError, SourceError, SourceGoneError
from backupd.rows.psql import Psql

REFUSED = 'psql: error: connection to server at "x", port 5432 failed: FATAL:  {}'


@pytest.mark.parametrize(
    ("said", "family"),
    [
        (REFUSED.format('too many connections for role "x"'), SourceBusyError),
        (REFUSED.format('zu viele Verbindungen von Rolle "x"'), SourceBusyError),
        ('psql: error: connection to server at "x", port 5432 failed: Connection refused', SourceGoneError),
        (REFUSED.format("the database system is shutting down"), SourceGoneError),
        ("", SourceGoneError),
    ],
)
def test_a_worker_that_gets_no_connection_is_told_apart(said: str, family: type[SourceError]) -> None:
    """Nothing broke: the limit of the role or the database leaves room for the holder of the snapshot only."""
    with pytest.raises(SourceError) as failed:
        Psql(["sh", "-c", f"echo '{said}' >&2; exit 2", "sh"], {"PATH": os.defpath}, "SELECT 1")
    assert type(failed.value) is family
    assert ("CONNECTION LIMIT" in failed.value.hint) is (family is SourceBusyError)
