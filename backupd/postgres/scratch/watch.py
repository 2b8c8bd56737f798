"""Limits of a scratch server: when a phase takes too long, or its files too much room, it is stopped."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, SourceBusyError, SpoolFullError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.postgres.scratch.server import ScratchServer

_EVERY = 2.0
"""Seconds between two looks at the size."""


@dataclass(frozen=True, slots=True)
class PhaseLimits:
    """Of one phase."""

    seconds: float
    size: int
    """Bytes of all the server's files."""


@contextmanager
def limited(server: ScratchServer, phase: str, limits: PhaseLimits) -> Iterator[None]:
    """Stop the server when the block takes longer or more room than it may; what it was doing fails then.

    Raises SourceBusyError or SpoolFullError in place of that failure, or of the block's own end.
    """
    ended, broken = threading.Event(), list[BackupdError]()
    watching = threading.Thread(target=_watch, args=(server, phase, limits, ended, broken), name="watch", daemon=True)
    watching.start()
    try:
        yield
    except BackupdError as error:
        if broken:
            raise broken[0] from error
        raise
    finally:
        ended.set()
        watching.join()
    if broken:
        raise broken[0]


def _watch(
    server: ScratchServer, phase: str, limits: PhaseLimits, ended: threading.Event, broken: list[BackupdError]
) -> None:
    until = time.monotonic() + limits.seconds
    while not ended.wait(max(0.0, min(_EVERY, until - time.monotonic()))):
        error = _exceeded(server, phase, limits, until)
        if error is not None:
            broken.append(error)
            server.stop()
            return


def _exceeded(server: ScratchServer, phase: str, limits: PhaseLimits, until: float) -> BackupdError | None:
    if time.monotonic() >= until:
        return SourceBusyError(
            f"the drill's phase '{phase}' took longer than the {limits.seconds:.0f} s it may take",
            hint="Look at what slowed it down, or raise the limit under [drill].",
        )
    if server.size() > limits.size:
        return SpoolFullError(
            "the drill's scratch server needs more room than it may take",
            hint="Raise drill.max_size, and see that the disk of drill.scratch_dir has it.",
        )
    return None
