"""A writer's side of a store to which it may add nothing: it hands everything it puts to the keeper.

Two places make one store here: the region's folder, where only the keeper writes, and the node's own folder below it,
whose content the keeper checks and copies (FORMAT.md §15). Names in the node's folder are flat, so that removing an
object there passes through no folder that the node could have replaced by a link.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, TypeVar

from backupd.errors import ObjectExistsError, ObjectMissingError, StoreError, StoreGoneError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import ObjectInfo, Piece, Space
from backupd.store.forwarding import ForwardingStore
from backupd.store.names import components, flat, folders, unflat
from backupd.store.probe import ProbedStore, ProbeOperations

T = TypeVar("T")

_PIECE = 4 << 20
_KEEPERS = frozenset({"ledger", "leases", "attestations", "reports"})
"""Folders in which keepers alone write: what lies in the node's folder under such a name is not the node's doing."""
_BESIDE = ("tmp/", "", "incoming/")
"""Folders where a writer that can add anything would do most harm: the keeper's own, and beside the node's folder."""


class HandoffStore(ForwardingStore):
    """A store in which a handed-in object counts as put: it is read, listed and found as if already in its place."""

    def __init__(self, vault: ProbedStore, own: ProbedStore) -> None:
        """Join `vault`, the region's folder, with `own`, the node's folder, in which names are made flat."""
        super().__init__(vault)
        self.vault = vault
        self.own = own

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        components(name)
        seen = self.vault.stat(name)
        if seen is None:
            self.own.put_new(flat(name), source, size, sha256)
        elif seen.size != size or self._digest(name, size) != sha256:
            raise ObjectExistsError(
                f"other content already stands under {name!r}",
                hint="Run 'backupd verify'; an object's name is its content, so one of the two is damaged.",
            )

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:  # noqa: ARG002 - the port's
        raise StoreError(f"a node may not replace {name!r}", hint="Only the keeper's account may, on the keeper.")

    def recompose(self, name: ObjectName, pieces: Sequence[Piece], size: int) -> None:  # noqa: ARG002 - the port's
        raise StoreError(f"a node may not replace {name!r}", hint="Only the keeper's account may, on the keeper.")

    def remove(self, name: ObjectName) -> None:
        """Remove an object that was handed in and that the keeper has not taken yet.

        Raises StoreError for an object that the keeper has taken.
        """
        components(name)
        self.own.remove(flat(name))
        if self.vault.stat(name) is not None:
            raise StoreError(f"a node may not remove {name!r}", hint="Only the keeper's account may, on the keeper.")

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        if not _is_handed_in(name):
            return self.vault.get(name, offset, length)
        return self._found(
            lambda: self.vault.get(name, offset, length), lambda: self.own.get(flat(name), offset, length)
        )

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        components(name)
        seen = self.vault.stat(name)
        if seen is None and _is_handed_in(name):
            seen = self.own.stat(flat(name)) or self.vault.stat(name)
        return None if seen is None else ObjectInfo(name, seen.size, seen.modified)

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        parts = folders(prefix)
        # Before the other: what the keeper takes meanwhile is then seen at least once.
        incoming = {name: info for info in self.own.list(ObjectName("")) if _is_handed_in(name := unflat(info.name))}
        for info in self.vault.list(prefix):
            incoming.pop(info.name, None)
            yield info
        for name, info in incoming.items():
            if name.split("/")[: len(parts)] == parts:
                yield ObjectInfo(name, info.size, info.modified)

    def space(self) -> Space | None:
        return self.own.space()

    def workbench(self) -> ProbeOperations:
        return _Bench(self.vault.workbench(), self.own.workbench())

    def close(self) -> None:
        self.own.close()
        self.vault.close()

    def _found(self, there: Callable[[], T], incoming: Callable[[], T]) -> T:
        """Return the first result of two look-ups, and repeat the first look-up when both miss.

        The keeper copies an object into its place before it removes it from `incoming`, so the repetition finds an
        object that moved between the look-ups.
        """
        for look in (there, incoming):
            with contextlib.suppress(ObjectMissingError):
                return look()
        return there()

    def _digest(self, name: ObjectName, size: int) -> str:
        digest = hashlib.sha256()
        for at in range(0, size, _PIECE):
            digest.update(self.vault.get(name, at, min(_PIECE, size - at)))
        return digest.hexdigest()


class _Bench:
    """The probe's steps for a hand-off store.

    Steps that must work are tried in the node's own folder, steps that must be refused in the keeper's.
    """

    def __init__(self, vault: ProbeOperations, own: ProbeOperations) -> None:
        self.adapter, self.max_write = own.adapter, own.max_write
        self._vault = vault
        self._own = own

    def write(self, name: ObjectName, data: bytes, *, exclusive: bool) -> bool:
        if exclusive:
            return self._own.write(flat(name), data, exclusive=True)
        if not any(self._adds(ObjectName(f"{folder}{name.rpartition('/')[2]}")) for folder in _BESIDE):
            raise _only_handed_in(name)
        return True

    def rename(self, old: ObjectName, new: ObjectName) -> None:
        self._own.rename(flat(old), flat(new))

    def exchange(self, old: ObjectName, new: ObjectName) -> None:  # noqa: ARG002 - the port's
        raise _only_handed_in(new)

    def remove(self, name: ObjectName) -> None:
        raise _only_handed_in(name)

    def reports_space(self) -> bool:
        return self._own.reports_space()

    def run(self, command: str, name: ObjectName) -> bytes | None:
        return self._own.run(command, flat(name))

    def snapshots_folder(self) -> str | None:
        return self._vault.snapshots_folder()

    def _adds(self, name: ObjectName) -> bool:
        """Check whether this account can make an object where only the keeper should; remove it again."""
        try:
            self._vault.write(name, b"", exclusive=True)
        except StoreGoneError:
            raise
        except StoreError:
            return False
        with contextlib.suppress(StoreError):
            self._vault.remove(name)
        return True


def _is_handed_in(name: ObjectName) -> bool:
    return name.split("/")[0] not in _KEEPERS


def _only_handed_in(name: ObjectName) -> StoreError:
    return StoreError(f"a node may only hand {name!r} in")
