"""Extents taken over unread: the snapshot is the same as if they had been read, and nothing is missed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from unittest import mock

import msgspec
import pytest
from doubles.servers.database_diff import contents
from doubles.servers.unread_backup import small_extents
from fix_postgres import Database
from fix_regions import Region

from backupd.errors import DamageError
from backupd.model.answers import BackupReport, UnreadAnswer
from backupd.model.documents import PackRef
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.operations.backup import read as read_module
from backupd.operations.backup.entries import SegmentEntries
from backupd.operations.backup.stretches import stretches
from backupd.operations.backup.tasks import TableTask
from backupd.operations.backup.unread import Unread
from backupd.planning.incremental.facts import Reason
from backupd.repository.state.extents import ExtentMemory
from backupd.rows.protocol import CopyTask, StretchTask
from backupd.seal.zstd import Compressor, decompress
from backupd.trace import Warned

BY_COLUMN = Tenancy(kind=TenancyKind.COLUMN, column="tenant")


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small_extents():
        yield


@pytest.fixture
def notes(region: Region, summarized: Database) -> Database:
    """Four tenants with a thousand notes, in some twenty extents, after a first backup."""
    region.tenancy = BY_COLUMN
    region.node = replace(region.node, workers=1)
    summarized.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL, said text)",
        "INSERT INTO note SELECT g, g % 4, repeat(md5(g::text), 10) FROM generate_series(1, 1000) g",
        "VACUUM (FREEZE, ANALYZE)",
    )
    unread(region, summarized)
    return summarized


def unread(region: Region, database: Database, **changes: object) -> UnreadAnswer:
    return region.backup(database, **{"incremental": "auto", **changes}).unread


@pytest.fixture
def read_together() -> Iterator[list[int]]:
    """The numbers of extents of all stretches."""
    found: list[int] = []

    def spied(tasks: Sequence[TableTask]) -> list[CopyTask | StretchTask]:
        made = stretches(tasks)
        found.extend(len(one.extents) for one in made if isinstance(one, StretchTask))
        return made

    with mock.patch.object(read_module, "stretches", spied):
        yield found


def test_what_has_not_changed_is_not_read_and_restores_the_same(
    read_together: list[int], region: Region, notes: Database, restored: Callable[..., Database]
) -> None:
    """One changed row has its extent read; the restored database is the source.

    What finds its tenants through others was read in stretches, and is the same.
    """
    region.tenancy = replace(BY_COLUMN, rules=(TableRule(("public.item",), path=("note",)),))
    notes.sql(
        "CREATE TABLE item (id int PRIMARY KEY, note int NOT NULL REFERENCES note, said text)",
        "INSERT INTO item SELECT g, 1001 - g, repeat(md5(g::text), 10) FROM generate_series(1, 1000) g",
        "VACUUM (FREEZE, ANALYZE)",
    )
    unread(region, notes)
    assert max(read_together) > 10
    assert unread(region, notes).read == {}
    notes.sql("UPDATE note SET said = 'changed' WHERE id = 500")
    found = unread(region, notes)
    assert set(found.read) == {Reason.CHANGED.value}
    assert found.extents > 10 > found.read[Reason.CHANGED.value]
    copy = restored(notes.server)
    assert contents(copy.server, copy.name, ordered=False) == contents(notes.server, notes.name, ordered=False)


def test_what_is_remembered_is_not_all_in_memory(region: Region, notes: Database) -> None:
    """Each part is looked up when it is taken over: of a terabyte, all of them are gigabytes."""
    notes.sql("UPDATE note SET said = 'changed' WHERE id = 500")
    steps = []
    find, take_over = ExtentMemory.find, Unread._take_over
    with (
        mock.patch.object(ExtentMemory, "find", lambda *given: steps.append("find") or find(*given)),
        mock.patch.object(Unread, "_take_over", lambda *given: steps.append("taken") or take_over(*given)),
    ):
        taken = unread(region, notes).extents
    assert taken > 10
    assert steps[: 2 * taken] == ["find", "taken"] * taken


@pytest.fixture
def looked_into() -> Iterator[list[int]]:
    """The number of segments of which each backup has made the entries."""
    found: list[int] = []
    entries = SegmentEntries.entries
    with mock.patch.object(SegmentEntries, "entries", lambda *given: found.append(1) or entries(*given)):
        yield found


def test_where_nothing_changed_no_tenant_is_looked_into(
    looked_into: list[int], region: Region, notes: Database, restored: Callable[..., Database]
) -> None:
    """The snapshot needs of rows what the one before needed, whose definitions and sequences may be others."""
    notes.sql(
        "CREATE TABLE gone AS SELECT g AS id, g % 4 AS tenant FROM generate_series(1, 4) g", "VACUUM (FREEZE) gone"
    )
    first = region.backup(notes, incremental="auto")
    steps = {
        "SELECT 1": 1,
        "CREATE SEQUENCE counted": 1,
        "SELECT nextval('counted')": 1,
        "DROP TABLE gone": 9,  # no worker has read anything of the four: whose they are, it has to learn first
        "UPDATE note SET said = 'changed' WHERE id = 500": 5,
        "UPDATE note SET said = 'again' WHERE id = 500": 5,
    }
    needed = {"first": _needed(region, first)}
    for statement, segments in steps.items():
        notes.sql(statement)
        looked_into.clear()
        found = region.backup(notes, incremental="auto")
        assert found.segments == 5, statement
        assert len(looked_into) == segments, statement
        needed[statement] = _needed(region, found)
    assert needed["first"] == needed["SELECT 1"] != needed["CREATE SEQUENCE counted"]
    assert [rows for _, rows, _ in needed.values()] == [1004] * 4 + [1000] * 3
    copy = restored(notes.server)
    assert contents(copy.server, copy.name, ordered=False) == contents(notes.server, notes.name, ordered=False)


def test_a_tenant_may_lose_its_rows_of_one_part(region: Region, notes: Database) -> None:
    """Its others are not read: whose they are, a worker learns from one more part."""
    everything = region.backup(notes, incremental="auto", audit_now=True).read
    part = "(ctid::text::point)[0]::int / 2 = 3"
    notes.sql(f"DELETE FROM note WHERE tenant = 1 AND {part}")
    found = region.backup(notes, incremental="require")
    (kept,) = notes.sql("SELECT count(*) FROM note")[0]
    assert (found.rows, found.segments, found.unread.read) == (kept, 5, {Reason.CHANGED.value: 1})
    assert found.unread.extents > 10
    assert found.read < everything / 5
    _as_all_read(region, notes, found)


def test_what_was_dropped_leaves_tenants_of_whom_nothing_was_read(region: Region, notes: Database) -> None:
    """Those who had rows elsewhere keep these; one who had none is as one that never was."""
    notes.sql(
        "CREATE TABLE log (at int, tenant int, said text) PARTITION BY RANGE (at)",
        "CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM (100) TO (200)",
        "INSERT INTO log SELECT g, g % 3 + 1, g FROM generate_series(0, 199) g",
        "INSERT INTO log VALUES (1, 9, 'alone')",
        "VACUUM (FREEZE, ANALYZE)",
    )
    before = region.backup(notes, incremental="auto")
    notes.sql("DROP TABLE log_1")
    found = region.backup(notes, incremental="require")
    assert (before.segments, before.rows, found.segments, found.rows) == (6, 1201, 5, 1100)
    assert found.unread.read == {}
    assert 0 < found.read < before.read / 5
    _as_all_read(region, notes, found)


def _as_all_read(region: Region, database: Database, found: BackupReport) -> None:
    """Check that a snapshot needs the very sections that one needs for which everything is read."""
    whole = region.backup(database, incremental="off")
    assert whole.unread.extents == 0
    assert _needed(region, whole) == _needed(region, found)
    assert whole.segments == found.segments


def test_an_index_that_remembers_other_rows_is_noticed(region: Region, notes: Database) -> None:
    """It says that a segment has rows in a part that has none of it: nobody could write its manifest."""
    with sqlite3.connect(region.node.state / "index.sqlite") as index:
        for place, packed in index.execute("SELECT place, spans FROM extents").fetchall():
            rows, spans = msgspec.msgpack.decode(decompress(packed, 1 << 20))
            forged = [["f" * 32, span] for _, span in spans]
            data = Compressor(1).compress(msgspec.msgpack.encode([rows, forged]))
            index.execute("UPDATE extents SET spans = ? WHERE place = ?", (data, place))
    index.close()
    notes.sql("UPDATE note SET said = 'changed' WHERE id = 500")
    with pytest.raises(DamageError, match="remembers other rows") as caught:
        unread(region, notes)
    assert "backupd backup --audit" in caught.value.hint
    assert region.backup(notes, incremental="auto", audit_now=True).unread.differences


def test_a_schema_without_tables_is_backed_up_where_no_row_has_changed(
    region: Region, notes: Database, restored: Callable[..., Database]
) -> None:
    """A tenant's structure may be nothing but a function: it is looked into although all rows are taken over."""
    region.tenancy = Tenancy(kind=TenancyKind.SCHEMA, schema_pattern="t_(?P<tenant>.+)", unclassified="shared")
    notes.sql("CREATE SCHEMA t_one", "CREATE FUNCTION t_one.said() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    unread(region, notes)
    notes.sql("CREATE OR REPLACE FUNCTION t_one.said() RETURNS int LANGUAGE sql AS 'SELECT 2'")
    assert unread(region, notes).read == {}
    assert restored(notes.server).sql("SELECT t_one.said()") == [(2,)]


def _needed(region: Region, report: BackupReport) -> tuple[list[PackRef], int, int]:
    record = region.repository.record(report.snapshot)
    return record.packs, record.totals.rows, record.totals.bytes


def test_large_objects_are_read_beside_rows_that_are_not(
    looked_into: list[int], region: Region, notes: Database, restored: Callable[..., Database]
) -> None:
    """They are in a segment with rows of everybody's: then nothing is taken over as a whole."""
    unread(region, notes)
    notes.sql("SELECT lo_from_bytea(0, 'large')")
    for _ in range(2):
        looked_into.clear()
        assert (unread(region, notes).read, len(looked_into)) == ({}, 6)
    copy = restored(notes.server)
    assert copy.sql("SELECT lo_get(oid) FROM pg_largeobject_metadata") == [(b"large",)]


def test_an_audit_reads_everything_and_a_difference_ends_skipping(region: Region, notes: Database) -> None:
    """Until a person has asked for another one, and that found nothing."""
    state = region.node.state / "index.sqlite"
    week = {"audit_every": timedelta(0)}
    found = unread(region, notes, **week)
    assert (found.extents, found.reason, found.differences) == (0, Reason.AUDIT.value, [])
    assert found.compared > 10
    with sqlite3.connect(state) as index:
        rows = index.execute("SELECT place, spans FROM extents").fetchall()
        with_rows = [place for place, spans in rows if msgspec.msgpack.decode(decompress(spans, 1 << 20))[0]]
        index.execute(
            "UPDATE extents SET spans = (SELECT spans FROM extents WHERE place = ?) WHERE place = ?", with_rows[:2]
        )
    index.close()
    found = unread(region, notes, **week)
    assert len(found.differences) == 1
    (oid,) = notes.sql("SELECT 'note'::regclass::oid")[0]
    assert found.differences[0][0] == oid
    assert any(isinstance(event, Warned) and f"oid {oid} from block" in event.message for event in region.events.seen)
    assert unread(region, notes).reason == Reason.DISTRUSTED.value
    assert unread(region, notes, **week).reason == Reason.DISTRUSTED.value
    assert unread(region, notes, audit_now=True).differences == []
    assert unread(region, notes).extents > 10


def test_what_cannot_be_relied_on_is_read(region: Region, notes: Database) -> None:
    """A run without the shortcut forgets what was remembered; so does an index that lost a section."""
    assert unread(region, notes, incremental="off") == UnreadAnswer()
    assert unread(region, notes).reason == Reason.NOTHING_REMEMBERED.value
    assert unread(region, notes).extents > 10
    region.tenancy = replace(BY_COLUMN, default_class="else", classes={"else": region.tenancy.classes["uploaded"]})
    assert set(unread(region, notes).read) == {Reason.NOTHING_REMEMBERED.value}
    notes.sql("VACUUM FULL note")
    assert set(unread(region, notes).read) == {Reason.NEW_FILE.value}
    notes.sql("ALTER TABLE note ADD COLUMN more int DEFAULT 5")
    assert set(unread(region, notes).read) == {Reason.NOTHING_REMEMBERED.value}
