"""Object names: which names are legal, and how temporary names are drawn. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backupd.errors import StoreError
from backupd.model.ids import ObjectName

TEMPORARY = "tmp"
"""The folder of uploads in progress (FORMAT.md §1)."""
INCOMING = "incoming"
"""The folder of objects that nodes hand in (FORMAT.md §15)."""
BALLAST = ObjectName("ballast")
"""What the keeper gives up where the store has no room (FORMAT.md §1)."""
_LONGEST = 512
_FOR_A_SLASH = "+"


def components(name: str) -> list[str]:
    """Split an object name into its folders and its last part.

    Raises StoreError for a name that could point outside the root, or that some store could read as another name.
    """
    parts = name.split("/")
    if not name or len(name) > _LONGEST or not all(_legal(part) for part in parts):
        raise StoreError(f"not a legal object name: {name[:_LONGEST]!r}", hint="Names are relative, without '..'.")
    return parts


def is_legal(name: str) -> bool:
    """Check whether `components` would split the name: others can be listed, and neither read nor removed."""
    return 0 < len(name) <= _LONGEST and all(map(_legal, name.split("/")))


def folders(prefix: str) -> list[str]:
    """Split a folder's name into its parts, as `components` does; an empty name means the root and gives no parts."""
    trimmed = prefix.rstrip("/")
    return components(trimmed) if trimmed else []


def temporary(random: Callable[[int], bytes]) -> ObjectName:
    """Draw a name under `tmp/` that nobody else uses, from 16 random bytes."""
    return ObjectName(f"{TEMPORARY}/{random(16).hex()}")


def removable_folders(parts: Sequence[str]) -> Sequence[str]:
    """Return those of an object's folders that a store makes and removes as needed.

    Folders below `incoming` are left out: people make them, with owners and modes. So is that of temporary objects, in
    which somebody else may be about to write.
    """
    return [] if parts and parts[0] in (INCOMING, TEMPORARY) else parts


def flat(name: str) -> ObjectName:
    """Return the name of an object in a folder without subfolders: each slash becomes a `+`, which no name has."""
    return ObjectName(name.replace("/", _FOR_A_SLASH))


def unflat(name: str) -> ObjectName:
    """Return the name that `flat` was given, if the name was made by `flat`."""
    return ObjectName(name.replace(_FOR_A_SLASH, "/"))


def _legal(part: str) -> bool:
    return part not in {"", ".", ".."} and part.isprintable() and "\\" not in part
