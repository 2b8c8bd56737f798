"""Figures for Prometheus. The one user of prometheus_client.

Names carry their units; labels are what the configuration names (regions, stores, databases) and words of this program,
never a tenant. README lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import backupd

if TYPE_CHECKING:
    from backupd.clock import Clock
    from backupd.model.status import RegionFacts, StoreFacts
    from backupd.operations.telling.world import World

Sample = tuple[tuple[str, ...], float]
_STORE = ("region", "store")
_JOB = ("region", "kind")


class Metrics(Collector):
    """What the world is when somebody asks."""

    def __init__(self, world: Callable[[], World], clock: Clock, fed: Callable[[], datetime | None]) -> None:
        """`fed` tells when the daemon's loop turned last with nothing hanging."""
        self._world = world
        self._clock = clock
        self._fed = fed
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        world, now = self._world(), self._clock.now()
        yield from _daemon(world, self._fed())
        yield from _regions(world, now)
        yield from _stores(world)
        yield from _snapshots(world)
        yield from _jobs(world)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)


class Endpoint:
    """Answers whoever asks for metrics at an address, until it is closed."""

    def __init__(self, metrics: Metrics, address: str) -> None:
        """Raises OSError when the address cannot be had."""
        host, _, port = address.rpartition(":")
        self.address = address
        self._server, self._thread = start_http_server(int(port), host.strip("[]"), metrics.registry)
        self.port = self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _daemon(world: World, fed: datetime | None) -> Iterator[Metric]:
    yield _gauge("backupd_build_info", "1, with the daemon's version.", ("version",), [((backupd.__version__,), 1)])
    yield _gauge("backupd_start_timestamp_seconds", "When the daemon began.", (), _at((), world.since))
    yield _gauge(
        "backupd_watchdog_timestamp_seconds", "When the daemon last turned with no job hanging.", (), _at((), fed)
    )
    yield _counter("backupd_messages", "Messages to people, one for each target.", ("result",), _messages(world))
    yield _gauge(
        "backupd_message_targets_failing",
        "Targets that did not take the last message.",
        (),
        [((), len(world.sent.failing))],
    )
    yield _gauge(
        "backupd_heartbeat_timestamp_seconds",
        "When the other side of a heartbeat answered last.",
        (),
        _at((), world.sent.heartbeat),
    )
    yield _gauge(
        "backupd_alarm",
        "1 for each thing that is wrong; README says what each means.",
        ("region", "code", "subject", "severity"),
        [((alarm.region, alarm.code, alarm.subject, alarm.severity), 1) for alarm in world.alarms],
    )


def _messages(world: World) -> list[Sample]:
    return [(("sent",), world.sent.sent), (("failed",), world.sent.failed)]


def _regions(world: World, now: datetime) -> Iterator[Metric]:
    regions = list(world.regions.values())

    def of(name: str, about: str, value: Callable[[RegionFacts], datetime | float | None]) -> Metric:
        return _gauge(
            name, about, ("region",), [one for region in regions for one in _any((region.region,), value(region))]
        )

    yield of("backupd_observed_timestamp_seconds", "When the region was looked at last.", lambda one: one.at)
    yield of("backupd_proof_timestamp_seconds", "When the newest drill began that passed.", lambda one: one.proven)
    yield of("backupd_drill_timestamp_seconds", "When the newest drill began.", lambda one: one.drilled)
    yield of("backupd_leaving_lives", "Lives with a date that are not gone everywhere.", lambda one: one.leaving)
    yield of("backupd_held_lives", "Lives with a date that a hold keeps.", lambda one: one.held)
    yield of("backupd_late_lives", "Lives past a date.", lambda one: len(one.late))
    yield of("backupd_deadline_timestamp_seconds", "The nearest deadline.", lambda one: one.next_deadline)
    yield of(
        "backupd_deadline_endangered_timestamp_seconds",
        "From when on a deadline is in danger.",
        lambda one: one.endangered,
    )
    yield of(
        "backupd_deadline_slack_seconds",
        "What is left until the nearest deadline.",
        lambda one: (one.next_deadline - now).total_seconds() if one.next_deadline else None,
    )
    yield of(
        "backupd_ledger_entries",
        "Entries of the ledger, in its longest copy.",
        lambda one: one.ledger.seq if one.ledger else None,
    )
    yield _gauge(
        "backupd_objective_seconds",
        "What is promised: rpo, rto, drill_every, repair_slack, expiry_gap.",
        ("region", "objective"),
        [
            ((region.region, name), float(value))
            for region in regions
            for name in region.promises.__struct_fields__
            if (value := getattr(region.promises, name)) is not None
        ],
    )


def _stores(world: World) -> Iterator[Metric]:
    every = [(region, store) for region in world.regions.values() for store in region.stores]
    # Of one that nobody has ever seen nothing else is known.
    found = [(region, store) for region, store in every if store.mode is not None]
    yield _gauge(
        "backupd_store_reachable",
        "1, or 0 when the last look at the store failed.",
        _STORE,
        [((region.region, store.store), float(store.error is None)) for region, store in every],
    )

    def of(name: str, about: str, value: Callable[[StoreFacts], datetime | float | None]) -> Metric:
        samples = (one for region, store in found for one in _any((region.region, store.store), value(store)))
        return _gauge(name, about, _STORE, list(samples))

    yield of("backupd_store_free_bytes", "Room left on the store.", lambda one: one.space.free if one.space else None)
    yield of(
        "backupd_store_size_bytes", "Room on the store in all.", lambda one: one.space.total if one.space else None
    )
    yield of(
        "backupd_store_own_snapshots",
        "How many snapshots the store has of itself.",
        lambda one: len(one.server_snapshots),
    )
    yield of(
        "backupd_store_own_snapshot_oldest_timestamp_seconds",
        "When the oldest of the store's own snapshots was made, by its name.",
        lambda one: one.server_oldest,
    )
    yield of(
        "backupd_store_own_snapshot_newest_timestamp_seconds",
        "When the newest of the store's own snapshots was made, by its name.",
        lambda one: one.server_newest,
    )
    yield of(
        "backupd_store_own_snapshots_changed",
        "1 when the store's own snapshots are not as usual.",
        lambda one: bool(one.server_changes),
    )
    yield of(
        "backupd_store_capability_lost",
        "1 when the store can no longer do what it could.",
        lambda one: any(change.worse for change in one.changes),
    )
    yield of("backupd_keeper_timestamp_seconds", "When a keeper's run came to its end there.", lambda one: one.kept)
    yield of("backupd_expiry_timestamp_seconds", "When an expiry came to its end there.", lambda one: one.expired)
    yield _gauge(
        "backupd_store_enforcement_info",
        "1, with what keeps writers from removing: append-only, ingest or plain.",
        (*_STORE, "mode"),
        [((region.region, store.store, store.mode), 1) for region, store in found if store.mode],
    )
    yield _gauge(
        "backupd_store_ledger_behind_entries",
        "Entries of the ledger that the store lacks.",
        _STORE,
        [
            ((region.region, store.store), float(max(0, region.ledger.seq - store.ledger_entries)))
            for region, store in found
            if region.ledger is not None and store.ledger_entries is not None
        ],
    )


def _snapshots(world: World) -> Iterator[Metric]:
    for age, about in (
        ("published", "that is there"),
        ("verified", "whose every byte was read on that store and was right"),
        ("restored", "that was restored"),
    ):
        yield _gauge(
            f"backupd_snapshot_{age}_timestamp_seconds",
            f"When the newest snapshot {about} was exported from its database.",
            (*_STORE, "database"),
            [
                one
                for region in world.regions.values()
                for store in region.stores
                for database in store.databases
                for one in _at((region.region, store.store, database.label), getattr(database, age))
            ],
        )


def _jobs(world: World) -> Iterator[Metric]:
    def of(name: str, about: str, value: Callable[[Any], datetime | float | None]) -> Metric:
        return _gauge(
            name,
            about,
            _JOB,
            [one for key, job in world.jobs.items() for one in _any((key.region, key.kind), value(job))],
        )

    yield of("backupd_job_started_timestamp_seconds", "When the last run of a job began.", lambda job: job.started)
    yield of(
        "backupd_job_done_timestamp_seconds",
        "When the last run of a job began that did its work.",
        lambda job: job.good,
    )
    yield of("backupd_job_last_seconds", "How long the last run of a job took.", lambda job: job.seconds)
    yield of("backupd_job_failing", "1 when the last run of a job did not do its work.", lambda job: not job.well)
    yield _gauge(
        "backupd_job_next_timestamp_seconds",
        "When a job runs next.",
        _JOB,
        [one for key, at in world.next.items() for one in _at((key.region, key.kind), at)],
    )
    yield _counter(
        "backupd_job_runs",
        "Runs of a job since the daemon began.",
        (*_JOB, "outcome"),
        [((key.region, key.kind, outcome), number) for (key, outcome), number in world.runs.items()],
    )
    yield _counter(
        "backupd_job_seconds",
        "How long runs of a job took in all.",
        _JOB,
        [((key.region, key.kind), seconds) for key, seconds in world.seconds.items()],
    )
    yield _counter(
        "backupd_job_handled",
        "What runs of a job handled: read, sent, new, bytes in bytes; rows, objects, snapshots, tenants in numbers.",
        (*_JOB, "what"),
        [((key.region, key.kind, what), number) for (key, what), number in world.amounts.items()],
    )


def _at(labels: tuple[str, ...], instant: datetime | None) -> list[Sample]:
    return [] if instant is None else [(labels, instant.timestamp())]


def _any(labels: tuple[str, ...], value: datetime | float | None) -> list[Sample]:
    if value is None or isinstance(value, datetime):
        return _at(labels, value)
    return [(labels, float(value))]


def _gauge(name: str, about: str, labels: tuple[str, ...], samples: Iterable[Sample]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _counter(name: str, about: str, labels: tuple[str, ...], samples: Iterable[Sample]) -> Metric:
    family = CounterMetricFamily(name, about, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
