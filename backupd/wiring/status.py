"""The parts of status and monitoring: how regions stand, what is wrong with them, and who is notified."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backupd.errors import OUT_OF_REACH, ConfigError
from backupd.model.ids import RegionName
from backupd.operations.service.jobs import JobKey, JobKind
from backupd.parallel import side_by_side
from backupd.planning.schedule import longest_gap
from backupd.wiring.context import QUICKLY, Context, known_ledger_copy, open_store
from backupd.wiring.daemon import run_history, timetable_of
from backupd.wiring.drill import objectives_of
from backupd.wiring.keeper import book_over, deletion_budget, handoff_stores, stores_with_own_keeper_account

if TYPE_CHECKING:
    from backupd.config.faults import Finding
    from backupd.config.secrets import FileRef
    from backupd.model.status import Alarm, JobFacts, RegionFacts
    from backupd.operations.monitoring.delivery import Settings
    from backupd.operations.monitoring.state import MonitorState
    from backupd.operations.status import StatusRequest, StorePlace
    from backupd.trace import Trace

_RUNS = 60
"""Runs of a job that are looked at, at most: the newest."""
_AT_ONCE = 4
"""Regions whose stores are asked at once: servers refuse logins that are too many."""
_LONGEST = 65536
"""Bytes of a file with URLs that are read."""


def facts_of_regions(
    context: Context, regions: Sequence[RegionName], trace: Trace, *, probe: bool = False
) -> list[RegionFacts]:
    """Find out how regions stand now, and how their last jobs on this machine ended; `probe` as `StatusRequest` says.

    All stores of a few regions are asked at once: one that is away is waited for `QUICKLY`, and the trace names it.
    Raises DamageError for a ledger that cannot be believed, ConfigError.
    """

    def facts(region: RegionName) -> RegionFacts:
        found = _facts_of_stores(context, region, trace, probe=probe)
        return replace(found, jobs=tuple(facts_of_jobs(context, region)))

    some = (regions[first : first + _AT_ONCE] for first in range(0, len(regions), _AT_ONCE))
    return [one for few in some for one in side_by_side(facts, few)]


def facts_of_jobs(context: Context, region: RegionName) -> Iterator[JobFacts]:
    """Yield how the last runs of the region's jobs ended, from this machine's history."""
    from backupd.operations.monitoring.state import of_runs, remembered

    history = run_history(context, region)
    for kind in JobKind:
        facts = of_runs(history.runs(JobKey(kind, region), _RUNS))
        if facts is not None:
            yield remembered(facts)


def alarms_of(context: Context, facts: RegionFacts) -> tuple[Alarm, ...]:
    """Return the alarms about a region whose facts were gathered."""
    from backupd.planning.alarms import Watch, judge

    return judge(facts, Watch(context.clock.now(), observed_within(context, RegionName(facts.region))))


def observed_within(context: Context, region: RegionName) -> timedelta:
    """Return the greatest age that facts may have: twice the longest time between two observations, and an hour."""
    gap = longest_gap(timetable_of(context, region, JobKind.OBSERVE))
    return 2 * (gap or timedelta(days=1)) + timedelta(hours=1)


def write_status_page(context: Context, path: Path, found: Sequence[RegionFacts]) -> None:
    """Write a page of these facts to `path`, in one step.

    Raises ConfigError when it cannot be written.
    """
    from backupd.atomic_file import write_whole
    from backupd.pages.status import StatusPage, render_status

    alarms = tuple(alarm for one in found for alarm in alarms_of(context, one))
    page = render_status(StatusPage(context.clock.now(), context.config.node.name, found, alarms))
    try:
        write_whole(path.absolute(), page.encode(), 0o640)
    except OSError as error:
        raise ConfigError(f'"{path}" cannot be written ({error.strerror})') from None


def monitoring_settings(context: Context, regions: Sequence[RegionName]) -> Settings:
    """Return the settings of the daemon of these regions: whom it notifies, and where it reports.

    What is wrong with a file of URLs is one of the settings' faults.
    """
    from backupd.operations.monitoring.delivery import Settings
    from backupd.operations.monitoring.messages import HeartbeatUrl
    from backupd.operations.monitoring.messages import is_known as is_page
    from backupd.planning.notices import NoticeLimits

    config, notify, faults = context.config, context.config.notify, list[str]()
    urls = list(_urls(context, "urls", notify.urls, faults))
    targets = []
    if urls:
        # With all its services it takes 30 MB: only where somebody is to be notified.
        from backupd.operations.monitoring.notify import NotifyTarget
        from backupd.operations.monitoring.notify import is_known as is_service

        targets = [NotifyTarget(name, url) for name, url in _checked(urls, is_service, faults)]
    beats = _urls(context, "heartbeat", notify.heartbeat, faults)
    heartbeats = [HeartbeatUrl(*one) for one in _checked(beats, is_page, faults)]
    return Settings(
        machine=config.node.name,
        memory=config.node.state_dir / _memory_name(context, regions),
        regions={region: observed_within(context, region) for region in regions},
        limits=NoticeLimits(notify.remind_every, notify.most_an_hour),
        timeout=notify.timeout.total_seconds(),
        targets=tuple(targets),
        heartbeats=tuple(heartbeats),
        listen=config.metrics.listen,
        textfile=config.metrics.textfile,
        page=config.status.page,
        faults=tuple(faults),
    )


def notify_hint(fault: str) -> str:
    """Return what to do about a fault that `monitoring_settings` found."""
    if fault.startswith("notify.heartbeat"):
        return "Write one URL a line, each of which begins with http:// or https://."
    return "Write one URL a line, as https://github.com/caronc/apprise/wiki spells it."


def notify_findings(context: Context) -> Iterator[Finding]:
    """Yield what is wrong with the files of URLs that this process was given: each target by its file and line."""
    if context.config.notify.urls or context.config.notify.heartbeat:
        for fault in monitoring_settings(context, context.regions([])).faults:
            yield (
                ("notify", "heartbeat" if fault.startswith("notify.heartbeat") else "urls"),
                fault,
                notify_hint(fault),
            )


def state_at_start(context: Context, regions: Sequence[RegionName]) -> MonitorState:
    """Return the state of the regions' jobs by this machine's history, before the daemon has run any."""
    from backupd.operations.monitoring.state import MonitorState

    jobs = {JobKey(JobKind(job.kind), region): job for region in regions for job in facts_of_jobs(context, region)}
    return MonitorState(since=context.clock.now(), jobs=jobs)


def _facts_of_stores(context: Context, region: RegionName, trace: Trace, *, probe: bool) -> RegionFacts:
    from backupd.operations.phases import Phases
    from backupd.operations.roll_call import roll_call
    from backupd.operations.status import book_of, region_facts, unreached

    request = _request(context, region, probe=probe)
    with _open_places(context, region) as places:
        repositories = {place.name: place.repository for place in places}
        away = roll_call(repositories, Phases(context.clock, trace, region))
        try:
            book = book_over(context, region, repositories, away)
            book.sync(away=away)
        except OUT_OF_REACH as error:
            known, trusted = known_ledger_copy(context, region), context.trusted_keepers()
            own = book_of(known, region, trusted, context.clock) if known and trusted else None
            return unreached({name: away.get(name, error) for name in repositories}, request, own)
        return region_facts(book, places, request)


@contextmanager
def _open_places(context: Context, region: RegionName) -> Iterator[list[StorePlace]]:
    """Open all stores of a region, to gather facts from."""
    from backupd.operations.status import StorePlace
    from backupd.repository.repository import Repository

    separate, handing = stores_with_own_keeper_account(context, region), handoff_stores(context, region)
    with ExitStack() as stack:
        places = []
        for name in context.stores_of(region):
            store = stack.enter_context(closing(open_store(context, region, name, QUICKLY)))
            places.append(
                StorePlace(
                    name=name,
                    repository=Repository(store, context.trusted_signers(), context.trusted_keepers(), region),
                    store=store,
                    memory=context.state_folder(region, name),
                    separate_keeper=name in separate,
                    handing=name in handing,
                )
            )
        yield places


def _request(context: Context, region: RegionName, *, probe: bool) -> StatusRequest:
    from backupd.model.status import Promises
    from backupd.operations.status import StatusRequest
    from backupd.planning.deadlines import time_to_vanish

    objectives, lifecycle = objectives_of(context, region), context.config.regions[region].lifecycle
    return StatusRequest(
        region=region,
        labels=context.databases(region),
        promises=Promises(
            rpo=objectives.rpo,
            rto=objectives.rto,
            drill_every=objectives.drill_every,
            repair_slack=int(lifecycle.repair_slack.total_seconds()),
            expiry_gap=int(lifecycle.expiry_gap.total_seconds()),
            backup_every=_backup_every(context, region),
        ),
        store_snapshots=lifecycle.store_snapshots,
        vanishing=time_to_vanish(deletion_budget(context, region)),
        now=context.clock.now(),
        random=os.urandom,
        probe=probe,
    )


def _backup_every(context: Context, region: RegionName) -> int | None:
    """Return the longest time between two backups by the timetable, in seconds; None where none is due by itself."""
    gap = longest_gap(timetable_of(context, region, JobKind.BACKUP))
    return int(gap.total_seconds()) if gap is not None else None


def _memory_name(context: Context, regions: Sequence[RegionName]) -> str:
    """Return the file's name in the state folder, which daemons of different regions may share."""
    if set(regions) == set(context.config.regions):
        return "telling.json"
    return f"telling-{'+'.join(regions)[:200]}.json"


def _urls(context: Context, what: str, files: Sequence[FileRef], faults: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each URL with its place. A credential that only another unit has is no fault, and has no URL here."""
    for index, file in enumerate(files):
        if not file.is_given(context.environ):
            continue
        try:
            lines = file.resolve(context.environ).read_bytes()[:_LONGEST].decode().splitlines()
        except (OSError, UnicodeDecodeError, ConfigError):
            faults.append(f"notify.{what}[{index}] cannot be read")
            continue
        found = [
            (number, line.strip())
            for number, line in enumerate(lines, start=1)
            if line.strip() and not line.lstrip().startswith("#")
        ]
        if not found:
            faults.append(f"notify.{what}[{index}] holds no URL")
        for number, url in found:
            yield f"notify.{what}[{index}]:{number}", url


def _checked(
    urls: Iterable[tuple[str, str]], is_known: Callable[[str], bool], faults: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield the URLs that can be used; the others become faults."""
    for name, url in urls:
        if is_known(url):
            yield name, url
        else:
            faults.append(f"{name} is no URL that can be used")
