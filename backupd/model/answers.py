"""The answers that jobs' commands print with `--json`, as values: the command encodes one, the daemon decodes it.

Both sides use these classes, so that a key has one spelling. Keys are only ever added, and their order stays as it is
here; a key that is absent in some answers is UNSET there. An answer holds no row, no secret and no tenant's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from backupd.model.ids import ObjectName, Pseudonym, RegionName, SnapshotName, TenantId
from backupd.model.ledger import Event, Expired
from backupd.model.report import CheckName, DrillVerdict, Report
from backupd.model.status import Alarm, RegionFacts, StoreFault

Figures: TypeAlias = dict[str, int | str]
Part = TypeVar("Part", bound=msgspec.Struct)

IncarnationAnswer: TypeAlias = tuple[TenantId, int, str]
"""Tenant, number of its incarnation, and the data class with a clock of its own or an empty text."""


class FaultAnswer(msgspec.Struct, frozen=True):
    """One fault of a configuration file, with its place."""

    key: str
    line: int | None
    message: str
    hint: str
    file: str = ""
    """The included file that has it; empty for the main one."""


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An error of one region, store or database, or of the whole command."""

    kind: str
    """The error's family without `Error`: `StoreGone`, `StoreAuth`; `internal` for a fault of backupd itself."""
    exit_code: int
    message: str
    hint: str
    retryable: bool
    faults: tuple[FaultAnswer, ...] | UnsetType = UNSET
    """All faults of a configuration, where there are some."""
    frames: tuple[str, ...] | UnsetType = UNSET
    """Where a fault of backupd itself happened."""


PrintedError: TypeAlias = ErrorAnswer | StoreFault
PlacedError: TypeAlias = tuple[str, PrintedError]
"""Where an error happened (`store`, `store/database`, or an empty text for the whole command), and the error."""


class JobAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The object that a job prints. Each command's answer adds its keys and says which errors and figures it holds."""

    def errors(self) -> Iterable[PlacedError]:
        """Return every error that the answer holds, with its place."""
        return ()

    def figures(self) -> Figures:
        """Return the sums that the run's line in the log and the metrics show; work that was not done has no sum."""
        return {}


class FailedAnswer(JobAnswer, frozen=True, kw_only=True):
    """The answer of a command that could not begin its work, or had to give all of it up."""

    error: ErrorAnswer

    def errors(self) -> Iterable[PlacedError]:
        return (("", self.error),)


class StatusAnswer(JobAnswer, frozen=True, kw_only=True):
    """The answer of `status`: how regions stand, and what is wrong with them."""

    regions: tuple[RegionFacts, ...]
    alarms: tuple[Alarm, ...]

    def errors(self) -> Iterable[PlacedError]:
        return [
            (store.store, store.error) for region in self.regions for store in region.stores if store.error is not None
        ]


class UnreadAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of tables that a backup took over unread, because no block of them had changed."""

    extents: int = 0
    bytes: int = 0
    """Size of the heap blocks of these extents."""
    reason: str = ""
    """Why everything was read; empty where each extent was decided about, and where nothing is to be skipped."""
    told: bool = False
    """Whether the backup before had the same reason, and it is one that stays until somebody changes the server."""
    read: dict[str, int] = {}
    """How many extents were read, by the reason."""
    compared: int = 0
    """Extents that were read only to be compared with what skipping them would have given (an audit)."""
    differences: list[tuple[int, int]] = []
    """The extents that were not the same: oid of the table and first block of each."""

    @property
    def news(self) -> bool:
        """Check whether people do not know yet why everything was read."""
        return bool(self.reason) and not self.told


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a snapshot that was published."""

    snapshot: SnapshotName
    label: str
    exported: str
    generation: str
    tables: int
    segments: int
    rows: int
    left_out: int
    """Rows of purged tenants, which were read and not kept."""
    read: int
    """Bytes of COPY text and files."""
    new: int
    """Of those, bytes in chunks that the generation did not have."""
    sent: int
    """Bytes of objects that were put on the store."""
    objects: int
    held_seconds: float
    """How long the exported snapshot was held."""
    seconds: float
    missing: int = 0
    """Objects of earlier runs that were no longer on the store; when there are any, this is a full copy."""
    unread: UnreadAnswer = UnreadAnswer()
    tries: int = 1
    """Tries that the run needed: all but the last one ended because the database was busy."""


class DatabaseBackup(msgspec.Struct, frozen=True, kw_only=True):
    """The result of backing up one database onto one store: an error or a report; or the error of a region's hook."""

    region: str
    store: str
    """Empty for a hook, as `database` is."""
    database: str
    error: ErrorAnswer | UnsetType = UNSET
    report: BackupReport | UnsetType = UNSET


class BackupAnswer(JobAnswer, frozen=True, kw_only=True):
    """The answer of `backup`."""

    backups: tuple[DatabaseBackup, ...]

    def errors(self) -> Iterable[PlacedError]:
        return [(f"{one.store}/{one.database}", one.error) for one in self.backups if one.error is not UNSET]

    def figures(self) -> Figures:
        reports = [one.report for one in self.backups if one.report is not UNSET]
        sums = _sums(
            {"rows": one.rows, "read": one.read, "new": one.new, "sent": one.sent, "objects": one.objects}
            | ({"unread": one.unread.bytes} if one.unread.bytes else {})
            for one in reports
        )
        why = dict.fromkeys(f"{one.label}: {one.unread.reason}" for one in reports if one.unread.news)
        return {**sums, **({"read_whole": "; ".join(why)} if why else {})}


class StoreIngest(msgspec.Struct, frozen=True, kw_only=True):
    """The result of taking everything that nodes handed in on one store, or the error that prevented it."""

    region: str
    store: str
    error: ErrorAnswer | UnsetType = UNSET
    taken: dict[str, int] | UnsetType = UNSET
    """Number of objects that were moved to their place, by kind."""
    bytes: int | UnsetType = UNSET
    """Bytes of the objects that were taken."""
    dropped: int | UnsetType = UNSET
    """Objects that were removed because they were not needed."""
    waiting: dict[ObjectName, str] | UnsetType = UNSET
    """Objects that are left for the next run by name, each with what it waits for."""
    refused: dict[ObjectName, str] | UnsetType = UNSET
    """Objects that no honest node hands in by name, each with the reason."""


class IngestAnswer(JobAnswer, frozen=True, kw_only=True):
    """The answer of `ingest`."""

    stores: tuple[StoreIngest, ...]

    def errors(self) -> Iterable[PlacedError]:
        return [(one.store, one.error) for one in self.stores if one.error is not UNSET]

    def figures(self) -> Figures:
        return _sums({"bytes": one.bytes} for one in self.stores if one.bytes is not UNSET)


class SyncAnswer(JobAnswer, frozen=True, kw_only=True):
    """The answer of `tenant sync`."""

    tenants: int
    """Number of rows that the query returned."""
    events: tuple[Event, ...]
    """Events that were appended to the ledger."""
    refused: dict[TenantId, str]
    """Tenants whose row asks for something impossible, each with the reason."""
    lingering: tuple[TenantId, ...]
    """Tenants that the application has purged and of which the newest snapshots still hold rows."""

    def figures(self) -> Figures:
        return {"tenants": self.tenants}


class PlannedPurges(msgspec.Struct, frozen=True, kw_only=True):
    """The incarnations of tenants that a purge works on, or would work on."""

    due: tuple[IncarnationAnswer, ...]
    unfinished: tuple[IncarnationAnswer, ...]
    late: tuple[IncarnationAnswer, ...]
    """Incarnations whose purge began or ended long ago, and of which something was found since."""


class StorePurge(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one store after a step of the purge of one incarnation."""

    store: str
    incarnation: IncarnationAnswer
    keyrings: int
    """Keyrings that this run replaced."""
    objects: int
    """Objects that this run removed."""
    bytes: int
    absent: bool
    """Whether the store's own snapshots no longer hold anything of it."""
    waits_for: tuple[str, ...]
    """The store's own snapshots that still hold something of it."""
    looked_into: tuple[str, ...]
    looked_at: datetime | None


class RefusedPurge(msgspec.Struct, frozen=True, kw_only=True):
    """An incarnation that changed since the plan, and was left as it is."""

    incarnation: IncarnationAnswer
    reason: str


class RegionPurge(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a purge in one region; a dry run returns the plan only."""

    region: str
    plan: PlannedPurges
    done: tuple[StorePurge, ...] | UnsetType = UNSET
    refused: tuple[RefusedPurge, ...] | UnsetType = UNSET
    errors: dict[str, ErrorAnswer] | UnsetType = UNSET
    """Errors of the purge by store."""
    forgeries: tuple[str, ...] | UnsetType = UNSET
    """Sentences about listings in keyrings that are forged; nothing was done because of them."""


class PurgeAnswer(JobAnswer, frozen=True, kw_only=True):
    """The answer of `purge`."""

    regions: tuple[RegionPurge, ...]

    def errors(self) -> Iterable[PlacedError]:
        return [placed for one in self.regions if one.errors is not UNSET for placed in one.errors.items()]

    def figures(self) -> Figures:
        done = (step for one in self.regions if one.done is not UNSET for step in one.done)
        return _sums({"objects": step.objects, "bytes": step.bytes} for step in done)


class StoreExpiry(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an expiry on one store, or the error that prevented it."""

    region: str
    store: str
    error: ErrorAnswer | UnsetType = UNSET
    plan: Any = UNSET
    """Every snapshot with the reasons to keep or remove it; the daemon does not read it."""
    expired: Expired | UnsetType | None = UNSET
    """None for a dry run."""


class ExpireAnswer(JobAnswer, frozen=True, kw_only=True):
    """The answer of `expire`."""

    stores: tuple[StoreExpiry, ...]

    def errors(self) -> Iterable[PlacedError]:
        return [(one.store, one.error) for one in self.stores if one.error is not UNSET]

    def figures(self) -> Figures:
        done = (one.expired for one in self.stores if isinstance(one.expired, Expired))
        return _sums({"snapshots": one.snapshots, "objects": one.objects, "bytes": one.bytes} for one in done)


class DamageFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing on a store that is not as a signed record says."""

    object: str
    message: str
    segment: Pseudonym | None


class StoreContents(msgspec.Struct, frozen=True, kw_only=True):
    """The amounts that a verification saw on one store; `operations.verify.Verification` explains each number."""

    region: RegionName
    snapshots: int
    generations: int
    keyrings: int
    packs: int
    sections: int
    size: int
    read: int
    read_size: int
    """Bytes of the packs that were read and checked."""
    opened: int
    orphans: tuple[ObjectName, ...]
    orphans_size: int
    leftovers: tuple[ObjectName, ...]
    foreign: tuple[ObjectName, ...]
    entries: int
    purged: int
    unpurged: int
    aged: int
    proven: tuple[SnapshotName, ...]
    findings: tuple[DamageFinding, ...]
    unnamed_keepers: tuple[str, ...] = ()
    other_help: tuple[ObjectName, ...] = ()
    unfilled: bool = False


class StoreVerification(msgspec.Struct, frozen=True, kw_only=True):
    """The findings on one store, or the error that prevented them; both when only the ledger could not be written."""

    region: str
    store: str
    error: ErrorAnswer | UnsetType = UNSET
    clean: bool | UnsetType = UNSET
    verification: StoreContents | UnsetType = UNSET
    noted: int | UnsetType | None = UNSET
    """Snapshots that the ledger has recorded as proven since; None where this machine does not write the ledger."""


class VerifyAnswer(JobAnswer, frozen=True, kw_only=True):
    """The answer of `verify`."""

    stores: tuple[StoreVerification, ...]

    def errors(self) -> Iterable[PlacedError]:
        return [(one.store, one.error) for one in self.stores if one.error is not UNSET]

    def figures(self) -> Figures:
        found = (one.verification for one in self.stores if one.verification is not UNSET)
        return _sums({"snapshots": one.snapshots, "read": one.read_size} for one in found)


class NamedFindingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a finding of a drill counts, by name; only in the answer of `drill --explain`."""

    check: CheckName
    code: str
    what: str
    details: tuple[str, ...] = ()
    """Lines on how it differs: `- ` before what the snapshot has, `+ ` before what was restored."""


class DrillAnswer(JobAnswer, frozen=True, kw_only=True):
    """The answer of `drill`."""

    verdict: DrillVerdict
    published: bool
    report: Report
    sha256: str | UnsetType = UNSET
    """The hash of the report's document, where it was published."""
    stores: tuple[str, ...] | UnsetType = UNSET
    """The stores that keep the report, where it was published."""
    error: ErrorAnswer | UnsetType = UNSET
    """The error that stopped the drill."""
    unpublished: ErrorAnswer | UnsetType = UNSET
    """The error that prevented publishing the report."""
    named: tuple[NamedFindingAnswer, ...] | UnsetType = UNSET
    """What the findings are about; only with `--explain`."""

    def errors(self) -> Iterable[PlacedError]:
        return [("", error) for error in (self.error, self.unpublished) if error is not UNSET]

    def figures(self) -> Figures:
        sizes = self.report.sizes
        known: Figures = {} if sizes is None else {"rows": sizes.rows, "bytes": sizes.bytes}
        return {**known, "verdict": self.verdict}


def of_value(value: object, answer: type[Part]) -> Part:
    """Copy an operation's own value into the part of an answer that has its fields.

    Raises msgspec.ValidationError when the value lacks one of them: both have to be renamed together.
    """
    return msgspec.convert(value, answer, from_attributes=True)


def decode_answer(printed: object, expected: type[JobAnswer]) -> JobAnswer:
    """Read what a command printed, `expected` being the answer of that command.

    Raises msgspec.ValidationError, with the path of the first difference, when the object is another one.
    """
    whole = isinstance(printed, dict) and printed.keys() == {"error"}
    return msgspec.convert(printed, FailedAnswer if whole else expected)


def _sums(rows: Iterable[dict[str, int]]) -> Figures:
    """Add up each name over all rows; no row, no name."""
    found: dict[str, int] = {}
    for row in rows:
        for name, number in row.items():
            found[name] = found.get(name, 0) + number
    return {**found}
