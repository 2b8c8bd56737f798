"""The comparison of what a store lists with what records need, and the choice of what to read. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from backupd.errors import UsageError
from backupd.model.ids import ObjectHash, ObjectName, Pseudonym, SnapshotName


@dataclass(frozen=True, slots=True, order=True)
class Mismatch:
    """One thing that differs from what a signed record says."""

    object: str
    """The name of the object on the store."""
    message: str
    """The text, in lower case without a full stop; it quotes no content and no name of a tenant."""
    segment: Pseudonym | None = None

    @property
    def sentence(self) -> str:
        """The message with its object, which some messages quote already, and its segment."""
        where = "" if f"'{self.object}'" in self.message else f"'{self.object}' "
        return f"{where}{self.message}" + (f" (segment {self.segment})" if self.segment else "")


class ContainerKey(NamedTuple):
    """The name of a container within one generation."""

    segment: Pseudonym
    sha256: ObjectHash


class Stored(NamedTuple):
    """A container that the listing of a generation shows."""

    name: ObjectName
    kind: str
    """The kind of container: `pack` or `part`."""
    size: int


class Wanted(NamedTuple):
    """A container that a record or a part names."""

    key: ContainerKey
    size: int
    by: str
    """The name of the object that names this container."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing a generation's listing with what is needed of it."""

    findings: dict[ContainerKey, Mismatch]
    """One mismatch for each needed container that is not sound."""
    sound: dict[ContainerKey, Stored]
    """Containers that are needed, present, and of the right size."""
    missing: set[ContainerKey]
    """Containers that are needed and not present; the ledger may explain the absence."""

    @property
    def damaged(self) -> set[ContainerKey]:
        """The needed containers that are not sound."""
        return set(self.findings)


def compare(wanted: Iterable[Wanted], stored: Mapping[ContainerKey, Stored]) -> Comparison:
    """Compare every needed container with the listing; each is judged once, however many objects need it."""
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
    """Return the records whose preceding record is missing, each with the name of that one."""
    return [(name, before) for name, before in sorted(previous.items()) if before and before not in previous]


class ReadCandidate(NamedTuple):
    """A container that could be read to check it."""

    key: ContainerKey
    weight: int
    """Bytes to be read for the check."""
    checked: float | None
    """When the container was last checked with success, in seconds; None: never."""


def choose(candidates: Sequence[ReadCandidate], share: Fraction) -> list[ReadCandidate]:
    """Choose at least `share` of all bytes, least recently checked first, so that repeated runs check everything."""
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
    """Parse `all`, `none`, or a percentage such as `5%` or `0.5%`, as a share from 0 to 1. Raises UsageError."""
    if text in ("all", "none"):
        return Fraction(text == "all")
    number, percent, rest = text.partition("%")
    if percent and not rest and number.replace(".", "", 1).isascii() and number.replace(".", "", 1).isdigit():
        share = Fraction(number) / 100
        if 0 <= share <= 1:
            return share
    raise UsageError(f'cannot read "{text[:40]}" of the data', hint="Say all, none, or a percentage such as 5%.")
