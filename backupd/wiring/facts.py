"""What is told of regions is made of: their stores to look at, what was promised, and what this machine remembers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backupd.errors import ConfigError, StoreGoneError
from backupd.model.ids import RegionName
from backupd.operations.service.jobs import JobKey, Kind
from backupd.planning.schedule.slots import longest_gap
from backupd.wiring.places import QUICKLY
from backupd.wiring.scheduling import Scheduling

if TYPE_CHECKING:
    from backupd.model.status import Alarm, JobFacts, RegionFacts
    from backupd.operations.status import Place, Request

_RUNS = 60


@dataclass(frozen=True, slots=True)
class Facts(Scheduling):
    """And of what is told."""

    def facts(self, region: RegionName, *, probe: bool = False) -> RegionFacts:
        """How a region stands now, and what this machine remembers of its jobs; `probe` as `Request` says.

        Raises DamageError for a ledger that cannot be believed, ConfigError.
        """
        return replace(self._stores_facts(region, probe=probe), jobs=tuple(self.jobs(region)))

    def jobs(self, region: RegionName) -> Iterator[JobFacts]:
        """The last runs of the region's jobs, from this machine's history."""
        from backupd.operations.telling.jobs import of_runs, remembered

        history = self.history(region)
        for kind in Kind:
            facts = of_runs(history.runs(JobKey(kind, region), _RUNS))
            if facts is not None:
                yield remembered(facts)

    def _stores_facts(self, region: RegionName, *, probe: bool) -> RegionFacts:
        from backupd.operations.status import book_of, region_facts, unreached

        request = self._request(region, probe=probe)
        with self._looked_at(region) as places:
            try:
                book = self._book(region, {place.name: place.repository for place in places}, None)
                book.sync()
            except StoreGoneError as error:
                known, trusted = self.known_ledger(region), self.keepers()
                own = book_of(known, region, trusted, self.clock) if known and trusted else None
                return unreached(self.stores_of(region), request, error, own)
            return region_facts(book, places, request)

    @contextmanager
    def _looked_at(self, region: RegionName) -> Iterator[list[Place]]:
        from backupd.catalog.repository import Repository
        from backupd.operations.status import Place

        separate, handing = self.separate_keepers(region), self.handing(region)
        with ExitStack() as stack:
            places = []
            for name in self.stores_of(region):
                store = stack.enter_context(closing(self.open_store(region, name, QUICKLY)))
                places.append(
                    Place(
                        name=name,
                        repository=Repository(store, self.trusted(), self.keepers()),
                        store=store,
                        memory=self._state(region, name),
                        separate_keeper=name in separate,
                        handing=name in handing,
                    )
                )
            yield places

    def _request(self, region: RegionName, *, probe: bool) -> Request:
        from backupd.model.status import Promises
        from backupd.operations.status import Request
        from backupd.planning.deletion.window import vanishing

        objectives, lifecycle = self.objectives(region), self.config.regions[region].lifecycle
        return Request(
            region=region,
            labels=self.databases(region),
            promises=Promises(
                rpo=objectives.rpo,
                rto=objectives.rto,
                drill_every=objectives.drill_every,
                repair_slack=int(lifecycle.repair_slack.total_seconds()),
                expiry_gap=int(lifecycle.expiry_gap.total_seconds()),
            ),
            store_snapshots=lifecycle.store_snapshots,
            vanishing=vanishing(self.budget(region)),
            now=self.clock.now(),
            random=os.urandom,
            probe=probe,
        )

    def alarms(self, facts: RegionFacts) -> tuple[Alarm, ...]:
        """What is wrong with a region that was looked at."""
        from backupd.planning.alarms.judging import Watch, judge

        return judge(facts, Watch(self.clock.now(), self.observed_within(RegionName(facts.region))))

    def observed_within(self, region: RegionName) -> timedelta:
        """How old facts may be: twice the longest time between two looks, and an hour."""
        gap = longest_gap(self.timetable_of(region, Kind.OBSERVE))
        return 2 * (gap or timedelta(days=1)) + timedelta(hours=1)

    def write_page(self, path: Path, found: Sequence[RegionFacts]) -> None:
        """Put a page of these facts at `path`, at once.

        Raises ConfigError when it cannot be written.
        """
        from backupd.atomic_file import write_whole
        from backupd.pages.status import StatusPage, render_status

        alarms = tuple(alarm for one in found for alarm in self.alarms(one))
        page = render_status(StatusPage(self.clock.now(), self.config.node.name, found, alarms))
        try:
            write_whole(path.absolute(), page.encode(), 0o640)
        except OSError as error:
            raise ConfigError(f'"{path}" cannot be written ({error.strerror})') from None
