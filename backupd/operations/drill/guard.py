"""What makes it impossible for a drill to touch a server that is backed up, however it is configured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.errors import RefusedError, SourceError
from backupd.postgres.connect import connect, parameters
from backupd.postgres.scratch.looking import system_identifier

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backupd.postgres.connect import Source

_ADDRESS = ("host", "hostaddr", "port")


def require_apart(target: Source, production: Iterable[Source]) -> None:
    """Do nothing when the target's server is none that a backup reads.

    Two servers are one when their addresses are, or their clusters' identifiers; a standby has its primary's. A
    production server that cannot be asked is no excuse: then the addresses decide. Raises RefusedError, SourceError
    when the target cannot be asked.
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
    """Every host of a connection string, each with its port; libpq's own defaults where it names none."""
    given = parameters(source)
    hosts = str(given.get("hostaddr") or given.get("host") or "").split(",")
    ports = str(given.get("port") or "5432").split(",")
    ports += ports[-1:] * (len(hosts) - len(ports))
    return {(host, port) for host, port in zip(hosts, ports, strict=False)}
