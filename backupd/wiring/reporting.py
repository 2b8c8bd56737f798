"""What reports of restore drills are made of: objectives, the timetable, and a desk to publish from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backupd.errors import ConfigError
from backupd.model.ids import RegionName
from backupd.wiring.keeping import Keeping

if TYPE_CHECKING:
    from backupd.model.stored.report import Objectives
    from backupd.operations.reports import Desk
    from backupd.planning.reports.population import Timetable
    from backupd.seal.documents import Signer
    from backupd.trace import Trace


@dataclass(frozen=True, slots=True)
class Reporting(Keeping):
    """And of what is reported."""

    def objectives(self, region: RegionName) -> Objectives:
        """What the region must live up to, as reports repeat it."""
        from backupd.model.stored.report import Objectives

        section = self.config.regions[region].objectives
        return Objectives(
            rpo=_seconds(section.rpo),
            rto=_seconds(section.rto),
            drill_every=_seconds(section.drill_every),
            approval=section.approval,
        )

    def timetable(self, region: RegionName, begins: datetime | None) -> Timetable:
        """When drills are due; `begins` is when the repository was made."""
        from backupd.planning.reports.population import Timetable

        return Timetable(begins, self.config.regions[region].objectives.drill_every)

    @contextmanager
    def desk(self, region: RegionName, signer: Signer, trace: Trace) -> Iterator[Desk]:
        """Where reports of the region's drills are published from; `signer` is one of its keepers' keys.

        Raises ConfigError when the state folder cannot be made.
        """
        from backupd.operations.reports import Desk
        from backupd.store.directory import DirectoryStore

        folder = self.config.node.state_dir / region / "reports"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the state folder cannot be used ({error.strerror})", hint="Check node.state_dir and its owner."
            ) from error
        with self._repositories(region, None, "writer") as repositories:
            book = self._book(region, repositories, signer, trace)
            book.sync()
            yield Desk(book, repositories, signer, DirectoryStore(folder))


def _seconds(span: timedelta | None) -> int | None:
    return None if span is None else math.ceil(span.total_seconds())
