"""Random transactions against random backups: what is taken over unread is compared with what the snapshot shows.

One thread runs everything, so that a seed is a history: sessions with transactions of any length, prepared ones,
savepoints, DDL and maintenance, also between the steps of a backup.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from doubles.servers import postgres
from doubles.servers.postgres import Server
from doubles.servers.unread_backup import UnreadBackup

from backupd.model.answers import UnreadAnswer
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind

TENANCY = Tenancy(
    kind=TenancyKind.COLUMN,
    column="tenant",
    null_tenant="shared",
    rules=(
        TableRule(("public.item",), path=("note_id",)),
        TableRule(("public.common",), shared=True),
    ),
)
SCHEMA = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL, body text, n int);
CREATE TABLE item (id int PRIMARY KEY, note_id int NOT NULL REFERENCES note ON DELETE CASCADE, v text);
CREATE TABLE part (id int NOT NULL, tenant int NOT NULL, v text) PARTITION BY RANGE (id);
CREATE TABLE part_0 PARTITION OF part FOR VALUES FROM (0) TO (100000);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (100000) TO (200000);
CREATE TABLE temper (id int PRIMARY KEY, tenant int NOT NULL, m mood);
CREATE TABLE common (id int PRIMARY KEY, v text);
CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY, tenant int NOT NULL, v text);
CREATE INDEX ON note (n);
CLUSTER note USING note_pkey;
"""
TABLES = ("note", "item", "part", "temper", "common", "fleeting")
_MANY_ITEMS = """
INSERT INTO item SELECT g, (SELECT id FROM note ORDER BY id OFFSET g %% 40 LIMIT 1), repeat(md5(g::text), 12)
FROM generate_series(%s::int, %s) g
"""
"""Enough of what finds its tenant through another table that several extents of it are read together."""
_SESSIONS = 4
_AGAIN = """
CREATE TABLE again AS SELECT * FROM common; DROP TABLE common;
ALTER TABLE again RENAME TO common; ALTER TABLE common ADD PRIMARY KEY (id)
"""
_ADDED = """
SELECT attrelid::regclass::text, attname FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
WHERE relkind = 'r' AND NOT relispartition AND attname ~ '^c[0-9a-f]{6}$' AND NOT attisdropped LIMIT 1
"""


@dataclass
class Figures:
    """What a run of the model did, to see that it tried something."""

    backups: int = 0
    taken: int = 0
    """Extents that were taken over, and were the same."""
    as_before: int = 0
    """Backups of which nothing was read."""
    together: int = 0
    """Extents read together with others of their table, and the same as when read alone."""
    read: Counter[str] = field(default_factory=Counter)
    """Extents read, by the reason."""
    done: Counter[str] = field(default_factory=Counter)
    """Steps by their names."""


@dataclass
class _Session:
    connection: psycopg.Connection[Any]
    savepoints: int = 0


class UnreadModel:
    """One database on one server, and the memory of one node."""

    def __init__(self, server: Server, database: str, folder: Path, seed: int) -> None:
        self.server, self.database = server, database
        self._seed, self.random = seed, Random(seed)  # a seed is a history
        self.figures = Figures()
        self._sessions: list[_Session] = []
        self._prepared: list[str] = []
        self._next = 0
        self._labels = ["good", "bad"]
        self._exported = False
        self._backup = UnreadBackup(server, database, folder, TENANCY, between=self._some)

    def begin(self) -> None:
        """Make the schema, with some rows, and open the sessions."""
        with self.server.connect(self.database) as connection:
            connection.execute(SCHEMA.encode())
            if not self._seed % 2:  # with no table that is read always
                connection.execute("ALTER TABLE fleeting SET LOGGED")
        self._open()
        for table in TABLES:
            for _ in range(3):
                self._insert(self._sessions[0].connection, table, 60)
        self._sessions[0].connection.execute(_MANY_ITEMS.encode(), (self._next, self._next + 299))
        self._next += 300

    def close(self) -> None:
        """Close everything."""
        for session in self._sessions:
            session.connection.close()
        for name in self._prepared:
            self.server.sql(self.database, f"ROLLBACK PREPARED '{name}'")
        self._backup.index.close()

    def _open(self) -> None:
        self._sessions = [_Session(self.server.connect(self.database)) for _ in range(_SESSIONS)]
        for session in self._sessions:
            session.connection.execute("SET lock_timeout = '20ms'; SET deadlock_timeout = '10ms'")

    def steps(self, count: int) -> None:
        """Take steps, about one of eight of them a backup."""
        for _ in range(count):
            if self.random.random() < 0.12:
                self.backup()
            else:
                self.step()

    def backup(self) -> None:
        """Back up, with steps in between at every point, and compare. Raises DifferenceError."""
        self.figures.backups += 1
        self._exported = True
        # Some fail before their record is there.
        answer = self._backup(published=self.random.random() < 0.8, incremental="require")
        self._exported = False
        self._count(answer)
        if self.random.random() < 0.3:  # now that nobody does anything
            quiet, self._backup.between = self._backup.between, lambda: None
            self.figures.backups += 1
            self._count(self._backup(incremental="require"))
            self._backup.between = quiet

    def _count(self, answer: UnreadAnswer) -> None:
        self.figures.as_before = self._backup.as_before
        self.figures.taken += answer.extents
        self.figures.together = self._backup.together
        for reason, count in answer.read.items():
            self.figures.read[reason] += count

    def _some(self) -> None:
        for _ in range(self.random.choice((0, 0, 1, 2, 4))):
            self.step()

    def step(self) -> None:
        """Take one random step of the application or of whoever keeps its database."""
        name, act = self.random.choices(*zip(*((one, weight) for *one, weight in self._acts()), strict=True))[0]
        session = self.random.choice(self._sessions)
        try:
            act(session)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.QueryCanceled):
            self._roll_back(session)
            name += " refused"
        except psycopg.Error as error:
            self._roll_back(session)
            name += f" refused {error.sqlstate}"
        self.figures.done[name] += 1

    def _acts(self) -> list[tuple[str, Callable[[_Session], None], float]]:
        return [
            ("insert", lambda s: self._insert(s.connection, self._table(), self.random.choice((1, 3, 30))), 10),
            ("update", self._update, 16),
            ("delete", self._delete, 6),
            ("move", self._move, 4),
            ("orphan", self._orphan, 1),
            ("adopt", self._adopt, 2),
            ("lock", self._lock, 4),
            ("begin", lambda s: s.connection.execute("BEGIN"), 12),
            ("savepoint", self._savepoint, 6),
            ("back to savepoint", self._to_savepoint, 3),
            ("commit", self._commit, 14),
            ("roll back", self._roll_back, 5),
            ("prepare", self._prepare, 4),
            ("end prepared", self._end_prepared, 4),
            ("maintain", self._maintain, 6),
            ("define", self._define, 4),
        ]

    def _table(self) -> str:
        return self.random.choice(TABLES)

    def _ids(self, table: str) -> str:
        first, span = self.random.randrange(0, max(self._next, 1)), self.random.choice((1, 1, 5, 60))
        return f"{table}.id BETWEEN {first} AND {first + span}"

    def _insert(self, connection: psycopg.Connection[Any], table: str, count: int) -> None:
        first, self._next = self._next, self._next + count
        tenant, text = self.random.randrange(4), self._text()
        values = {
            "note": f"g, {tenant}, '{text}', g",
            "item": f"g, (SELECT id FROM note ORDER BY id OFFSET {self.random.randrange(40)} LIMIT 1), '{text}'",
            "common": f"g, '{text}'",
            "temper": f"g, {tenant}, '{self.random.choice(self._labels)}'",
        }.get(table, f"g, {tenant}, '{text}'")
        columns = {"note": "(id, tenant, body, n)", "item": "(id, note_id, v)", "common": "(id, v)"}
        connection.execute(
            f"INSERT INTO {table} {columns.get(table, '')} SELECT {values} "
            f"FROM generate_series({first}, {first + count - 1}) g".encode()
        )

    def _text(self) -> str:
        word = self.random.randbytes(4).hex()
        return word * self.random.choice((1, 10, 60, 60, 700))

    def _update(self, session: _Session) -> None:
        table = self._table()
        what = {"note": "body", "temper": None}.get(table, "v")
        change = f"{what} = '{self._text()}'" if what else f"m = '{self.random.choice(self._labels)}'"
        if table == "note" and self.random.random() < 0.3:
            change = "n = n + 1"
        session.connection.execute(f"UPDATE {table} SET {change} WHERE {self._ids(table)}".encode())

    def _delete(self, session: _Session) -> None:
        table = self._table()
        where = self._ids(table) if self.random.random() < 0.9 else f"{table}.id > {self._next * 2 // 3}"
        session.connection.execute(f"DELETE FROM {table} WHERE {where}".encode())

    def _move(self, session: _Session) -> None:
        table = self.random.choice(("note", "note", "part"))
        session.connection.execute(
            f"UPDATE {table} SET tenant = {self.random.randrange(4)} WHERE {self._ids(table)}".encode()
        )

    def _orphan(self, session: _Session) -> None:
        """Delete notes and leave their items, as who loads rows without triggers may."""
        unguarded = "SET session_replication_role = replica; {}; RESET session_replication_role"
        session.connection.execute(unguarded.format(f"DELETE FROM note WHERE {self._ids('note')}").encode())

    def _adopt(self, session: _Session) -> None:
        """Give items that have lost their notes new ones, of any tenant."""
        session.connection.execute(
            f"INSERT INTO note SELECT DISTINCT note_id, {self.random.randrange(4)}, 'again', 0 FROM item "
            "WHERE NOT EXISTS (SELECT FROM note WHERE note.id = note_id)".encode()
        )

    def _lock(self, session: _Session) -> None:
        table, how = self._table(), self.random.choice(("UPDATE", "SHARE", "KEY SHARE", "NO KEY UPDATE"))
        session.connection.execute(f"SELECT FROM {table} WHERE {self._ids(table)} FOR {how}".encode())

    def _savepoint(self, session: _Session) -> None:
        if session.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            session.connection.execute("BEGIN")
        session.savepoints += 1
        session.connection.execute(f"SAVEPOINT s{session.savepoints}".encode())

    def _to_savepoint(self, session: _Session) -> None:
        place = self.random.randint(1, max(session.savepoints, 1))
        how = self.random.choice(("ROLLBACK TO", "RELEASE"))
        session.connection.execute(f"{how} SAVEPOINT s{place}".encode())
        session.savepoints = place if how != "RELEASE" else place - 1

    def _commit(self, session: _Session) -> None:
        session.connection.execute("COMMIT")
        session.savepoints = 0

    def _roll_back(self, session: _Session) -> None:
        session.connection.execute("ROLLBACK")
        session.savepoints = 0

    def _prepare(self, session: _Session) -> None:
        if session.connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS:
            name = f"p{os.urandom(4).hex()}"
            session.connection.execute(f"PREPARE TRANSACTION '{name}'".encode())
            self._prepared.append(name)
            session.savepoints = 0

    def _end_prepared(self, session: _Session) -> None:
        if self._prepared and session.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            name = self._prepared.pop(self.random.randrange(len(self._prepared)))
            session.connection.execute(f"{self.random.choice(('COMMIT', 'ROLLBACK'))} PREPARED '{name}'".encode())

    def _maintain(self, session: _Session) -> None:
        del session
        leaf = self.random.choice(("note", "item", "part_0", "part_1", "temper", "common", "fleeting"))
        self._quick(
            self.random.choice(
                (
                    f"VACUUM {leaf}",
                    f"VACUUM {leaf}",
                    f"VACUUM (FREEZE) {leaf}",
                    f"VACUUM (TRUNCATE) {leaf}",
                    f"VACUUM FULL {leaf}",
                    "CLUSTER note",
                    f"ANALYZE {leaf}",
                    f"REINDEX TABLE {leaf}",
                    "CHECKPOINT",
                    "SELECT pg_switch_wal()",
                )
            )
        )

    def _define(self, session: _Session) -> None:
        del session
        leaf = self.random.choice(("note", "item", "part_0", "common", "temper"))
        extra = f"c{os.urandom(3).hex()}"
        choices = [
            f"ALTER TABLE {leaf if leaf != 'part_0' else 'part'} ADD COLUMN {extra} int DEFAULT {self._next}",
            "ALTER TABLE common ALTER COLUMN v TYPE varchar",
            "ALTER TABLE common ALTER COLUMN v TYPE text",
            "TRUNCATE common",
            "TRUNCATE item",
            "BEGIN; TRUNCATE common; ROLLBACK",
            "ALTER TABLE common SET UNLOGGED",
            "ALTER TABLE common SET LOGGED",
            "ALTER TABLE part DETACH PARTITION part_1",
            "ALTER TABLE part ATTACH PARTITION part_1 FOR VALUES FROM (100000) TO (200000)",
            _AGAIN,
            "ALTER TABLE note RENAME COLUMN body TO said; ALTER TABLE note RENAME COLUMN said TO body",
            "UPDATE note SET n = 0 WHERE id < 0",
        ]
        # A label is written as it is now, and not as the snapshot has it: whoever reads everything sees that, too.
        if self.random.random() < 0.15 and not self._exported:
            old, new = self._labels[0], f"m{os.urandom(3).hex()}"
            self._quick(f"ALTER TYPE mood RENAME VALUE '{old}' TO '{new}'")
            self._labels[0] = new
            return
        if self.random.random() < 0.15:
            dropped = self.server.sql(self.database, _ADDED)
            for table, column in dropped:
                self._quick(f"ALTER TABLE {table} DROP COLUMN {column}")
            return
        self._quick(self.random.choice(choices))

    def _quick(self, statements: str) -> None:
        """Run statements on a connection of their own, which waits for locks only briefly."""
        with self.server.connect(self.database) as connection:
            connection.execute("SET lock_timeout = '20ms'")
            connection.execute(statements.encode())

    def restart(self, *, crash: bool) -> None:
        """Stop the server, as it should be or as in a power cut, and start it again."""
        for session in self._sessions:
            session.connection.close()
        assert postgres._pg_ctl(self.server, "stop", "-w", "-m", "immediate" if crash else "fast") == 0
        assert postgres._pg_ctl(self.server, "start", "-w", "-t", "60", "-l", str(self.server.folder / "log")) == 0
        self._open()
        self.figures.done["crash" if crash else "restart"] += 1
