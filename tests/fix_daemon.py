"""A daemon as it runs on a node: a process of its own, its log, and the service manager it talks to."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from doubles.node.processes import alive, descendants, eventually
from doubles.node.service_manager import ServiceManager, service_manager
from fix_internal_errors import found_in
from fix_nodes import NodeFolder
from fix_postgres import Database

SCHEDULE = """
[daemon]
spread = "0s"
retry_after = "2s"
stop_within = "{stop_within}"
stall = "{stall}"
[schedule]
verify_share = "all"
"""
KINDS = ("backup", "ingest", "sync", "purge", "expire", "verify", "observe", "drill")


@dataclass
class Daemon:
    """A running one."""

    process: subprocess.Popen[bytes]
    log: Path
    manager: ServiceManager

    def lines(self) -> list[dict[str, Any]]:
        """Its log, but for what is no JSON."""
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def runs(self, kind: str, outcome: str | None = None) -> list[dict[str, Any]]:
        lines = (line for line in self.lines() if line["event"] == "job" and line["kind"] == kind)
        return [line for line in lines if outcome in (None, line["outcome"])]

    def wait_for(
        self, kind: str, outcome: str | None = "done", number: int = 1, seconds: float = 60.0
    ) -> dict[str, Any]:
        """The so-manieth run of this kind that ended so."""
        deadline = time.monotonic() + seconds
        while len(found := self.runs(kind, outcome)) < number:
            assert time.monotonic() < deadline, f"no {kind} ended {outcome}:\n{self.log.read_text()}"
            assert self.process.poll() is None, f"the daemon ended:\n{self.log.read_text()}"
            time.sleep(0.05)
        return found[number - 1]

    def children(self) -> list[int]:
        """Its jobs and whatever they started."""
        return descendants(self.process.pid)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Its exit status; nothing that it had started is left."""
        started = self.children()
        self.process.send_signal(number)
        status = self.process.wait(timeout=seconds)
        eventually(lambda: not alive(started), seconds)
        return status


@dataclass
class Nodes:
    """Starts daemons, and ends them."""

    manager: ServiceManager
    started: list[Daemon] = field(default_factory=list)

    def start(
        self, node: NodeFolder, *arguments: str, watchdog: float | None = None, ready: bool = True, **more: str
    ) -> Daemon:
        log = node.folder / f"daemon-{len(self.started)}.log"
        environment = node.environment | self.manager.environment(watchdog) | more
        with log.open("wb") as out:
            process = subprocess.Popen(
                node.command("daemon", *arguments, "--json"),
                cwd=node.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        daemon = Daemon(process, log, self.manager)
        before = len(self.manager.times("READY=1"))
        self.started.append(daemon)
        if ready:
            self.manager.wait_for("READY=1", before + 1)
        return daemon

    def close(self) -> None:
        for daemon in self.started:
            if daemon.process.poll() is None:
                started = daemon.children()
                daemon.process.kill()
                daemon.process.wait()
                eventually(lambda gone=started: not alive(gone), 60)
        for daemon in self.started:
            assert found_in(daemon.log.read_bytes()) == [], "an error of backupd has no name"


@pytest.fixture
def daemons() -> Iterator[Nodes]:
    with service_manager() as manager, contextlib.closing(Nodes(manager)) as nodes:
        yield nodes


def scheduled(node: NodeFolder, stop_within: str = "20s", stall: str = "1h", **timetables: str) -> None:
    """Give the node's daemon these timetables; everything else is never due."""
    config = node.node / "backupd.toml"
    text = config.read_text().partition("[daemon]")[0].rstrip()
    times = "".join(f'{kind} = "{timetables.get(kind, "never")}"\n' for kind in KINDS)
    config.write_text(text + SCHEDULE.format(stop_within=stop_within, stall=stall) + times)


@pytest.fixture
def kept_node(pg17: object, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder]) -> NodeFolder:
    """A node with rows that is its own keeper, and nothing scheduled yet."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL, said text)",
        "INSERT INTO note SELECT g, 'secretive-' || g % 3, md5(g::text) FROM generate_series(1, 300) g",
    )
    node = node_of(database)
    node.become_keeper()
    node.database = database
    return node
