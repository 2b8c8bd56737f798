"""Facts about regions, stores and jobs, as `status --json` prints them and as pages and metrics show them.

Instants are UTC, spans are seconds. No fact holds a tenant's name, a row or a secret. Keys are only ever added.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec


class StoreFault(msgspec.Struct, frozen=True):
    """The error of a store that could not be reached: the keys of `answers.ErrorAnswer`, in the order of `status`."""

    kind: str
    message: str
    hint: str = ""
    retryable: bool = False
    exit_code: int = 1


class UnreadFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of one database's tables that this machine's backups to one store do not read."""

    bytes: int = 0
    """Size of what the last backup took over unread."""
    reason: str = ""
    """Why the last backup read everything; empty where it did not."""
    audited: datetime | None = None
    """When everything was last compared with what would have been taken over, or first read."""
    distrusted: bool = False
    """Whether that found a difference, so that snapshots before may lack changes. Nothing is taken over since."""


class DatabaseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One database on one store: three ages that are never mixed, each of a snapshot of its own."""

    label: str
    published: datetime | None = None
    """When the newest snapshot was exported from its database; None when there is none."""
    published_snapshot: str | None = None
    verified: datetime | None = None
    """The same for the newest snapshot whose every byte was read from this store and was right."""
    verified_snapshot: str | None = None
    verified_at: datetime | None = None
    """When the ledger first said that it was verified."""
    restored: datetime | None = None
    """The same for the newest snapshot that was restored."""
    restored_snapshot: str | None = None
    restored_at: datetime | None = None
    unread: UnreadFacts | None = None
    """None where this machine makes no backups of the database to the store, or they read everything by choice."""
    recent: tuple[datetime, ...] = ()
    """The newest snapshots, as far as their database is known without reading more; oldest first."""


class SpaceFacts(msgspec.Struct, frozen=True):
    """The room of a store, in bytes."""

    free: int
    total: int


class Change(msgspec.Struct, frozen=True):
    """A capability of a store that differs from what its repository says: from `init`, or accepted since."""

    what: str
    before: str
    now: str
    worse: bool = False
    """Whether a capability that was relied on is lost."""


class ServerChange(StrEnum):
    """The ways in which the store's own snapshots can change."""

    VANISHED = "vanished"
    """There were some before, and there are none now."""
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
    """Differences in what the store can do."""
    unnamed_signers: tuple[str, ...] = ()
    """Public keys of trusted signers whom the store's repository does not name: they joined after it was made."""
    probed: datetime | None = None
    """When the store was last probed by writing."""
    ledger_entries: int | None = None
    """The number of entries of the region's ledger on this store."""
    kept: datetime | None = None
    """When a keeper's run on this store last ended."""
    expired: datetime | None = None
    """When an expiry on this store last ended."""
    verifications: tuple[datetime, ...] = ()
    """When snapshots were newly proven on this store, oldest first."""


class Promises(msgspec.Struct, frozen=True):
    """The promises of a region, in seconds; None for one that is not configured."""

    rpo: int | None = None
    rto: int | None = None
    drill_every: int | None = None
    repair_slack: int = 0
    """The time that must be left before a deadline when everything is gone as planned."""
    expiry_gap: int = 0
    """The longest time between two runs of the keeper."""
    backup_every: int | None = None
    """The longest time between two backups by the timetable: twice that is too old where no `rpo` is promised."""

    @property
    def greatest_age(self) -> timedelta | None:
        """Return the age up to which a newest snapshot is well; None where nothing says."""
        if self.rpo is not None:
            return timedelta(seconds=self.rpo)
        return None if self.backup_every is None else 2 * timedelta(seconds=self.backup_every)


class DrillFacts(msgspec.Struct, frozen=True):
    """A drill that stands in the ledger."""

    at: datetime
    """When the drill began."""
    verdict: str


class DueDay(msgspec.Struct, frozen=True):
    """A deadline, with the number of incarnations that must be gone everywhere before it."""

    deadline: datetime
    incarnations: int


class JobFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The last run of one kind of job for a region on this machine."""

    kind: str
    started: datetime
    ended: datetime
    outcome: str
    well: bool
    """Whether the run did its work."""
    seconds: float = 0.0
    attempt: int = 1
    failure: str = ""
    """The kind of the first error."""
    message: str = ""
    hint: str = ""
    final: bool = False
    """Whether it is not tried again before its next regular time."""
    good: datetime | None = None
    """When the last run that did its work began."""
    next_at: datetime | None = None
    runs: tuple[tuple[datetime, float, str], ...] = ()
    """The newest runs, oldest first, each with begin, seconds and outcome."""


class Head(msgspec.Struct, frozen=True):
    """The end of the ledger: the number of entries, and the hash of the last one."""

    seq: int
    head: str | None = None


class RegionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one region."""

    region: str
    at: datetime
    """When the region was observed."""
    stores: tuple[StoreFacts, ...] = ()
    ledger: Head | None = None
    """None when no store could be reached and this machine has no copy that it may believe."""
    ledger_ahead: int | None = None
    """The number of the ledger's first entry that is dated ahead of this machine's clock, if nobody has said so."""
    founded: datetime | None = None
    """When the region's first repository was made."""
    leaving: int = 0
    """Incarnations with a date that are not gone everywhere yet."""
    held: int = 0
    """Leaving incarnations that a hold keeps."""
    next_deadline: datetime | None = None
    """The nearest deadline of an incarnation that no hold keeps."""
    endangered: datetime | None = None
    """When the first deadline comes into danger: as planned, nothing of that incarnation would be left by then."""
    deadlines: tuple[DueDay, ...] = ()
    late: tuple[dict[str, Any], ...] = ()
    """Incarnations that are past a date, by opaque id of the tenant."""
    drilled: datetime | None = None
    """When the newest drill began, passed or not."""
    proven: datetime | None = None
    """When the newest drill that passed began."""
    drills: tuple[DrillFacts, ...] = ()
    """The newest drills, oldest first."""
    promises: Promises = Promises()
    jobs: tuple[JobFacts, ...] = ()
    """From this machine's own history, which can be deleted at any time."""


class AlarmSeverity(StrEnum):
    ERROR = "error"
    """A promise is broken, or will be unless somebody does something."""
    WARNING = "warning"
    """Something is not as it should be."""


class AlarmCode(StrEnum):
    """Codes of everything that can be wrong; `model/alerts.py` explains each, with advice."""

    JOB_FAILED = "job-failed"
    JOB_FOUND = "job-found"
    BACKUP_OLD = "backup-old"
    UNREAD_DIFFERS = "unread-differs"
    PROOF_STALE = "proof-stale"
    DEADLINE_NEAR = "deadline-near"
    DEADLINE_MISSED = "deadline-missed"
    KEEPER_IDLE = "keeper-idle"
    STORE_UNREACHABLE = "store-unreachable"
    STORE_FULL = "store-full"
    STORE_SNAPSHOTS = "store-snapshots"
    CAPABILITY_CHANGED = "capability-changed"
    SIGNER_UNNAMED = "signer-unnamed"
    LEDGER_BEHIND = "ledger-behind"
    LEDGER_AHEAD = "ledger-ahead"
    CLOCK_BEHIND = "clock-behind"
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
    """A text whose change makes it a new alarm of the same kind, about which people get another message."""
    patience: int = 0
    """Seconds that it must last before a message is sent, because it often passes by itself."""

    @property
    def key(self) -> str:
        return f"{self.code} {self.region} {self.subject}".rstrip()
