"""Database after database: each restored by its snapshot's full name, or told why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from backupd.errors import BackupdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from backupd.operations.restore.region.finding import FoundDatabase

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DatabaseOutcome(Generic[T]):
    """What came of one database."""

    found: FoundDatabase
    result: T | None
    """None with no error: an earlier run has restored this snapshot there."""
    error: BackupdError | None


def restore_region(
    databases: Iterable[FoundDatabase], each: Callable[[FoundDatabase], T | None]
) -> Iterator[DatabaseOutcome[T]]:
    """Do `each`; an error is told of its database, and the others are done all the same.

    Raises InterruptedRunError.
    """
    for found in databases:
        try:
            yield DatabaseOutcome(found, each(found), None)
        except BackupdError as error:
            yield DatabaseOutcome(found, None, error)
