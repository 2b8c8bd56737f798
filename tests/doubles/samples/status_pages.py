"""Pages of regions that stand badly."""

from __future__ import annotations

from datetime import timedelta

from doubles.samples.region_facts import DAY, HOUR, NOW, database, job, region, store

from backupd.model.status import DrillFacts, DueDay, RegionFacts, ServerChange, SpaceFacts, StoreFacts, StoreFault
from backupd.pages.status import StatusPage, render_status
from backupd.planning.alarms import Watch, judge


def bad(name: str = "ch", said: str = "the store refuses this key") -> RegionFacts:
    """Wherever `name` can stand, it does; `said` is what errors say."""
    gone = StoreFault("StoreGone", said, "Wait.", retryable=False)
    holes = tuple(NOW - 30 * HOUR - day * DAY for day in reversed(range(20)) if day not in (5, 6, 7))
    never = database(name, published=None, published_snapshot=None, verified=None, restored=None, recent=())
    return region(
        name,
        stores=(
            store(
                name,
                databases=(database(published=NOW - 30 * HOUR, recent=holes), never),
                server_changes=(ServerChange.FEWER,),
                server_snapshots=(name,),
                space=SpaceFacts(5 * 10**9, 10**12),
            ),
            StoreFacts(store="cellar", error=gone),
        ),
        next_deadline=NOW + 3 * DAY,
        endangered=NOW - 4 * DAY,
        deadlines=tuple(DueDay(NOW + day * 9 * DAY, day) for day in range(1, 12)),
        late=({"tenant": "5eed" * 8, "overdue": "not purged"},),
        drills=tuple(DrillFacts(NOW - day * 4 * DAY, ("pass", "fail", "error")[day % 3]) for day in reversed(range(6))),
        jobs=(
            job(outcome="refused", well=False, final=True, failure="StoreAuth", message=said, hint="Check the key."),
            job("expire", seconds=33.2),
            job("verify", outcome="found"),
        ),
    )


def page_of(*regions: RegionFacts, troubles: tuple[str, ...] = ()) -> str:
    alarms = [alarm for one in regions for alarm in judge(one, Watch(NOW, HOUR))]
    return render_status(StatusPage(NOW, "node-1", regions, alarms, troubles, timedelta(hours=1)))
