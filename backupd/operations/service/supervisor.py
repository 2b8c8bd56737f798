"""The supervisor: starts jobs that are due within bounds, follows each run to its end, and stops in time.

It works only when `step` is called, never blocks, and takes clock and processes as arguments. This module is the only
user of the `schedule` library, which keeps jobs in order of time and calls those that are due. The times come from our
own timetables and clock, because the library knows neither daylight saving nor missed runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import schedule

from backupd.clock import Clock
from backupd.model.answers import JobAnswer, StatusAnswer
from backupd.model.ids import RegionName
from backupd.operations.service.agenda import Agenda, last_done, retry_terms
from backupd.operations.service.jobs import (
    PRECEDENCE,
    Bounds,
    Failure,
    Job,
    JobDone,
    JobKey,
    JobKind,
    JobListener,
    JobOutcome,
    JobStarted,
    Stopping,
)
from backupd.operations.service.run import Process, Run, RunStart, cause, failures_in, outcome, read_answer
from backupd.planning.schedule import Awake, Due

_SET: Final = timedelta(seconds=30)
"""The difference between two clocks from one step to the next above which a clock was set or the machine slept."""
_RESTART: Final = "Restart the daemon: its jobs are of another version."
_TO_END: Final = 0.75
"""The share of the time for stopping that jobs have to end by themselves; the rest is for killing them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs and limits of a configuration. Every region has an `observe` job, at least with no timetable."""

    jobs: tuple[Job, ...]
    labels: Mapping[RegionName, tuple[str, ...]]
    """The labels of the databases, by region."""
    bounds: Bounds
    spread: timedelta
    retry_after: timedelta
    stop_within: timedelta
    machine: str


@dataclass(frozen=True, slots=True)
class SupervisorIO:
    """The surroundings of the supervisor: clock, processes, history, listener."""

    clock: Clock
    start: Callable[[tuple[str, ...]], Process]
    """Start backupd with these arguments; raises OSError."""
    last_done: Callable[[JobKey], datetime | None]
    """Return when a job was last done on this machine; None where its history has nothing."""
    listener: JobListener


class Supervisor:
    """The jobs of a plan, when they are due, and their runs. For one thread only."""

    def __init__(self, plan: Plan, io: SupervisorIO) -> None:
        self._io = io
        self._plan = plan
        self._since = io.clock.now()
        self._ticks = io.clock.monotonic()
        self._now = self._since
        self._agendas: dict[JobKey, Agenda] = {}
        self._runs: dict[JobKey, Run] = {}
        self._waiting: set[JobKey] = set()
        self._observed: dict[RegionName, datetime] = {}
        self._dispatcher = Dispatcher(io.clock, self._waiting.add)
        self.stopping = False
        self.ended: list[JobDone] = []
        """The last run of each job that has ended, oldest first."""
        self.apply_plan(plan)

    def apply_plan(self, plan: Plan) -> None:
        """Replace the plan; running jobs continue, and the standing of jobs in both plans is kept."""
        self._plan = plan
        kept = {job.key: self._agendas.get(job.key) for job in plan.jobs}
        for key in self._agendas.keys() - kept.keys():
            self._dispatcher.drop(key)
            self._waiting.discard(key)
        self._agendas = {}
        for job in plan.jobs:
            agenda = kept[job.key] or Agenda(job, self._io.last_done(job.key))
            agenda.job = job
            agenda.clock_was_set(self._io.clock.now())
            self._agendas[job.key] = agenda
            self._schedule(job.key)

    @property
    def keys(self) -> tuple[JobKey, ...]:
        """All jobs of the plan in order of precedence."""
        return tuple(sorted(self._agendas, key=lambda key: (PRECEDENCE[key.kind], key.region)))

    @property
    def runs(self) -> Mapping[JobKey, Run]:
        """The runs that have not ended yet, by job."""
        return self._runs

    @property
    def busy(self) -> bool:
        """True while a job runs or waits to be started."""
        return bool(self._runs or self._waiting)

    def step(self) -> None:
        """Step every run, and start jobs that are due."""
        self._notice_set_clock()
        now = self._io.clock.monotonic()
        for key, run in list(self._runs.items()):
            if run.step(now):
                del self._runs[key]
                self._finish(run)
        if not self.stopping:
            self._dispatcher.run_due()
            self._start_waiting()

    def stop(self, reason: str) -> None:
        """Start no more jobs, and end running ones within the time that the plan allows."""
        if not self.stopping:
            self.stopping = True
            self._io.listener.on_event(Stopping(self._io.clock.now(), reason))
        now, grace = self._io.clock.monotonic(), self._plan.stop_within.total_seconds() * _TO_END
        for run in self._runs.values():
            run.end(JobOutcome.STOPPED, now, grace)

    def idle(self) -> bool:
        """Say whether no job runs and none is due."""
        at = self.next_at()
        return not self.busy and (at is None or at > self._io.clock.now())

    def next_at(self, key: JobKey | None = None) -> datetime | None:
        """Return when a job is due, or without one when the first of all is."""
        return self._dispatcher.next(key)

    def next_key(self) -> JobKey | None:
        """Return the job that is due first."""
        due = [(at, PRECEDENCE[key.kind], key) for key in self._agendas if (at := self._dispatcher.next(key))]
        return min(due)[2] if due else None

    def can_end_jobs(self) -> bool:
        """Say whether every job that had to be ended could be; the watchdog is fed only then."""
        now = self._io.clock.monotonic()
        return not any(run.resists_ending(now) for run in self._runs.values())

    def _notice_set_clock(self) -> None:
        now, ticks = self._io.clock.now(), self._io.clock.monotonic()
        moved = now - self._now - timedelta(seconds=ticks - self._ticks)
        self._now, self._ticks = now, ticks
        if abs(moved) > _SET:
            self._since = now
            self._observed = {region: min(at, now) for region, at in self._observed.items()}
            for key, agenda in self._agendas.items():
                agenda.clock_was_set(now)
                self._schedule(key)

    def _awake(self, region: RegionName) -> Awake:
        return Awake(self._since, f"{self._plan.machine}/{region}", self._plan.spread)

    def _schedule(self, key: JobKey) -> None:
        """Have the dispatcher call a job when it is due next, unless it runs or waits already."""
        if key in self._agendas and key not in self._runs and key not in self._waiting:
            due = self._due(key)
            self._dispatcher.schedule(key, due.at if due else None)

    def _due(self, key: JobKey) -> Due | None:
        return self._agendas[key].due(self._io.clock.now(), self._awake(key.region))

    def _start_waiting(self) -> None:
        """Start waiting jobs while there is room: the longest due first, so that none starves; then by precedence."""
        now = self._io.clock.now()
        waiting = [(self._due_now(key, now), key) for key in self._waiting]
        for due, key in sorted(
            waiting, key=lambda one: (one[0].at if one[0] else now, PRECEDENCE[one[1].kind], one[1])
        ):
            if due is None:
                self._waiting.discard(key)
                self._schedule(key)
            elif self._is_observed(key, due) and self._has_room(key):
                self._waiting.discard(key)
                self._start(key, due)

    def _due_now(self, key: JobKey, now: datetime) -> Due | None:
        """Return the run that is due now; None when another machine did the work meanwhile."""
        due = self._due(key)
        if due is not None and due.at <= now:
            return due
        # Another job may need an observation that its own timetable does not ask for.
        return Due(now, now, missed=False) if key.kind is JobKind.OBSERVE else None

    def _is_observed(self, key: JobKey, due: Due) -> bool:
        """Say whether the region was observed recently enough for this job; otherwise have it observed."""
        wanted = self._agendas[key].must_be_observed_since(due, self._awake(key.region))
        observe = JobKey(JobKind.OBSERVE, key.region)
        if key == observe or wanted is None or observe not in self._agendas:
            return True
        if key.region in self._observed and self._observed[key.region] >= wanted:
            return True
        if observe not in self._runs:
            self._waiting.add(observe)
        return False

    def _has_room(self, key: JobKey) -> bool:
        if not self._agendas[key].job.heavy:
            return True
        heavy = [one.region for one, run in self._runs.items() if run.start.job.heavy]
        return len(heavy) < self._plan.bounds.machine and heavy.count(key.region) < self._plan.bounds.region

    def _start(self, key: JobKey, due: Due) -> None:
        agenda, at = self._agendas[key], self._io.clock.now()
        start = RunStart(agenda.job, at, agenda.attempt(due), due.slot)
        agenda.began(at)
        self._dispatcher.drop(key)
        self._io.listener.on_event(JobStarted(key, at, start.attempt, due.missed))
        try:
            process = self._io.start(agenda.job.arguments_of_run(due))
        except OSError as error:
            failure = Failure("NotStarted", f"the job could not be started ({error.strerror})", "", retryable=False)
            self._conclude(start, _Ending(JobOutcome.CRASHED, None, (failure,)))
            return
        self._runs[key] = Run(start, process, self._io.clock.monotonic())

    def _finish(self, run: Run) -> None:
        status = run.process.status() or 0
        answer, unread = read_answer(run.start.job.key.kind, run.process.answer())
        run.process.close()
        failures, warnings = failures_in(answer), tuple(run.warnings)
        if unread:
            message = f"the job's answer is not the one that this daemon knows: {unread}"
            failures = () if status == 0 else (Failure("UnknownAnswer", message, _RESTART, retryable=False),)
            warnings = (*warnings, (message, _RESTART)) if status == 0 else warnings
        ended = outcome(status, answer, failures) if run.ended_for is None or status == 0 else run.ended_for
        seconds = self._io.clock.monotonic() - run.started
        shown = status if status >= 0 else None
        self._conclude(run.start, _Ending(ended, shown, failures, warnings, answer, seconds))

    def _conclude(self, start: RunStart, ending: _Ending) -> None:
        key, now = start.job.key, self._io.clock.now()
        retry_at = None
        if key.kind is JobKind.OBSERVE:
            self._take_observation(key.region, start.at, ending.answer)
        if key in self._agendas:
            terms = retry_terms(cause(ending.outcome, ending.failures), now, self._plan.retry_after, f"{key}")
            retry_at = self._agendas[key].ended(ending.outcome, start.slot, terms)
            self._schedule(key)
        done = JobDone(
            key=key,
            started=start.at,
            ended=now,
            seconds=ending.seconds,
            attempt=start.attempt,
            outcome=ending.outcome,
            exit_status=ending.status,
            failures=ending.failures,
            warnings=ending.warnings,
            answer=ending.answer,
            retry_at=retry_at,
            next_at=self.next_at(key),
        )
        self.ended = [one for one in self.ended if one.key != key] + [done]
        self._io.listener.on_event(done)

    def _take_observation(self, region: RegionName, at: datetime, answer: JobAnswer | None) -> None:
        self._observed[region] = at
        labels = self._plan.labels.get(region, ())
        shown = last_done(answer, labels) if isinstance(answer, StatusAnswer) else {}
        for kind, done in shown.items():
            key = JobKey(kind, region)
            if key in self._agendas:
                self._agendas[key].was_done(min(done, self._io.clock.now()))
        for key in self._of(region):
            self._schedule(key)

    def _of(self, region: RegionName) -> Iterator[JobKey]:
        return (key for key in list(self._agendas) if key.region == region)


@dataclass(frozen=True, slots=True)
class _Ending:
    outcome: JobOutcome
    status: int | None
    failures: tuple[Failure, ...]
    warnings: tuple[tuple[str, str], ...] = ()
    answer: JobAnswer | None = None
    seconds: float = 0.0


_NOT_YET: Final = datetime.max.replace(tzinfo=UTC)


class Dispatcher:
    """Jobs with their next times, called when these come. For one thread only."""

    def __init__(self, clock: Clock, call: Callable[[JobKey], None]) -> None:
        self._clock = clock
        self._call = call
        self._scheduler = schedule.Scheduler()

    def schedule(self, key: JobKey, at: datetime | None) -> None:
        """Call the job once at `at`, instead of at any time set before; None means never."""
        self.drop(key)
        if at is not None:
            job = _Job(1, self._scheduler, self._clock)
            job.tag(key)
            job.seconds.do(self._call, key)
            job.next_run = at

    def drop(self, key: JobKey) -> None:
        self._scheduler.clear(key)

    def run_due(self) -> None:
        """Call every job that is due, the longest due first."""
        self._scheduler.run_pending()

    def next(self, key: JobKey | None = None) -> datetime | None:
        """Return when a job is called, or without one when the first of all is."""
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
