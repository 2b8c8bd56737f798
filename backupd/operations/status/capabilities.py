"""The capabilities of a store: what it can do now, compared with the profile of the time its repository was made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from backupd.atomic_file import write_whole
from backupd.errors import StoreError, StoreFullError, StoreGoneError
from backupd.model.documents import StoreProfile
from backupd.model.status import Change
from backupd.store.probe import ProbedStore, probe

_COMPARED = ("rename", "fsync", "statvfs", "hash", "snapshots", "append_only")
_EVERY = timedelta(hours=20)
"""The shortest time between two probes: where nothing can be removed, each leaves two small files to the keeper."""


class LastProbe(msgspec.Struct, frozen=True):
    """The result of the last probe of a store; a file of this machine that can be deleted at any time."""

    at: datetime
    profile: StoreProfile | None
    fault: str = ""
    """Why there is no profile: a property that publishing relies on does not hold."""


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """The wish for a probe of a store by writing, with what a probe needs."""

    memory: Path
    wanted: bool
    random: Callable[[int], bytes]
    now: datetime


def last_probe(store: ProbedStore, request: ProbeRequest) -> LastProbe | None:
    """Return the last probe of a store, after a new one where that is wanted and the last one is old.

    Raises StoreGoneError.
    """
    known: LastProbe | None = None
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        known = msgspec.json.decode(request.memory.read_bytes(), type=LastProbe)
    if not request.wanted or (known is not None and timedelta() <= request.now - known.at < _EVERY):
        return known
    try:
        known = LastProbe(request.now, probe(store, request.random))
    except (StoreGoneError, StoreFullError):
        raise
    except StoreError as error:
        known = LastProbe(request.now, None, error.message)
    with contextlib.suppress(OSError):
        request.memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(request.memory, msgspec.json.encode(known))
    return known


def changes(founded: Mapping[str, Any], store: ProbedStore, known: LastProbe | None) -> tuple[Change, ...]:
    """Return what is different now; without a probe only what shows without writing.

    Raises StoreError.
    """
    bench = store.workbench()
    now: dict[str, Any] = {"statvfs": bench.reports_space(), "snapshots": bench.snapshots_folder()}
    if known is not None and known.profile is not None:
        now = {**msgspec.to_builtins(known.profile), **now}
    found = list(compared(founded, now))
    if known is not None and known.fault:
        found.append(Change("publishing", "safe", known.fault, worse=True))
    return tuple(found)


def compared(founded: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    """Yield each capability that both profiles name and that differs."""
    for what in _COMPARED:
        if what in founded and what in now and founded[what] != now[what]:
            yield Change(what, _spelt(founded[what]), _spelt(now[what]), worse=not now[what])


def _spelt(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "yes" if value else "no"
    return str(value.get("command", value)) if isinstance(value, dict) else str(value)
