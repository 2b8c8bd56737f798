"""Metrics for Prometheus, in one table. This module is the only user of prometheus_client.

Names carry their units; labels are what the configuration names (regions, stores, databases) and words of this program,
never a tenant. METRICS is the list of them all, from which `backupd manual metrics` is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import backupd
from backupd.clock import Clock

if TYPE_CHECKING:
    from backupd.model.status import DatabaseFacts, JobFacts, RegionFacts, StoreFacts, UnreadFacts
    from backupd.operations.monitoring.state import MonitorState

Sample = tuple[tuple[str, ...], float]
"""The values of the labels, and the figure."""


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """The facts that every metric is read from."""

    state: MonitorState
    now: datetime
    loop: datetime | None
    """When the daemon's loop last came round with no job hanging."""


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """One metric: how it is called, what it means, and where its figures come from."""

    name: str
    """As Prometheus shows it: a counter's ends with `_total`, and every other metric is a gauge."""
    help: str
    labels: tuple[str, ...]
    samples: Callable[[MetricFacts], Iterable[Sample]]

    def family(self, facts: MetricFacts) -> Metric:
        """Return the metric with its current figures."""
        kind = CounterMetricFamily if self.name.endswith("_total") else GaugeMetricFamily
        family = kind(self.name.removesuffix("_total"), self.help, labels=self.labels)
        for values, value in self.samples(facts):
            family.add_metric(values, value)
        return family


class Metrics(Collector):
    """A collector that reads all metrics from the state of monitoring at each request."""

    def __init__(self, state: Callable[[], MonitorState], clock: Clock, loop: Callable[[], datetime | None]) -> None:
        """`loop` returns when the daemon's loop last came round with no job hanging."""
        self._state = state
        self._clock = clock
        self._loop = loop
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        facts = MetricFacts(self._state(), self._clock.now(), self._loop())
        for metric in METRICS:
            yield metric.family(facts)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class Endpoint:
    """A server that answers requests for metrics at an address until it is closed."""

    def __init__(self, metrics: Metrics, address: str) -> None:
        """Start the server; raises OSError when the address cannot be used."""
        host, _, port = address.rpartition(":")
        self.address = address
        self._server, self._thread = start_http_server(int(port), host.strip("[]"), metrics.registry)
        self.port = self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _figures(labels: tuple[str, ...], value: datetime | float | None) -> list[Sample]:
    """Return one sample, an instant as seconds since 1970; none where the value is not known."""
    if value is None:
        return []
    return [(labels, value.timestamp() if isinstance(value, datetime) else float(value))]


def _daemon(name: str, about: str, value: Callable[[MetricFacts], datetime | float | None]) -> MetricDefinition:
    return MetricDefinition(name, about, (), lambda facts: _figures((), value(facts)))


def _region(name: str, about: str, value: Callable[[RegionFacts], datetime | float | None]) -> MetricDefinition:
    def samples(facts: MetricFacts) -> Iterator[Sample]:
        for region in facts.state.regions.values():
            yield from _figures((region.region,), value(region))

    return MetricDefinition(name, about, ("region",), samples)


def _store(
    name: str, about: str, value: Callable[[RegionFacts, StoreFacts], datetime | float | None], *, always: bool = False
) -> MetricDefinition:
    """Define a metric of a store; `always` includes a store that was never reached, of which nothing else is known."""

    def samples(facts: MetricFacts) -> Iterator[Sample]:
        for region in facts.state.regions.values():
            for store in region.stores:
                if always or store.mode is not None:
                    yield from _figures((region.region, store.store), value(region, store))

    return MetricDefinition(name, about, ("region", "store"), samples)


def _snapshot(age: str, about: str, value: Callable[[DatabaseFacts], datetime | None]) -> MetricDefinition:
    def samples(facts: MetricFacts) -> Iterator[Sample]:
        for region in facts.state.regions.values():
            for store in region.stores:
                for database in store.databases:
                    yield from _figures((region.region, store.store, database.label), value(database))

    return MetricDefinition(
        f"backupd_snapshot_{age}_timestamp_seconds",
        f"When the newest snapshot {about} was exported from its database.",
        ("region", "store", "database"),
        samples,
    )


def _unread(name: str, about: str, value: Callable[[UnreadFacts], datetime | float | None]) -> MetricDefinition:
    def samples(facts: MetricFacts) -> Iterator[Sample]:
        for region in facts.state.regions.values():
            for store in region.stores:
                for database in store.databases:
                    if database.unread is not None:
                        yield from _figures((region.region, store.store, database.label), value(database.unread))

    return MetricDefinition(name, about, ("region", "store", "database"), samples)


def _job(name: str, about: str, value: Callable[[JobFacts], datetime | float | None]) -> MetricDefinition:
    def samples(facts: MetricFacts) -> Iterator[Sample]:
        for key, job in facts.state.jobs.items():
            yield from _figures((key.region, key.kind), value(job))

    return MetricDefinition(name, about, ("region", "kind"), samples)


def _objectives(facts: MetricFacts) -> Iterator[Sample]:
    for region in facts.state.regions.values():
        for name in region.promises.__struct_fields__:
            yield from _figures((region.region, name), getattr(region.promises, name))


def _slack(facts: MetricFacts) -> Iterator[Sample]:
    for region in facts.state.regions.values():
        if region.next_deadline is not None:
            yield from _figures((region.region,), (region.next_deadline - facts.now).total_seconds())


def _enforcement(facts: MetricFacts) -> Iterator[Sample]:
    for region in facts.state.regions.values():
        for store in region.stores:
            if store.mode:
                yield (region.region, store.store, store.mode), 1.0


def _behind(region: RegionFacts, store: StoreFacts) -> float | None:
    if region.ledger is None or store.ledger_entries is None:
        return None
    return float(max(0, region.ledger.seq - store.ledger_entries))


METRICS = (
    MetricDefinition(
        "backupd_build_info", "1, with the daemon's version.", ("version",), lambda _: [((backupd.__version__,), 1.0)]
    ),
    _daemon("backupd_start_timestamp_seconds", "When the daemon began.", lambda one: one.state.since),
    _daemon(
        "backupd_watchdog_timestamp_seconds",
        "When the daemon's loop last turned with no job hanging.",
        lambda one: one.loop,
    ),
    MetricDefinition(
        "backupd_messages_total",
        "Messages to people, one for each target.",
        ("result",),
        lambda one: [(("sent",), one.state.delivery.sent), (("failed",), one.state.delivery.failed)],
    ),
    _daemon(
        "backupd_message_targets_failing",
        "Targets that did not take the last message.",
        lambda one: len(one.state.delivery.failing),
    ),
    _daemon(
        "backupd_heartbeat_timestamp_seconds",
        "When the other side of a heartbeat answered last.",
        lambda one: one.state.delivery.heartbeat,
    ),
    MetricDefinition(
        "backupd_alarm",
        "1 for each thing that is wrong; `backupd manual alerts` says what each code means.",
        ("region", "code", "subject", "severity"),
        lambda one: [((alarm.region, alarm.code, alarm.subject, alarm.severity), 1.0) for alarm in one.state.alarms],
    ),
    _region("backupd_observed_timestamp_seconds", "When the region was looked at last.", lambda one: one.at),
    _region("backupd_proof_timestamp_seconds", "When the newest drill that passed began.", lambda one: one.proven),
    _region("backupd_drill_timestamp_seconds", "When the newest drill began.", lambda one: one.drilled),
    _region(
        "backupd_leaving_incarnations",
        "Incarnations of tenants with a date that are not gone everywhere.",
        lambda one: one.leaving,
    ),
    _region(
        "backupd_held_incarnations", "Incarnations of tenants with a date that a hold keeps.", lambda one: one.held
    ),
    _region("backupd_late_incarnations", "Incarnations of tenants past a date.", lambda one: len(one.late)),
    _region("backupd_deadline_timestamp_seconds", "The nearest deadline.", lambda one: one.next_deadline),
    _region(
        "backupd_deadline_endangered_timestamp_seconds",
        "From when on a deadline is in danger.",
        lambda one: one.endangered,
    ),
    MetricDefinition("backupd_deadline_slack_seconds", "What is left until the nearest deadline.", ("region",), _slack),
    _region(
        "backupd_ledger_entries",
        "Entries of the ledger, in its longest copy.",
        lambda one: one.ledger.seq if one.ledger else None,
    ),
    MetricDefinition(
        "backupd_objective_seconds",
        "What is promised: rpo, rto, drill_every, repair_slack, expiry_gap.",
        ("region", "objective"),
        _objectives,
    ),
    _store(
        "backupd_store_reachable",
        "1, or 0 when the last look at the store failed.",
        lambda _, one: one.error is None,
        always=True,
    ),
    _store("backupd_store_free_bytes", "Room left on the store.", lambda _, one: one.space.free if one.space else None),
    _store(
        "backupd_store_size_bytes", "Room on the store in all.", lambda _, one: one.space.total if one.space else None
    ),
    _store(
        "backupd_store_own_snapshots",
        "How many snapshots the store has of itself.",
        lambda _, one: len(one.server_snapshots),
    ),
    _store(
        "backupd_store_own_snapshot_oldest_timestamp_seconds",
        "When the oldest of the store's own snapshots was made, by its name.",
        lambda _, one: one.server_oldest,
    ),
    _store(
        "backupd_store_own_snapshot_newest_timestamp_seconds",
        "When the newest of the store's own snapshots was made, by its name.",
        lambda _, one: one.server_newest,
    ),
    _store(
        "backupd_store_own_snapshots_changed",
        "1 when the store's own snapshots are not as usual.",
        lambda _, one: bool(one.server_changes),
    ),
    _store(
        "backupd_store_capability_lost",
        "1 when the store can no longer do what it could.",
        lambda _, one: any(change.worse for change in one.changes),
    ),
    _store("backupd_keeper_timestamp_seconds", "When a keeper's run came to its end there.", lambda _, one: one.kept),
    _store("backupd_expiry_timestamp_seconds", "When an expiry came to its end there.", lambda _, one: one.expired),
    MetricDefinition(
        "backupd_store_enforcement_info",
        "1, with what keeps writers from removing: append-only, ingest or plain.",
        ("region", "store", "mode"),
        _enforcement,
    ),
    _store("backupd_store_ledger_behind_entries", "Entries of the ledger that the store lacks.", _behind),
    _snapshot("published", "on the store", lambda one: one.published),
    _snapshot("verified", "whose every byte was read on that store and was right", lambda one: one.verified),
    _snapshot("restored", "that was restored", lambda one: one.restored),
    _unread("backupd_unread_bytes", "Bytes of tables that the last backup took over unread.", lambda one: one.bytes),
    _unread(
        "backupd_unread_audit_timestamp_seconds",
        "When everything was last compared with what would have been taken over.",
        lambda one: one.audited,
    ),
    _unread(
        "backupd_unread_distrusted",
        "1 when that found a difference, and nobody has looked since.",
        lambda one: one.distrusted,
    ),
    _job("backupd_job_started_timestamp_seconds", "When the last run of a job began.", lambda job: job.started),
    _job(
        "backupd_job_done_timestamp_seconds",
        "When the last run of a job that did its work began.",
        lambda job: job.good,
    ),
    _job("backupd_job_last_seconds", "How long the last run of a job took.", lambda job: job.seconds),
    _job("backupd_job_failing", "1 when the last run of a job did not do its work.", lambda job: not job.well),
    MetricDefinition(
        "backupd_job_next_timestamp_seconds",
        "When a job runs next.",
        ("region", "kind"),
        lambda one: [
            sample for key, at in one.state.next_runs.items() for sample in _figures((key.region, key.kind), at)
        ],
    ),
    MetricDefinition(
        "backupd_job_runs_total",
        "Runs of a job since the daemon began.",
        ("region", "kind", "outcome"),
        lambda one: [((key.region, key.kind, end), number) for (key, end), number in one.state.runs.items()],
    ),
    MetricDefinition(
        "backupd_job_seconds_total",
        "How long runs of a job took in all.",
        ("region", "kind"),
        lambda one: [((key.region, key.kind), seconds) for key, seconds in one.state.seconds.items()],
    ),
    MetricDefinition(
        "backupd_job_handled_total",
        "What runs of a job handled: read, unread, sent, new, bytes in bytes; "
        "rows, objects, snapshots, tenants in numbers.",
        ("region", "kind", "what"),
        lambda one: [((key.region, key.kind, what), number) for (key, what), number in one.state.amounts.items()],
    ),
)
"""Every metric there is, in the order in which they are shown."""
