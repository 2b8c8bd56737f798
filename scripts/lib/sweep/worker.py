"""A worker process of a backup under the sweep: the same program, with the same fault between it and the world."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path

from lib.sweep import disks
from lib.sweep.faults import Trip

if __name__ == "__main__":
    folders = {port: Path(folder) for port, folder in json.loads(os.environ["SWEEP_DISKS"]).items()}
    disks.sweep_programs(trip := Trip.of_environment())
    disks.sweep_disks(trip, disks.Disks(folders))
    runpy.run_module("backupd.rows.worker", run_name="__main__")
