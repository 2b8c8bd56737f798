"""What a store can do, found out by trying: nothing is believed because of a version or a name.

1. write an object, see whether it can be synced and its space told
2. rename a second one onto it: this must fail, publishing relies on it
3. let the store hash it, by every command we know
4. overwrite it, exchange it for the second, then remove it: a store where all of this fails is append-only
5. look for the store's own snapshots
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
        """Make an object, or write over one by every means when not `exclusive`; True when it could be synced."""
        ...

    def rename(self, old: ObjectName, new: ObjectName) -> None:
        """The rename that publishing uses."""
        ...

    def exchange(self, old: ObjectName, new: ObjectName) -> None:
        """The rename that takes the place of what is there."""
        ...

    def remove(self, name: ObjectName) -> None:
        """Remove by every means."""
        ...

    def reports_space(self) -> bool: ...

    def run(self, command: str, name: ObjectName) -> bytes | None:
        """Output of a command of the store, given the object; None where it fails or there are no commands."""
        ...

    def snapshots_folder(self) -> str | None: ...


class ProbedStore(Store, Protocol):
    """A store that can be probed: every adapter, and decorators of one."""

    def workbench(self) -> ProbeOperations: ...


def probe(store: ProbedStore, random: Callable[[int], bytes] = os.urandom) -> StoreProfile:
    """What `store` can do. Leaves nothing behind, unless the store lets nothing be removed.

    Raises StoreError when its rename overwrites, and what any call on a store raises.
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
