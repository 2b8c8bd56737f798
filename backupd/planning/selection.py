"""Which snapshot is meant, and what of it is restored: decided from facts that were fetched before. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import msgspec

from backupd.errors import DamageError, RefusedError, UsageError
from backupd.model.documents import REDUCED, PartRef, Record
from backupd.model.ids import ClassTag, Pseudonym, SnapshotName
from backupd.model.tenancy import SegmentName
from backupd.model.text import parse_stamp
from backupd.planning.ledger_facts import Explained

LATEST = "latest"

_ID = re.compile(r"[0-9]{8}T[0-9]*Z?(?:-[0-9a-f]*)?|[0-9a-f]{6,64}")
"""The beginning of a snapshot's name, time of day included, or at least six digits of its hash."""
STRUCTURE = "structure"
"""The class of schemas, roles and facts (FORMAT.md §7): a database needs them whatever else is wanted."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Empty sets mean everything. Shared segments come with a tenant's: its rows refer to theirs."""

    tenants: frozenset[str] = field(default=frozenset(), repr=False)
    classes: frozenset[str] = frozenset()
    tables: tuple[str, ...] = ()
    """Shell-style patterns over `schema.table`."""

    @property
    def everything(self) -> bool:
        return not (self.tenants or self.classes or self.tables)

    @property
    def closed(self) -> bool:
        """Whether what is selected refers to nothing that is not: whole tables are left out of it otherwise."""
        return not (self.classes or self.tables)

    def takes_segment(self, name: SegmentName) -> bool:
        """Whether anything of the segment is wanted."""
        if self.tenants and name.tenant is not None and name.tenant not in self.tenants:
            return False
        return not self.classes or name.data_class in (*self.classes, STRUCTURE)

    def takes_table(self, schema: str, table: str) -> bool:
        """Whether rows of the table are wanted; its structure always is."""
        return not self.tables or any(fnmatchcase(f"{schema}.{table}", pattern) for pattern in self.tables)

    def require_found(self, names: set[SegmentName]) -> None:
        """Raises UsageError when a tenant or class is not among the segments a snapshot has."""
        missing = self.tenants - {name.tenant for name in names}
        if missing:
            raise UsageError(
                f"the snapshot holds nothing of {len(missing)} of the tenants asked for",
                hint="Names are as in the database's tenant column or pattern; a purged tenant is in no snapshot.",
            )
        unknown = self.classes - {name.data_class for name in names}
        if unknown:
            raise UsageError(
                f"the snapshot holds nothing of class {', '.join(sorted(unknown))}",
                hint="Classes are those of the configuration when the snapshot was made.",
            )


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """Which snapshot somebody asks for, and what of it."""

    label: str
    """The database's configured label."""
    snapshot: str
    """`latest`, the beginning of a snapshot's name or hash, or a time."""
    member: str | None = field(default=None, repr=False)
    """Real name of one of several databases under the label."""
    selection: Selection = field(default_factory=Selection)

    @property
    def names_one(self) -> bool:
        """Whether one snapshot is named; else the newest that fits is meant."""
        return _ID.fullmatch(self.snapshot) is not None


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What a generation's keyrings say of one segment."""

    name: SegmentName | None = field(default=None, repr=False)
    """None where the identity has no key of it."""
    data_class: ClassTag | None = None
    """None where no keyring lists it."""
    shredded: DamageError | None = None
    """What to raise where a keyring lists the segment and no longer holds its key, unless the ledger explains it."""


@dataclass(frozen=True, slots=True)
class SelectionFacts:
    """What a store holds of the snapshots that fit a request, as far as a decision needs it."""

    snapshots: Mapping[SnapshotName, Record]
    """Records that fit, each believed."""
    explained: Explained
    """What its ledger says may be missing."""
    segments: Mapping[Pseudonym, SegmentFacts] = field(default_factory=dict)
    """Of the snapshot that `meant` names."""
    gone: frozenset[PartRef] = frozenset()
    """Those of the parts that `doubtful` names which are not on the store, or lack a container they need."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A snapshot, less what the ledger says of it and what is not asked for."""

    snapshot: SnapshotName
    record: Record
    """With the parts to be restored only."""
    purged: int = 0
    """Segments left out because a purge lists them, whether or not their keys and bytes are still there."""
    aged: int = 0
    """Parts left out because they went with the age of their class."""
    unselected: int = 0
    """Segments left out because they are not asked for."""
    partial: bool = False
    """Whether only a selection is restored."""

    @property
    def exact(self) -> bool:
        """Whether the record's totals are those of its parts."""
        return not (self.purged or self.aged or self.partial or REDUCED in self.record.extra)


def decide(request: SnapshotRequest, facts: SelectionFacts) -> Choice:
    """Decide what is restored.

    Raises UsageError when no snapshot fits, several do, or one holds nothing of what is asked for, DamageError when a
    key is missing that no purge explains, and RefusedError when everything was purged.
    """
    taken = _taken(request, facts)
    gone = facts.gone.intersection(_aged(taken, facts))
    kept = [part for part in taken.record.parts if part not in gone]
    if taken.purged and not kept:
        raise RefusedError(
            f"everything in snapshot '{taken.snapshot}' was purged", hint="There is nothing left to restore."
        )
    return replace(taken, record=_with(taken.record, kept), aged=len(gone))


def doubtful(request: SnapshotRequest, facts: SelectionFacts) -> list[PartRef]:
    """The parts that may have gone with the age of their class: whether they are there is the last fact to fetch.

    Raises what `decide` raises, but RefusedError.
    """
    return _aged(_taken(request, facts), facts)


def meant(request: SnapshotRequest, snapshots: Mapping[SnapshotName, Record]) -> SnapshotName:
    """Which of the snapshots that fit is meant: the newest, unless one is named.

    Raises UsageError when there is none, or when one is named and several fit.
    """
    if not snapshots:
        raise UsageError(
            f"no snapshot of '{request.label}' fits what is asked for",
            hint="`backupd snapshots` lists what there is.",
        )
    if request.names_one and len(snapshots) > 1:
        raise UsageError("several snapshots begin like that", hint="Give more of the snapshot's name.")
    # A name tells the second only: of several that fit, those of the newest second are told apart by their records.
    return max(reversed(list(snapshots)), key=lambda name: snapshots[name].exported)


def fits(request: SnapshotRequest, record: Record, called: str | None = None) -> bool:
    """Whether a snapshot of the label is of the database that is meant.

    `called` is the database's real name; None where it is not known, because nobody asks for a member or nothing of the
    snapshot is left. Raises UsageError when the label stands for several databases and none is named.
    """
    if request.member is not None:
        return called == request.member
    if record.member is not None and not request.names_one:
        raise UsageError(
            f"'{request.label}' stands for several databases", hint="Say which, or give the name of a snapshot."
        )
    return True


def unpurged(record: Record, explained: Explained) -> list[PartRef]:
    """The parts whose segments no purge lists."""
    gone = explained.purged_in(record.generation)
    return [part for part in record.parts if part[0] not in gone]


def candidates(names: Sequence[SnapshotName], wanted: str) -> tuple[list[SnapshotName], bool]:
    """Snapshots `wanted` can mean, newest first, and whether it names one: else the newest that fits is meant.

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
    """Whether nothing but the hash orders the two names."""
    return time_of(one) == time_of(other)


def time_of(name: SnapshotName) -> datetime:
    """When it was exported, to the second before."""
    return datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _taken(request: SnapshotRequest, facts: SelectionFacts) -> Choice:
    """The snapshot that is meant, without what was purged and what is not asked for; with a key for all the rest."""
    name = meant(request, facts.snapshots)
    record = facts.snapshots[name]
    left = unpurged(record, facts.explained)
    kept = left if request.selection.everything else _selected(request.selection, left, facts.segments)
    for segment, _, _ in kept:
        if (fault := facts.segments[segment].shredded) is not None:
            raise fault
    return Choice(
        name,
        _with(record, kept),
        purged=len(record.parts) - len(left),
        unselected=len(left) - len(kept),
        partial=not request.selection.everything,
    )


def _selected(
    selection: Selection, parts: Iterable[PartRef], segments: Mapping[Pseudonym, SegmentFacts]
) -> list[PartRef]:
    """Only the segments that are wanted; those whose key is gone are judged later."""
    named = [(part, segments[part[0]].name) for part in parts]
    selection.require_found({name for _, name in named if name is not None})
    return [part for part, name in named if name is None or selection.takes_segment(name)]


def _aged(taken: Choice, facts: SelectionFacts) -> list[PartRef]:
    record = taken.record
    exported = parse_stamp(record.exported)
    return [
        part
        for part in record.parts
        if facts.explained.is_aged(record.generation, facts.segments[part[0]].data_class, exported)
    ]


def _with(record: Record, parts: list[PartRef]) -> Record:
    return msgspec.structs.replace(record, parts=parts)


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
