"""The command line says what was taken over unread, why everything was read, and that an audit found a difference."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from doubles.servers.postgres import Server
from fix_nodes import NodeFolder
from fix_postgres import Database

from backupd.repository.state.index_file import INDEX


def test_backup_says_what_it_did_not_read(
    node: NodeFolder, make_database: Callable[..., Database], summarizing_of: Callable[[int], Server]
) -> None:
    """First why everything was read, then how much was not, then what an audit compared."""
    database = make_database(summarizing_of(18))
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL)",
        "INSERT INTO note SELECT g, g % 4 FROM generate_series(1, 1000) g",
        "VACUUM (FREEZE, ANALYZE)",
    )
    node.configure(database)
    assert node.run("init", "be").returncode == 0
    said = [node.run("backup", "be", *more).stdout.decode() for more in ((), (), ("--audit",))]
    assert "everything was read: nothing of the kind was read before" in said[0]
    assert "of tables not read: no block of them has changed" in said[1]
    assert "1 unchanged part of tables compared: no difference" in said[2]
    (state,) = node.folder.rglob(INDEX)
    with sqlite3.connect(state) as index:
        index.execute("INSERT OR REPLACE INTO audits SELECT label, 1, 1 FROM audits")
    index.close()
    told = node.run("status", "be")
    assert (told.returncode, b"ERROR: backups of 'app' to 'disk' may have missed" in told.stdout) == (10, True)
    assert b"everything is read: it is time to compare everything" in told.stdout
