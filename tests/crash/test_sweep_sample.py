"""A few cases of the fault sweep; `scripts/sweep` has every operation fail at every call."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from doubles.paths import ROOT


@pytest.mark.timeout(1500)
def test_some_cases_of_the_sweep_keep_every_invariant() -> None:
    """Of three operations, one writing, one removing, one purging; drawn by a seed, so that they stay the same."""
    done = subprocess.run(
        [ROOT / "scripts" / "sweep", "--operations", "backup,expire,purge", "--cases", "2", "--seed", "1"],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "BACKUPD_PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, backup, expire, purge, said = done.stdout.splitlines()
    assert [line.split()[0] for line in (backup, expire, purge)] == ["backup", "expire", "purge"]
    assert all(line.split()[9:11] == ["2", "0"] for line in (backup, expire, purge))
    assert said.startswith("6 of ")
    assert said.endswith(" sorts of fault, 0 failed")
