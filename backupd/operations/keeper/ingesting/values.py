"""What an ingest answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backupd.model.ids import ObjectName


class NotYet(Exception):  # noqa: N818 - no error: the rest of it is on its way
    """Something that an object refers to is not on the store yet."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of everything that nodes handed in on one store."""

    store: str
    taken: Mapping[str, int]
    """Objects that stand in their place since, by kind."""
    bytes: int
    """Of these."""
    dropped: int
    """Removed: handed in a second time, of tenants that were purged, or left by runs that ended long ago."""
    waiting: Mapping[ObjectName, str]
    """What is left for the next time, and what it waits for."""
    refused: Mapping[ObjectName, str]
    """What no honest node hands in, and why; it is removed when nobody looked at it for two days."""
