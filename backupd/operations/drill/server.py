"""The server a drill restores into: one of its own, or the one that was set aside for drills; and the checks that it is
not a server that is backed up, however it is configured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backupd.errors import RefusedError, SourceError
from backupd.postgres.connect import Source, connect, parameters
from backupd.postgres.scratch.cluster import ClusterSpec, scratch_cluster
from backupd.postgres.scratch.external import external_server
from backupd.postgres.scratch.folder import ScratchServer
from backupd.postgres.scratch.programs import find_server, major_of, runner
from backupd.postgres.scratch.watch import system_identifier

if TYPE_CHECKING:
    from backupd.operations.drill.types import DrillEnvironment


@contextmanager
def drill_server(environment: DrillEnvironment, major: int) -> Iterator[ScratchServer]:
    """Provide a server of this major version, with nothing in it, until the block ends.

    Raises RefusedError for one that is backed up, not marked, not empty or of another version; ConfigError, also where
    a server of its own cannot be isolated, and SourceError.
    """
    place, token = environment.place, environment.random(8).hex()
    if place.target is not None:
        require_apart(place.target, environment.production)
        with external_server(place.target, place.parent, token) as given:
            _require_version(given, major)
            yield given
        return
    programs = find_server(place.folders, major)
    making = ClusterSpec(place.parent, programs, runner(place.user), token, place.memory, place.preload)
    with scratch_cluster(making) as cluster:
        yield cluster


def _require_version(given: ScratchServer, major: int) -> None:
    if major_of(given.version) != major:
        raise RefusedError(
            f"the server for drills is of PostgreSQL {major_of(given.version)}, and the snapshot of {major}",
            hint="Only one of the same version can be equal: set aside such a one, or let drills make their own.",
        )


def require_apart(target: Source, production: Iterable[Source]) -> None:
    """Check that the target's server is none that a backup reads.

    Two servers are the same when their addresses are, or their clusters' identifiers; a standby has its primary's. When
    a production server cannot be asked, only the addresses decide. Raises RefusedError when it is one, SourceError when
    the target cannot be asked.
    """
    sources = list(production)
    address = _address(target)
    for source in sources:
        if address & _address(source):
            raise _refused()
    with connect(target) as connection:
        ours = system_identifier(connection)
    if ours is None:
        raise RefusedError(
            "the server for drills does not say which cluster it is",
            hint="Drill as a superuser of a server that holds nothing else.",
        )
    for source in sources:
        if ours == _identifier(source):
            raise _refused()


def _refused() -> RefusedError:
    return RefusedError(
        "the server for drills is one that is backed up", hint="A drill needs a server that holds nothing else."
    )


def _identifier(source: Source) -> str | None:
    try:
        with connect(source) as connection:
            return system_identifier(connection)
    except SourceError:
        return None


def _address(source: Source) -> set[tuple[str, str]]:
    """Return every host of a connection string with its port, and libpq's own default port where it names none."""
    given = parameters(source)
    hosts = str(given.get("hostaddr") or given.get("host") or "").split(",")
    ports = str(given.get("port") or "5432").split(",")
    ports += ports[-1:] * (len(hosts) - len(ports))
    return {(host, port) for host, port in zip(hosts, ports, strict=False)}
