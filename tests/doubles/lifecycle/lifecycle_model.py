"""The promises counted without the program: incarnations, dates and holds as a clerk would note them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backupd.planning.lifecycle import ClockDates

OWN = "support"
"""The class with a clock of its own."""


@dataclass
class NotedHold:
    began: datetime
    released: datetime | None = None
    due: datetime | None = None


@dataclass
class NotedLife:
    """One incarnation of one tenant, in one scope."""

    tenant: str
    epoch: int
    scope: str
    dates: ClockDates | None = None
    erased: datetime | None = None
    """When the erasure was asked for."""
    purged: datetime | None = None
    """When the purge was seen to have begun."""
    proven: bool = False
    """Whether the ledger says that nothing of it is left anywhere."""


@dataclass
class Clerk:
    """Notes every event that was acknowledged."""

    states: dict[tuple[str, str], list[NotedLife]] = field(default_factory=dict)
    holds: dict[str, dict[str, NotedHold]] = field(default_factory=dict)

    def current(self, tenant: str, scope: str) -> NotedLife:
        known = self.states.setdefault((tenant, scope), [NotedLife(tenant, 1, scope)])
        return known[-1]

    def all(self) -> list[NotedLife]:
        return [one for known in self.states.values() for one in known]

    def epochs(self) -> dict[tuple[str, str], int]:
        return {key: known[-1].epoch for key, known in self.states.items()}

    def held(self, tenant: str) -> bool:
        return any(hold.released is None for hold in self.holds.get(tenant, {}).values())

    def came_back(self, tenant: str, scope: str) -> None:
        incarnation = self.current(tenant, scope)
        if incarnation.purged is None:
            incarnation.dates = incarnation.erased = None
        else:
            self.states[tenant, scope].append(NotedLife(tenant, incarnation.epoch + 1, scope))

    def may_be_purged(self, incarnation: NotedLife, now: datetime, tolerance: timedelta) -> bool:
        if incarnation.purged is not None:
            return True
        if incarnation.dates is None or self.held(incarnation.tenant):
            return False
        return now + tolerance >= self.purge_by(incarnation)

    def purge_by(self, incarnation: NotedLife) -> datetime:
        assert incarnation.dates is not None
        return max([incarnation.dates.purge_by, *self._moved(incarnation)])

    def gone_by(self, incarnation: NotedLife, after_release: timedelta) -> datetime:
        """The day nothing is left: the one told, or what the release of a hold that was in the way made of it."""
        assert incarnation.dates is not None
        return max([incarnation.dates.deadline, *(released + after_release for released in self._moved(incarnation))])

    def _moved(self, incarnation: NotedLife) -> list[datetime]:
        assert incarnation.dates is not None
        return [
            hold.released
            for hold in self.holds.get(incarnation.tenant, {}).values()
            if hold.released and hold.due and hold.released > incarnation.dates.purge_by
        ]
