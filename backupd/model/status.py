"""How regions stand, as values that travel as JSON: what `status --json` prints, and pages and metrics show.

Instants are UTC, spans are seconds. No tenant's name, no row and no secret can be in them. Keys are only ever added.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class StoreFault(msgspec.Struct, frozen=True):
    """Why a store could not be looked at: the keys of `answers.StoreFault`, in the order that `status` gives them."""

    kind: str
    message: str
    hint: str = ""
    retryable: bool = False
    exit_code: int = 1


class DatabaseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One database on one store: three ages that are never mixed, each of a snapshot of its own."""

    label: str
    published: datetime | None = None
    """When the newest snapshot was exported from its database; None: there is none."""
    published_snapshot: str | None = None
    verified: datetime | None = None
    """The same of the newest one whose every byte was read from this store and was right."""
    verified_snapshot: str | None = None
    verified_at: datetime | None = None
    """When that was told to the ledger."""
    restored: datetime | None = None
    """The same of the newest one that was restored."""
    restored_snapshot: str | None = None
    restored_at: datetime | None = None
    recent: tuple[datetime, ...] = ()
    """The newest snapshots, as far as their database is known without reading more; oldest first."""


class SpaceFacts(msgspec.Struct, frozen=True):
    """Bytes."""

    free: int
    total: int


class Change(msgspec.Struct, frozen=True):
    """Something a store was able to do when its repository was made, and what it is now."""

    what: str
    before: str
    now: str
    worse: bool = False
    """Something that was relied on is not there any more."""


class ServerChange(StrEnum):
    """How the store's own snapshots are not what they were."""

    VANISHED = "vanished"
    """There were some; now there are none."""
    FEWER = "fewer"
    MORE = "more"
    STOPPED = "stopped"
    """The newest is older than it should be."""
    LONGER = "longer"
    """The oldest is older than the configuration says that they become."""


class StoreFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One store of a region."""

    store: str
    error: StoreFault | None = None
    """Why nothing else is known."""
    append_only: bool | None = None
    """Whether the writer's account could neither remove nor overwrite when this was tried last."""
    mode: str | None = None
    """What keeps a stolen node from removing backups: `append-only` (the server), `ingest` (it only hands in), or
    `plain` (nothing)."""
    handing: bool = False
    """Whether the configuration has writers hand in what they write, for the keeper to take."""
    handed_in: int = 0
    """Objects that wait for the keeper to take them, of all nodes; what a database published may be among them."""
    handed_since: datetime | None = None
    """Since when the oldest of them waits: what waits for two days and cannot be taken is removed."""
    separate_keeper: bool = False
    """Whether the configuration gives the keeper a credential of its own."""
    databases: tuple[DatabaseFacts, ...] = ()
    space: SpaceFacts | None = None
    server_snapshots: tuple[str, ...] = ()
    server_oldest: datetime | None = None
    server_newest: datetime | None = None
    server_changes: tuple[ServerChange, ...] = ()
    changes: tuple[Change, ...] = ()
    """Of what the store can do."""
    probed: datetime | None = None
    """When that was last tried by writing."""
    ledger_entries: int | None = None
    """Of the region's ledger, on this store."""
    kept: datetime | None = None
    """When a keeper's run last came to its end here."""
    expired: datetime | None = None
    """When an expiry did."""
    verifications: tuple[datetime, ...] = ()
    """When snapshots were newly proven here, oldest first."""


class Promises(msgspec.Struct, frozen=True):
    """What the region must live up to; None: nobody said."""

    rpo: int | None = None
    rto: int | None = None
    drill_every: int | None = None
    repair_slack: int = 0
    """What must be left of a deadline when everything is gone as planned."""
    expiry_gap: int = 0
    """The longest time between two runs of the keeper."""


class DrillFacts(msgspec.Struct, frozen=True):
    """A drill that the ledger tells of."""

    at: datetime
    """When it began."""
    verdict: str


class DueDay(msgspec.Struct, frozen=True):
    """So many lives must be gone everywhere before this instant."""

    deadline: datetime
    lives: int


class JobFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The last run of one kind of job for a region on this machine."""

    kind: str
    started: datetime
    ended: datetime
    outcome: str
    well: bool
    """Whether the work was done."""
    seconds: float = 0.0
    attempt: int = 1
    failure: str = ""
    """The family of the first error."""
    message: str = ""
    hint: str = ""
    final: bool = False
    """It will not be tried again before its next time."""
    good: datetime | None = None
    """When a run last began that did its work."""
    next_at: datetime | None = None
    runs: tuple[tuple[datetime, float, str], ...] = ()
    """The newest runs, oldest first: begin, seconds, outcome."""


class Head(msgspec.Struct, frozen=True):
    """Of the ledger: how many entries, and the last one's hash."""

    seq: int
    head: str | None = None


class RegionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One region."""

    region: str
    at: datetime
    """When this was looked at."""
    stores: tuple[StoreFacts, ...] = ()
    ledger: Head | None = None
    """None: no store could be reached, and this machine has no copy that it may believe."""
    ledger_ahead: int | None = None
    """The number of the ledger's first entry that is dated ahead of this machine's clock, if nobody has said so."""
    founded: datetime | None = None
    """When the repository was made."""
    leaving: int = 0
    """Lives with a date that are not gone everywhere yet."""
    held: int = 0
    """Those of them that a hold keeps."""
    next_deadline: datetime | None = None
    """The nearest of those that nothing keeps."""
    endangered: datetime | None = None
    """From when on one of them is in danger: had all gone as planned, nothing of that life would be left."""
    deadlines: tuple[DueDay, ...] = ()
    late: tuple[dict[str, Any], ...] = ()
    """Lives that are past a date, by opaque id."""
    drilled: datetime | None = None
    """When the newest drill began, whatever it found."""
    proven: datetime | None = None
    """When the newest drill began that passed."""
    drills: tuple[DrillFacts, ...] = ()
    """The newest, oldest first."""
    promises: Promises = Promises()
    jobs: tuple[JobFacts, ...] = ()
    """From this machine's own history, which can be deleted at any time."""


class AlarmSeverity(StrEnum):
    ERROR = "error"
    """A promise is broken, or will be unless somebody does something."""
    WARNING = "warning"
    """Something is not as it should be."""


class AlarmCode(StrEnum):
    """What can be wrong; `model/alerts.py` says of each what it means and what to do."""

    JOB_FAILED = "job-failed"
    JOB_FOUND = "job-found"
    BACKUP_OLD = "backup-old"
    PROOF_STALE = "proof-stale"
    DEADLINE_NEAR = "deadline-near"
    DEADLINE_MISSED = "deadline-missed"
    KEEPER_IDLE = "keeper-idle"
    STORE_UNREACHABLE = "store-unreachable"
    STORE_FULL = "store-full"
    STORE_SNAPSHOTS = "store-snapshots"
    CAPABILITY_CHANGED = "capability-changed"
    LEDGER_BEHIND = "ledger-behind"
    LEDGER_AHEAD = "ledger-ahead"
    NOT_OBSERVED = "not-observed"


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong now. Message and hint follow the grammar of errors."""

    code: AlarmCode
    region: str
    subject: str = ""
    """A store, `store/database` or a kind of job; empty: the region."""
    severity: AlarmSeverity = AlarmSeverity.ERROR
    message: str
    hint: str
    state: str = ""
    """What makes it another alarm of the same kind, as far as people are concerned: they are told anew."""
    patience: int = 0
    """Seconds that it may last before anybody is told: it often passes by itself."""

    @property
    def key(self) -> str:
        return f"{self.code} {self.region} {self.subject}".rstrip()
