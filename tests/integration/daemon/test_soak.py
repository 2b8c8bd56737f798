"""A week of the real daemon under a compressed clock; `scripts/soak` runs longer ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from doubles.paths import ROOT


@pytest.mark.longest
@pytest.mark.timeout(1500)
def test_a_week_of_everything_keeps_every_promise() -> None:
    """Departures, outages, restarts and kills: what is on the store then is what was promised, and nothing is left."""
    done = subprocess.run(
        [ROOT / "scripts" / "soak", "--seed", "2", "--days", "7", "--plain", "--json", "--verbose"],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "BACKUPD_PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    figures = json.loads(done.stdout)

    assert (figures["broken"], figures["checks"]) == ("", 1)
    assert figures["records"] >= 5
    assert figures["reports"] >= 2
    assert figures["acts"]["kill-daemon"] >= 1
    assert figures["jobs"]["purge done"] >= 7
