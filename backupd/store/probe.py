"""The probe: find out by trying what a store can do. It believes nothing because of a version or a name.

1. Write an object; see whether it can be synced and whether the store reports its free space.
2. Rename a second object onto it: this must fail, because publishing relies on it.
3. Let the store hash it, by every command we know.
4. Overwrite it, exchange it for the second, then remove it: a store where all of this fails is append-only.
5. Look for the store's own snapshots.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from typing import Protocol

from backupd.errors import StoreError, StoreGoneError
from backupd.model.documents import HashAbility, StoreProfile
from backupd.model.ids import ObjectName
from backupd.store.base import Store
from backupd.store.names import temporary
from backupd.store.server import CANDIDATES, HashCommand, parse_digest


class ProbeOperations(Protocol):
    """An adapter's single steps, without the promises of `put_new`. Each refusal is a StoreError."""

    adapter: str
    max_write: int

    def write(self, name: ObjectName, data: bytes, *, exclusive: bool) -> bool:
        """Write an object; when not `exclusive`, overwrite it by every means. Return whether it could be synced."""
        ...

    def rename(self, old: ObjectName, new: ObjectName) -> None:
        """Rename an object by the operation that publishing uses, which must not overwrite."""
        ...

    def exchange(self, old: ObjectName, new: ObjectName) -> None:
        """Rename an object over another one by the operation that `replace` uses."""
        ...

    def remove(self, name: ObjectName) -> None:
        """Remove an object by every means that the store offers."""
        ...

    def reports_space(self) -> bool: ...

    def run(self, command: str, name: ObjectName) -> bytes | None:
        """Return the output of a command of the store run on an object; None where it fails or none can be run."""
        ...

    def snapshots_folder(self) -> str | None: ...


class ProbedStore(Store, Protocol):
    """A store that can be probed: every adapter, and each decorator of one."""

    def workbench(self) -> ProbeOperations: ...


def probe(store: ProbedStore, random: Callable[[int], bytes] = os.urandom) -> StoreProfile:
    """Find out what `store` can do. Nothing is left behind, unless the store lets nothing be removed.

    Raises StoreError when the store's rename overwrites, and the errors of the calls on the store.
    """
    bench = store.workbench()
    first, second = temporary(random), temporary(random)
    data = random(1000)
    try:
        fsync = bench.write(first, data, exclusive=True)
        _check_rename(bench, store, (first, second), data)
        ability = _find_hash(bench, first, data)
        overwrites = _allowed(lambda: bench.write(first, data[::-1], exclusive=False))
        exchanges = _allowed(lambda: bench.exchange(second, first))
        removes = _allowed(lambda: bench.remove(first))
    finally:
        for name in (first, second):
            with contextlib.suppress(StoreError):
                store.remove(name)
    return StoreProfile(
        adapter=bench.adapter,
        rename="no-clobber",
        fsync=fsync,
        statvfs=bench.reports_space(),
        hash=ability,
        snapshots=bench.snapshots_folder(),
        append_only=not (overwrites or exchanges or removes),
        max_write=bench.max_write,
    )


def _check_rename(bench: ProbeOperations, store: Store, names: tuple[ObjectName, ObjectName], data: bytes) -> None:
    first, second = names
    bench.write(second, b"other", exclusive=True)
    overwrote = _allowed(lambda: bench.rename(second, first))
    if overwrote or store.get(first) != data:
        raise StoreError(
            "the store's rename overwrites what is there, so nothing on it would be safe from a later writer",
            hint="Use a server whose plain SFTP rename refuses a taken name, as OpenSSH's does.",
        )


def _find_hash(bench: ProbeOperations, name: ObjectName, data: bytes) -> HashAbility | None:
    for candidate in CANDIDATES:
        if _right(bench.run(candidate.command, name), candidate, data):
            return HashAbility(command=candidate.command, algorithm=candidate.algorithm)
    return None


def _right(output: bytes | None, candidate: HashCommand, data: bytes) -> bool:
    known = hashlib.new(candidate.algorithm, data, usedforsecurity=False).hexdigest()
    return output is not None and parse_digest(output, candidate.algorithm) == known


def _allowed(step: Callable[[], object]) -> bool:
    try:
        step()
    except StoreGoneError:
        raise
    except StoreError:
        return False
    return True
