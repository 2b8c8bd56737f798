"""One keeper run over a region: purge what is due, finish what was begun, sweep up what came after, look around."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from backupd.catalog.sending.marks import LONGEST_RUN
from backupd.errors import BackupdError, RefusedError
from backupd.model.stored.ledger import Observed
from backupd.operations.keeper.guards import check_number
from backupd.operations.keeper.removing.purge import Purging
from backupd.operations.phases import Phases
from backupd.planning.lifecycle.lives import Incarnation, LifeKey

if TYPE_CHECKING:
    from datetime import datetime

    from backupd.operations.keeper.values import Keeper, Purged

_STRAGGLING: timedelta = 3 * LONGEST_RUN
"""After a purge began, a run that was under way may still put something of the tenant on a store."""


@dataclass(frozen=True, slots=True)
class PurgePlan:
    """What a run would work on; lives that are not finished are taken up again until they are."""

    due: tuple[LifeKey, ...]
    """To be begun now: there is no way back."""
    unfinished: tuple[LifeKey, ...]
    late: tuple[LifeKey, ...]
    """Begun or ended long ago, and something of them turned up since."""


@dataclass(frozen=True, slots=True)
class PurgeRun:
    """What a run did."""

    plan: PurgePlan
    done: tuple[Purged, ...]
    refused: Mapping[LifeKey, str]
    """Lives that changed since the plan: somebody came back, or a hold came in."""
    errors: Mapping[str, BackupdError]
    """By store: what is missing there is done the next time."""


def purge_due(keeper: Keeper, confirmed: int | None = None) -> PurgeRun:
    """Purge every life that is due on every store that can be reached, then write down what was looked at.

    Raises RefusedError when more lives are due than is usual and nobody confirmed that number; then nothing was done.
    """
    with Phases(keeper.clock, keeper.trace, keeper.region).phase("purging", unit="tenants"):
        done: list[Purged] = []
        refused: dict[LifeKey, str] = {}
        with Purging(keeper) as purging:
            plan = plan_purges(keeper, purging)
            check_number(len(plan.due), keeper.rules.most_tenants, confirmed, "tenants")
            for key in dict.fromkeys([*plan.due, *plan.unfinished, *plan.late]):
                try:
                    done += purging.purge(key)
                except RefusedError as error:
                    refused[key] = error.message
            errors = dict(purging.errors)
        _observe(keeper, errors)
    return PurgeRun(plan, tuple(done), refused, errors)


def plan_purges(keeper: Keeper, purging: Purging) -> PurgePlan:
    """What there is to do now."""
    lives, now = keeper.book.lives, keeper.clock.now()
    begun = [life for life in lives.lives.values() if life.purge is not None]
    unfinished = [life.key for life in begun if _unfinished(life, now)]
    late = [
        life.key
        for life in begun
        if life.key not in unfinished and life.purge and purging.find(life.key) - life.purge.segments
    ]
    return PurgePlan(tuple(life.key for life in lives.due(now)), tuple(unfinished), tuple(late))


def _unfinished(life: Incarnation, now: datetime) -> bool:
    purge = life.purge
    return purge is not None and (now - purge.began < _STRAGGLING or not purge.stores <= purge.absent.keys())


def _observe(keeper: Keeper, errors: Mapping[str, BackupdError]) -> None:
    """Say that the run came to its end on these stores, and which snapshots they show of themselves."""
    seen = [
        Observed(store=name, snapshots=[snapshot.name for snapshot in repository.store.snapshots()])
        for name, repository in keeper.stores.items()
        if name not in errors
    ]
    keeper.book.append(lambda _: list(seen))
