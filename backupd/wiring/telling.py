"""What telling is made of: whom the daemon tells, where, and what it knows when it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.errors import ConfigError
from backupd.model.ids import RegionName
from backupd.operations.service.jobs import JobKey, Kind
from backupd.wiring.facts import Facts

if TYPE_CHECKING:
    from backupd.config.text.secrets import FileRef
    from backupd.operations.telling.teller import Settings
    from backupd.operations.telling.world import World

_LONGEST = 65536
"""Bytes of a file with URLs."""


@dataclass(frozen=True, slots=True)
class Telling(Facts):
    """And of who is told."""

    def telling(self, regions: Sequence[RegionName]) -> Settings:
        """How the daemon of these regions tells. What is wrong with a file of URLs is one of the settings' faults."""
        from backupd.operations.telling.teller import Settings
        from backupd.operations.telling.ways.heartbeat import Pulse
        from backupd.operations.telling.ways.heartbeat import is_known as is_page
        from backupd.planning.alarms.notices import Manners

        notify, faults = self.config.notify, list[str]()
        urls = list(self._urls("urls", notify.urls, faults))
        targets = []
        if urls:
            # With all its services it takes 30 MB: only where somebody is to be told.
            from backupd.operations.telling.ways.people import Target
            from backupd.operations.telling.ways.people import is_known as is_service

            targets = [Target(name, url) for name, url in _checked(urls, is_service, faults)]
        pulses = [Pulse(*one) for one in _checked(self._urls("heartbeat", notify.heartbeat, faults), is_page, faults)]
        return Settings(
            machine=self.config.node.name,
            memory=self.config.node.state_dir / self._memory_name(regions),
            regions={region: self.observed_within(region) for region in regions},
            manners=Manners(notify.remind_every, notify.most_an_hour),
            timeout=notify.timeout.total_seconds(),
            targets=tuple(targets),
            pulses=tuple(pulses),
            listen=self.config.metrics.listen,
            textfile=self.config.metrics.textfile,
            page=self.config.status.page,
            faults=tuple(faults),
        )

    def known_world(self, regions: Sequence[RegionName]) -> World:
        """What this machine's history tells of the regions' jobs before the daemon has run any."""
        from backupd.operations.telling.world import World

        jobs = {JobKey(Kind(job.kind), region): job for region in regions for job in self.jobs(region)}
        return World(since=self.clock.now(), jobs=jobs)

    def _memory_name(self, regions: Sequence[RegionName]) -> str:
        """Daemons of different regions may share a folder."""
        return "telling.json" if set(regions) == set(self.config.regions) else f"telling-{'+'.join(regions)[:200]}.json"

    def _urls(self, what: str, files: Sequence[FileRef], faults: list[str]) -> Iterator[tuple[str, str]]:
        """Each URL with its place; a credential that another unit has is that one's affair."""
        for index, file in enumerate(files):
            if not file.is_given(self.environ):
                continue
            try:
                lines = file.resolve(self.environ).read_bytes()[:_LONGEST].decode().splitlines()
            except (OSError, UnicodeDecodeError, ConfigError):
                faults.append(f"notify.{what}[{index}] cannot be read")
                continue
            for number, line in enumerate(lines, start=1):
                if line.strip() and not line.lstrip().startswith("#"):
                    yield f"notify.{what}[{index}]:{number}", line.strip()


def _checked(
    urls: Iterator[tuple[str, str]] | Sequence[tuple[str, str]], is_known: Callable[[str], bool], faults: list[str]
) -> Iterator[tuple[str, str]]:
    for name, url in urls:
        if is_known(url):
            yield name, url
        else:
            faults.append(f"{name} is no URL that can be used")
