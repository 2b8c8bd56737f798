"""The one user of the `schedule` library: it keeps jobs by tag and in order of time, and calls those that are due.

When that is, our own timetable and clock say: the library knows neither daylight saving nor what was missed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import schedule

if TYPE_CHECKING:
    from backupd.clock import Clock
    from backupd.operations.service.jobs import JobKey

_NOT_YET: Final = datetime.max.replace(tzinfo=UTC)


class Dispatcher:
    """Jobs with their next times. For one thread."""

    def __init__(self, clock: Clock, call: Callable[[JobKey], None]) -> None:
        self._clock = clock
        self._call = call
        self._scheduler = schedule.Scheduler()

    def put(self, key: JobKey, at: datetime | None) -> None:
        """Call the job at `at`, and not before it was put again; None: not at all."""
        self.drop(key)
        if at is not None:
            job = _Job(1, self._scheduler, self._clock)
            job.tag(key)
            job.seconds.do(self._call, key)
            job.next_run = at

    def drop(self, key: JobKey) -> None:
        self._scheduler.clear(key)

    def turn(self) -> None:
        """Call every job that is due, the longest due first."""
        self._scheduler.run_pending()

    def next(self, key: JobKey | None = None) -> datetime | None:
        """When the job, or the first of all, is called."""
        at: datetime | None = self._scheduler.get_next_run(key)
        return None if at is None or at == _NOT_YET else at


class _Job(schedule.Job):
    def __init__(self, interval: int, scheduler: schedule.Scheduler, clock: Clock) -> None:
        super().__init__(interval, scheduler)
        self._clock = clock

    @property
    def should_run(self) -> bool:
        return self.next_run is not None and self._clock.now() >= self.next_run

    def _schedule_next_run(self) -> None:
        self.next_run = _NOT_YET
