"""Marks in `runs/`, FORMAT.md §11: they keep runs and keepers that work on one generation out of each other's way.

A run refers to sections of earlier runs, which the keeper may be about to remove. So each first puts its own mark, then
looks for the other's: in any order, one of them sees the other and waits. A keyring or a pack is rewritten under a mark
of its own: if two processes read the same old one, the later would undo what the earlier did. A mark that nobody
removes becomes old, and then counts no more.

`backupd manual trust`, row *marks*, says who can write this, and what is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from backupd.clock import Clock
from backupd.errors import BusyError, ObjectExistsError, ObjectMissingError, StoreError
from backupd.model.documents import mark_text
from backupd.model.ids import GenerationId, ObjectName, RunId
from backupd.repository import layout
from backupd.repository.incoming import all_marks, first_awaited
from backupd.repository.moved_objects import clear_place
from backupd.store.base import Store, put_document

LONGEST_RUN: Final = timedelta(hours=24)
"""Age at which a run's mark is old: its run was killed."""
LONGEST_REMOVAL: Final = timedelta(hours=1)
"""Age at which a mark of a keeper, or of a keyring or pack to be rewritten, is old: its process was killed."""
_WHEN_KILLED: Final = (
    f"Run it again later. If the keeper was killed, its mark counts no more {LONGEST_REMOVAL // timedelta(minutes=1)} "
    "minutes after it was put."
)
_MARGIN: Final = timedelta(minutes=30)
"""How long before its mark is old a run ends: clocks differ, and a record takes its time."""
_AHEAD: Final = timedelta(hours=1)
"""How far ahead of this machine's clock a mark may be dated: clocks differ."""
_PATIENCE = timedelta(minutes=10)
_LOOK_EVERY = 2.0
"""Seconds between two looks at a mark that is in the way."""
_TEXT = 64
"""Characters of a run's mark."""

EndedRuns: TypeAlias = Mapping[RunId, Collection[str]]
"""The runs of which a record says that they are over, each with the texts of the marks that it can speak of."""


@dataclass(frozen=True, slots=True)
class RunMark:
    """A run, and the secret by which its record will show that this very run is over.

    Everybody who sees a mark knows the run's name, and may sign a record in it; the keeper would then take what the run
    relies on for something that nobody needs.
    """

    run: RunId
    secret: str = field(repr=False)

    @classmethod
    def drawn(cls, run: RunId, random: Callable[[int], bytes]) -> RunMark:
        """Return the mark of a run with a new secret."""
        return cls(run, random(32).hex())


@contextmanager
def run_marked(store: Store, generation: GenerationId, run: RunMark, clock: Clock) -> Iterator[Callable[[], None]]:
    """Mark that a run adds to the generation, wait while a keeper removes there, and yield a check to call meanwhile.

    The check raises BusyError when the mark will soon be old: what the run relies on may then be removed, so it has to
    end. Raises BusyError when the removal does not end in time. On a store that lets a writer remove nothing, the mark
    stays and becomes old.
    """
    mark = layout.run_mark(generation, run.run)
    _put(store, mark, mark_text(run.secret))
    # By both clocks: one of them stands still while a machine sleeps, the other one may be set.
    began, started = clock.now(), clock.monotonic()

    def check() -> None:
        age = max(clock.now() - began, timedelta(seconds=clock.monotonic() - started))
        if age > LONGEST_RUN - _MARGIN:
            raise BusyError(
                f"the run takes longer than {LONGEST_RUN // timedelta(hours=1)} hours, after which keepers count it as "
                "killed",
                hint="Run it again: what is on the store is not sent again, so that the next run is shorter.",
            )

    try:
        _wait(store, generation, clock)
        yield check
    finally:
        _forget(store, mark)


@contextmanager
def removal_marked(
    store: Store, generation: GenerationId, keeper: str, clock: Clock, ended: EndedRuns | None = None
) -> Iterator[None]:
    """Mark that the keeper removes in the generation; a removal longer than `LONGEST_REMOVAL` needs a further mark.

    Raises BusyError while a run that has not `ended` adds to it, while another keeper removes, and while something
    handed in for it is not taken yet.
    """
    mark = layout.keeper_mark(generation)
    seen = store.stat(mark)
    if seen is not None and not _counts(seen.modified, clock.now(), LONGEST_REMOVAL):
        clear_place(store, mark)
    try:
        _put(store, mark, f"{keeper} {clock.now().isoformat()}")
    except ObjectExistsError:
        raise BusyError(f"another keeper removes in generation {generation}", hint=_WHEN_KILLED) from None
    try:
        running = runs_under_way(store, generation, clock.now(), ended)
        if running:
            raise BusyError(
                f"run {running[0]} adds to generation {generation}", hint="It is left as it is until the next keeping."
            )
        if first_awaited(store, generation) is not None:
            raise BusyError(
                f"something was handed in for generation {generation}, and is not taken yet",
                hint="Run `backupd ingest`; until then the generation is left as it is.",
            )
        yield
    finally:
        _forget(store, mark)


@contextmanager
def rewrite_marked(store: Store, name: ObjectName, holder: str, clock: Clock) -> Iterator[Callable[[], None]]:
    """Reserve a keyring or a pack to rewrite it, and yield a check to call right before that.

    `holder` is a text that nobody else uses. The check raises BusyError when the mark may be old by now. Raises
    BusyError when another process does not finish in time; the store's errors.
    """
    place = layout.place_of(name)
    if place.generation is None or place.kind not in (layout.ObjectKind.KEYRING, layout.ObjectKind.PACK):
        raise ValueError("neither a keyring's name nor a pack's")
    mark = layout.rewrite_mark(place.generation, name)
    _take(store, mark, holder, clock)
    until = clock.monotonic() + LONGEST_REMOVAL.total_seconds() / 2

    def check() -> None:
        if clock.monotonic() > until:
            raise BusyError(f"it took too long to rewrite '{name}'", hint="It is as it was; run it again.")

    try:
        yield check
    finally:
        _forget(store, mark)


def _take(store: Store, mark: ObjectName, holder: str, clock: Clock) -> None:
    until = clock.monotonic() + _PATIENCE.total_seconds()
    while True:
        seen = store.stat(mark)
        if seen is not None and not _counts(seen.modified, clock.now(), LONGEST_REMOVAL):
            clear_place(store, mark)
            seen = None
        if seen is None:
            with suppress(ObjectExistsError):
                _put(store, mark, holder)
                return
        if clock.monotonic() > until:
            raise BusyError(
                f"another keeper rewrites '{mark.rpartition('/')[2]}', and does not end", hint="Run it again later."
            )
        clock.sleep(_LOOK_EVERY)


def runs_under_way(
    store: Store, generation: GenerationId, now: datetime, ended: EndedRuns | None = None
) -> list[RunId]:
    """List the runs whose mark is there and not old, except the `ended`, whose own record is already there."""
    running: set[RunId] = set()
    for mark in all_marks(store):
        run = mark.place.run if mark.place.generation == generation else None
        if run and _counts(mark.modified, now, LONGEST_RUN) and not _is_over(store, mark.name, (ended or {}).get(run)):
            running.add(run)
    return sorted(running)


def _is_over(store: Store, name: ObjectName, texts: Collection[str] | None) -> bool:
    """Check whether a mark has one of these texts, by reading it, or is gone."""
    if not texts:
        return False
    try:
        return store.get(name, 0, _TEXT + 1).decode("ascii", "replace") in texts
    except ObjectMissingError:
        return True


def _counts(put: datetime, now: datetime, longest: timedelta) -> bool:
    """Check whether a mark of this time is neither old nor dated ahead: anybody who may set times could keep one."""
    return -_AHEAD <= now - put < longest


def _wait(store: Store, generation: GenerationId, clock: Clock) -> None:
    until = clock.monotonic() + _PATIENCE.total_seconds()
    while (seen := store.stat(layout.keeper_mark(generation))) is not None:
        if not _counts(seen.modified, clock.now(), LONGEST_REMOVAL):
            return
        if clock.monotonic() > until:
            raise BusyError("the keeper removes from this generation, and does not end", hint=_WHEN_KILLED)
        clock.sleep(_LOOK_EVERY)


def _put(store: Store, mark: ObjectName, text: str) -> None:
    put_document(store, mark, text.encode())


def _forget(store: Store, mark: ObjectName) -> None:
    with suppress(StoreError):  # a writer that may not remove, or a line that is down: the mark grows old
        clear_place(store, mark)  # somebody who may rename may have moved something else there meanwhile
