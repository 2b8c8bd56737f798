"""The supervisor: starts what is due within bounds, sees each run to its end, and stops in time.

It only turns when `step` is called, never blocks, and takes clock and processes from outside.

The one user of the `schedule` library: it keeps jobs by tag and in order of time, and calls those that are due.

When that is, our own timetable and clock say: the library knows neither daylight saving nor what was missed.
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
from backupd.operations.service.agenda import Agenda, again, last_done
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
from backupd.operations.service.run import Begun, Process, Run, cause, failures_in, outcome, read_answer
from backupd.planning.schedule import Awake, Due

_SET: Final = timedelta(seconds=30)
"""Clocks that drift apart by more between two turns were set, or the machine slept."""
_RESTART: Final = "Restart the daemon: its jobs are of another version."
_TO_END: Final = 0.75
"""Of the time for stopping that jobs have to end by themselves; the rest is for killing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a configuration asks for. Every region has an `observe` job, if with a timetable of never."""

    jobs: tuple[Job, ...]
    labels: Mapping[RegionName, tuple[str, ...]]
    """Of the databases, by region."""
    bounds: Bounds
    spread: timedelta
    retry_after: timedelta
    stop_within: timedelta
    machine: str


@dataclass(frozen=True, slots=True)
class SupervisorIO:
    """What the supervisor acts on."""

    clock: Clock
    start: Callable[[tuple[str, ...]], Process]
    """Start backupd with these arguments; raises OSError."""
    remembered: Callable[[JobKey], datetime | None]
    """When a job was last done here, as far as anybody remembers."""
    told: JobListener


class Supervisor:
    """For one thread."""

    def __init__(self, plan: Plan, world: SupervisorIO) -> None:
        self._world = world
        self._plan = plan
        self._since = world.clock.now()
        self._ticks = world.clock.monotonic()
        self._now = self._since
        self._agendas: dict[JobKey, Agenda] = {}
        self._runs: dict[JobKey, Run] = {}
        self._waiting: set[JobKey] = set()
        self._looked: dict[RegionName, datetime] = {}
        self._dispatcher = Dispatcher(world.clock, self._waiting.add)
        self.stopping = False
        self.ended: list[JobDone] = []
        """The last end of each job, oldest first."""
        self.follow(plan)

    def follow(self, plan: Plan) -> None:
        """Take another plan; what runs goes on, and what is known of jobs that stay is kept."""
        self._plan = plan
        kept = {job.key: self._agendas.get(job.key) for job in plan.jobs}
        for key in self._agendas.keys() - kept.keys():
            self._dispatcher.drop(key)
            self._waiting.discard(key)
        self._agendas = {}
        for job in plan.jobs:
            agenda = kept[job.key] or Agenda(job, self._world.remembered(job.key))
            agenda.job = job
            agenda.clock_was_set(self._world.clock.now())
            self._agendas[job.key] = agenda
            self._schedule(job.key)

    @property
    def keys(self) -> tuple[JobKey, ...]:
        """Every job of the plan, in order of precedence."""
        return tuple(sorted(self._agendas, key=lambda key: (PRECEDENCE[key.kind], key.region)))

    @property
    def runs(self) -> Mapping[JobKey, Run]:
        """What runs now."""
        return self._runs

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits for its turn."""
        return bool(self._runs or self._waiting)

    def step(self) -> None:
        """One turn: see to what runs, start what is due."""
        self._mind_the_clock()
        now = self._world.clock.monotonic()
        for key, run in list(self._runs.items()):
            if run.look(now):
                del self._runs[key]
                self._finish(run)
        if not self.stopping:
            self._dispatcher.turn()
            self._start_waiting()

    def stop(self, reason: str) -> None:
        """Start nothing any more, and end what runs within the plan's time."""
        if not self.stopping:
            self.stopping = True
            self._world.told.told(Stopping(self._world.clock.now(), reason))
        now, grace = self._world.clock.monotonic(), self._plan.stop_within.total_seconds() * _TO_END
        for run in self._runs.values():
            run.end(JobOutcome.STOPPED, now, grace)

    def idle(self) -> bool:
        """Whether nothing runs and nothing is due."""
        at = self.next_at()
        return not self.busy and (at is None or at > self._world.clock.now())

    def next_at(self, key: JobKey | None = None) -> datetime | None:
        """When the job, or the first of all, is due."""
        return self._dispatcher.next(key)

    def next_key(self) -> JobKey | None:
        """Which job is due first."""
        due = [(at, PRECEDENCE[key.kind], key) for key in self._agendas if (at := self._dispatcher.next(key))]
        return min(due)[2] if due else None

    def sound(self) -> bool:
        """Whether every job that had to be ended could be: then the watchdog may be fed."""
        now = self._world.clock.monotonic()
        return not any(run.defies(now) for run in self._runs.values())

    def _mind_the_clock(self) -> None:
        now, ticks = self._world.clock.now(), self._world.clock.monotonic()
        moved = now - self._now - timedelta(seconds=ticks - self._ticks)
        self._now, self._ticks = now, ticks
        if abs(moved) > _SET:
            self._since = now
            self._looked = {region: min(at, now) for region, at in self._looked.items()}
            for key, agenda in self._agendas.items():
                agenda.clock_was_set(now)
                self._schedule(key)

    def _awake(self, region: RegionName) -> Awake:
        return Awake(self._since, f"{self._plan.machine}/{region}", self._plan.spread)

    def _schedule(self, key: JobKey) -> None:
        """Have the dispatcher call the job when it is due next; not while it runs or waits."""
        if key in self._agendas and key not in self._runs and key not in self._waiting:
            due = self._due(key)
            self._dispatcher.put(key, due.at if due else None)

    def _due(self, key: JobKey) -> Due | None:
        return self._agendas[key].due(self._world.clock.now(), self._awake(key.region))

    def _start_waiting(self) -> None:
        """Who is due longest comes first, so that nobody waits for ever; of those due together, by precedence."""
        now = self._world.clock.now()
        waiting = [(self._due_now(key, now), key) for key in self._waiting]
        for due, key in sorted(
            waiting, key=lambda one: (one[0].at if one[0] else now, PRECEDENCE[one[1].kind], one[1])
        ):
            if due is None:
                self._waiting.discard(key)
                self._schedule(key)
            elif self._is_looked_at(key, due) and self._has_room(key):
                self._waiting.discard(key)
                self._start(key, due)

    def _due_now(self, key: JobKey, now: datetime) -> Due | None:
        """None when somebody else did the work meanwhile."""
        due = self._due(key)
        if due is not None and due.at <= now:
            return due
        # Another job may want a look, whatever the timetable says.
        return Due(now, now, missed=False) if key.kind is JobKind.OBSERVE else None

    def _is_looked_at(self, key: JobKey, due: Due) -> bool:
        """Whether the region was looked at late enough for this job; else have that done."""
        wanted = self._agendas[key].wants_look(due, self._awake(key.region))
        observe = JobKey(JobKind.OBSERVE, key.region)
        if key == observe or wanted is None or observe not in self._agendas:
            return True
        if key.region in self._looked and self._looked[key.region] >= wanted:
            return True
        if observe not in self._runs:
            self._waiting.add(observe)
        return False

    def _has_room(self, key: JobKey) -> bool:
        if not self._agendas[key].job.heavy:
            return True
        heavy = [one.region for one, run in self._runs.items() if run.begun.job.heavy]
        return len(heavy) < self._plan.bounds.machine and heavy.count(key.region) < self._plan.bounds.region

    def _start(self, key: JobKey, due: Due) -> None:
        agenda, at = self._agendas[key], self._world.clock.now()
        begun = Begun(agenda.job, at, agenda.attempt(due), due.slot)
        agenda.began(at)
        self._dispatcher.drop(key)
        self._world.told.told(JobStarted(key, at, begun.attempt, due.missed))
        try:
            process = self._world.start(agenda.job.arguments)
        except OSError as error:
            failure = Failure("NotStarted", f"the job could not be started ({error.strerror})", "", retryable=False)
            self._conclude(begun, _Ending(JobOutcome.CRASHED, None, (failure,)))
            return
        self._runs[key] = Run(begun, process, self._world.clock.monotonic())

    def _finish(self, run: Run) -> None:
        status = run.process.status() or 0
        answer, unread = read_answer(run.begun.job.key.kind, run.process.answer())
        run.process.close()
        failures, warnings = failures_in(answer), tuple(run.warnings)
        if unread:
            message = f"the job's answer is not the one that this daemon knows: {unread}"
            failures = () if status == 0 else (Failure("UnknownAnswer", message, _RESTART, retryable=False),)
            warnings = (*warnings, (message, _RESTART)) if status == 0 else warnings
        ended = outcome(status, answer, failures) if run.ended_for is None or status == 0 else run.ended_for
        seconds = self._world.clock.monotonic() - run.started
        shown = status if status >= 0 else None
        self._conclude(run.begun, _Ending(ended, shown, failures, warnings, answer, seconds))

    def _conclude(self, begun: Begun, ending: _Ending) -> None:
        key, now = begun.job.key, self._world.clock.now()
        retry_at = None
        if key.kind is JobKind.OBSERVE:
            self._take_look(key.region, begun.at, ending.answer)
        if key in self._agendas:
            stood = again(cause(ending.outcome, ending.failures), now, self._plan.retry_after, f"{key}")
            retry_at = self._agendas[key].ended(ending.outcome, begun.slot, stood)
            self._schedule(key)
        done = JobDone(
            key=key,
            started=begun.at,
            ended=now,
            seconds=ending.seconds,
            attempt=begun.attempt,
            outcome=ending.outcome,
            exit_status=ending.status,
            failures=ending.failures,
            warnings=ending.warnings,
            answer=ending.answer,
            retry_at=retry_at,
            next_at=self.next_at(key),
        )
        self.ended = [one for one in self.ended if one.key != key] + [done]
        self._world.told.told(done)

    def _take_look(self, region: RegionName, at: datetime, answer: JobAnswer | None) -> None:
        self._looked[region] = at
        labels = self._plan.labels.get(region, ())
        shown = last_done(answer, labels) if isinstance(answer, StatusAnswer) else {}
        for kind, done in shown.items():
            key = JobKey(kind, region)
            if key in self._agendas:
                self._agendas[key].was_done(min(done, self._world.clock.now()))
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
