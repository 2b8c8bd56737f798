"""The report of a restore drill as a value, FORMAT.md §14: what was restored, checked and destroyed, and no name."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from backupd.model.documents import Codec, LedgerHead
from backupd.model.ids import (
    RUN_FORM,
    SNAPSHOT_FORM,
    STAMP_FORM,
    DrillId,
    GenerationId,
    ObjectHash,
    RegionName,
    RepositoryId,
    SnapshotName,
    TenantId,
)
from backupd.model.ledger import Reference

KIND: Final = "report"

_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Hex64 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Stamp = Annotated[str, msgspec.Meta(pattern=rf"\A{STAMP_FORM}\Z")]
_Drill = Annotated[DrillId, msgspec.Meta(pattern=rf"\A{RUN_FORM}\Z")]
_Generation = Annotated[GenerationId, msgspec.Meta(pattern=rf"\A{RUN_FORM}\Z")]
_Snapshot = Annotated[SnapshotName, msgspec.Meta(pattern=rf"\A{SNAPSHOT_FORM}\Z")]
_Label = Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
"""A configured name: of a store, a machine, or the label of a database."""
_Version = Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Za-z.+~-]{1,63}\Z")]
Code = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{1,63}\Z")]
"""A word that this program or a later one wrote; never anything that was read from a database."""


class CheckName(StrEnum):
    """Every check there is, in the order of its number, from 1. A new check needs a feature in `features`."""

    RECORDS = "records"
    AUTHENTIC = "authentic"
    EQUALITY = "equality"
    SEQUENCES = "sequences"
    CONSTRAINTS = "constraints"
    INDEXES = "indexes"
    EXTENSIONS = "extensions"
    GLOBALS = "globals"
    FRESHNESS = "freshness"
    COMPARISON = "comparison"
    ASSERTIONS = "assertions"
    CANARY = "canary"
    PURGED = "purged"
    ESCROW = "escrow"
    OBJECTIVES = "objectives"
    DAMAGE = "damage"
    DISPOSAL = "disposal"

    @property
    def number(self) -> int:
        """The check's number, from 1."""
        return list(CheckName).index(self) + 1


DrillVerdict = Literal["pass", "fail", "error"]
"""`error` is no verdict about the backup: the drill could not find out."""
DrillType = Literal["automatic", "human", "damage"]
"""In a `damage` drill a fetched copy was damaged on purpose, and the drill had to notice."""

PROVING: Final = (CheckName.RECORDS, CheckName.AUTHENTIC, CheckName.EQUALITY)
"""Checks without which nothing was proven; a drill of type `damage` needs the check of that name instead."""


class CheckFinding(msgspec.Struct, frozen=True):
    """One result of a check, or the reason why it was skipped, and how often it occurred."""

    code: Code
    count: _Count = 1


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check; `Check.of` fills in its number."""

    number: Annotated[int, msgspec.Meta(ge=1, le=99)]
    name: CheckName
    verdict: Literal["pass", "fail", "error", "skip"]
    examined: _Count = 0
    """How many things were looked at: segments, sequences, constraints."""
    findings: list[CheckFinding] = []

    @classmethod
    def of(
        cls,
        name: CheckName,
        verdict: Literal["pass", "fail", "error", "skip"],
        examined: int = 0,
        findings: Iterable[CheckFinding] = (),
    ) -> Check:
        """Make the result of the check `name`, with its number."""
        return cls(number=name.number, name=name, verdict=verdict, examined=examined, findings=list(findings))


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of the programs that took part; PostgreSQL's are null where the drill ended before it used them."""

    backupd: _Version
    server: _Version | None = None
    """Version of the scratch server."""
    client: _Version | None = None
    """Version of pg_restore, the client program."""


class Population(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshots from which one was chosen."""

    number: _Count
    oldest: _Stamp
    newest: _Stamp


class DrillSelection(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot that was restored, from which store, and why this one was chosen."""

    snapshot: _Snapshot
    store: _Label
    database: _Label
    exported: _Stamp
    generation: _Generation
    rule: Code
    """How it was chosen: `latest`, `oldest`, `random` or `named`."""
    seed: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{1,64}\Z")] | None = None
    """With the seed and the population anybody makes the same choice; null where the rule needs no seed."""
    population: Population
    tenants: _Count | None = None
    """How many tenants' segments were restored, besides shared ones; null: all."""
    tenant: Annotated[TenantId, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")] | None = None
    """The ledger's id of the tenant, in a drill of one tenant; null also where the machine has no tenant key."""


class Objectives(msgspec.Struct, frozen=True, kw_only=True):
    """The objectives in force when the drill ran, in seconds; null where nothing was promised."""

    rpo: _Count | None = None
    rto: _Count | None = None
    drill_every: _Count | None = None
    """The longest time between two drills."""
    approval: Reference | None = None
    """The number of the decision that set the objectives."""


class Phase(msgspec.Struct, frozen=True):
    """One phase of the drill and its duration in milliseconds; phases are listed in the order in which they ran."""

    name: Code
    """`queue`, `fetch`, `keys`, `restore`, `ledger`, `verify`, `canary` or `disposal`."""
    ms: _Count


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Measured times in seconds, rounded up; null where the drill ended before it could measure."""

    rpo: _Count | None = None
    """From the newest restorable snapshot to the drill's beginning."""
    rto: _Count | None = None
    """From the drill's beginning to a restored and checked database."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """The amounts that were restored, and those that were fetched for it."""

    rows: _Count
    bytes: _Count
    """Bytes of COPY text."""
    segments: _Count
    objects: _Count
    """Number of objects fetched from the store."""
    fetched: _Count
    """Bytes of the fetched objects."""


class Canary(msgspec.Struct, frozen=True):
    """A tenant of the snapshot that is treated as purged by a ledger in memory only, which a second restore obeys."""

    resurrected: bool
    """Whether its rows were in the database that was restored first."""
    removed: bool
    """Whether none of its rows was in the second database."""


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """The remains of purged tenants: none, when `absent` equals `purged` and `refused` equals `attempted`."""

    ledger: LedgerHead
    """The ledger that the restore obeyed."""
    purged: _Count
    """Segments of purged tenants in the snapshot."""
    absent: _Count
    """Purged segments of which no row was restored."""
    attempted: _Count
    """Attempts to open what is left of them on the store."""
    refused: _Count
    """Attempts that failed, as they must."""
    canary: Canary | None = None


class Disposed(msgspec.Struct, frozen=True):
    """One thing that the drill made and destroyed."""

    what: Code
    """`scratch-server`, `data-folder`, `keys`, `spool`, `database` or `roles`."""
    how: Code
    """How it was seen to be gone: `process-gone`, `listed-absent` or `never-on-disk`."""


class Disposal(msgspec.Struct, frozen=True, kw_only=True):
    """The things that the drill destroyed: its own, and those of earlier drills that crashed."""

    destroyed: list[Disposed]
    leftovers: _Count = 0
    """Things of earlier drills that were found and removed."""
    remaining: _Count = 0
    """Things that could not be removed."""


class PreviousReport(msgspec.Struct, frozen=True):
    """The preceding report in the region's chain."""

    drill: _Drill
    sha256: Annotated[ObjectHash, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a report; `previous` and `performer` are filled in when it is published."""

    kind: str = KIND
    format: int = 2
    features: list[str] = []
    repository: Annotated[RepositoryId, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    region: Annotated[RegionName, msgspec.Meta(pattern=r"\A[a-z][a-z0-9-]{0,62}\Z")]
    drill: _Drill
    type: DrillType
    trigger: Code
    """What started the drill: `timetable`, `catch-up` or `command`."""
    scheduled: _Stamp | None = None
    """When the drill was due; null when somebody asked for it."""
    started: _Stamp
    finished: _Stamp
    machine: _Label
    location: _Label | None = None
    """Where the machine stands, as configured."""
    versions: Versions
    selection: DrillSelection | None
    """Null when the drill ended before it had chosen."""
    objectives: Objectives
    phases: list[Phase]
    measured: Measured
    checks: list[Check]
    """Every check there is, in order; checks that were not made are listed as skipped."""
    sizes: Sizes | None
    deletion: Deletion | None
    disposal: Disposal
    verdict: DrillVerdict
    previous: PreviousReport | None = None
    retest_of: _Drill | None = None
    """The failed drill that this one repeats."""
    supersedes: _Drill | None = None
    """The report that this one corrects, which stays where it is."""
    performer: _Hex64 = "0" * 64
    """Public key of the keeper that signed it."""

    @property
    def whole(self) -> bool:
        """True when the report is about a whole snapshot: a drill of one tenant proves nothing of the others."""
        return self.selection is None or self.selection.tenants is None


def every_check(made: Iterable[Check], because: str = "not-reached") -> list[Check]:
    """Return all checks in the order of their numbers.

    A check that was not made is listed as skipped, with the finding `because`.
    """
    done = {check.name: check for check in made}
    return [done.get(name) or Check.of(name, "skip", 0, [CheckFinding(because)]) for name in CheckName]


def verdict_of(checks: Iterable[Check], kind: DrillType) -> DrillVerdict:
    """Return the verdict that follows from the checks: a failed check fails the drill.

    Otherwise the drill passes if every check that proves something passed and none ended in an error.
    """
    verdicts = {check.name: check.verdict for check in checks}
    if "fail" in verdicts.values():
        return "fail"
    proving = (CheckName.DAMAGE,) if kind == "damage" else PROVING
    if "error" in verdicts.values() or any(verdicts.get(name) != "pass" for name in proving):
        return "error"
    return "pass"


_CODEC: Final = Codec(KIND, Report)
encode_report = _CODEC.encode
decode_report = _CODEC.decode
