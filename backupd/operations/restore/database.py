"""Build the new database from a snapshot's contents: steps 3 to 7 of a restore. Rows are loaded by several threads,
each of which reads bundle after bundle.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol, TypeAlias

from backupd.errors import BrokenKeysError
from backupd.model.inventory import TableName
from backupd.model.text import counted
from backupd.operations.phases import Phases
from backupd.operations.restore import indexes
from backupd.operations.restore.contents import uncollected
from backupd.operations.restore.types import Built, LeftOut
from backupd.planning.load_order import load_order
from backupd.planning.restore import Bundle, Piece
from backupd.postgres.client_programs import Client, Programs
from backupd.postgres.connect import Connection
from backupd.postgres.schema.changes import changed_archive
from backupd.postgres.schema.compare import reader_of
from backupd.postgres.schema.statements import temporary_name
from backupd.postgres.target import database, finish, session
from backupd.postgres.target.early_keys import early_keys
from backupd.postgres.target.finish import UnfilledView
from backupd.postgres.target.foreign_keys import BrokenKey, make_keys
from backupd.postgres.target.lacks import Lack, missing_things, refused_things, require_nothing
from backupd.postgres.target.late_tables import late_tables
from backupd.postgres.target.load import Loader
from backupd.postgres.target.pg_restore import (
    fitting_programs,
    pg_restore_for,
    restore_large_objects,
    restore_section,
)
from backupd.postgres.target.post_data import restore_rest
from backupd.postgres.target.refusals import Failures
from backupd.postgres.target.restorer import superusers
from backupd.postgres.target.subscriptions import count_subscriptions
from backupd.trace import Progress, Warned

if TYPE_CHECKING:
    from backupd.operations.restore.contents import SnapshotContents
    from backupd.operations.restore.types import RestoreEnvironment, RestoreRequest, Snapshot

_NAMED = 20
"""Foreign keys that an error names; of more than that, it gives the number."""


class DatabaseBuilder:
    """Builds one new database from a snapshot."""

    def __init__(
        self, request: RestoreRequest, environment: RestoreEnvironment, phases: Phases, snapshot: Snapshot
    ) -> None:
        self._request = request
        self._environment = environment
        self._phases = phases
        self._contents = snapshot.contents
        self._plan = snapshot.plan
        self._schema = replace(snapshot.schema, failed=Failures() if request.keep_going else None)
        self._exact = snapshot.exact
        self._temporary = temporary_name(environment.random(4).hex())
        keeps_going = request.keep_going
        self._failed = self._schema.failed
        self._failed_objects = Failures() if keeps_going else None
        self._rows_left_out: list[tuple[TableName, str]] | None = [] if keeps_going else None
        self._refused_properties: list[str] | None = [] if keeps_going else None

    def run(self) -> Built:
        """Build the database.

        Raises BrokenKeysError when foreign keys cannot hold and none may be broken, RefusedError, SourceError,
        DamageError or the store's errors; then nothing of the database is left, or a warning names it.
        """
        with session.connect(self._request.target, session.MAINTENANCE) as connection:
            programs = self._look(connection)
            roles = self._make_roles(connection)
            self._warn_of_owners(connection)
            try:
                database.create(connection, self._schema.database, self._temporary, strict=self._failed is None)
            except BaseException:
                self._drop()
                raise
        try:
            self._try_out()
            broken, unfilled = self._fill(programs)
            with (
                self._phases.phase("publishing"),
                session.connect(self._request.target, session.MAINTENANCE) as connection,
            ):
                database.publish(
                    connection, self._schema.database, self._temporary, self._request.name, self._refused_properties
                )
        except BaseException:
            self._drop()
            raise
        return Built(roles, broken, unfilled, self._left_out())

    def _left_out(self) -> tuple[LeftOut, ...]:
        """Return what a restore that keeps going has left out, in the order of the archive, then tables' rows."""
        if self._failed is None or self._failed_objects is None:
            return ()
        entries = [
            LeftOut(*self._schema.names.get(one, ("entry", "")), why)
            for one, why in sorted(self._failed.reasons.items())
        ]
        entries += [LeftOut("large objects", "", why) for why in self._failed_objects.reasons.values()]
        rows = [LeftOut("rows of table", table.table, why) for table, why in self._rows_left_out or ()]
        properties = [LeftOut("property of the database", "", why) for why in self._refused_properties or ()]
        return (*entries, *rows, *properties)

    def _look(self, connection: Connection) -> Programs:
        database.check_name(connection, self._request.name)
        for name in database.leftovers(connection):
            self._environment.trace.emit(
                Warned(
                    f"an interrupted restore has left the database '{name}'",
                    hint=f'If nobody looks into it, drop it: DROP DATABASE "{name}";',
                )
            )
        programs = fitting_programs(self._request.target, connection)
        self._require(missing_things(connection, self._schema.needs, roles=self._request.roles))
        return programs

    def _warn_of_owners(self, connection: Connection) -> None:
        """Say that code of those who are no superusers will run with the rights of one."""
        if self._request.trial or not session.is_superuser(connection):
            return
        plain = len(self._schema.authors - superusers(connection))
        if plain:
            others = "an owner who is" if plain == 1 else f"{plain} owners who are"
            self._environment.trace.emit(
                Warned(
                    f"a superuser restores, and so runs with all rights, what {others} none wrote, such as checks",
                    hint="Where an owner or the node may be hostile, restore by the role that `restore preview` prints "
                    "with --restorer (`backupd manual restore`, When an owner is hostile).",
                )
            )

    def _require(self, lacks: Sequence[Lack]) -> None:
        """Refuse a target that lacks something; a restore that keeps going only says so."""
        if self._failed is None:
            require_nothing(lacks)
        for lack in lacks:
            self._environment.trace.emit(Warned(f"the target lacks: {lack.summary()}", hint=lack.cure))

    def _try_out(self) -> None:
        """Find out, before anything is loaded, what would be refused after the rows."""
        if not (self._plan.facts.database.public or database.drop_public(self._request.target, self._temporary)):
            self._environment.trace.emit(
                Warned(
                    "the restored database has a schema 'public', which its source has not",
                    hint="The user of --target may not drop it: have its owner do that.",
                )
            )
        if self._failed is None:
            with session.connect(self._request.target, self._temporary) as connection:
                needs, sql = self._schema.needs, self._schema.database
                require_nothing(refused_things(connection, needs, sql, self._temporary))

    def _make_roles(self, connection: Connection) -> int:
        made = 0
        if self._request.roles:
            with self._phases.phase("roles"):
                scripts = [file.decode(errors="surrogateescape") for file in self._contents.file(self._plan, "globals")]
                made = finish.create_roles(connection, scripts, self._request.changes.roles)
            self._require(missing_things(connection, self._schema.needs, roles=False))
        return made

    def _fill(self, programs: Programs) -> tuple[tuple[BrokenKey, ...], tuple[UnfilledView, ...]]:
        request, plan = self._request, self._plan
        with pg_restore_for(request.target, self._temporary, programs) as client:
            with self._phases.phase("schema"):
                self._begin_schema(client)
                for archive in self._contents.large_objects(plan):
                    changed = changed_archive(reader_of(archive), request.changes) if request.changes else archive
                    restore_large_objects(client, changed, self._failed_objects)
            pace = request.pace
            with self._phases.phase(LOADING, plan.bytes, expected=pace * plan.bytes if pace is not None else None):
                made = self._load(client)
            # Connected before the database's own login triggers exist.
            with session.connect(request.target, self._temporary) as connection:
                finish.set_sequences(connection, plan.sequences, present=self._failed is not None)
                with self._phases.phase("indexing"):
                    broken = self._finish_schema(client, connection, made)
                    self._make_last(client)
                unfilled = self._finish(connection)
        return broken, tuple(unfilled)

    def _begin_schema(self, client: Client) -> None:
        """Make what comes before the rows; with schemas, for a role that is no superuser, what may be done in them."""
        schema = self._schema
        with session.connect(self._request.target, self._temporary) as connection:
            plain = not session.is_superuser(connection)
        first = schema.schemas if plain else ()
        if not first:
            restore_section(client, schema, "pre-data")
            return
        restore_section(client, schema, "pre-data", only=first)
        restore_section(client, schema, "pre-data", only=[one for one in schema.names if one not in set(first)])

    def _finish_schema(self, client: Client, connection: Connection, made: set[int]) -> tuple[BrokenKey, ...]:
        """Make the indexes that are not `made`, constraints and triggers; returns the foreign keys that cannot hold."""
        request, schema = self._request, self._schema
        keys = [entry.dump_id for entry in schema.keys]
        if not request.without_broken_keys and (self._exact or self._failed is not None):
            restore_rest(client, schema, request.jobs, made=made, keys=keys)
            return ()
        restore_rest(client, schema, request.jobs, made=made)
        try:
            restore_section(client, replace(schema, failed=None), "post-data", "--jobs", str(request.jobs), only=keys)
        except BrokenKeysError:
            broken = make_keys(connection, schema.keys)
            if broken and not request.without_broken_keys:
                raise broken_keys(broken) from None
            return tuple(broken)
        return ()

    def _make_last(self, client: Client) -> None:
        """Make what comes last, over one connection: of several, a login trigger would meet pg_restore's next."""
        if self._schema.last:
            restore_section(client, self._schema, "post-data", only=self._schema.last)

    def _load(self, client: Client) -> set[int]:
        """Fill the tables; returns the dump ids of what was made of the schema meanwhile."""
        target, plan = self._request.target, self._plan
        with session.connect(target, self._temporary) as connection:
            keys = early_keys(connection)
            order = load_order(plan, keys, late_tables(connection))
        # An index locks its table: where keys hold already, or rows come through the root, another's COPY may wait.
        bound = {table for key in keys for table in (key.table, key.parent)}

        def make(entries: Sequence[int], stopped: threading.Event) -> None:
            restore_section(client, self._schema, "post-data", only=entries, stopped=stopped)

        parents: tuple[int, ...] = ()
        if self._schema.of_parents and any(table.bytes >= indexes.LEAST for table in plan.tables):
            parents = self._schema.of_parents
            restore_section(client, self._schema, "post-data", only=parents)
        with indexes.EarlyIndexes(make, max(1, self._request.jobs // 2)) as early:
            loader = Loader(target, self._temporary, plan.tables, plan.facts.settings, order.circles)
            bound |= {(name.schema, name.table) for name in loader.moving}

            def filled(place: int) -> None:
                table = plan.tables[place]
                name = table.schema, table.name
                early.full(() if name in bound else self._schema.by_table.get(name, ()), table.bytes)

            loader.filled, loader.left_out = filled, self._rows_left_out
            try:
                TableFiller(self._contents, lambda piece: loader.piece(piece.table), self._phases).run(
                    order.passes, self._request.readers
                )
            finally:
                loader.close()
        return {*parents, *early.done}

    def _finish(self, connection: Connection) -> list[UnfilledView]:
        unfilled: list[UnfilledView] = []
        finish.disable_event_triggers(connection)
        if self._plan.refresh:
            with self._phases.phase("refreshing"):
                unfilled = finish.refresh(connection, self._plan.refresh)
        if self._request.analyze:
            with self._phases.phase("analyzing"):
                finish.analyze(connection)
        self._tell_subscriptions(connection)
        return unfilled

    def _tell_subscriptions(self, connection: Connection) -> None:
        count = count_subscriptions(connection, self._temporary)
        if count:
            self._environment.trace.emit(
                Warned(
                    f"{counted(count, 'subscription')} restored: disabled, with the source's replication slot",
                    hint="Before one is dropped: ALTER SUBSCRIPTION … SET (slot_name = NONE), or it takes the source's "
                    "slot with it. To use it, give it a slot of its own.",
                )
            )

    def _drop(self) -> None:
        if not database.drop(self._request.target, self._temporary):
            self._environment.trace.emit(
                Warned(
                    f"the unfinished database '{self._temporary}' could not be dropped",
                    hint=f'Once the server can be reached, drop it: DROP DATABASE "{self._temporary}";',
                )
            )


def broken_keys(broken: Sequence[BrokenKey]) -> BrokenKeysError:
    """Return the error that names foreign keys which cannot hold."""
    found = Counter(f"{key.table}.{key.constraint}" for key in broken)
    named = [name if times == 1 else f"{name} ({counted(times, 'schema')})" for name, times in sorted(found.items())]
    more = [f"and {len(named) - _NAMED} more"] if len(named) > _NAMED else []
    return BrokenKeysError(
        f"{counted(len(broken), 'foreign key')} cannot hold, because rows they refer to are left out: "
        + ", ".join([*named[:_NAMED], *more]),
        hint="What was purged, has expired or was not asked for is left out. With --without-broken-keys these keys "
        "hold for new rows only, and the rows that refer to nothing stay as they were (`backupd manual restore`).",
    )


LOADING = "loading"


class TableWriter(Protocol):
    def write(self, data: memoryview, /) -> None: ...


OpenTable: TypeAlias = "Callable[[Piece], AbstractContextManager[TableWriter]]"

_REPORT_EVERY = 4 << 20
"""Bytes between two events of progress."""


class TableFiller:
    """Passes one restore's rows from its contents to the tables or files."""

    def __init__(self, contents: SnapshotContents, opened: OpenTable, phases: Phases) -> None:
        """Prepare the filling; `opened` opens a piece's destination, which is complete when its block ends well."""
        self._contents = contents
        self._opened = opened
        self._phases = phases
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._bytes = 0
        self._reported = 0

    def run(self, passes: Sequence[Sequence[Bundle]], threads: int) -> None:
        """Fill the tables of one pass after another.

        Raises the first error of any thread, once all have stopped.
        """
        with uncollected(), ThreadPoolExecutor(threads, "filling") as pool:
            for bundles in passes:
                shared = iter(bundles)
                running = [pool.submit(self._feed, shared) for _ in range(threads)]
                try:
                    wait(running)
                except BaseException:
                    self._stopped.set()
                    raise
                for future in running:
                    future.result()
        self._phases.emit(Progress(LOADING, bytes_in=self._bytes))

    def _feed(self, shared: Iterator[Bundle]) -> None:
        try:
            unreported = 0
            for piece, group in groupby(self._contents.rows(self._wanted(shared)), key=itemgetter(0)):
                with self._opened(piece) as writer:
                    for _, rows in group:
                        writer.write(rows)
                        unreported += len(rows)
                        if unreported >= _REPORT_EVERY // 4:
                            self._report(unreported)
                            unreported = 0
            self._report(unreported)
        except BaseException:
            self._stopped.set()
            raise

    def _wanted(self, shared: Iterator[Bundle]) -> Iterator[Piece]:
        """Yield bundle after bundle, as this thread gets to them, until another thread fails."""
        while not self._stopped.is_set():
            with self._lock:
                bundle = next(shared, None)
            if bundle is None:
                return
            yield from bundle

    def _report(self, size: int) -> None:
        with self._lock:
            self._bytes += size
            if self._bytes - self._reported < _REPORT_EVERY:
                return
            self._reported = self._bytes
        self._phases.emit(Progress(LOADING, bytes_in=self._reported))
