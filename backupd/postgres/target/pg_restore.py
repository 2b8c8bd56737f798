"""The schema restored by pg_restore: the archive is joined in memory and restored section by section.

`backupd manual trust`, row *definitions: functions, checks, views, types*,
says who can write this, and what is checked.
"""

from __future__ import annotations

import io
import os
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import IO, cast

from backupd.errors import ConfigError, DamageError, SourceError
from backupd.postgres.client_programs import Client, Programs, client, find_programs
from backupd.postgres.connect import Connection, Source, resolved
from backupd.postgres.schema.archive import ArchiveReader, Entry, join_archive, unpack_entries
from backupd.postgres.schema.changes import SchemaChanges, changed_entries
from backupd.postgres.schema.needs import OWNER_OF_DATABASE, SchemaNeeds, schema_needs
from backupd.postgres.target import session
from backupd.postgres.target.refusals import Failures, failure

TIMEOUT_SINCE = 17
"""Major version from which pg_restore sets `transaction_timeout`, which older servers do not know."""
FOREIGN_KEYS = frozenset({"FK CONSTRAINT"})
_ALONE = frozenset({"INDEX", "CONSTRAINT"})
"""Kinds of entries that need a table's rows; as pg_restore itself does with several jobs, they are made when these are
there. Keys that refer to other tables come after all rows."""
_LATE = _ALONE | {"FK CONSTRAINT", "CHECK CONSTRAINT", "INDEX ATTACH", "MATERIALIZED VIEW", "VIEW", "RULE", "TRIGGER"}
_JOINS = frozenset({"INDEX ATTACH"})
_EVENT_TRIGGERS = frozenset({"EVENT TRIGGER"})
_LOOK = 0.2
"""Seconds between two looks whether a program is to be stopped."""
_OF_DATABASE = ("ACL", "COMMENT", "SECURITY LABEL")


@dataclass(frozen=True, slots=True)
class DatabaseSql:
    """An archive's statements about the database itself, under its original name."""

    create: str
    owner: str
    properties: tuple[str, ...]
    """Statements for comment, privileges, settings and limits."""


@dataclass(frozen=True, slots=True)
class SchemaArchive:
    """A schema archive, joined from the segments' entries; in memory only."""

    descriptor: int
    database: DatabaseSql
    needs: SchemaNeeds
    authors: frozenset[str] = field(default=frozenset(), repr=False)
    """The owners at the source, who wrote what a restore runs, also where others are to own it."""
    left_out: int = 0
    """Number of objects of the kinds that were not wanted."""
    keys: tuple[Entry, ...] = ()
    """Foreign keys, with their comments."""
    last: tuple[int, ...] = ()
    """Dump ids of what is made last, over one connection: what partitions have otherwise of a parent's triggers, which
    no dependency puts behind these, and event triggers, which fire for other objects; each with its comments."""
    joins: tuple[int, ...] = ()
    """Dump ids of what joins the indexes of partitions to their parents'."""
    others: tuple[int, ...] = ()
    """Dump ids of all other entries."""
    schemas: tuple[int, ...] = ()
    """Dump ids of schemas and of their privileges: who is no superuser gives an object only to a role that may create
    in its schema, and pg_restore by itself grants last."""
    of_parents: tuple[int, ...] = ()
    """Dump ids of indexes and constraints of partitioned tables, which need no rows."""
    by_table: Mapping[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    """Dump ids of indexes and constraints that need nothing but one table with its rows and, of a partition,
    `of_parents`, by the table's schema and name."""
    failed: Failures | None = None
    """Takes the entries that PostgreSQL refuses; None where the first of them ends the restore."""
    names: Mapping[int, tuple[str, str]] = field(default_factory=dict, repr=False)
    """Kind and name of every entry by dump id; a schema's name is in none of them."""


def fitting_programs(source: Source, connection: Connection) -> Programs:
    """Find client programs that can restore into the connection's server.

    Raises ConfigError when there are none.
    """
    version = connection.info.server_version
    programs = find_programs(source.client_folders, version)
    if version // 10000 < TIMEOUT_SINCE <= programs.version[0]:
        raise ConfigError(
            f"pg_restore {programs.version[0]} cannot restore into a server of PostgreSQL {version // 10000}",
            hint=f"Install postgresql-client-{version // 10000}, or name its folder in the configuration.",
        )
    return programs


_SETTINGS = "-c array_nulls=on -c jit=off -c synchronous_commit=off"
"""Compiling a foreign key's check takes longer than it saves; no commit counts before the database has its name."""


@contextmanager
def pg_restore_for(source: Source, database: str, programs: Programs) -> Iterator[Client]:
    """Yield a client for one of the server's databases. Raises the errors of connecting."""
    with session.connect(source, database) as connection:
        given = resolved(connection)
        # Its words can only be understood in English, and only a superuser may choose the language.
        english = " -c lc_messages=C" if session.is_superuser(connection) else ""
    with client(programs, given, f"{_SETTINGS}{english}") as found:
        yield found


@contextmanager
def joined_schema(
    head: bytes,
    ddl: Iterable[bytes],
    *,
    without: frozenset[str] = frozenset(),
    changes: SchemaChanges | None = None,
) -> Iterator[SchemaArchive]:
    """Join a `ddl-head` and `ddl` files to an archive for pg_restore, usable until the block ends.

    Objects of the kinds in `without` (pg_dump's names of kinds) are left out, others are changed as asked for. Raises
    DamageError when the files make no archive of a database.
    """
    archive = join_archive(head, [entry for file in ddl for entry in unpack_entries(file)])
    reader = ArchiveReader(io.BytesIO(archive).read)
    listed = list(reader.entries())
    authors = frozenset(entry.owner for entry in listed) - {"", OWNER_OF_DATABASE}
    if changes:
        archive = join_archive(head, changed_entries(listed, reader.shape, changes))
        listed = list(ArchiveReader(io.BytesIO(archive).read).entries())
    unwanted = _unwanted(listed, without)
    if unwanted:
        listed = [entry for entry in listed if entry.ordinal not in unwanted]
        archive = join_archive(head, [(entry.ordinal, entry.raw) for entry in listed])
    descriptor = os.memfd_create("backupd-schema", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(archive)
        yield replace(_schema(descriptor, listed, len(unwanted)), authors=authors)
    finally:
        os.close(descriptor)


def _schema(descriptor: int, listed: list[Entry], left_out: int) -> SchemaArchive:
    keys, events = _unwanted(listed, FOREIGN_KEYS), _unwanted(listed, _EVENT_TRIGGERS)
    # Such a trigger's entry only enables or disables what the table has of its parent.
    alters = (one for one in listed if one.description == "TRIGGER" and one.definition.lstrip().startswith("ALTER "))
    altered = {entry.dump_id for entry in alters}
    joins = _unwanted(listed, _JOINS) - keys
    states = {one.ordinal for one in listed if one.dump_id in altered or not altered.isdisjoint(one.dependencies)}
    last = [one for one in listed if one.ordinal in states] + [one for one in listed if one.ordinal in events]
    parents, by_table = _by_table(listed)
    return SchemaArchive(
        descriptor,
        _database(listed),
        schema_needs(listed),
        left_out=left_out,
        keys=tuple(entry for entry in listed if entry.ordinal in keys),
        last=tuple(entry.dump_id for entry in last),
        joins=tuple(entry.dump_id for entry in listed if entry.ordinal in joins),
        others=tuple(entry.dump_id for entry in listed if entry.ordinal not in keys | events | states | joins),
        schemas=tuple(one.dump_id for one in listed if _is_of_schema(one)),
        of_parents=tuple(parents),
        by_table=by_table,
        names={entry.dump_id: (entry.description, entry.tag) for entry in listed},
    )


def _is_of_schema(entry: Entry) -> bool:
    return entry.description == "SCHEMA" or (entry.description == "ACL" and entry.tag.startswith("SCHEMA "))


def _by_table(entries: list[Entry]) -> tuple[list[int], dict[tuple[str, str], tuple[int, ...]]]:
    """Return the ids of entries of partitioned tables, and of each table with rows."""
    tables = {entry.dump_id: (entry.namespace, entry.tag) for entry in entries if entry.description == "TABLE"}
    partitioned = {
        one
        for entry in entries
        if entry.description == "TABLE ATTACH"
        for one in tables.keys() & entry.dependencies
        if tables[one] != (entry.namespace, entry.tag)
    }
    late = {entry.dump_id for entry in entries if entry.description in _LATE}
    parents: list[int] = []
    found: dict[tuple[str, str], tuple[int, ...]] = {}
    for entry in entries:
        of = tables.keys() & entry.dependencies
        # An index of a partition comes after the one of its parent, which is made without looking at any row.
        if entry.description not in _ALONE or len(of) != 1 or not late.isdisjoint(entry.dependencies):
            continue
        table = of.pop()
        if table in partitioned:
            parents.append(entry.dump_id)
            late.discard(entry.dump_id)
        else:
            found[tables[table]] = (*found.get(tables[table], ()), entry.dump_id)
    return parents, found


def _unwanted(entries: list[Entry], without: frozenset[str]) -> set[int]:
    """Return the ordinals of the objects of these kinds, and of the entries that depend on them."""
    gone = {entry.dump_id for entry in entries if entry.description in without}
    return {entry.ordinal for entry in entries if entry.dump_id in gone or gone & set(entry.dependencies)}


def _database(entries: list[Entry]) -> DatabaseSql:
    made = [entry for entry in entries if entry.description == "DATABASE"]
    if len(made) != 1:
        raise DamageError("the schema does not say how to make its database")
    about = [
        entry.definition
        for entry in entries
        if entry.description == "DATABASE PROPERTIES"
        or (entry.description in _OF_DATABASE and entry.tag.startswith("DATABASE "))
    ]
    return DatabaseSql(made[0].definition, made[0].owner, tuple(about))


def restore_section(
    client: Client,
    schema: SchemaArchive,
    section: str,
    *options: str,
    only: Iterable[int] | None = None,
    stopped: threading.Event | None = None,
) -> None:
    """Restore the section `pre-data` or `post-data` into the client's database, stopping at the first error.

    `only` are dump ids of the entries to restore, in this order. Where the schema has `failed`, what fails is added to
    it, and the rest is restored. Raises SourceError, BrokenKeysError, SourceGoneError or RefusedError, without
    pg_restore's messages; SourceError also when another thread has set `stopped`.
    """
    with listed(only) as (listing, passed):
        stopping = _stopping(schema.failed)
        command = client.command("pg_restore", "-Fc", f"--section={section}", *stopping, *listing, *options)
        archive = schema.descriptor
        running = _running([*command, f"/proc/self/fd/{archive}"], client, (archive, *passed), section, schema.failed)
        with running as process:
            _await(process, stopped)


def _await(process: subprocess.Popen[bytes], stopped: threading.Event | None) -> None:
    while stopped is not None:
        try:
            process.wait(_LOOK)
        except subprocess.TimeoutExpired:
            if stopped.is_set():
                raise SourceError("pg_restore was stopped") from None
        else:
            return
    process.wait()


@contextmanager
def listed(only: Iterable[int] | None) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """Yield the option by which pg_restore restores only some entries, and the descriptor to pass for it."""
    if only is None:
        yield [], ()
        return
    with os.fdopen(os.memfd_create("backupd-list", os.MFD_CLOEXEC), "w") as file:
        file.write("".join(f"{number};\n" for number in only))
        file.flush()
        yield [f"--use-list=/proc/self/fd/{file.fileno()}"], (file.fileno(),)


def restore_large_objects(
    client: Client, archive: Iterable[bytes | memoryview], failed: Failures | None = None
) -> None:
    """Restore an archive of large objects, read once, in order; `failed` is that of `restore_section`.

    Raises the errors of `restore_section` and of `archive`.
    """
    command = client.command("pg_restore", "-Fc", *_stopping(failed))
    with _running(command, client, (), "large objects", failed) as process:
        with cast("IO[bytes]", process.stdin) as pipe:
            try:
                for piece in archive:
                    pipe.write(piece)
            except BrokenPipeError:
                pass  # it ended early, and its exit status says why
        process.wait()


@contextmanager
def _running(
    command: list[str], client: Client, passed: tuple[int, ...], stage: str, failed: Failures | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a child process that is ended with the block if it still runs, and turn its failure into our error.

    The entries that it has left out are added to `failed` instead.
    """
    with os.fdopen(os.memfd_create("words", os.MFD_CLOEXEC), "w+b") as stderr:
        with subprocess.Popen(
            command,
            env=dict(client.environment),
            stdin=subprocess.DEVNULL if passed else subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=passed,
        ) as process:
            try:
                yield process
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            stderr.seek(0)
            words = stderr.read()
            if failed is None or not failed.take(words):
                raise failure(stage, process.returncode, words) from None


def _stopping(failed: Failures | None) -> list[str]:
    """Return the options by which pg_restore stops at the first error, or names every entry that it cannot restore."""
    return ["--exit-on-error"] if failed is None else ["--verbose"]
