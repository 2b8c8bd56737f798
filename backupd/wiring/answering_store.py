"""The store that answers: the region's first, or the next one where it does not, which is said; and whether others have
newer snapshots.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, StoreAuthError, StoreGoneError
from backupd.model.ids import RegionName
from backupd.model.text import compact, spell_age
from backupd.operations.phases import Phases
from backupd.repository.layout import RECORDS, REPOSITORY, place_of
from backupd.trace import ASKING, Trace, Warned
from backupd.wiring.context import QUICKLY, Context, open_repository, open_store

if TYPE_CHECKING:
    from backupd.repository.repository import Repository
    from backupd.store.base import StoreView

_A_MOMENT = timedelta(seconds=5)
"""The time that another store gets to say what it has: the restore needs nothing of it."""
_USUAL_LAG = timedelta(days=1)
"""How much newer another store's snapshots may be without a word, where no RPO is configured: a backup comes to one
store after the other."""


@contextmanager
def open_answering(
    context: Context, region: RegionName, store: str | None, trace: Trace, patience: timedelta | None = None
) -> Iterator[tuple[str, Repository]]:
    """Open the region's repository on the store asked for, or on its first that answers; yield its name, too.

    Of several, each has `QUICKLY` to answer; one that does not is named in a warning, and the next is asked. Once a
    store has answered, it is waited for as `patience` says, without one as configured. Raises UsageError for a store
    that is not the region's, and where none answers the first one's StoreGoneError.
    """
    names = context.stores_of(region, store)
    name = _first_answering(context, region, names, trace) if len(names) > 1 else names[0]
    with (
        suggesting_others(context, region, name),
        open_repository(context.telling(trace), region, name, patience) as repository,
    ):
        yield name, repository


def warn_of_newer(context: Context, region: RegionName, opened: tuple[str, Repository], trace: Trace) -> None:
    """Warn of each store behind the opened one in the region's order whose newest snapshot is newer by more than the
    RPO.

    `latest` is the newest of the store that is read: it may have been away, or an older copy of it may have been put
    back. The names of records are compared, of which nobody checked more; those dated ahead of this machine's clock,
    which hide what is newest, are passed over. A store that does not answer at once is named.
    """
    read, repository = opened
    names, now = context.stores_of(region), context.clock.now()
    others = names[names.index(read) + 1 :]
    ours = _newest(repository.store, now) if others else None
    enough = context.config.regions[region].objectives.rpo or _USUAL_LAG
    for name in others:
        try:
            with closing(open_store(context, region, name, _A_MOMENT)) as store:
                theirs = _newest(store, now)
        except BackupdError as error:
            trace.emit(Warned(f"{name} does not say what it has, so it may have newer snapshots: {error.message}"))
            continue
        if theirs is not None and (ours is None or theirs - ours > enough):
            than = "there is none" if ours is None else f"{spell_age(theirs - ours)} newer than the newest"
            trace.emit(
                Warned(
                    f"{name} lists a snapshot of {theirs:%Y-%m-%d %H:%M} UTC, {than} on {read}, which is read",
                    hint=f"--store {name} reads from there. Where backups to {read} did not fail meanwhile, an older "
                    "copy of it may have been put back: `backupd manual incidents`.",
                )
            )


def _newest(store: StoreView, now: datetime) -> datetime | None:
    places = (place_of(found.name) for found in store.list(RECORDS))
    times = [place.snapshot[:16] for place in places if place.snapshot and place.snapshot[:16] <= compact(now)]
    return datetime.strptime(max(times), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if times else None


def answering_first(context: Context, region: RegionName, trace: Trace) -> list[str]:
    """Return the region's stores, those last that do not answer quickly: one that is away delays no other."""
    names = context.stores_of(region)
    away = [name for name in names if not _answers(context, region, name, trace)] if len(names) > 1 else []
    return [*(name for name in names if name not in away), *away]


@contextmanager
def suggesting_others(context: Context, region: RegionName, name: str, *, named: bool = False) -> Iterator[None]:
    """Have an error about a store that is away, or refuses us, say which other stores `--store` would read from.

    That comes last: what the error itself advises may be a warning. The message begins with the store's name, unless it
    is `named` where the error is printed.
    """
    try:
        yield
    except (StoreGoneError, StoreAuthError) as error:
        others = [other for other in context.stores_of(region) if other != name]
        if not others or "--store" in error.hint:
            raise
        said = f"Another store of the region may answer: give {' or '.join(f'--store {other}' for other in others)}."
        message = error.message if named else f"{name}: {error.message}"
        raise type(error)(message, hint=" ".join(filter(None, (error.hint, said)))) from error


def _first_answering(context: Context, region: RegionName, names: tuple[str, ...], trace: Trace) -> str:
    first: StoreGoneError | None = None
    for place, name in enumerate(names):
        began = context.clock.monotonic()
        try:
            _ask(context, region, name, trace)
        except StoreGoneError as error:
            first = first or error
            then = names[place + 1 : place + 2]
            if then:
                waited = context.clock.monotonic() - began
                trace.emit(
                    Warned(
                        f"{name} did not answer in {waited:.0f} s: {error.message}",
                        hint=f"Asking {then[0]} in its place; --store NAME reads from that store only.",
                    )
                )
        except StoreAuthError:
            with suggesting_others(context, region, name):
                raise
        else:
            return name
    raise StoreGoneError(
        f"none of the region's stores answers ({', '.join(names)}): {first.message if first else ''}",
        hint=first.hint if first else "",
    )


def _answers(context: Context, region: RegionName, name: str, trace: Trace) -> bool:
    try:
        _ask(context, region, name, trace)
    except StoreGoneError:
        return False
    except BackupdError:
        return True  # it says no, which takes no time
    return True


def _ask(context: Context, region: RegionName, name: str, trace: Trace) -> None:
    """Look for the repository on a store. Raises StoreGoneError; a store that refuses us did answer: StoreAuthError."""
    phases = Phases(context.clock, trace, name)
    with phases.phase(ASKING, quiet=True), closing(open_store(context, region, name, QUICKLY)) as opened:
        opened.stat(REPOSITORY)
