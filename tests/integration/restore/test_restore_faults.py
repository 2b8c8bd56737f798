"""A restore names what went wrong; nothing stands under the final name, and nothing half done is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from doubles.node.processes import eventually
from doubles.servers.postgres import Server
from doubles.stores.faulty_store import FaultyStore
from fix_postgres import Database, unique
from fix_regions import Region

from backupd.errors import (
    BackupdError,
    DamageError,
    KeyRefusedError,
    RefusedError,
    SourceError,
    SourceGoneError,
    StoreGoneError,
    UsageError,
)
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.postgres.schema.statements import temporary_name
from backupd.seal import suite
from backupd.trace import Event, PhaseStarted, Warned

SECRET = "hidden-marker"


@pytest.fixture
def pg(pg17: Server) -> Server:
    return pg17


@pytest.fixture
def notes(pg: Server, make_database: Callable[..., Database], region: Region) -> Database:
    """Three tenants, one with a pack of its own; backed up once."""
    database = make_database(pg)
    database.sql(
        f'CREATE TABLE public."{SECRET}" (id int PRIMARY KEY, tenant text, body text)',
        f"INSERT INTO public.\"{SECRET}\" SELECT g, '{SECRET}' || (g % 3), repeat(md5(g::text), 3 + 300 * (g % 3 / 2)) "
        "FROM generate_series(1, 300) g",
        "SELECT lo_from_bytea(0, decode(repeat('00ff', 100000), 'hex'))",
    )
    region.tenancy = Tenancy(kind=TenancyKind.COLUMN, column="tenant", classes=region.tenancy.classes)
    region.backup(database)
    return database


@dataclass
class Refused:
    """Tries to restore, and looks at what is left of it."""

    region: Region
    server: Server
    name: str = field(default_factory=lambda: unique("refused"))
    token: bytes = field(default_factory=lambda: os.urandom(4))

    def __call__(self, family: type[BackupdError] | tuple[type[BackupdError], ...], **request: Any) -> BackupdError:
        self.region.random = lambda size: self.token[:size]
        with pytest.raises(family) as caught:
            self.region.restore(self.server, self.name, **request)
        assert self.left() == []
        assert SECRET not in "".join(traceback.format_exception(caught.value)) + caught.value.hint
        return caught.value

    def left(self) -> list[str]:
        """What there is under the temporary and the final name."""
        names = f"'{temporary_name(self.token.hex())}', '{self.name}'"
        rows = self.server.sql("postgres", f"SELECT datname FROM pg_database WHERE datname IN ({names}) ORDER BY 1")
        return [name for (name,) in rows]


@pytest.fixture
def refused(region: Region, pg: Server) -> Refused:
    return Refused(region, pg)


def objects(region: Region) -> list[Path]:
    root = region.folder / "store" / "be"
    return sorted(path for path in root.rglob("*") if path.is_file() and path.parts[-2] != "be")


def flip(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int((len(data) - 1) * at)] ^= 0x40
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "flipped at its start": lambda path, _: flip(path, 0.02),
    "flipped in its middle": lambda path, _: flip(path, 0.5),
    "flipped at its end": lambda path, _: flip(path, 0.999),
    "cut": lambda path, _: path.write_bytes(path.read_bytes()[:-1]),
    "emptied": lambda path, _: path.write_bytes(b""),
    "swapped with another": lambda path, other: path.write_bytes(other.read_bytes()),
    "removed": lambda path, _: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", [".pack", ".keyring", "record"])
def test_every_damaged_object_stops_the_restore(
    region: Region, notes: Database, refused: Refused, kind: str, damage: str
) -> None:
    """Each object of a kind, damaged in one way after the other, is named, and nothing is left."""
    chosen = [path for path in objects(region) if (path.suffix or "record") == kind]
    assert chosen
    for path in chosen:
        whole = path.read_bytes()
        DAMAGES[damage](path, next(other for other in reversed(objects(region)) if other != path))
        # Without a record there is no such snapshot.
        error = refused(UsageError if (kind, damage) == ("record", "removed") else DamageError)
        if kind == ".pack":
            assert path.stem in error.message
            assert path.parent.name in error.message
            assert error.message.startswith("in snapshot ")
            assert "--store NAME" in error.hint
        path.write_bytes(whole)
    region.restore(refused.server, refused.name)
    assert refused.left() == [refused.name]
    refused.server.drop_database(refused.name)


def test_a_store_that_fails_at_any_read_leaves_nothing(region: Region, notes: Database, refused: Refused) -> None:
    """The k-th call of the store fails, for every k there is: the error is the store's, and the target is as before."""
    whole = region.store
    counting = FaultyStore(whole)
    region.store = counting
    region.restore(refused.server, refused.name)
    refused.server.drop_database(refused.name)
    assert len(counting.calls) > 8
    for k in range(1, len(counting.calls) + 1):
        region.store = FaultyStore(whole, k)
        refused(StoreGoneError)


def test_a_taken_name_is_refused_before_anything_happens(
    region: Region, notes: Database, pg: Server, make_database: Callable[..., Database]
) -> None:
    """An existing database, empty or not, is left exactly as it was."""
    there = make_database(pg)
    there.sql("CREATE TABLE public.mine (id int)")
    with pytest.raises(RefusedError, match="exists already"):
        region.restore(pg, there.name)
    assert there.sql("SELECT * FROM public.mine") == []


def test_another_identity_opens_nothing(region: Region, notes: Database, refused: Refused) -> None:
    """A wrong key is told as one."""
    region.identity = suite.generate()
    refused(KeyRefusedError)


def test_missing_roles_are_told_before_anything_is_made(
    region: Region, pg: Server, make_database: Callable[..., Database], refused: Refused
) -> None:
    """A database owned by a role the target does not have is not begun; their number is told, not their names."""
    role, database = f"{SECRET}_{unique('r')}", make_database(pg)
    pg.sql("postgres", f'CREATE ROLE "{role}"')
    database.sql("CREATE TABLE public.t (id int)", f'ALTER TABLE public.t OWNER TO "{role}"')
    region.tenancy = Tenancy(kind=TenancyKind.NONE, unclassified="shared", classes=region.tenancy.classes)
    region.backup(database)
    pg.drop_database(database.name)
    pg.sql("postgres", f'DROP ROLE "{role}"')
    assert "needs: 1 role" in refused(RefusedError).message
    report = region.restore(pg, refused.name, roles=True)
    assert report.roles_created == 1
    assert pg.sql(refused.name, "SELECT tableowner FROM pg_tables WHERE tablename = 't'") == [(role,)]
    pg.drop_database(refused.name)
    pg.sql("postgres", f'DROP ROLE "{role}"')


def test_rows_that_break_their_own_rules_stop_the_restore(
    region: Region, pg: Server, make_database: Callable[..., Database], refused: Refused
) -> None:
    """A key whose rows dangle at the source, too, is told by kind and code, without names or rows."""
    database = make_database(pg)
    database.sql(
        f'CREATE TABLE public."{SECRET}" (id int PRIMARY KEY)',
        f'CREATE TABLE public.b (a int CONSTRAINT "{SECRET}" REFERENCES public."{SECRET}")',
        "SET session_replication_role = replica; INSERT INTO public.b VALUES (666)",
    )
    region.tenancy = Tenancy(kind=TenancyKind.NONE, unclassified="shared", classes=region.tenancy.classes)
    region.backup(database)
    error = refused(SourceError)
    assert "post-data failed at ALTER TABLE ONLY: foreign key violation (sqlstate 23503)" in error.message


@pytest.mark.parametrize("phase", ["schema", "loading", "indexing", "refreshing"])
def test_a_server_that_ends_our_sessions_is_told(
    region: Region, pg: Server, make_database: Callable[..., Database], refused: Refused, phase: str
) -> None:
    """Every session in the new database ended, again and again, in each phase: the restore fails and cleans up."""
    database = make_database(pg)
    database.sql(
        "CREATE TABLE public.t (id int, body text)",
        "INSERT INTO public.t SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 60000) g",
        "CREATE INDEX ON public.t (body)",
        "CREATE MATERIALIZED VIEW public.m AS SELECT count(DISTINCT body || id) FROM public.t",
    )
    region.tenancy = Tenancy(kind=TenancyKind.NONE, unclassified="shared", classes=region.tenancy.classes)
    region.backup(database)
    region.events = Ending(pg, temporary_name(refused.token.hex()), phase)
    error = refused(SourceError)
    assert isinstance(error, SourceGoneError) or "exit status" in error.message


class Ending:
    """A trace that, from one phase on, ends every session in a database."""

    def __init__(self, server: Server, database: str, phase: str) -> None:
        self._server = server
        self._database = database
        self._phase = phase
        self.seen: list[Event] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase == self._phase:
            threading.Thread(target=self._end).start()

    def _end(self) -> None:
        wanted = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{self._database}'"
        there = f"SELECT count(*) FROM pg_database WHERE datname = '{self._database}'"
        while self._server.sql("postgres", there) == [(1,)]:
            self._server.sql("postgres", wanted)


_KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
from backupd.repository.repository import Repository
from backupd.clock import SystemClock
from backupd.operations.restore import RestoreEnvironment, RestoreRequest, restore
from backupd.postgres.connect import Source
from backupd.store.directory import DirectoryStore
from pathlib import Path

class Dying:
    def emit(self, event):
        if getattr(event, "phase", None) == {phase!r}:
            os.kill(os.getpid(), signal.SIGKILL)

identity, token = bytes.fromhex({identity!r}), bytes.fromhex({token!r})
world = RestoreEnvironment(identity, SystemClock(), Dying(), lambda size: token[:size])
target = Source({conninfo!r}, client_folders=(Path({folder!r}),))
repository = Repository(DirectoryStore(Path({store!r})), [{signer!r}])
restore(RestoreRequest(label="app", snapshot="latest", target=target, name={name!r}), repository, world)
"""


@pytest.mark.parametrize("phase", ["loading", "indexing", "publishing"])
def test_a_killed_restore_leaves_only_a_name_the_next_one_tells(
    region: Region, pg: Server, notes: Database, refused: Refused, phase: str
) -> None:
    """After SIGKILL there is nothing under the final name; the next restore succeeds and names what was left."""
    script = _KILLED.format(
        path=sys.path,
        phase=phase,
        identity=region.identity.secret.hex(),
        token=refused.token.hex(),
        conninfo=pg.conninfo(),
        folder=str(pg.bin),
        store=str(region.folder / "store" / "be"),
        signer=region.node.signer.public,
        name=refused.name,
    )
    died = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    left = temporary_name(refused.token.hex())
    assert refused.left() == [left]
    wanted = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{left}'"
    eventually(lambda: pg.sql("postgres", wanted) == [(0,)])
    region.restore(pg, refused.name)
    told = [event.message for event in region.events.seen if isinstance(event, Warned)]
    assert any(left in message for message in told)
    assert refused.left() == [left, refused.name]
    for name in (left, refused.name):
        pg.drop_database(name)
