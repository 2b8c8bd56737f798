"""What a purge moves: one tenant of many is erased after a month of daily snapshots, and a proxy counts the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from doubles.servers.delay_proxy import DelayProxy

from lib import sample_databases
from lib.bench.contenders import CONFIG, Backupd
from lib.bench.figures import Log, of_cost
from lib.bench.stage import Ground, Stage
from lib.soak.clock import Clock

FAR_ENOUGH = timedelta(days=90)
"""The days lie so far ahead: the soak's clock tells files of its time by that from those of real time."""
PURGED = 7
"""One of the bigger tenants, so that every day changes some of its rows."""
PROXIED = "proxied.toml"


class Dated(Backupd):
    """The same under a clock that is moved from day to day."""

    def __init__(self, ground: Ground, clock: Clock) -> None:
        super().__init__(ground)
        self.clock = clock

    @property
    def environment(self) -> Mapping[str, str]:
        return {**super().environment, **self.clock.environment(str(self.checkout))}


def measure(stage: Stage, log: Log, size: int, tenants: int, days: int) -> None:
    """One round: bytes do not depend on how busy a machine is. A day changes 1 % of the rows.

    The figure of the purge has what was moved, and as `sent` the bytes of the files that it changed or removed.
    """
    with stage.tracker("days", size, tenants, log) as ground:
        _measure(stage, ground, log, days)


def _measure(stage: Stage, ground: Ground, log: Log, days: int) -> None:
    clock = Clock(stage.folder / "offset", datetime.now(UTC) + FAR_ENOUGH)
    backupd = Dated(ground, clock)
    backupd.fresh()
    for day in range(1, days + 1):
        log.add(backupd.backup("day", day))
        with ground.connect() as connection:
            sample_databases.change_tracker(connection, seed=day / 100)
        clock.advance(clock.now() + timedelta(days=1), backupd.remote)
    with DelayProxy(stage.account.port) as proxy:
        configured = (backupd.local / CONFIG).read_text()
        port = f"port = {stage.account.port}\n"
        (backupd.local / PROXIED).write_text(configured.replace(port, f"port = {proxy.port}\n"))
        before = _files(backupd.remote)
        through = {**backupd.environment, "BACKUPD_CONFIG": PROXIED}
        cost = backupd.run("tenant", "erase", "be", str(PURGED), "--yes", environment=through)
        moved = proxy.carried
    changed = [path for path, state in before.items() if _state(path) != state]
    figure = of_cost(
        ground.sample, backupd.name, "purge", 1, cost, sum(before[path][1] for path in changed), len(changed)
    )
    log.add(replace(figure, moved=moved))


def _files(folder: Path) -> dict[Path, tuple[int, int, int]]:
    return {path: state for path in folder.rglob("*") if path.is_file() and (state := _state(path)) is not None}


def _state(path: Path) -> tuple[int, int, int] | None:
    """Which file it is, its size, and when it was written; None when it is gone."""
    try:
        seen = path.stat()
    except FileNotFoundError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns
