"""Object names: what a legal one is, and how temporary ones are drawn. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backupd.errors import StoreError
from backupd.model.ids import ObjectName

TEMPORARY = "tmp"
"""The folder of uploads under way (FORMAT §1)."""
INCOMING = "incoming"
"""The folder of what nodes hand in (FORMAT §15)."""
_LONGEST = 512
_FOR_A_SLASH = "+"


def components(name: str) -> list[str]:
    """The folders and the last name of an object name.

    Raises StoreError for one that could point outside the root or stand for something else on some store.
    """
    parts = name.split("/")
    if not name or len(name) > _LONGEST or not all(_legal(part) for part in parts):
        raise StoreError(f"not a legal object name: {name[:_LONGEST]!r}", hint="Names are relative, without '..'.")
    return parts


def folders(prefix: str) -> list[str]:
    """Like `components`, for a folder; the empty one is the root."""
    trimmed = prefix.rstrip("/")
    return components(trimmed) if trimmed else []


def temporary(random: Callable[[int], bytes]) -> ObjectName:
    """A name under `tmp/` that nobody else uses: 16 random bytes."""
    return ObjectName(f"{TEMPORARY}/{random(16).hex()}")


def removable_folders(parts: Sequence[str]) -> Sequence[str]:
    """Of an object's folders, those that a store makes and removes as needed: nodes' own have owners and modes."""
    return parts if parts[:1] != [INCOMING] else []


def flat(name: str) -> ObjectName:
    """The name an object has in a folder that holds no folders; none of ours has a `+` in it."""
    return ObjectName(name.replace("/", _FOR_A_SLASH))


def unflat(name: str) -> ObjectName:
    """The name that `flat` was given, if it was."""
    return ObjectName(name.replace(_FOR_A_SLASH, "/"))


def _legal(part: str) -> bool:
    return part not in {"", ".", ".."} and part.isprintable() and "\\" not in part
