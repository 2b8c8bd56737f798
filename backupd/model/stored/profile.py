"""What a store was seen to be able to do (FORMAT §8)."""

from __future__ import annotations

import msgspec


class HashAbility(msgspec.Struct, frozen=True):
    """A command on the store that prints an object's digest."""

    command: str
    algorithm: str


class StoreProfile(msgspec.Struct, frozen=True):
    """Part of the signed `repository.json`. It informs; a writer looks again, and a difference is worth an alarm."""

    adapter: str
    """`sftp` or `directory`."""
    rename: str
    """`no-clobber`; a store that is otherwise is refused at `init`."""
    fsync: bool
    """An object can be put on the store's disk before it is published."""
    statvfs: bool
    """Free space can be asked for."""
    hash: HashAbility | None
    """None: objects are verified by reading them back."""
    snapshots: str | None
    """The folder of the store's own read-only snapshots."""
    append_only: bool
    """The store refused us to remove and to overwrite: a thief of this node could not either."""
    max_write: int
    """Bytes of the longest single write."""
