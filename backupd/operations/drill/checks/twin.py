"""The restored database's twin: the same archive, loaded by pg_restore without any row into a database beside it.

Both were loaded once, so PostgreSQL prints both in the same words; what the restore lost or altered shows as a
difference between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.postgres.client_programs import client, find_programs
from backupd.postgres.connect import Source, other_database, resolved
from backupd.postgres.schema.changes import SchemaChanges
from backupd.postgres.schema.compare import ComparedSchema, read_schema
from backupd.postgres.schema.dump import dump_schema
from backupd.postgres.schema.statements import temporary_name
from backupd.postgres.scratch import watch
from backupd.postgres.source.exported import connect_beside, hold
from backupd.postgres.target import database, session
from backupd.postgres.target.pg_restore import (
    SchemaArchive,
    fitting_programs,
    joined_schema,
    pg_restore_for,
    restore_section,
)
from backupd.postgres.target.post_data import restore_rest

if TYPE_CHECKING:
    from backupd.planning.mapping.names import NamePatterns

_JOBS = 2


@dataclass(frozen=True, slots=True)
class SchemaTwin:
    """The schema that the archive alone gives."""

    schema: ComparedSchema
    not_valid: frozenset[str]
    """Constraints that were never validated, by name."""


def read_twin(source: Source, head: bytes, ddl: Sequence[bytes], names: NamePatterns, token: str) -> SchemaTwin:
    """Load the archive made of these files into a database of the source's server, dump its schema, and drop it.

    `token` makes the database's name unique. Raises SourceError and DamageError.
    """
    with (
        joined_schema(head, ddl, changes=SchemaChanges(no_tablespaces=True)) as schema,
        _loaded(source, schema, temporary_name(token)) as twin,
        hold(twin, single=False) as holder,
        connect_beside(twin, holder) as free,
    ):
        programs = find_programs(twin.client_folders, holder.connection.info.server_version)
        with client(programs, resolved(holder.connection)) as started:
            dumped = dump_schema(started, holder.exported, names)
        return SchemaTwin(read_schema(dumped.head, dumped.entries.values()), frozenset(watch.constraints(free).faulty))


@contextmanager
def _loaded(source: Source, schema: SchemaArchive, name: str) -> Iterator[Source]:
    with session.connect(source, session.MAINTENANCE) as connection:
        programs = fitting_programs(source, connection)
        database.create(connection, schema.database, name)
    try:
        with pg_restore_for(source, name, programs) as started:
            restore_section(started, schema, "pre-data")
            keys = [entry.dump_id for entry in schema.keys]
            restore_rest(started, schema, _JOBS, keys=keys)
            restore_section(started, schema, "post-data", only=schema.last)
        with session.connect(source, session.MAINTENANCE) as connection:
            database.set_properties(connection, schema.database, name)
        yield other_database(source, name)
    finally:
        database.drop(source, name)
