"""The listener behind metrics, messages, the status page and the heartbeat.

Events are put into a queue and processed by a thread of its own: nothing here can block a job or make one fail. What
cannot be delivered somewhere is reported in the log, in the metrics and on the page.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from backupd.clock import Clock
from backupd.model.status import Alarm, RegionFacts
from backupd.operations.monitoring.delivery import AlarmMessenger, Heartbeat, MonitorLog, Settings, TroubleLog
from backupd.operations.monitoring.messages import SendAttempts
from backupd.operations.monitoring.metrics import Metrics
from backupd.operations.monitoring.outputs import MetricsServer, StatusFiles, log_alarm_changes
from backupd.operations.monitoring.state import MonitorState, after_run
from backupd.operations.service.jobs import WELL, Event, JobDone, JobKey, JobKind, Reloaded
from backupd.planning.alarms import Watch, judge

_IDLE: Final = 60.0
"""Seconds without an event after which time alone may have changed something."""
_BETWEEN_QUESTIONS: Final = timedelta(seconds=10)
_CLOSE_WITHIN: Final = 5.0
"""Seconds that `close` waits for a message that is being sent."""


class LoopWatch:
    """The daemon's loop as monitoring knows it: when it last came round, and when jobs run next."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked = clock.now()
        self.last: datetime | None = None
        """When the loop last came round with no job hanging."""
        self.next_runs: Mapping[JobKey, datetime] = {}

    def alive(self, next_times: Callable[[], Mapping[JobKey, datetime | None]]) -> None:
        """Take note that the loop came round; `next_times` is called every ten seconds at most."""
        before, self.last = self.last, self._clock.now()
        if before is None or not timedelta() <= self.last - self._asked < _BETWEEN_QUESTIONS:
            self._asked = self.last
            self.next_runs = {key: at for key, at in next_times().items() if at is not None}


class Monitor:
    """The state of all monitored regions, kept up to date from events, and everything that is made of it.

    `process` does the work; `start` has a thread call it for each event and once a minute.
    """

    def __init__(self, settings: Callable[[], Settings], state: MonitorState, clock: Clock, log: MonitorLog) -> None:
        """`settings` is called again after each reload; it raises nothing."""
        self._read_settings = settings
        self._settings = settings()
        self._clock = clock
        self._log = log
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._troubles = TroubleLog(log)
        attempts = SendAttempts()
        self._messenger = AlarmMessenger(self._settings.memory, attempts, self._troubles)
        self._heartbeat = Heartbeat(attempts, self._troubles)
        self.state = state
        self.loop = LoopWatch(clock)
        self.metrics = Metrics(lambda: self.state, clock, lambda: self.loop.last)
        self._server = MetricsServer(self.metrics, self._troubles)
        self._files = StatusFiles(self.metrics, self._troubles)

    def on_event(self, event: Event) -> None:
        self._queue.put(event)

    def start(self) -> None:
        self._apply_settings()
        self._thread = threading.Thread(target=self._run, daemon=True, name="monitor")
        self._thread.start()

    def close(self) -> None:
        """Process the events that are waiting, as far as that takes a few seconds, and stop."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(_CLOSE_WITHIN)
        self._server.close()

    def process(self, events: Sequence[Event] = ()) -> None:
        """Take the events into the state, judge it, and report it everywhere."""
        for event in events:
            if isinstance(event, JobDone):
                self._take_run(event)
            elif isinstance(event, Reloaded) and not event.faults:
                self._settings = self._read_settings()
                self._apply_settings()
        settings, now = self._settings, self._clock.now()
        alarms = judge_regions(self.state.regions_with_jobs(settings.regions), settings.regions, now)
        log_alarm_changes(self._log, self.state.alarms, alarms)
        self.state = replace(self.state, alarms=alarms, next_runs=self.loop.next_runs)
        unseen = settings.regions.keys() - self.state.regions.keys()
        counts = self._messenger.send_due(settings, alarms, now, self.state.delivery, unseen)
        self.state = replace(self.state, delivery=counts)
        counts = self._heartbeat.send_if_good(settings, alarms, now, counts)
        self.state = replace(self.state, delivery=counts)
        self._files.write(settings, self.state.regions_with_jobs(settings.regions), alarms, now)

    def _run(self) -> None:
        ended = False
        while not ended:
            events: list[Event] = []
            with contextlib.suppress(queue.Empty):
                found = self._queue.get(timeout=_IDLE)
                while found is not None:
                    events.append(found)
                    found = self._queue.get_nowait()
                ended = True
            try:
                self.process(events)
            except Exception as error:  # noqa: BLE001 - monitoring goes on, whatever was wrong with this round
                self._troubles.set("telling", f"failed with {type(error).__name__}")

    def _take_run(self, done: JobDone) -> None:
        self.state = after_run(self.state, done)
        if done.key.kind is JobKind.OBSERVE and done.outcome in WELL:
            self._heartbeat.observed(done.key.region, done.ended)

    def _apply_settings(self) -> None:
        self.state = self.state.without(frozenset(self.state.regions) - frozenset(self._settings.regions))
        for fault in self._settings.faults:
            self._log.write("warning", event="telling", fault=fault)
        self._server.listen(self._settings.listen)


def judge_regions(
    regions: Iterable[RegionFacts], observed_within: Mapping[str, timedelta], now: datetime
) -> tuple[Alarm, ...]:
    """Return every alarm of these regions; `observed_within` says how old the facts of each may be."""
    return tuple(alarm for region in regions for alarm in judge(region, Watch(now, observed_within[region.region])))
