"""The bench, small: that it measures what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from doubles.paths import ROOT


def bench(*options):
    return subprocess.run(
        [ROOT / "scripts" / "bench", *options],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "BACKUPD_PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_measures_every_phase():
    """A small run gives plausible figures for first and second backup and restore, and ratios to the others'."""
    done = bench("--size", "6", "--tenants", "9", "--rounds", "1", "--only", "backupd,pg_dump", "--json")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    figures = {(one["contender"], one["phase"]): one for one in told["figures"]}
    first, second, restore = (figures["backupd", phase] for phase in ("first", "second", "restore"))
    assert told["database"]["tenants"] == 9
    assert 5_000_000 < told["database"]["bytes"] < 7_000_000
    assert 100_000 < second["sent"] < first["sent"] / 2 < told["database"]["bytes"] / 2
    assert all(
        one["cpu"] > 0.1 and one["wall"] > 0.1 and one["memory"] > 20_000_000 for one in (first, second, restore)
    )
    assert set(told["ratios"]) == {"second backup to pg_dump > /dev/null", "restore to pg_restore -j2"}


def test_a_contender_nobody_knows_is_refused():
    """What `--only` names has to exist."""
    done = bench("--only", "tar")

    assert done.returncode == 2
    assert "tar: choose from backupd, pipe, pg_dump, restic, borg" in done.stderr
