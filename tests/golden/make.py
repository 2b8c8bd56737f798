"""Makes the golden repository of this format: `PYTHONPATH=tests python tests/golden/make.py`, where there is none.

Real rows of a real PostgreSQL, backed up three times by the production writer; one tenant is purged between.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from doubles.servers import postgres
from fix_keeper import make_keeper_region
from fix_postgres import Database
from fix_regions import CLASSES, make_region

from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.operations.keeper.purge import purge_due
from backupd.planning import lifecycle
from backupd.planning.lifecycle import ClockDates
from backupd.seal.keyfiles import write_identity

GOLDEN = Path(__file__).parent / "format-2"
PASSPHRASE = "golden"
PURGED = "t2"
TENANCY = Tenancy(
    kind=TenancyKind.COLUMN, column="tenant", rules=(TableRule(("public.country",), shared=True),), classes=CLASSES
)
TABLES = {"public.note": "SELECT tenant, id::text, tenant, coalesce(said, '\\N') FROM note ORDER BY id",
          "public.country": "SELECT NULL, code, name FROM country ORDER BY code"}  # fmt: skip
FIRST = (
    "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL, said text)",
    "CREATE TABLE country (code text PRIMARY KEY, name text)",
    "CREATE SEQUENCE number START 41",
    "SELECT nextval('number')",
    "INSERT INTO country VALUES ('BE', 'België'), ('CH', 'Schweiz')",
    "INSERT INTO note SELECT g, 't' || g % 4, 'said ' || g FROM generate_series(1, 40) g",
    "INSERT INTO note VALUES (41, 'Žluťoučký & kůň', NULL)",
)
SECOND = (
    "UPDATE note SET said = 'again ' || id WHERE tenant = 't1' AND id < 20",
    "DELETE FROM note WHERE tenant = 't3' AND id > 20",
    "INSERT INTO note SELECT g, 't0', 'later ' || g FROM generate_series(101, 120) g",
)
THIRD = ("DELETE FROM note WHERE tenant = 't2'", "INSERT INTO note VALUES (201, 't1', 'last')")


def main() -> int:
    """Make the repository; the exit status is 1 when it is there."""
    if GOLDEN.exists():
        sys.stderr.write(f"'{GOLDEN}' is there: what was written once has to be read for ever\n")
        return 1
    with tempfile.TemporaryDirectory() as folder, postgres.running(17) as server:
        server.create_database("golden")
        make(Path(folder), Database(server, "golden"))
    return 0


def make(folder: Path, database: Database) -> None:
    """Back up three times into a region of `folder`, and keep its store with what is in it."""
    made = make_keeper_region(make_region(folder), folder)
    region = made.region
    region.tenancy = TENANCY
    snapshots: dict[str, Any] = {}
    for statements in (FIRST, SECOND):
        database.sql(*statements)
        snapshots[region.backup(database).snapshot] = content(database)
    now = made.clock.now()
    dates = ClockDates(now, now + timedelta(days=3), now)
    made.book.append(lambda states: lifecycle.erase(states, made.tenant(PURGED), dates))
    done = purge_due(made.keeper)
    assert not [*done.errors, *done.refused]
    database.sql(*THIRD)
    snapshots[region.backup(database).snapshot] = content(database)
    for found in snapshots.values():
        found["public.note"].pop(PURGED, None)
    shutil.copytree(folder / "store", GOLDEN, ignore=shutil.ignore_patterns("recover", "RECOVER.md"))
    write_identity(GOLDEN / "identity", "golden", region.identity, PASSPHRASE)
    signers = {"signer": region.node.signer.public, "keeper": made.keeper.signer.public}
    expected = {**signers, "snapshots": snapshots}
    (GOLDEN / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def content(database: Database) -> dict[str, dict[str, list[str]]]:
    """Rows of COPY text by table and tenant; those of nobody under an empty name."""
    found: dict[str, dict[str, list[str]]] = {}
    for table, sql in TABLES.items():
        for tenant, *columns in database.sql(sql):
            found.setdefault(table, {}).setdefault(tenant or "", []).append("\t".join(columns))
    return found


if __name__ == "__main__":
    sys.exit(main())
