"""The parts of the daemon: the jobs that this machine can do, when they are due, and how they are started."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.config.faults import Finding
from backupd.config.schema import SftpStoreSection
from backupd.errors import ConfigError
from backupd.model.ids import RegionName
from backupd.model.text import spell
from backupd.model.timetables import Never, Timetable, in_zone, spell_timetable
from backupd.operations.service.jobs import QUICK, Bounds, Job, JobKey, JobKind, JobLimits
from backupd.planning.schedule import longest_gap
from backupd.wiring.context import Context
from backupd.wiring.keeper import handoff_stores

if TYPE_CHECKING:
    from backupd.config.secrets import FileRef
    from backupd.config.service import ScheduleSection
    from backupd.operations.service.history import JobHistory
    from backupd.operations.service.process import Child
    from backupd.operations.service.supervisor import Plan

_LOOK = JobLimits(deadline=timedelta(minutes=15), stall=timedelta(minutes=5), grace=timedelta(seconds=20))
"""Bounds of an observation and of reading a query: the jobs that wait for them should not wait long."""
_GRACE = timedelta(minutes=1)
"""Time that a job has to end in order before it is killed, where the daemon itself need not stop sooner."""
_NOT_LATE = timedelta(hours=1)
"""A weekly drill may come an hour late when clocks are set: it is missed only when it is late by a fourth."""
_PRIVATE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")
"""Variables that are between the service manager and the daemon only."""
_NEEDS = {
    JobKind.BACKUP: "It needs signing_key_file and tenant_key_file under [node].",
    JobKind.INGEST: "It needs a [keeper] section, and a store of the region with ingest = true.",
    JobKind.SYNC: "It needs a [keeper] section, and a query under [regions.NAME.lifecycle.query].",
    JobKind.PURGE: "It needs a [keeper] section, and tenant_key_file under [node].",
    JobKind.EXPIRE: "It needs a [keeper] section, and tenant_key_file under [node].",
    JobKind.DRILL: "It needs a [drill] section.",
}
"""What is missing where a kind of work is asked for and cannot be done."""


def schedule_of(context: Context, region: RegionName) -> ScheduleSection:
    """Return when the region's work is due: its own schedule over the one for all regions."""
    return context.config.regions[region].schedule.over(context.config.schedule)


def timetable_of(context: Context, region: RegionName, kind: JobKind) -> Timetable:
    """Return when one kind of a region's work is due, in the schedule's time zone."""
    section = schedule_of(context, region)
    timetable: Timetable = getattr(section, kind)
    return in_zone(timetable, section.zone)


def service_plan(
    context: Context, regions: Sequence[RegionName], kinds: Sequence[JobKind], *, spread: timedelta | None
) -> Plan:
    """Return the jobs of these kinds, or of all that this machine is set up for when none is named.

    `spread` is the longest random delay of a job; None means as configured.

    Raises ConfigError for a kind that is asked for and cannot be done here, for files that cannot be read, and when
    there is nothing to do at all.
    """
    from backupd.operations.service.supervisor import Plan

    section = context.config.daemon
    keys = [JobKey(kind, region) for region in regions for kind in _kinds(context, region, kinds)]
    if all(key.kind is JobKind.OBSERVE for key in keys) and JobKind.OBSERVE not in kinds:
        raise ConfigError(
            "there is nothing to do for a daemon here",
            hint="Backups need a signing key, purges and expiry a [keeper], drills a [drill] section.",
        )
    return Plan(
        jobs=tuple(_job(context, key, on_time=not kinds or key.kind in kinds) for key in keys),
        labels={region: tuple(context.databases(region)) for region in regions},
        bounds=Bounds(section.heavy, section.heavy_per_region),
        spread=section.spread if spread is None else spread,
        retry_after=section.retry_after,
        stop_within=section.stop_within,
        machine=context.config.node.name,
    )


def start_child(context: Context, arguments: Sequence[str], config: int) -> Child:
    """Start a run of backupd with the configuration that the descriptor `config` holds.

    Raises OSError when it cannot be started.
    """
    from backupd.operations.service.process import Child

    command = [sys.executable, "-m", "backupd", "--config", f"/proc/self/fd/{config}", *arguments, "--json"]
    environment = {name: value for name, value in context.environ.items() if name not in _PRIVATE}
    return Child(command, environment, (config,))


def config_descriptor(text: str) -> int:
    """Return a descriptor that runs inherit and read this configuration from; the file may have changed since."""
    number = os.memfd_create("backupd.toml")
    os.write(number, text.encode())
    return number


def run_history(context: Context, region: RegionName) -> JobHistory:
    """Open this machine's history of the region's runs."""
    from backupd.operations.service.history import JobHistory

    return JobHistory(context.config.node.state_dir / region / "history.sqlite")


def timetable_findings(context: Context) -> Iterator[Finding]:
    """Yield the timetables of this machine's work that cannot keep what the configuration promises."""
    for region in context.regions([]):
        for kind, (most, promise) in _promises(context, region).items():
            timetable = timetable_of(context, region, kind)
            gap = longest_gap(timetable)
            late = _NOT_LATE if kind is JobKind.DRILL else timedelta(0)
            if most is not None and gap is not None and gap > most + late and is_set_up_for(context, region, kind):
                rare = f'"{spell_timetable(timetable)}" leaves up to {spell(gap)} between two runs'
                yield (
                    _place_of(context, region, kind),
                    f"{rare}, and {promise} is {spell(most)}",
                    f"Have it due more often, or promise less in regions.{region}.{promise}.",
                )


def timetable_advice(context: Context) -> Iterator[Finding]:
    """Yield work that is promised and that nothing here does by itself."""
    for region in context.regions([]):
        for kind, (most, promise) in _promises(context, region).items():
            if (
                most is not None
                and isinstance(timetable_of(context, region, kind), Never)
                and is_set_up_for(context, region, kind)
            ):
                yield (
                    _place_of(context, region, kind),
                    f"{kind} is never due by itself",
                    f"Something else has to run it often enough for {promise}.",
                )


def _promises(context: Context, region: RegionName) -> dict[JobKind, tuple[timedelta | None, str]]:
    """Return the longest time between two runs that a region's promises allow, and the name of that promise."""
    section = context.config.regions[region]
    gap = section.lifecycle.expiry_gap, "lifecycle.expiry_gap"
    return {
        JobKind.BACKUP: (section.objectives.rpo, "objectives.rpo"),
        JobKind.PURGE: gap,
        JobKind.EXPIRE: gap,
        JobKind.DRILL: (section.objectives.drill_every, "objectives.drill_every"),
    }


def _place_of(context: Context, region: RegionName, kind: JobKind) -> tuple[str, ...]:
    """Return the keys under which a timetable stands in the configuration."""
    own = getattr(context.config.regions[region].schedule, kind) is not None
    return ("regions", region, "schedule", kind.value) if own else ("schedule", kind.value)


def _job(context: Context, key: JobKey, *, on_time: bool) -> Job:
    section = context.config.daemon
    limits = JobLimits(section.deadline, section.stall, min(_GRACE, section.stop_within))
    job = Job(
        key, timetable_of(context, key.region, key.kind) if on_time else Never(), _arguments(context, key), limits
    )
    if key.kind not in QUICK:
        return job
    short = JobLimits(min(_LOOK.deadline, limits.deadline), min(_LOOK.stall, limits.stall), _LOOK.grace)
    return Job(key, job.timetable, job.arguments, short)


def _arguments(context: Context, key: JobKey) -> tuple[str, ...]:
    region = key.region
    commands: dict[JobKind, tuple[str, ...]] = {
        # Who writes sees once a day whether what writing relies on still holds.
        JobKind.OBSERVE: ("status", region, *(["--probe"] if is_set_up_for(context, region, JobKind.BACKUP) else [])),
        JobKind.SYNC: ("tenant", "sync", region),
        JobKind.VERIFY: ("verify", region, "--read-data", schedule_of(context, region).verify_share),
    }
    return commands.get(key.kind, (key.kind.value, region))


def _kinds(context: Context, region: RegionName, wanted: Sequence[JobKind]) -> list[JobKind]:
    """Return the wanted kinds, or all this machine is set up for, and always an observation: others wait for it."""
    for kind in wanted:
        if not is_set_up_for(context, region, kind):
            raise ConfigError(f'this machine is not set up for "{kind}" of region "{region}"', hint=_NEEDS[kind])
    chosen = wanted or [
        kind
        for kind in JobKind
        if is_set_up_for(context, region, kind)
        and is_given(context, region, kind)
        and not isinstance(timetable_of(context, region, kind), Never)
    ]
    kinds = [kind for kind in JobKind if kind in chosen or kind is JobKind.OBSERVE]
    for kind in kinds:
        for file in _files_of(context, region, kind):
            _require_readable(file.resolve(context.environ), kind)
    return kinds


def is_set_up_for(context: Context, region: RegionName, kind: JobKind) -> bool:
    """Say whether the configuration has what the work needs."""
    config = context.config
    keeps = config.keeper is not None and config.node.tenant_key_file is not None
    sets_up: dict[JobKind, Callable[[], bool]] = {
        JobKind.BACKUP: lambda: None not in (config.node.signing_key_file, config.node.tenant_key_file),
        JobKind.INGEST: lambda: keeps and bool(handoff_stores(context, region)),
        JobKind.SYNC: lambda: keeps and config.regions[region].lifecycle.query is not None,
        JobKind.PURGE: lambda: keeps,
        JobKind.EXPIRE: lambda: keeps,
        JobKind.DRILL: lambda: config.drill is not None,
    }
    return sets_up.get(kind, lambda: True)()


def is_given(context: Context, region: RegionName, kind: JobKind) -> bool:
    """Say whether the service manager gave this process every credential that the work needs."""
    folder = context.environ.get("CREDENTIALS_DIRECTORY")
    return all(
        not file.is_credential or (bool(folder) and file.resolve(context.environ).exists())
        for file in _files_of(context, region, kind)
    )


def _files_of(context: Context, region: RegionName, kind: JobKind) -> Iterator[FileRef]:
    """Yield the secret files that the work reads."""
    node, keeper, drill = context.config.node, context.config.keeper, context.config.drill
    keeps = kind in (JobKind.INGEST, JobKind.SYNC, JobKind.PURGE, JobKind.EXPIRE)
    own: list[FileRef | None] = []
    if kind is JobKind.BACKUP:
        own += [node.signing_key_file, node.tenant_key_file]
        own += [one.passfile for one in context.config.regions[region].databases.values()]
    if keeps and keeper is not None:
        own += [keeper.signing_key_file, node.tenant_key_file]
    if kind is JobKind.DRILL and drill is not None:
        own += [drill.identity, drill.passphrase_file, drill.escrow_identity, drill.escrow_passphrase_file]
    yield from (one for one in own if one is not None)
    for name in context.stores_of(region):
        store = context.config.stores[name]
        if isinstance(store, SftpStoreSection):
            yield store.credential("keeper" if keeps else "writer").key


def _require_readable(file: Path, kind: JobKind) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(
            f'"{file}" cannot be read ({error.strerror}), and "{kind}" needs it',
            hint="Check its owner and mode; the daemon's user must be able to read it, nobody else.",
        ) from None
