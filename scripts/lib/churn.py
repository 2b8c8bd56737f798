"""Backups beside migrations, which make, drop, truncate and rewrite things all the while: a run that meets one tries
again by itself, and hardly any may end without a snapshot.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import psycopg
from doubles.servers.postgres import Server

from lib.servers import READER, start_region

CHECKOUT = Path(__file__).resolve().parents[2]
MOST = 0.02
"""Share of runs that may end without a snapshot, for somebody else to try again."""
_VAIN = re.compile(r"in vain: (.*)")
_ERROR = re.compile(r'"message": "(.*?)"')

_TABLES = (
    "CREATE TABLE tenant (id int PRIMARY KEY)",
    "INSERT INTO tenant SELECT generate_series(1, 20)",
    "CREATE TABLE note (id serial PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant, body text)",
    "INSERT INTO note (tenant_id, body) SELECT 1 + g % 20, repeat(md5(g::text), 4) FROM generate_series(1, 40000) g",
    "CREATE TABLE session (id serial, tenant_id int NOT NULL, seen timestamptz DEFAULT now())",
    "INSERT INTO session (tenant_id) SELECT 1 + g % 20 FROM generate_series(1, 2000) g",
    "CREATE MATERIALIZED VIEW counted AS SELECT tenant_id, count(*) FROM note GROUP BY 1",
)
_MIGRATIONS = (
    # What a framework's migrations and an application's jobs do, each in its own transaction.
    ("CREATE TABLE coming_{n} (id serial PRIMARY KEY, tenant_id int NOT NULL)", "DROP TABLE coming_{n}"),
    ("CREATE SEQUENCE number_{n}", "DROP SEQUENCE number_{n}"),
    ("CREATE VIEW seen_{n} AS SELECT * FROM note", "DROP VIEW seen_{n}"),
    ("TRUNCATE session", "INSERT INTO session (tenant_id) SELECT 1 + g % 20 FROM generate_series(1, 500) g"),
    ("ALTER TABLE session ADD COLUMN extra_{n} text DEFAULT md5(random()::text)",
     "ALTER TABLE session DROP COLUMN extra_{n}"),
    ("CREATE INDEX CONCURRENTLY by_{n} ON session (seen)", "DROP INDEX CONCURRENTLY by_{n}"),
    ("REFRESH MATERIALIZED VIEW counted",),
    ("ALTER TABLE session ALTER COLUMN seen TYPE timestamptz USING seen + interval '1 s'",),
    ("VACUUM FULL session",),
)  # fmt: skip


@dataclass(slots=True)
class Counted:
    """The figures of one run."""

    backups: int = 0
    second_tries: int = 0
    """Runs whose first try was in vain, whatever became of the next ones."""
    failed: int = 0
    """Runs that ended without a snapshot."""
    migrations: int = 0
    longest_wait: float = 0.0
    """Seconds that a statement of a migration took at most."""
    reasons: dict[str, int] = field(default_factory=dict)
    """What tries in vain said, and how often."""

    @property
    def share(self) -> float:
        return self.failed / max(self.backups, 1)


def main() -> int:
    options = _options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backupd-churn-")))
        folder.chmod(0o755)
        server = start_region(stack, "be", folder, options.postgres).server
        server.create_database("churn")
        server.sql("churn", *_TABLES)
        _configure(folder, server)
        counted = _run(folder, server, options)
    if options.json:
        print(json.dumps({**asdict(counted), "share": counted.share}, indent=1))
    else:
        print(
            f"{counted.backups} backups beside {counted.migrations} statements of migrations: {counted.second_tries} "
            f"tried again by themselves, {counted.failed} ended without a snapshot ({counted.share:.1%}); a "
            f"migration's statement took {counted.longest_wait:.1f} s at most"
        )
        for reason, number in sorted(counted.reasons.items(), key=lambda pair: -pair[1]):
            print(f"  {number} times: {reason}")
    return 1 if counted.share > MOST or not counted.backups else 0


def _run(folder: Path, server: Server, options: argparse.Namespace) -> Counted:
    counted, over = Counted(), threading.Event()
    dice = random.Random(options.seed)
    threads = [
        threading.Thread(
            target=_migrate, args=(server, random.Random(dice.random()), name, options.pause, over, counted)
        )
        for name in range(options.migrators)
    ]
    for thread in threads:
        thread.start()
    try:
        end = time.monotonic() + options.minutes * 60
        while time.monotonic() < end:
            _back_up(folder, counted)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    return counted


def _migrate(
    server: Server, dice: random.Random, name: int, pause: float, over: threading.Event, counted: Counted
) -> None:
    with server.connect("churn") as connection:
        number = name * 1_000_000
        while not over.is_set():
            number += 1
            for statement in dice.choice(_MIGRATIONS):
                began = time.monotonic()
                _try_hard(connection, statement.format(n=number), over)
                counted.longest_wait = max(counted.longest_wait, round(time.monotonic() - began, 1))
                counted.migrations += 1
                over.wait(dice.random() * 2 * pause)


def _try_hard(connection: psycopg.Connection[Any], statement: str, over: threading.Event) -> None:
    """Run a statement; migrations that meet each other try again."""
    while not over.is_set():
        try:
            connection.execute(statement.encode())
        except (psycopg.errors.DeadlockDetected, psycopg.errors.InternalError_):  # "tuple concurrently updated"
            continue
        return


def _back_up(folder: Path, counted: Counted) -> None:
    counted.backups += 1
    done = _backupd(folder, "backup", "be", "--json")
    said = json.loads(done.stdout or done.stderr)
    vain = _VAIN.findall(done.stderr) + _ERROR.findall(json.dumps(said))
    for reason in (re.sub(r"\d+", "N", message)[:200] for message in vain):
        counted.reasons[reason] = counted.reasons.get(reason, 0) + 1
    counted.second_tries += bool(vain)
    counted.failed += done.returncode != 0


def _configure(folder: Path, server: Server) -> None:
    (folder / "store").mkdir()
    (folder / "passphrase").write_text("a passphrase for the churn\n")
    _backupd(folder, "key", "generate", "ops.identity", "--passphrase-file", "passphrase")
    _backupd(folder, "key", "generate", "--tenant-key", "tenant.key")
    signers = [
        json.loads(_backupd(folder, "key", "generate", "--signer", name, "--json").stdout)["public"]
        for name in ("signing.key", "keeper.key")
    ]
    text = Template((Path(__file__).parent / "corpus" / "backupd.toml").read_text()).substitute(
        folder=folder,
        programs=server.bin,
        signer=signers[0],
        keeper=signers[1],
        scratch=folder / "scratch",
        user="",
        dsn=server.conninfo("churn", READER),
    )
    tenancy = 'tenancy = { kind = "column", table = "public.tenant", column = "tenant_id" }\n'
    (folder / "backupd.toml").write_text(text + tenancy)
    _backupd(folder, "init", "be").check_returncode()


def _backupd(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backupd", *arguments],
        cwd=folder,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONPATH": str(CHECKOUT),
            "BACKUPD_CONFIG": "backupd.toml",
        },
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/churn", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=5, metavar="N", help="[5]")
    add("--migrators", type=int, default=2, metavar="N", help="sessions that migrate at once [2]")
    add("--pause", type=float, default=0.5, metavar="S", help="seconds between two statements of one, on average [0.5]")
    add("--seed", type=int, default=1, metavar="N", help="[1]")
    add("--postgres", type=int, metavar="MAJOR", help="[the demo's]")
    add("--json", action="store_true", help="print all figures as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
