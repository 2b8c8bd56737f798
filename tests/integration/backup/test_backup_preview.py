"""`backup --dry-run` says what a backup would read and where it would go, and refuses what a backup refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_nodes import NodeFolder
from fix_postgres import Database

from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.preflight import preview_backup
from backupd.postgres.connect import Source

CLASSES = """
tenancy = { kind = "column", column = "tenant" }
[[regions.be.databases.app.tables]]
match = ["public.login"]
class = "session"
"""


@pytest.fixture
def node(pg17: object, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder]) -> NodeFolder:
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL)",
        "INSERT INTO note SELECT g, 'a' FROM generate_series(1, 300) g",
        "CREATE TABLE login (id int PRIMARY KEY, tenant text NOT NULL)",
        "INSERT INTO login VALUES (1, 'a')",
        "ANALYZE",
    )
    node = node_of(database, CLASSES)
    node.database = database
    return node


def test_a_preview_counts_what_would_be_read(node: NodeFolder) -> None:
    """Rows and bytes of what is backed up; what is never backed up is counted apart; nothing is written."""
    before = sorted(node.folder.rglob("*"))
    (one,) = node.json("backup", "--dry-run")["previews"]
    assert (one["region"], one["database"], one["stores"]) == ("be", "app", ["disk"])
    preview = one["preview"]
    assert (preview["tables"], preview["left_out"], preview["rows"]) == (1, 1, 300)
    assert preview["bytes"] >= 8192
    assert sorted(node.folder.rglob("*")) == before
    assert b"1 table, about 300 rows" in node.run("backup", "--dry-run").stdout


def test_what_a_backup_refuses_a_preview_refuses(node: NodeFolder) -> None:
    """An unmapped table has the same exit status, and a store without a repository is named."""
    node.database.sql("CREATE TABLE other (id int PRIMARY KEY)")
    done = node.run("backup", "--dry-run", "--json")
    assert done.returncode == node.run("backup", "--json").returncode == 5
    assert json.loads(done.stdout)["previews"][0]["preview"]["findings"][0]["code"] == "unmapped"


def test_a_store_that_could_not_be_written_fails_the_preview(node: NodeFolder) -> None:
    """It is looked at as `config check --connect` does."""
    Path(node.folder / "disk" / "be" / "repository.json").unlink()
    done = node.run("backup", "--dry-run")
    assert done.returncode == 6
    assert b"there is no repository yet" in done.stdout


def test_databases_that_no_pattern_covers_are_refused(pg17: object, make_database: Callable[..., Database]) -> None:
    """Tenancy by database: the server has one more than the pattern says."""
    database, _ = make_database(pg17), make_database(pg17)
    tenancy = Tenancy(kind=TenancyKind.DATABASE, database_pattern="(?P<tenant>no_such_database)")
    preview = preview_backup(Source(database.conninfo, client_folders=(database.server.bin,)), tenancy)
    assert (preview.databases, preview.tables) == (0, 0)
    (finding,) = preview.findings
    assert (finding.code, "named after no tenant" in finding.message) == ("unmapped", True)
