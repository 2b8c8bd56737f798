"""The server a drill restores into: one of its own, or the one that was set aside for drills."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from backupd.errors import RefusedError
from backupd.operations.drill.guard import require_apart
from backupd.postgres.scratch.cluster import ClusterSpec, scratch_cluster
from backupd.postgres.scratch.given import given_server
from backupd.postgres.scratch.programs import find_server, runner
from backupd.trace import Warned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.operations.drill.values import DrillWorld
    from backupd.postgres.scratch.server import ScratchServer


@contextmanager
def serving(world: DrillWorld, major: int) -> Iterator[ScratchServer]:
    """A server of this major version, with nothing in it, until the block ends.

    Raises RefusedError for one that is backed up, not marked, not empty or of another version; ConfigError and
    SourceError.
    """
    place, token = world.place, world.random(8).hex()
    if place.target is not None:
        require_apart(place.target, world.production)
        with given_server(place.target, place.parent, token) as given:
            _require_version(given, major)
            yield given
        return
    making = ClusterSpec(place.parent, find_server(place.folders, major), runner(place.user), token, place.memory)
    if not making.runner.isolated:
        world.trace.emit(
            Warned("the drill's server can reach the network", hint="Drill as root, or allow user namespaces.")
        )
    with scratch_cluster(making) as cluster:
        yield cluster


def _require_version(given: ScratchServer, major: int) -> None:
    if given.version.partition(".")[0] != str(major):
        raise RefusedError(
            f"the server for drills is of PostgreSQL {given.version.partition('.')[0]}, and the snapshot of {major}",
            hint="Only one of the same version can be equal: set aside such a one, or let drills make their own.",
        )
