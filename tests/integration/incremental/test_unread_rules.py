"""What has happened to a database, and what is read for it: all that is taken over is read, too, and compared.

Each rule has a line here that fails without it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from doubles.servers import postgres
from doubles.servers.postgres import Server
from doubles.servers.unread_backup import UnreadBackup
from fix_postgres import Database

from backupd.clock import SystemClock
from backupd.errors import RefusedError
from backupd.model.answers import UnreadAnswer
from backupd.model.tenancy import ClassPolicy, TableRule, Tenancy, TenancyKind
from backupd.planning.incremental.facts import Reason
from backupd.repository.state.extents import AuditState

TENANCY = Tenancy(
    kind=TenancyKind.COLUMN,
    column="tenant",
    null_tenant="shared",
    rules=(TableRule(("public.item",), path=("owner",)), TableRule(("public.common",), shared=True)),
)
SCHEMA = (
    "CREATE TYPE mood AS ENUM ('good', 'bad')",
    "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL, said text)",
    "INSERT INTO note SELECT g, g % 4, repeat(md5(g::text), 10) FROM generate_series(1, 600) g",
    "CREATE TABLE fat (id int PRIMARY KEY, tenant int NOT NULL, body text)",
    "ALTER TABLE fat ALTER body SET STORAGE EXTERNAL",
    "INSERT INTO fat SELECT g, g % 4, repeat(md5(g::text), 200) FROM generate_series(1, 10) g",
    "CREATE TABLE owner (id int PRIMARY KEY, tenant int NOT NULL)",
    "CREATE TABLE item (id int PRIMARY KEY, owner int NOT NULL REFERENCES owner)",
    "INSERT INTO owner SELECT g, g % 4 FROM generate_series(1, 10) g",
    "INSERT INTO item SELECT g, g FROM generate_series(1, 10) g",
    "CREATE TABLE part (id int NOT NULL, tenant int NOT NULL) PARTITION BY RANGE (id)",
    "CREATE TABLE part_0 PARTITION OF part FOR VALUES FROM (0) TO (100)",
    "INSERT INTO part SELECT g, g % 4 FROM generate_series(1, 10) g",
    "CREATE TABLE apart (id int NOT NULL, tenant int NOT NULL)",
    "INSERT INTO apart SELECT g, g % 4 FROM generate_series(100, 110) g",
    "CREATE TABLE temper (id int PRIMARY KEY, tenant int NOT NULL, m mood, n mood[])",
    "INSERT INTO temper VALUES (1, 1, 'good', '{bad}')",
    "CREATE TABLE named (id int PRIMARY KEY, tenant int NOT NULL, r regclass)",
    "INSERT INTO named VALUES (1, 1, 'fat')",
    "CREATE TABLE common (id int PRIMARY KEY)",
    "INSERT INTO common SELECT g FROM generate_series(1, 10) g",
    "CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY, tenant int NOT NULL)",
    "VACUUM (FREEZE, ANALYZE)",
)
ALWAYS = {Reason.OUTPUT.value, Reason.UNLOGGED.value}
"""Why some of these tables are read each time."""


@pytest.fixture
def watched(summarized: Database, tmp_path: Path) -> Iterator[UnreadBackup]:
    """The tables above, after a backup of them."""
    summarized.sql(*SCHEMA)
    backup = UnreadBackup(summarized.server, summarized.name, tmp_path, TENANCY)
    backup()
    yield backup
    backup.index.close()


def test_what_happened_to_tables_is_seen(watched: UnreadBackup, tablespace: str) -> None:
    """Of changes, of rewritten, cut, moved and altered tables, and of changes elsewhere that lead to another text."""
    changed, renewed, unknown = Reason.CHANGED, Reason.NEW_FILE, Reason.NOTHING_REMEMBERED
    moved = Reason.ROUTE_CHANGED
    histories: list[tuple[str, set[Reason]]] = [
        ("SELECT 1", set()),
        ("UPDATE note SET said = 'short' WHERE id = 300", {changed}),
        ("DELETE FROM note WHERE id = 1", {changed}),
        ("INSERT INTO note VALUES (601, 1, 'new')", {changed}),
        ("UPDATE fat SET body = repeat(md5('new'), 200) WHERE id = 3", {changed}),
        ("UPDATE owner SET tenant = 3 WHERE id = 1", {changed, moved}),
        ("UPDATE owner SET tenant = tenant WHERE id < 5; INSERT INTO owner VALUES (11, 2)", {changed}),
        ("INSERT INTO owner VALUES (0, 1)", {changed}),
        ("INSERT INTO owner VALUES (-1, 1); COMMIT; UPDATE owner SET tenant = tenant WHERE id > 5", {changed, moved}),
        ("DELETE FROM owner WHERE id = 11", {changed, moved}),
        ("SET session_replication_role = replica; DELETE FROM owner WHERE id = 10", {changed, moved}),
        ("INSERT INTO owner VALUES (10, 1)", {changed, moved}),
        ("BEGIN; UPDATE note SET said = 'never' WHERE id = 400; ROLLBACK", {changed}),
        ("BEGIN; TRUNCATE note; ROLLBACK", set()),
        ("DELETE FROM note WHERE id > 500; COMMIT; VACUUM (TRUNCATE) note", {renewed}),
        ("VACUUM FULL note", {renewed}),
        ("CLUSTER note USING note_pkey", {renewed}),
        ("TRUNCATE note; INSERT INTO note SELECT g, 1, md5(g::text) FROM generate_series(1, 900) g", {renewed}),
        (f"ALTER TABLE note SET TABLESPACE {tablespace}", {renewed}),
        ("ALTER TABLE note SET TABLESPACE pg_default", {renewed}),
        ("ALTER TABLE note SET UNLOGGED", {Reason.UNLOGGED}),
        ("ALTER TABLE note SET LOGGED", {renewed}),
        ("ALTER TABLE note ALTER said TYPE varchar", {unknown}),
        ("ALTER TABLE note ADD COLUMN more int DEFAULT 5", {unknown}),
        ("ALTER TABLE note DROP COLUMN more", {unknown}),
        ("ALTER TABLE part ATTACH PARTITION apart FOR VALUES FROM (100) TO (200)", {unknown}),
        ("DROP TABLE common; CREATE TABLE common AS SELECT 7 AS id", {renewed}),
        ("ALTER TYPE mood RENAME VALUE 'good' TO 'better'", {unknown}),
        ("ALTER TYPE mood RENAME VALUE 'bad' TO 'x'; ALTER TYPE mood RENAME VALUE 'x' TO 'bad'", {unknown}),
        ("ALTER TYPE mood ADD VALUE 'worse'", {unknown}),
        ("ALTER TABLE fat RENAME TO thick", {unknown}),
        ("VACUUM (FREEZE) thick", set()),
    ]
    watched()
    before = Counter(watched().read)
    for statements, expected in histories:
        _run(watched, statements)
        read = Counter(watched().read)
        found, wanted = set(read - before), {one.value for one in expected}
        # Reading prunes dead rows, which changes blocks for the next backup.
        assert wanted <= found <= {*wanted, changed.value}, statements
        before = read if Reason.UNLOGGED in expected else before


def test_a_table_that_is_not_backed_up_may_lead_elsewhere(summarized: Database, tmp_path: Path) -> None:
    """Nothing of what is backed up has changed, and yet it is not taken over as it was."""
    summarized.sql(
        "CREATE TABLE owner (id int PRIMARY KEY, tenant int NOT NULL)",
        "CREATE TABLE item (id int PRIMARY KEY, owner int NOT NULL REFERENCES owner)",
        "INSERT INTO owner SELECT g, g % 4 FROM generate_series(1, 10) g",
        "INSERT INTO item SELECT g, g FROM generate_series(1, 10) g",
        "VACUUM (FREEZE, ANALYZE)",
    )
    rules = (TableRule(("public.owner",), data_class="aside"), TableRule(("public.item",), path=("owner",)))
    classes = {**TENANCY.classes, "aside": ClassPolicy.NEVER}
    backup = UnreadBackup(summarized.server, summarized.name, tmp_path, replace(TENANCY, rules=rules, classes=classes))
    assert [(backup().extents, backup.as_before) for _ in range(2)] == [(0, 0), (1, 1)]
    summarized.sql("UPDATE owner SET tenant = 3 WHERE id = 1")
    assert (backup().read, backup.as_before) == ({Reason.ROUTE_CHANGED.value: 1}, 1)
    backup.index.close()


def _run(watched: UnreadBackup, statements: str) -> None:
    """Run them one by one, as some may be in no transaction."""
    parts = statements.split("; COMMIT; ")
    watched.server.sql(watched.database, *parts)


@pytest.fixture
def tablespace(summarized: Database) -> Iterator[str]:
    """A tablespace in the server's own folder."""
    name = f"{summarized.name}_space"
    summarized.sql("SET allow_in_place_tablespaces = on", f"CREATE TABLESPACE {name} LOCATION ''")
    yield name
    summarized.sql(f"DROP TABLESPACE {name}")


def test_a_database_that_was_moved_and_moved_back_is_read(watched: UnreadBackup, tablespace: str) -> None:
    """Its files have their names again."""
    for place in (tablespace, "pg_default"):
        watched.server.sql("postgres", f"ALTER DATABASE {watched.database} SET TABLESPACE {place}")
    found = watched()
    assert (found.extents, set(found.read)) == (0, {Reason.NEW_FILE.value, *ALWAYS})


def test_a_transaction_shows_when_it_ends_and_not_where_it_wrote(watched: UnreadBackup) -> None:
    """Also a prepared one, and one that wrote in a savepoint; and one that is older than all that is remembered."""
    with watched.server.connect(watched.database) as late, watched.server.connect(watched.database) as prepared:
        late.execute("BEGIN; SAVEPOINT s; UPDATE note SET said = 'late' WHERE id = 10; RELEASE s")
        prepared.execute("BEGIN; DELETE FROM note WHERE id = 500; PREPARE TRANSACTION 'later'")
        try:
            watched()
            assert watched().read[Reason.CHANGED.value] == 2
            with UnreadMemory(watched) as other:
                other()
                assert other().reason == Reason.LONG_TRANSACTION.value
        finally:
            late.execute("COMMIT")
            prepared.execute("COMMIT PREPARED 'later'")
    for _ in range(2):  # the second reads what the first one pruned while it read
        watched()
    assert set(watched().read) == ALWAYS


class UnreadMemory(UnreadBackup):
    """Another node's backups of the same database."""

    def __init__(self, first: UnreadBackup) -> None:
        folder = first.folder / "other"
        folder.mkdir()
        super().__init__(first.server, first.database, folder, first.tenancy)

    def __enter__(self) -> UnreadBackup:
        return self

    def __exit__(self, *_: object) -> None:
        self.index.close()


def test_a_part_of_the_wal_without_its_summary_is_a_gap(watched: UnreadBackup) -> None:
    """Nothing says what changed there; so it is where the summary is gone up to which all was read the last time."""
    _remove(watched, 1)
    assert watched().reason == Reason.GAP.value
    _remove(watched, 0)
    assert watched().reason == Reason.WENT_BACK.value
    assert watched().reason == ""


def _remove(watched: UnreadBackup, first: int) -> None:
    """Remove the summaries after that with which the last backup ended, or with it."""
    folder = watched.server.folder / "data" / "pg_wal" / "summaries"
    before = sorted(path.name for path in folder.glob("*.summary"))
    _run(watched, "UPDATE note SET said = 'unseen' WHERE id = 300; COMMIT; CHECKPOINT")
    with watched.server.connect(watched.database) as connection:
        connection.execute("SELECT pg_switch_wal()")
        while len(found := sorted(path.name for path in folder.glob("*.summary"))) <= len(before):
            connection.execute("CHECKPOINT; SELECT pg_sleep(0.01)")
    for name in found[len(before) - 1 + first :]:
        (folder / name).unlink()


def test_another_life_of_the_server_is_read_as_a_whole(watched: UnreadBackup) -> None:
    """One that was restarted, one that is a standby, and one that was promoted, whose WAL is another from there on."""
    server = watched.server
    _run(watched, "DROP TABLE fleeting")
    with UnreadMemory(watched) as other:
        _restart(server)
        assert watched().reason == Reason.ANOTHER_SERVER.value
        (server.folder / "data" / "standby.signal").touch(mode=0o644)
        _restart(server)
        try:
            assert other().reason == Reason.STANDBY.value
        finally:
            server.sql("postgres", "SELECT pg_promote()")
        assert watched().reason == Reason.ANOTHER_SERVER.value
        assert other().reason == Reason.NOTHING_REMEMBERED.value
        assert other().reason == watched().reason == ""


def _restart(server: Server) -> None:
    assert postgres._pg_ctl(server, "restart", "-w", "-t", "60", "-m", "fast", "-l", str(server.folder / "log")) == 0


def test_the_clock_has_no_part_in_what_is_skipped(watched: UnreadBackup) -> None:
    """Only in when all is compared: also when a clock that was ahead has been set."""
    now, day = SystemClock().now().timestamp(), 86400.0
    for age, audited in ((day, False), (6 * day, False), (8 * day, True), (-day, True)):
        watched.index.extents.set_audit("app", AuditState(now - age, distrusted=False))
        assert (watched().reason == Reason.AUDIT.value) is audited, age


def test_many_writers_at_once(watched: UnreadBackup) -> None:
    """They write, commit and take back all the while, so that no step of a backup is at rest."""
    ended = threading.Event()
    writers = [threading.Thread(target=_write, args=(watched, place, ended)) for place in range(3)]
    for writer in writers:
        writer.start()
    try:
        taken = sum(watched().extents for _ in range(6))
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    assert taken > 6


def _write(watched: UnreadBackup, place: int, ended: threading.Event) -> None:
    """Change rows of a few blocks of one's own, in transactions that last a moment."""
    with watched.server.connect(watched.database) as connection:
        while not ended.is_set():
            row = 20 * place + 1
            connection.execute(f"BEGIN; UPDATE note SET said = md5(random()::text) WHERE id = {row}".encode())
            connection.execute(
                f"SAVEPOINT s; UPDATE fat SET body = md5(random()::text) WHERE id = {place + 1}".encode()
            )
            ended.wait(0.02)
            connection.execute(("COMMIT", "ROLLBACK", "ROLLBACK TO s; COMMIT")[place].encode())


def test_a_server_that_cannot_is_read_as_a_whole_or_refused(
    make_database: Callable[..., Database], pg16: Server, pg17: Server, tmp_path: Path
) -> None:
    """`auto` says why, once; `require` fails before anything is locked; `off` says nothing."""
    for server, reason in ((pg16, Reason.OLD_SERVER), (pg17, Reason.NOT_SUMMARIZED)):
        database = make_database(server)
        folder = tmp_path / str(server.major)
        folder.mkdir()
        backup = UnreadBackup(server, database.name, folder, TENANCY)
        assert (backup().reason, backup().reason) == (reason.value, reason.value)
        assert (backup().told, backup(incremental="off")) == (True, UnreadAnswer())
        assert backup().told is False
        with pytest.raises(RefusedError, match=reason.value):
            backup(incremental="require")
        backup.index.close()
