"""Jobs without processes: a supervisor's world whose clock and children tests move by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from fix_clock import TickingClock

from backupd.model.ids import RegionName
from backupd.model.timetables import parse_timetable
from backupd.operations.service.jobs import Bounds, Event, Job, JobDone, JobKey, JobKind, JobLimits, JobStarted
from backupd.operations.service.supervisor import Plan, Supervisor, SupervisorIO

LIMITS = JobLimits(deadline=timedelta(hours=2), stall=timedelta(minutes=10), grace=timedelta(seconds=30))


class FakeProcess:
    """Runs until a test, or a signal it listens to, ends it."""

    def __init__(self, arguments: tuple[str, ...], pid: int) -> None:
        self.arguments = arguments
        self.pid = pid
        self.events: list[dict[str, Any]] = []
        self.ended: int | None = None
        self.said: Any = None
        self.seconds = 0.0
        self.asked = self.killed = self.closed = self.killed_remains = False
        self.deaf = self.deathless = self.leaves = False

    def read_progress(self) -> list[dict[str, Any]]:
        events, self.events = self.events, []
        return events

    def status(self) -> int | None:
        return self.ended

    def answer(self) -> Any:
        return self.said

    def computed(self) -> float:
        return self.seconds

    def ask_to_end(self) -> None:
        self.asked = True
        if not self.deaf:
            self.end(130)

    def kill(self) -> None:
        self.killed = True
        if not self.deathless:
            self.end(-9)

    def remains(self) -> bool:
        return self.leaves and not self.killed_remains

    def kill_remains(self) -> None:
        self.killed_remains = True

    def close(self) -> None:
        self.closed = True

    def end(self, status: int, said: Any = None) -> None:
        self.ended = status
        self.said = said


class WallClock(TickingClock):
    """Can be set, as clocks on walls can."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = timedelta()

    def now(self) -> datetime:
        return super().now() + self.moved


class FakeDaemon:
    """A supervisor, and all that happens to it."""

    def __init__(self, *regions: str, spread: timedelta = timedelta(0), bounds: Bounds | None = None, **times: str):
        self.clock = WallClock()
        self.heard: list[Event] = []
        self.processes: list[FakeProcess] = []
        self.remembered: dict[JobKey, datetime] = {}
        self.broken: OSError | None = None
        self.regions = regions or ("be",)
        self.plan = self.planned(spread=spread, bounds=bounds, **times)
        self.supervisor: Supervisor | None = None

    def planned(self, spread: timedelta = timedelta(0), bounds: Bounds | None = None, **times: str) -> Plan:
        jobs = [
            Job(key(kind, region), parse_timetable(times.get(kind, "never")), (kind, region), LIMITS)
            for region in self.regions
            for kind in JobKind
            if kind in times or kind is JobKind.OBSERVE
        ]
        labels = {RegionName(region): ("app",) for region in self.regions}
        minute = timedelta(minutes=1)
        return Plan(tuple(jobs), labels, bounds or Bounds(2, 1), spread, minute, minute, "node-1")

    def begin(self) -> None:
        """The daemon starts now."""
        world = SupervisorIO(self.clock, self._start, self.remembered.get, self)
        self.supervisor = Supervisor(self.plan, world)

    def on_event(self, event: Event) -> None:
        self.heard.append(event)

    def step(self, **span: float) -> None:
        """Let so much time pass, then turn twice: what ended makes room."""
        assert self.supervisor is not None
        self.clock.elapsed += timedelta(**span).total_seconds()
        self.supervisor.step()
        self.supervisor.step()

    def running(self) -> list[str]:
        return [" ".join(one.arguments) for one in self.processes if one.ended is None]

    def process(self, kind: str, region: str = "be") -> FakeProcess:
        """The newest of this job."""
        return [one for one in self.processes if one.arguments[:2] == (kind, region)][-1]

    def started(self, kind: str, region: str = "be") -> list[JobStarted]:
        return [one for one in self.heard if isinstance(one, JobStarted) and one.key == key(kind, region)]

    def done(self, kind: str, region: str = "be") -> list[JobDone]:
        return [one for one in self.heard if isinstance(one, JobDone) and one.key == key(kind, region)]

    def look(self, region: str = "be", said: Any = None, status: int = 0) -> None:
        """The region's look ends."""
        self.process("observe", region).end(status, said)
        self.step()

    def _start(self, arguments: tuple[str, ...]) -> FakeProcess:
        if self.broken is not None:
            raise self.broken
        self.processes.append(FakeProcess(arguments, 1000 + len(self.processes)))
        return self.processes[-1]


def key(kind: str, region: str = "be") -> JobKey:
    return JobKey(JobKind(kind), RegionName(region))


def published(at: str) -> dict[str, Any]:
    """What a look says when the database's newest snapshot is of `at`."""
    ages = {"label": "app", "published": at, "verified": None, "restored": None}
    store = {"store": "disk", "databases": [ages], "kept": None, "expired": None}
    return {"regions": [{"region": "be", "at": at, "stores": [store], "drilled": None}], "alarms": []}


def failed(kind: str, *, retryable: bool) -> dict[str, Any]:
    """What a job says that failed as a whole."""
    error = {"kind": kind, "exit_code": 6, "message": "it did not work", "hint": "Mend it.", "retryable": retryable}
    return {"error": error}
