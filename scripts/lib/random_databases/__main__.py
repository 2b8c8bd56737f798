"""Random databases: each mapped, backed up, restored in every way, drilled, purged of a tenant, and compared."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from lib.random_databases.trial import RandomTrial
from lib.servers import SUMMARIZING, start_region
from lib.warm import warm

SUMMARIES_SINCE = 17
"""The major version from which a second backup leaves unread what did not change."""


def main() -> int:
    """Try one seed after another, and print what is wrong with each."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warm()
    wrong = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backupd-random-")))
        folder.chmod(0o755)
        settings = SUMMARIZING if options.postgres >= SUMMARIES_SINCE else {}
        server = start_region(stack, "be", folder, options.postgres, {**settings, "fsync": "off"}).server
        for seed in range(options.seed, options.seed + options.count):
            began = time.monotonic()
            trial = RandomTrial(seed, server, folder / f"r{seed}", every=options.all)
            trial.go()
            made = trial.made
            print(
                f"{seed}: by {made.kind} ({made.tenant_type}), {len(made.tables)} tables,"
                f" {made.tried - len(made.refused)} statements, {trial.as_pg_restore} as pg_restore,"
                f" {len(trial.faults)} wrong, {time.monotonic() - began:.1f} s",
                flush=True,
            )
            for fault in trial.faults:
                print("   ", fault, flush=True)
            wrong += bool(trial.faults)
            trial.clean()
            shutil.rmtree(trial.folder)
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/random-databases", description=__doc__)
    add = parser.add_argument
    add("--postgres", type=int, default=15, metavar="MAJOR", help="[15]")
    add("--seed", type=int, default=1, metavar="NUMBER", help="the first; each makes another database [1]")
    add("--count", type=int, default=20, metavar="NUMBER", help="how many databases [20]")
    add("--all", action="store_true", help="also files, recover and drills for each, not for every fourth")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
