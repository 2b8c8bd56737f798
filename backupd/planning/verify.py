"""What verify compares and what it chooses to read. Pure: listings, records and headers in, findings out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from backupd.errors import UsageError
from backupd.model.ids import ObjectHash, ObjectName, Pseudonym, SnapshotName


@dataclass(frozen=True, slots=True, order=True)
class Mismatch:
    """One thing that is not as a signed record says."""

    object: str
    """Its name on the store."""
    message: str
    """Lower case, no full stop; quotes no content and no name of a tenant."""
    segment: Pseudonym | None = None

    @property
    def sentence(self) -> str:
        """With its object, which some messages quote already, and its segment."""
        where = "" if f"'{self.object}'" in self.message else f"'{self.object}' "
        return f"{where}{self.message}" + (f" (segment {self.segment})" if self.segment else "")


class ContainerKey(NamedTuple):
    """A container within one generation."""

    segment: Pseudonym
    sha256: ObjectHash


class Stored(NamedTuple):
    """A container the listing of a generation shows."""

    name: ObjectName
    kind: str
    """`pack` or `part`."""
    size: int


class Wanted(NamedTuple):
    """A container that a record or a part names."""

    key: ContainerKey
    size: int
    by: str
    """The name of the object that says so."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A generation's listing held against what is needed of it."""

    findings: dict[ContainerKey, Mismatch]
    """One for each that is not sound."""
    sound: dict[ContainerKey, Stored]
    """Needed, there, and of the right size."""
    missing: set[ContainerKey]
    """Needed, and not there: the ledger may say why."""

    @property
    def damaged(self) -> set[ContainerKey]:
        """Needed, and not sound."""
        return set(self.findings)


def compare(wanted: Iterable[Wanted], stored: Mapping[ContainerKey, Stored]) -> Comparison:
    """Every needed container against the listing; each is judged once however many need it."""
    findings: dict[ContainerKey, Mismatch] = {}
    sound: dict[ContainerKey, Stored] = {}
    folders: dict[ObjectHash, Pseudonym] | None = None
    for key, size, by in wanted:
        found = stored.get(key)
        if key in findings:
            continue
        if found is None:
            folders = folders if folders is not None else {other.sha256: other.segment for other in stored}
            findings[key] = _missing(key, by, folders.get(key.sha256))
        elif found.size != size:
            message = f"has {found.size} bytes where '{by}' says {size}"
            findings[key] = Mismatch(found.name, message, key.segment)
        else:
            sound[key] = found
    for key in findings:
        sound.pop(key, None)
    return Comparison(findings, sound, {key for key in findings if key not in stored})


def _missing(key: ContainerKey, by: str, elsewhere: Pseudonym | None) -> Mismatch:
    moved = f"; an object of its hash lies in the folder of segment {elsewhere}" if elsewhere else ""
    return Mismatch(key.sha256, f"is missing, and '{by}' needs it{moved}", key.segment)


def broken_links(previous: Mapping[SnapshotName, SnapshotName | None]) -> list[tuple[SnapshotName, SnapshotName]]:
    """Records, each with the one it was written after, where that one is not there."""
    return [(name, before) for name, before in sorted(previous.items()) if before and before not in previous]


class ReadCandidate(NamedTuple):
    """Something that could be read to check it."""

    key: ContainerKey
    weight: int
    """Bytes to be read for it."""
    checked: float | None
    """When that was last done with success, in seconds; None: never."""


def choose(candidates: Sequence[ReadCandidate], share: Fraction) -> list[ReadCandidate]:
    """At least `share` of all bytes, least recently checked first, so that repeated runs get around to everything."""
    budget = share * sum(candidate.weight for candidate in candidates)
    chosen: list[ReadCandidate] = []
    for candidate in sorted(candidates, key=_least_recent):
        if budget <= 0:
            break
        chosen.append(candidate)
        budget -= candidate.weight
    return chosen


def _least_recent(candidate: ReadCandidate) -> tuple[bool, float, ContainerKey]:
    return candidate.checked is not None, candidate.checked or 0.0, candidate.key


def parse_share(text: str) -> Fraction:
    """`all`, `none`, or a percentage such as `5%` or `0.5%`, as a share of one.

    Raises UsageError.
    """
    if text in ("all", "none"):
        return Fraction(text == "all")
    number, percent, rest = text.partition("%")
    if percent and not rest and number.replace(".", "", 1).isascii() and number.replace(".", "", 1).isdigit():
        share = Fraction(number) / 100
        if 0 <= share <= 1:
            return share
    raise UsageError(f'cannot read "{text[:40]}" of the data', hint="Say all, none, or a percentage such as 5%.")
