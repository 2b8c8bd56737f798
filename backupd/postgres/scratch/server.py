"""What a drill restores into, whatever kind of server it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from backupd.postgres.connect import Source


@dataclass(frozen=True, slots=True)
class Gone:
    """What of a server's or a drill's things was destroyed, each with how that was seen, and how many stayed."""

    destroyed: tuple[tuple[str, str], ...]
    remaining: int


class ScratchServer(Protocol):
    """A server that holds nothing but what the drill under way makes."""

    @property
    def source(self) -> Source:
        """How to connect to it, as a superuser."""

    @property
    def version(self) -> str:
        """As PostgreSQL tells it, such as 17.10."""

    @property
    def path(self) -> Path:
        """A folder of the drill's own, for sealed bytes."""

    @property
    def roles(self) -> frozenset[str]:
        """Those it had before the drill; they are nobody's that was backed up."""

    def name(self, real: str, what: str = "") -> str:
        """What the database whose real name this is shall be called here; `what` tells several apart."""

    def size(self) -> int:
        """Bytes that the drill takes on it."""

    def free(self) -> int:
        """Bytes that are left on its disk, as far as is known."""

    def stop(self) -> None:
        """End what the drill does there, at once."""

    def dispose(self) -> Gone:
        """Remove all that the drill made, and look whether it is gone."""
