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


ANSWERING = """
while read -r line; do
    case $line in
        */dev/stdout*) echo "psql:<stdin>:9: ERROR:  $CODE" >&2; exit 3 ;;
        *echo*) echo "${line#*echo }" ;;
    esac
done
"""
"""A psql that answers every statement, and that the server refuses the rows of a table."""


@pytest.mark.parametrize(("code", "why"), [("54000", "too large"), ("XX000", "too large"), ("22P05", "documentation")])
def test_a_table_whose_rows_are_refused_is_told_by_its_oid(code: str, why: str) -> None:
    """PostgreSQL says only that of a row of half a gigabyte; its own message, which quotes rows, stays out."""
    psql = Psql(["sh", "-c", ANSWERING, "sh"], {"PATH": os.defpath, "CODE": code}, "SELECT 1")
    try:
        with pytest.raises(SourceError, match=f"of the table with oid 4711 with SQLSTATE {code}") as failed:
            list(psql.copy("COPY x TO STDOUT", oid=4711))
    finally:
        psql.close()
    assert type(failed.value) is SourceError
    assert failed.value.hint.startswith("`SELECT 4711::regclass` in the database names it. ")
    assert why in failed.value.hint
