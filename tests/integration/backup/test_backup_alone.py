"""One of several machines that would back up a database does so, until its record is published."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from doubles.servers.postgres import Server
from doubles.stores.hooked_store import HookedStore
from fix_postgres import Database
from fix_regions import Region

from backupd.errors import BusyError
from backupd.postgres.connect import Source
from backupd.postgres.source.exported import hold
from backupd.repository.repository import Repository
from backupd.trace import PhaseStarted


def test_nobody_else_begins_before_the_record_is_out(
    region: Region, pg17: Server, make_database: Callable[..., Database]
) -> None:
    """Who came between the last row and the record would find the work not done, and do it again."""
    database = make_database(pg17)
    database.sql("CREATE TABLE note (id int PRIMARY KEY)", "INSERT INTO note SELECT generate_series(1, 50)")
    seen = []

    def before(method: str, name: str) -> None:
        if method == "put_new" and name.startswith(("packs/", "snapshots/")):
            with pytest.raises(BusyError, match="another backup"), hold(Source(database.conninfo)):
                pass
            seen.append(name.partition("/")[0])

    region.repository = Repository(HookedStore(region.store, before), [region.node.signer.public])
    region.backup(database)
    assert {"packs", "snapshots"} == set(seen)
    with hold(Source(database.conninfo)) as holder:
        holder.check()


def test_the_snapshot_is_let_go_long_before(
    region: Region, pg17: Server, make_database: Callable[..., Database]
) -> None:
    """What keeps others from backing up keeps nothing from being vacuumed or changed."""
    database = make_database(pg17)
    database.sql("CREATE TABLE note (id int PRIMARY KEY)", "INSERT INTO note SELECT generate_series(1, 50)")
    held = []

    def before(method: str, name: str) -> None:
        if method == "put_new" and name.startswith("snapshots/"):
            held.extend(
                database.sql(
                    "SELECT state FROM pg_stat_activity WHERE application_name = 'backupd' "
                    "AND datname = current_database() AND (backend_xmin IS NOT NULL OR xact_start IS NOT NULL)"
                )
            )
            database.sql("DROP TABLE note")

    region.repository = Repository(HookedStore(region.store, before), [region.node.signer.public])
    region.backup(database)
    assert held == []


def test_a_backup_is_expected_to_take_as_long_as_the_last_one(
    region: Region, pg17: Server, make_database: Callable[..., Database]
) -> None:
    """Of the first one nobody knows; what is left to publish is counted in bytes."""
    database = make_database(pg17)
    database.sql("CREATE TABLE note (id int PRIMARY KEY)", "INSERT INTO note SELECT generate_series(1, 50)")
    region.backup(database)
    first = [one for one in region.events.seen if isinstance(one, PhaseStarted)]
    region.events.seen.clear()
    report = region.backup(database)
    second = [one for one in region.events.seen if isinstance(one, PhaseStarted)]

    assert {one.phase: one.expected for one in first} == {"reading": None, "publishing": None}
    expected = {one.phase: one.expected for one in second}
    assert expected.keys() == {"reading", "publishing"}
    assert all(seconds is not None and seconds > 0 for seconds in expected.values())
    assert {one.unit for one in second} == {"bytes"}
    assert report.rows == 50
