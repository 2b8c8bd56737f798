"""What a store can do now, beside what it could when its repository was made."""

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
"""A store is tried no more often: where nothing can be removed, each try leaves two small files to the keeper."""


class Tried(msgspec.Struct, frozen=True):
    """What trying a store showed the last time; kept on this machine, and can be deleted at any time."""

    at: datetime
    profile: StoreProfile | None
    fault: str = ""
    """Why there is none: what publishing relies on does not hold."""


@dataclass(frozen=True, slots=True)
class Trying:
    """Whether a store is tried by writing, and what from."""

    memory: Path
    wanted: bool
    random: Callable[[int], bytes]
    now: datetime


def tried(store: ProbedStore, trying: Trying) -> Tried | None:
    """The last try, made anew when that is wanted and the last one is old.

    Raises StoreGoneError.
    """
    known: Tried | None = None
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        known = msgspec.json.decode(trying.memory.read_bytes(), type=Tried)
    if not trying.wanted or (known is not None and timedelta() <= trying.now - known.at < _EVERY):
        return known
    try:
        known = Tried(trying.now, probe(store, trying.random))
    except (StoreGoneError, StoreFullError):
        raise
    except StoreError as error:
        known = Tried(trying.now, None, error.message)
    with contextlib.suppress(OSError):
        trying.memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(trying.memory, msgspec.json.encode(known))
    return known


def changes(founded: Mapping[str, Any], store: ProbedStore, known: Tried | None) -> tuple[Change, ...]:
    """What is different; without a try, as far as it shows without writing.

    Raises StoreError.
    """
    bench = store.workbench()
    now: dict[str, Any] = {"statvfs": bench.reports_space(), "snapshots": bench.snapshots_folder()}
    if known is not None and known.profile is not None:
        now = {**msgspec.to_builtins(known.profile), **now}
    found = list(_compared(founded, now))
    if known is not None and known.fault:
        found.append(Change("publishing", "safe", known.fault, worse=True))
    return tuple(found)


def _compared(founded: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    for what in _COMPARED:
        if what in founded and what in now and founded[what] != now[what]:
            yield Change(what, _spelt(founded[what]), _spelt(now[what]), worse=not now[what])


def _spelt(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "yes" if value else "no"
    return str(value.get("command", value)) if isinstance(value, dict) else str(value)
