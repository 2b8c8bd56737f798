"""The findings of verify, the gaps in the chain of records, and the choice of what to read next. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from backupd.errors import UsageError
from backupd.model.ids import ObjectHash, Pseudonym, SnapshotName


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
        where = "" if f"'{self.object}" in self.message else f"'{self.object}' "
        return f"{where}{self.message}" + (f" (segment {self.segment})" if self.segment else "")


def broken_links(previous: Mapping[SnapshotName, SnapshotName | None]) -> list[tuple[SnapshotName, SnapshotName]]:
    """Return the records whose preceding record is missing, each with the name of that one."""
    return [(name, before) for name, before in sorted(previous.items()) if before and before not in previous]


class ReadCandidate(NamedTuple):
    """A pack, or a segment of a snapshot, that could be read to check it."""

    key: ObjectHash
    """The pack's name, or the SHA-256 of the section with the segment's manifest."""
    weight: int
    """Bytes to be read for the check."""
    checked: float | None
    """When the pack or content was last checked with success, in seconds; None: never."""


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


def _least_recent(candidate: ReadCandidate) -> tuple[bool, float, ObjectHash]:
    return candidate.checked is not None, candidate.checked or 0.0, candidate.key


def parse_share(text: str) -> Fraction:
    """Parse `all`, `none`, or a percentage such as `5%` or `0.5%`, as a share from 0 to 1. Raises UsageError."""
    if text in ("all", "none"):
        return Fraction(text == "all")
    number, percent, rest = text.partition("%")
    if percent and not rest and number.isascii() and number.replace(".", "", 1).isdigit():
        share = Fraction(number) / 100
        if 0 <= share <= 1:
            return share
    raise UsageError(f'cannot read "{text[:40]}" of the data', hint="Say all, none, or a percentage such as 5%.")
