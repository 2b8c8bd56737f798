"""The choice of the snapshot to restore, and of its segments, decided from facts that were fetched before. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from backupd.errors import DamageError, EverythingPurgedError, UsageError
from backupd.model.documents import REDUCED, Record
from backupd.model.ids import ClassTag, Pseudonym, SnapshotName
from backupd.model.tenancy import SegmentName
from backupd.model.text import counted, did_you_mean, parse_stamp
from backupd.planning.ledger_facts import Explained

LATEST = "latest"

_ID = re.compile(r"[0-9]{8}T[0-9]*Z?(?:-[0-9a-f]*)?|[0-9a-f]{6,64}")
"""The beginning of a snapshot's name, time of day included, or at least six digits of its hash."""
STRUCTURE = "structure"
"""The class of schemas, roles and facts (FORMAT.md §7): a database needs them, so that every selection takes them."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a snapshot that is restored; an empty set means everything.

    Shared segments are restored with a tenant's, because its rows refer to them.
    """

    tenants: frozenset[str] = field(default=frozenset(), repr=False)
    classes: frozenset[str] = frozenset()
    tables: tuple[str, ...] = ()
    """Shell-style patterns over `schema.table`."""
    if_there: bool = False
    """Whether a pattern beside others may fit no table: a drill also asks for what a purge should have taken."""

    @property
    def everything(self) -> bool:
        """True when nothing of a snapshot is left out."""
        return not (self.tenants or self.classes or self.tables)

    @property
    def closed(self) -> bool:
        """True when no selected row refers to a row that is left out, because all classes and tables are selected."""
        return not (self.classes or self.tables)

    def takes_segment(self, name: SegmentName) -> bool:
        """Check whether anything of the segment is wanted."""
        if self.tenants and name.tenant is not None and name.tenant not in self.tenants:
            return False
        return not self.classes or name.data_class in (*self.classes, STRUCTURE)

    def takes_table(self, schema: str, table: str) -> bool:
        """Check whether rows of the table are wanted; its structure always is."""
        return not self.tables or any(fnmatchcase(f"{schema}.{table}", pattern) for pattern in self.tables)

    def unfit(self, tables: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """Return the patterns that have to fit, and fit none of these tables, given by schema and name."""
        if self.if_there:
            return ()
        names = [f"{schema}.{table}" for schema, table in tables]
        return tuple(one for one in self.tables if not any(fnmatchcase(name, one) for name in names))

    def require_found(self, names: set[SegmentName]) -> None:
        """Check that every tenant and class asked for is among the segments of a snapshot.

        Raises UsageError when one is not.
        """
        missing = self.tenants - {name.tenant for name in names}
        if missing:
            raise UsageError(
                f"the snapshot holds nothing of {len(missing)} of {counted(len(self.tenants), 'tenant')} asked for",
                hint="Names are as in the database's tenant column or pattern; a purged tenant is in no snapshot.",
            )
        unknown = self.classes - {name.data_class for name in names}
        if unknown:
            raise UsageError(
                f"the snapshot holds nothing of class {', '.join(sorted(unknown))}",
                hint=did_you_mean(min(unknown), sorted({name.data_class for name in names} - {STRUCTURE})),
            )


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """A request to restore: which snapshot, and which part of it."""

    label: str
    """The configured label of the database."""
    snapshot: str
    """`latest`, the beginning of a snapshot's name or hash, or a time."""
    member: str | None = field(default=None, repr=False)
    """The real name of one of several databases under the label."""
    selection: Selection = field(default_factory=Selection)

    @property
    def names_one(self) -> bool:
        """True when the request names one snapshot; otherwise it means the newest that fits."""
        return _ID.fullmatch(self.snapshot) is not None


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """The facts about one segment of a snapshot from packs and keyrings; a purged segment has none of them."""

    name: SegmentName | None = field(default=None, repr=False)
    """None where the identity has no key of the segment."""
    data_class: ClassTag | None = None
    """None where no keyring lists the segment."""
    missing: DamageError | None = None
    """The error to raise where a section that the record names is not there, unless the ledger explains that."""
    shredded: DamageError | None = None
    """The error to raise where a keyring lists the segment and no longer holds its key, unless the ledger explains
    that."""


@dataclass(frozen=True, slots=True)
class SelectionFacts:
    """The facts about the snapshots that fit a request, as fetched from a store for the decision."""

    snapshots: Mapping[SnapshotName, Record]
    """Records that fit, whose signatures were checked."""
    explained: Explained
    """The absences that the store's ledger explains."""
    segments: Mapping[Pseudonym, SegmentFacts] = field(default_factory=dict)
    """Every segment of the snapshot that `meant_snapshot` returns, in the order in which they are to be read."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen snapshot, and its segments without those that the ledger excludes and those not asked for."""

    snapshot: SnapshotName
    record: Record
    segments: tuple[Pseudonym, ...]
    """The segments to be restored."""
    purged: int = 0
    """Segments left out because a purge lists them, whether or not their keys and bytes are still there."""
    aged: int = 0
    """Segments left out because they expired with the age of their class."""
    unselected: int = 0
    """Segments left out because they are not asked for."""
    partial: bool = False
    """Whether only a selection is restored."""

    @property
    def exact(self) -> bool:
        """True when the record's totals are those of the segments to be restored."""
        return not (self.purged or self.aged or self.partial or REDUCED in self.record.extra)


def decide(request: SnapshotRequest, facts: SelectionFacts) -> Choice:
    """Decide which snapshot and which of its segments are restored.

    Raises UsageError when no snapshot fits, several do, or one holds nothing of what is asked for, DamageError when a
    section or key is missing that the ledger does not explain, or segments are not apart, and EverythingPurgedError
    when nothing is left.
    """
    name = meant_snapshot(request, facts.snapshots)
    record = facts.snapshots[name]
    left = unpurged(record, facts.segments, facts.explained)
    taken = left if request.selection.everything else _selected(request.selection, left, facts.segments)
    kept = [segment for segment in taken if _is_kept(record, facts.segments[segment], facts.explained)]
    _require_apart([facts.segments[segment].name for segment in kept])
    purged = len(facts.segments) - len(left)
    if purged and not kept:
        raise EverythingPurgedError(
            f"everything in snapshot '{name}' was purged", hint="There is nothing left to restore."
        )
    return Choice(
        name,
        record,
        tuple(kept),
        purged=purged,
        aged=len(taken) - len(kept),
        unselected=len(left) - len(taken),
        partial=not request.selection.everything,
    )


def meant_snapshot(request: SnapshotRequest, snapshots: Mapping[SnapshotName, Record]) -> SnapshotName:
    """Return which of the snapshots that fit is meant: the newest, unless the request names one.

    Raises UsageError when there is none, or when the request names one and several fit.
    """
    if not snapshots:
        raise UsageError(
            f"no snapshot of '{request.label}' fits what is asked for",
            hint="`backupd snapshots` lists what there is.",
        )
    if request.names_one and len(snapshots) > 1:
        raise UsageError("several snapshots begin like that", hint="Give more of the snapshot's name.")
    # A name shows only the second of the export: within the newest second, the records decide.
    return max(reversed(list(snapshots)), key=lambda name: snapshots[name].exported)


def fits(request: SnapshotRequest, record: Record, called: str | None = None) -> bool:
    """Check whether a snapshot of the label is of the database that the request means.

    `called` is the database's real name; None where it is unknown, because nobody asks for a member or nothing of the
    snapshot is left. Raises UsageError when the label stands for several databases and the request names none.
    """
    if request.member is not None:
        return called == request.member
    if record.member is not None and not request.names_one:
        raise UsageError(
            f"'{request.label}' stands for several databases", hint="Say which, or give the name of a snapshot."
        )
    return True


def unpurged(record: Record, segments: Iterable[Pseudonym], explained: Explained) -> list[Pseudonym]:
    """Return those segments of a record that no purge lists, in their order."""
    gone = explained.purged_in(record.generation)
    return [segment for segment in segments if segment not in gone]


def candidates(names: Sequence[SnapshotName], wanted: str) -> tuple[list[SnapshotName], bool]:
    """Return the snapshots that `wanted` can mean, newest first, and whether it names a single one.

    `wanted` is `latest`, the beginning of a snapshot's name or of its hash, or a time (ISO 8601; UTC unless it says
    otherwise), which means the newest snapshot at or before it. `names` are oldest first. Raises UsageError for
    anything else.
    """
    newest_first = list(reversed(names))
    if wanted == LATEST:
        return newest_first, False
    if _ID.fullmatch(wanted):
        return [name for name in newest_first if name.startswith(wanted) or _hash(name).startswith(wanted)], True
    instant = _instant(wanted)
    return [name for name in newest_first if time_of(name) <= instant], False


def same_second(one: SnapshotName, other: SnapshotName) -> bool:
    """Check whether only the hash orders the two names."""
    return time_of(one) == time_of(other)


def time_of(name: SnapshotName) -> datetime:
    """Return when the snapshot was exported, rounded down to the second."""
    return datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _selected(
    selection: Selection, segments: Iterable[Pseudonym], facts: Mapping[Pseudonym, SegmentFacts]
) -> list[Pseudonym]:
    """Return the wanted segments; those whose key is missing stay, and are judged later."""
    named = [(segment, facts[segment].name) for segment in segments]
    selection.require_found({name for _, name in named if name is not None})
    return [segment for segment, name in named if name is None or selection.takes_segment(name)]


def _require_apart(names: Iterable[SegmentName | None]) -> None:
    """Raise DamageError unless the segments are of one database, and no two of one tenant in one class."""
    known = [name for name in names if name is not None]
    if len({name.database for name in known}) > 1 or len(set(known)) < len(known):
        raise DamageError("the segments of the snapshot contradict each other about whose they are")


def _is_kept(record: Record, segment: SegmentFacts, explained: Explained) -> bool:
    """Check whether all of a segment is there; only the age of its class explains that it is not.

    Raises DamageError otherwise, and where its key is missing: a purge would explain that, and none lists it.
    """
    if segment.missing is not None:
        if explained.is_aged(record.generation, segment.data_class, parse_stamp(record.exported)):
            return False
        raise segment.missing
    if segment.shredded is not None:
        raise segment.shredded
    return True


def _hash(name: SnapshotName) -> str:
    return name.partition("-")[2]


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            "the snapshot wanted is neither a snapshot's name, nor a time, nor 'latest'",
            hint="`backupd snapshots` lists the names; a time is written like 2026-03-31T14:00 (UTC).",
        ) from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
