"""`restore --scratch`: a server of its own that stays, on a unix socket only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backupd.postgres.connect import Source
    from backupd.postgres.scratch.kept import Kept
    from backupd.wiring import Wiring


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where the server is to be."""

    path: Path
    running: bool
    """Whether it is left running."""
    server: int
    """The `server_version_num` whose major version it has."""


def in_scratch(wiring: Wiring, scratch: Scratch, fill: Callable[[Source], bool]) -> Kept | None:
    """Make a server, have it filled, and keep it where anything came of that; what fails leaves none.

    Raises RefusedError, ConfigError, SourceError, and what `fill` raises.
    """
    from backupd.postgres.scratch.cluster import scratch_cluster
    from backupd.wiring.scratch import scratch_making

    path = scratch.path.absolute()
    with scratch_cluster(scratch_making(wiring.config, path, scratch.server)) as cluster:
        kept = cluster.keep(path) if fill(cluster.source) else None
    if kept is not None and scratch.running:
        kept.start()
    return kept


def told(kept: Kept, scratch: Scratch, name: str | None) -> Iterator[str]:
    """How to reach it, stop it and remove it; `name` of the database, where there is one to be told."""
    yield f"scratch server in {kept.path}: {'running' if scratch.running else 'stopped'}; it has no network"
    if not scratch.running:
        yield f"  start it: {kept.starting}"
    yield f'  connect:  psql "{kept.connect} dbname={name or "postgres"}"'
    yield f"  stop it:  {kept.stopping}"
    yield f"  remove:   {kept.removing}"


def as_object(kept: Kept, scratch: Scratch) -> dict[str, object]:
    """The same for programs."""
    return {
        "folder": str(kept.path),
        "running": scratch.running,
        "connect": kept.connect,
        "start": kept.starting,
        "stop": kept.stopping,
        "remove": kept.removing,
    }
