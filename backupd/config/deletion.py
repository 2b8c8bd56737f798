"""The sections about what is deleted, when, and by whom."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from backupd.config.section import Section
from backupd.config.text.fields import (
    Dsn,
    Duration,
    Name,
    RegionLabel,
    SecretFile,
    SelectStatement,
    Several,
    within,
)
from backupd.config.text.quantities import spell_duration

_SECOND = timedelta(seconds=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

Count = Annotated[int, Field(ge=0, le=1000)]
Most = Annotated[int, Field(ge=1, le=1_000_000)]


class KeeperSection(Section):
    """`[keeper]`: this machine expires, purges and attests."""

    signing_key_file: SecretFile
    """Signs ledger entries and attestations; another key than a writer's."""
    most_tenants: Most = 10
    """Tenants purged in one run, above which a second confirmation is needed."""
    most_snapshots: Most = 200
    """Likewise for snapshots expired."""
    clock_tolerance: Annotated[Duration, within(_SECOND, _HOUR)] = timedelta(minutes=5)
    """How far this machine's clock may be from a store's before nothing is removed. At most an hour: the least that a
    region's own clock tolerance can be."""


class CopySection(Section):
    """One `[[copies]]`: a kind of copy of whole stores that backupd neither makes nor sees."""

    name: Name
    keep: Annotated[Duration, within(_HOUR)]
    """The longest that one of them lives: all deadlines wait for it."""
    regions: Annotated[tuple[RegionLabel, ...], Several] = ()
    """Whose stores it is of; empty: every region's."""


class RetentionSection(Section):
    """`[regions.NAME.retention]`: which snapshots are kept, counted from the present and not from the newest."""

    keep_within: Duration = 14 * _DAY
    daily: Count = 30
    weekly: Count = 8
    monthly: Count = 0
    max_age: Annotated[Duration, within(_DAY, 3660 * _DAY)] = 90 * _DAY
    """No snapshot is kept longer, counted from its exported snapshot, whatever the other rules say."""
    keep_minimum: Annotated[int, Field(ge=1, le=1000)] = 3
    """The newest proven snapshots of each database that are kept when no rule keeps them."""

    @model_validator(mode="after")
    def _within_the_maximum(self) -> RetentionSection:
        if self.keep_within > self.max_age:
            wanted, most = spell_duration(self.keep_within), spell_duration(self.max_age)
            raise ValueError(f"keep_within ({wanted}) is longer than max_age ({most})")
        return self


class QuerySection(Section):
    """`[regions.NAME.lifecycle.query]`: where the dates of tenants come from."""

    database: Name | None = None
    """The label of one of the region's databases."""
    dsn: Dsn | None = None
    passfile: SecretFile | None = None
    sql: SelectStatement
    """Columns tenant, unsubscribed_at, erase_requested_at; optional data_class, moved_to, live_purged_at."""

    @model_validator(mode="after")
    def _one_address(self) -> QuerySection:
        if (self.database is None) == (self.dsn is None):
            raise ValueError("needs exactly one of database and dsn")
        if self.passfile is not None and self.dsn is None:
            raise ValueError("has a passfile without a dsn; a configured database brings its own")
        return self


class LifecycleSection(Section):
    """`[regions.NAME.lifecycle]`: the promise to tenants who leave, and the terms it is made of."""

    window: Annotated[Duration, within(_DAY, 3660 * _DAY)] = 180 * _DAY
    """From unsubscribing to the last byte gone, everywhere."""
    grace: Duration = 30 * _DAY
    """After unsubscribing, coming back is instant for at least so long; only erasure on request is earlier."""
    purge_after: Duration | None = None
    """After unsubscribing; None: as late as the window allows."""
    expiry_gap: Annotated[Duration, within(_HOUR)] = 2 * _DAY
    """The longest time between two successful keeper runs."""
    store_snapshots: Duration = 8 * _DAY
    """The longest a snapshot that a store makes of itself may live; compared with what is observed."""
    clock_tolerance: Annotated[Duration, within(_HOUR)] = _DAY
    repair_slack: Duration = 7 * _DAY
    """Time to notice that something does not run, and to mend it."""
    early_within: Annotated[Duration, within(_HOUR)] = 3 * _DAY
    """From a request to erase to the purge."""
    release_within: Annotated[Duration, within(_HOUR)] = 7 * _DAY
    """From the release of a hold to the purge, when its date passed meanwhile."""
    query: QuerySection | None = None

    @model_validator(mode="after")
    def _keeps_its_window(self) -> LifecycleSection:
        terms = {name: getattr(self, name) for name in _AFTER_PURGE}
        latest = self.window - sum(terms.values(), timedelta())
        if latest < self.grace:
            told = " + ".join(f"{name} {spell_duration(span)}" for name, span in {"grace": self.grace, **terms}.items())
            raise ValueError(f"cannot be kept: window {spell_duration(self.window)} < {told}")
        if self.purge_after is not None and not self.grace <= self.purge_after <= latest:
            least, most = spell_duration(self.grace), spell_duration(latest)
            raise ValueError(f"needs a purge_after between {least} (grace) and {most} (what the window leaves)")
        return self


_AFTER_PURGE = ("expiry_gap", "store_snapshots", "clock_tolerance", "repair_slack")
"""What may pass between the date of a purge and the last byte gone."""
