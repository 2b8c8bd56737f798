"""Which databases a server has."""

from __future__ import annotations

from backupd.postgres.connect import Source, connect

_DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname"


def list_databases(source: Source) -> tuple[str, list[str]]:
    """The database `source` leads to, and the names of all that can be connected to, templates left out.

    Raises SourceError, SourceGoneError.
    """
    with connect(source) as connection:
        names = [str(name) for (name,) in connection.execute(_DATABASES)]
        return connection.info.dbname, names
