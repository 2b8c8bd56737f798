"""A worker process of a backup under the sweep: the same program, with the same fault between it and the world."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path

from lib.sweep import ports
from lib.sweep.faults import Trip

if __name__ == "__main__":
    folders = {port: Path(folder) for port, folder in json.loads(os.environ["SWEEP_DISKS"]).items()}
    ports.sweep_programs(trip := Trip.of_environment())
    ports.sweep_disks(trip, ports.Disks(folders))
    runpy.run_module("backupd.rows.worker", run_name="__main__")
