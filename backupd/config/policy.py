"""The sections of the promises: retention and deletion with their keeper, restore drills, and a region's objectives."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from backupd.config.fields import (
    AbsolutePath,
    Approval,
    ConfigSection,
    Dsn,
    Duration,
    Name,
    QueryName,
    RegionLabel,
    SecretFile,
    SelectStatement,
    Service,
    Several,
    Size,
    User,
    spell_duration,
    within,
)

_SECOND = timedelta(seconds=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

Count = Annotated[int, Field(ge=0, le=1000)]
Most = Annotated[int, Field(ge=1, le=1_000_000)]


class KeeperSection(ConfigSection):
    """`[keeper]`: this machine expires, purges and attests."""

    signing_key_file: SecretFile = Field(
        description="The key that signs ledger entries and attestations, another one than that of a writer. A "
        "machine with this section is a keeper."
    )
    most_tenants: Most = Field(
        default=10, description="Purging more tenants than this in one run needs a second confirmation."
    )
    most_snapshots: Most = Field(
        default=200, description="Expiring more snapshots than this in one run needs a second confirmation."
    )
    clock_tolerance: Annotated[Duration, within(_SECOND, _HOUR)] = Field(
        default=timedelta(minutes=5),
        description="How far this machine's clock may be from that of a store before nothing is removed; at "
        "most an hour, the least that a region's own tolerance can be.",
    )


class CopySection(ConfigSection):
    """One `[[copies]]`: a kind of copy of whole stores that backupd neither makes nor sees."""

    name: Name = Field(
        description="The name of a kind of copy of whole stores that backupd neither makes nor sees, as "
        "attestations show it."
    )
    keep: Annotated[Duration, within(_HOUR)] = Field(
        description="The longest time that one of these copies lives: every deadline waits for it."
    )
    regions: Annotated[tuple[RegionLabel, ...], Several] = Field(
        default=(), description="The regions whose stores are copied. If empty, all are."
    )


class RetentionSection(ConfigSection):
    """`[regions.NAME.retention]`: which snapshots are kept, counted from the present and not from the newest."""

    keep_within: Duration = Field(default=14 * _DAY, description="Every snapshot that is at most this old is kept.")
    daily: Count = Field(
        default=30,
        description="For how many days (UTC), counted back from the present, one snapshot is kept, the newest proven.",
    )
    weekly: Count = Field(default=8, description="For how many weeks, which begin on Monday, one snapshot is kept.")
    monthly: Count = Field(default=0, description="For how many months one snapshot is kept.")
    max_age: Annotated[Duration, within(_DAY, 3660 * _DAY)] = Field(
        default=90 * _DAY,
        description="No snapshot is kept longer than this, counted from its exported snapshot, whatever the "
        "other rules say.",
    )
    keep_minimum: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=3,
        description="How many of the newest proven snapshots of each database are kept when no rule keeps "
        "them, but never beyond `max_age`.",
    )

    @model_validator(mode="after")
    def _within_the_maximum(self) -> RetentionSection:
        if self.keep_within > self.max_age:
            wanted, most = spell_duration(self.keep_within), spell_duration(self.max_age)
            raise ValueError(f"keep_within ({wanted}) is longer than max_age ({most})")
        return self


class QuerySection(ConfigSection):
    """`[regions.NAME.lifecycle.query]`: the query that returns the dates of tenants."""

    database: Name | None = Field(
        default=None,
        description="The label of the database of this region that knows the dates of tenants. A query has "
        "this or `dsn`.",
    )
    dsn: Dsn | None = Field(
        default=None, description="The connection string of a database that knows the dates of tenants."
    )
    passfile: SecretFile | None = Field(default=None, description="The password file for `dsn`.")
    sql: SelectStatement = Field(
        description="One `SELECT` with the columns `tenant`, `unsubscribed_at`, `erase_requested_at`, and "
        "where they exist `data_class`, `moved_to`, `live_purged_at`. Tables are named with their schema, and no "
        "view is read: the search path is empty."
    )

    @model_validator(mode="after")
    def _one_address(self) -> QuerySection:
        if (self.database is None) == (self.dsn is None):
            raise ValueError("needs exactly one of database and dsn")
        if self.passfile is not None and self.dsn is None:
            raise ValueError("has a passfile without a dsn; a configured database brings its own")
        return self


class LifecycleSection(ConfigSection):
    """`[regions.NAME.lifecycle]`: the promise to tenants who leave, and the terms it is made of."""

    window: Annotated[Duration, within(_DAY, 3660 * _DAY)] = Field(
        default=180 * _DAY, description="The time from unsubscribing until the last byte is gone everywhere."
    )
    grace: Duration = Field(
        default=30 * _DAY,
        description="After unsubscribing, coming back is instant for at least this long. Only erasure on "
        "request is earlier.",
    )
    purge_after: Duration | None = Field(
        default=None,
        description="The time from unsubscribing to the purge. Without it, the purge is as late as the window allows.",
    )
    expiry_gap: Annotated[Duration, within(_HOUR)] = Field(
        default=2 * _DAY, description="The longest time between two successful runs of the keeper."
    )
    store_snapshots: Duration = Field(
        default=8 * _DAY,
        description="The longest time that a store's own snapshots live; it is compared with what is seen.",
    )
    clock_tolerance: Annotated[Duration, within(_HOUR)] = Field(
        default=_DAY, description="How much clocks and civil dates may differ."
    )
    repair_slack: Duration = Field(
        default=7 * _DAY, description="The time to notice that something stands still, and to mend it."
    )
    early_within: Annotated[Duration, within(_HOUR)] = Field(
        default=3 * _DAY, description="The time from a request to erase until the purge."
    )
    release_within: Annotated[Duration, within(_HOUR)] = Field(
        default=7 * _DAY,
        description="The time from the release of a hold until the purge, where its date has passed meanwhile.",
    )
    query: QuerySection | None = None

    @model_validator(mode="after")
    def _keeps_its_window(self) -> LifecycleSection:
        terms = {name: getattr(self, name) for name in _AFTER_PURGE}
        latest = self.window - sum(terms.values(), timedelta())
        if latest < self.grace:
            needed = {"grace": self.grace, **terms}
            spelt = " + ".join(f"{name} {spell_duration(span)}" for name, span in needed.items())
            raise ValueError(f"cannot be kept: window {spell_duration(self.window)} < {spelt}")
        if self.purge_after is not None and not self.grace <= self.purge_after <= latest:
            least, most = spell_duration(self.grace), spell_duration(latest)
            raise ValueError(f"needs a purge_after between {least} (grace) and {most} (what the window leaves)")
        return self


_AFTER_PURGE = ("expiry_gap", "store_snapshots", "clock_tolerance", "repair_slack")
"""The durations that may pass between the date of a purge and the last byte gone."""


_GIB = 1 << 30


class DrillSection(ConfigSection):
    """`[drill]`: this machine restores backups into a server of its own, and checks them."""

    identity: SecretFile = Field(
        description="The identity file that drills open backups with, one of its own. A machine with this "
        "section drills."
    )
    passphrase_file: SecretFile = Field(description="The file with the passphrase of `identity`.")
    escrow_identity: SecretFile | None = Field(
        default=None,
        description="The identity kept for a disaster. With it, drills try that it opens what theirs opens.",
    )
    escrow_passphrase_file: SecretFile | None = Field(
        default=None, description="The file with the passphrase of `escrow_identity`."
    )
    scratch_dir: AbsolutePath | None = Field(
        default=None,
        description="The folder where the server of a drill lies while it runs. Without it, the spool folder is used.",
    )
    user: User | None = Field(
        default=None, description="The user who runs that server where drills run as root. Without it, `nobody` does."
    )
    target_dsn: Dsn | None = Field(
        default=None,
        description="The connection string, without a password, of a server set aside for drills. Without it, "
        "each drill makes a server of its own.",
    )
    target_service: Service | None = Field(default=None, description="The same server, as the name of a service.")
    target_passfile: SecretFile | None = Field(
        default=None, description="The password file of that server, written as `.pgpass` is."
    )
    target_servicefile: SecretFile | None = Field(
        default=None,
        description="The file in which `target_service` is looked up. Without it, libpq looks where it always does.",
    )
    memory: Annotated[Size, Field(ge=_GIB // 2)] = Field(
        default=2 * _GIB,
        description="How much memory any one process of the drill's own server may have. Its caches and sorts "
        "are made to fit.",
    )
    preload: Annotated[tuple[Name, ...], Several] = Field(
        default=(),
        description="Libraries for that server's `shared_preload_libraries`, such as `pgaudit`, without which some "
        "extensions cannot be made. Those that are not installed here are left out.",
    )
    max_size: Annotated[Size, Field(ge=_GIB)] = Field(
        default=256 * _GIB, description="How much room on the disk the drill's own server may take."
    )
    restore_limit: Annotated[Duration, within(_SECOND)] = Field(
        default=12 * _HOUR, description="A drill whose restore takes longer is stopped, and has no verdict."
    )
    check_limit: Annotated[Duration, within(_SECOND)] = Field(
        default=12 * _HOUR, description="A drill whose checks take longer is stopped, and has no verdict."
    )
    damage_every: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=10, description="One of this many drills damages what it fetches, and must notice. With 0, none does."
    )

    @model_validator(mode="after")
    def _escrow_opens(self) -> DrillSection:
        if (self.escrow_identity is None) != (self.escrow_passphrase_file is None):
            raise ValueError("needs both of escrow_identity and escrow_passphrase_file, or neither")
        return self

    @model_validator(mode="after")
    def _one_target(self) -> DrillSection:
        if self.target_dsn is not None and self.target_service is not None:
            raise ValueError("has both of target_dsn and target_service; a drill has one target")
        if self.target is None and (self.target_passfile is not None or self.target_servicefile is not None):
            raise ValueError("has files for a target, and no target")
        return self

    @property
    def target(self) -> str | None:
        """The connection string of the server set aside for drills; None when there is none."""
        return self.target_dsn if self.target_service is None else f"service={self.target_service}"


class AssertionSection(ConfigSection):
    """One `[[regions.NAME.assertions]]`: what must be true in a restored database."""

    name: QueryName = Field(
        description="The name of a query whose answer must be right in a restored database, as reports show it."
    )
    database: Name = Field(description="The label of the database of this region that is asked.")
    sql: SelectStatement = Field(
        description="One `SELECT` that returns one row of one whole number, which no report shows."
    )
    exact: int | None = Field(
        default=None, description="The number that the answer must be. An assertion has this, `minimum`, or both."
    )
    minimum: int | None = Field(default=None, description="The least number that the answer may be.")

    @model_validator(mode="after")
    def _asks(self) -> AssertionSection:
        if self.exact is None and self.minimum is None:
            raise ValueError("needs exact or minimum")
        return self


class ObjectivesSection(ConfigSection):
    """`[regions.NAME.objectives]`: promises that drills check; a drill beyond one fails, a late drill is missed."""

    rpo: Annotated[Duration, within(_SECOND)] | None = Field(
        default=None,
        description="The most that may be lost, from the newest snapshot that can be restored to the present. "
        "A drill that measures more fails.",
    )
    rto: Annotated[Duration, within(_SECOND)] | None = Field(
        default=None,
        description="The longest that a restore may take, from its beginning to a database that was checked. "
        "A drill that takes longer fails.",
    )
    drill_every: Annotated[Duration, within(_HOUR)] | None = Field(
        default=None,
        description="The longest time between two drills. One that is late by a fourth of it more is missed.",
    )
    approval: Approval | None = Field(
        default=None, description="The number of the decision that set these objectives, for reports."
    )
