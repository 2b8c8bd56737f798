"""The vendor's application: customers come, work, leave and return. A journal keeps what was in the database when."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from lib.servers import Region
from lib.soak.clock import Clock

TABLES = {"note": "id, tenant, said, at", "ticket": "id, tenant, said, at", "country": "code, name"}
SCHEMA = """
CREATE TABLE note (id bigserial PRIMARY KEY, tenant text NOT NULL, said text, at timestamptz);
CREATE TABLE ticket (id bigserial PRIMARY KEY, tenant text NOT NULL, said text, at timestamptz);
CREATE TABLE country (code text PRIMARY KEY, name text);
INSERT INTO country SELECT 'c' || g, 'land ' || g FROM generate_series(1, 40) g;
"""
CONTROL = "CREATE TABLE customer (tenant text PRIMARY KEY, unsubscribed_at timestamptz, erase_requested_at timestamptz)"
PATIENCE = 60.0
"""Seconds for a server that is being restarted."""


class Journal:
    """Lines of JSON, each true when it was written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, kind: str, **fields: Any) -> None:
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"kind": kind, **fields}) + "\n")


@dataclass
class Application:
    """Every change is one transaction, and one line of the journal."""

    source: Region
    clock: Clock
    journal: Journal
    random: random.Random
    incarnations: dict[str, int] = field(default_factory=dict)
    """Incarnation of each customer that has rows."""
    left: dict[str, str] = field(default_factory=dict)
    """How a customer without rows, or with rows to be taken away, left."""

    def start(self, customers: int, rows: int) -> None:
        with contextlib.closing(self.source.create("control")) as control:
            control.execute(CONTROL)
        with contextlib.closing(self.source.create("app")) as app:
            app.execute(SCHEMA)
        for number in range(customers):
            self.join(f"zwartewater-{number:02d}", 1, rows)

    def join(self, tenant: str, incarnation: int, rows: int) -> None:
        """A customer's first rows; the journal and the rows say which of its incarnations it is."""
        self.incarnations[tenant] = incarnation
        self.left.pop(tenant, None)
        with self._control() as control:
            control.execute(
                "INSERT INTO customer VALUES (%s) ON CONFLICT (tenant) DO UPDATE SET "
                "unsubscribed_at = NULL, erase_requested_at = NULL",
                [tenant],
            )
        with self._change() as app:
            for table in ("note", "ticket"):
                self._insert(app, table, tenant, rows)
        if incarnation > 1:
            self.journal.write("returned", tenant=tenant, incarnation=incarnation, at=self._now())

    def work(self, share: float = 0.02) -> None:
        """Rows of some customers change, a few come and go."""
        with self._change() as app:
            for tenant in sorted(self.incarnations):
                if self.random.random() < 0.6:
                    table = self.random.choice(("note", "ticket"))
                    self._insert(app, table, tenant, self.random.randint(1, 9))
                    said = f"{self._mark(tenant)} changed {self.random.random()}"
                    app.execute(
                        f"UPDATE {table} SET said = %s WHERE tenant = %s AND id %% 53 = %s",
                        [said, tenant, self.random.randrange(53)],
                    )
                    app.execute(
                        f"DELETE FROM {table} WHERE tenant = %s AND id %% 211 = %s",
                        [tenant, self.random.randrange(211)],
                    )
            if self.random.random() < share:
                app.execute("UPDATE country SET name = name || '.' WHERE code = 'c7'")

    def leave(self, tenant: str, *, early: bool) -> None:
        """Unsubscribe, or ask for being erased: the application takes the rows out at once in that case."""
        column, since = ("erase_requested_at" if early else "unsubscribed_at"), self.clock.now()
        with self._control() as control:
            control.execute(f"UPDATE customer SET {column} = %s WHERE tenant = %s", [since, tenant])
        self.left[tenant] = "erased" if early else "unsubscribed"
        incarnation = self.incarnations[tenant]
        self.journal.write("due", tenant=tenant, incarnation=incarnation, since=since.isoformat(), early=early)
        if early:
            self.take_out(tenant)

    def come_back(self, tenant: str) -> None:
        """Before anything was purged: as if nothing had been."""
        with self._control() as control:
            control.execute("UPDATE customer SET unsubscribed_at = NULL WHERE tenant = %s", [tenant])
        del self.left[tenant]
        self.journal.write("cancelled", tenant=tenant, incarnation=self.incarnations[tenant], at=self._now())

    def take_out(self, tenant: str) -> None:
        """What the application does itself: the rows leave the live database."""
        with self._change() as app:
            for table in ("note", "ticket"):
                app.execute(f"DELETE FROM {table} WHERE tenant = %s", [tenant])
        del self.incarnations[tenant]

    def migrate(self) -> None:
        """What a vendor's migration does, while a backup may be running; the rows stay what they are."""
        with self._connect("app") as app:
            app.execute("CREATE TABLE IF NOT EXISTS draft (tenant text, said text)")
            app.execute("CREATE INDEX ON note (at)")
            app.execute("ALTER TABLE ticket ALTER said SET STATISTICS 200")
            app.execute("DROP INDEX note_at_idx")
            app.execute("DROP TABLE draft")
            app.execute("VACUUM FULL country")

    def held(self, tenant: str, *, released: bool) -> None:
        """Write down that a hold of a tenant begins, or ends."""
        self.journal.write("released" if released else "held", tenant=tenant, at=self._now())

    def _mark(self, tenant: str) -> str:
        return f"{tenant}.{self.incarnations[tenant]}"

    def _insert(self, app: Any, table: str, tenant: str, rows: int) -> None:
        app.execute(
            f"INSERT INTO {table} (tenant, said, at) SELECT %s, %s || md5(random()::text || g), clock_timestamp() "
            "FROM generate_series(1, %s) g",
            [tenant, f"{self._mark(tenant)} ", rows],
        )

    def _now(self) -> str:
        return self.clock.now().isoformat()

    @contextlib.contextmanager
    def _control(self) -> Iterator[Any]:
        with self._connect("control") as connection:
            yield connection

    @contextlib.contextmanager
    def _change(self) -> Iterator[Any]:
        """The state holds from some moment between `begun` and `settled` on."""
        with self._connect("app") as app:
            with app.transaction():
                yield app
                digests = self.digests(app)
                begun = self.clock.of(datetime.now(UTC))
            self.journal.write("state", begun=begun.isoformat(), settled=self._now(), digests=digests)

    def digests(self, app: Any) -> Mapping[str, str]:
        """Of each customer's rows of each table as COPY writes them, lines sorted: `tenant.incarnation/table`."""
        found: dict[str, list[bytes]] = {}
        for table, columns in TABLES.items():
            with app.cursor().copy(f"COPY {table} ({columns}) TO STDOUT") as copy:
                for line in b"".join(copy).splitlines(keepends=True):
                    tenant = line.split(b"\t")[1].decode() if table != "country" else ""
                    incarnation = f"{self._mark(tenant)}" if tenant else "shared"
                    found.setdefault(f"{incarnation}/{table}", []).append(line)
        return {key: hashlib.sha256(b"".join(sorted(lines))).hexdigest() for key, lines in found.items()}

    @contextlib.contextmanager
    def _connect(self, database: str) -> Iterator[psycopg.Connection[Any]]:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                connection = self.source.server.connect(database)
                break
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        with contextlib.closing(connection):
            connection.execute("SET timezone = 'UTC'")
            yield connection
