"""Choice of the snapshot to drill: in turn over databases, generations, and latest, oldest and random. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from backupd.errors import UsageError
from backupd.model.ids import DrillId, GenerationId, SnapshotName
from backupd.model.report import DrillSelection, DrillType, Population, Report
from backupd.model.text import stamp

RULES: Final = ("latest", "oldest", "random")
"""Rules of choice, taken in turn for each database."""
NAMED: Final = "named"


@dataclass(frozen=True, slots=True)
class DrillCandidate:
    """A snapshot that could be drilled."""

    name: SnapshotName
    generation: GenerationId
    database: str
    """The configured label of the database."""
    member: str | None
    """Which of several databases under the label it is of; opaque."""
    exported: datetime


@dataclass(frozen=True, slots=True)
class Chosen:
    """A chosen snapshot, with all that anybody needs to make the same choice."""

    candidate: DrillCandidate
    rule: str
    seed: str | None
    """The seed as hex digits; None where the rule needs none."""
    population: Population


def drill_type(trigger: str, *, damage: bool) -> DrillType:
    """Return who or what a drill was for, as its report says; auditors count by it."""
    if damage:
        return "damage"
    return "human" if trigger == "command" else "automatic"


def choose_snapshot(candidates: Sequence[DrillCandidate], past: Sequence[Report], seed: str) -> Chosen:
    """Choose the next snapshot to drill, after the drills in `past`, which are oldest first.

    The database is the one whose last drill is longest ago; of its snapshots the latest, the oldest and a random one
    are drilled in turn. The random one is of the generation whose last drill is longest ago. `seed` is hex digits.
    Raises UsageError when there is no candidate.
    """
    if not candidates:
        raise UsageError("there is no snapshot to drill", hint="Run a backup first; `backupd snapshots` lists them.")
    drilled = {candidate.name: candidate for candidate in candidates}
    selections = [
        report.selection for report in past if report.selection is not None and report.whole and report.type != "damage"
    ]
    databases: dict[tuple[str, str | None], int] = {}
    generations: dict[GenerationId, int] = {}
    for number, selection in enumerate(selections, 1):
        known = drilled.get(selection.snapshot)
        databases[selection.database, known.member if known else None] = number
        generations[selection.generation] = number
    wanted = min(
        {(one.database, one.member) for one in candidates},
        key=lambda key: (databases.get(key, 0), key[0], key[1] or ""),
    )
    ours = [one for one in candidates if (one.database, one.member) == wanted]
    turns = sum(selection.database == wanted[0] and selection.rule in RULES for selection in selections)
    # A report does not say which of a label's databases it was, so all of them have one rule before the next.
    turns //= len({one.member for one in candidates if one.database == wanted[0]})
    rule = RULES[turns % len(RULES)]
    return _by_rule(ours, rule, seed, generations)


def choose_named(candidates: Sequence[DrillCandidate], name: SnapshotName) -> Chosen:
    """Choose the snapshot of this name. Raises UsageError when it is not among the candidates."""
    found = [one for one in candidates if one.name == name]
    if not found:
        raise UsageError("the snapshot to drill is not there", hint="`backupd snapshots` lists what there is.")
    return Chosen(found[0], NAMED, None, _population(candidates))


def find_repeated(past: Sequence[Report], selection: DrillSelection) -> DrillId | None:
    """Return the failed drill that `selection` repeats: the newest of the same snapshot and extent, if it failed."""
    for report in reversed(past):
        before = report.selection
        if before is None or report.type == "damage" or report.verdict == "error":
            continue
        if (before.snapshot, before.tenant, before.tenants) == (
            selection.snapshot,
            selection.tenant,
            selection.tenants,
        ):
            return report.drill if report.verdict == "fail" else None
    return None


def find_failed(past: Sequence[Report]) -> DrillSelection | None:
    """Return what the newest drill chose that failed, of all or of one tenant; None when none of them did."""
    for report in reversed(past):
        if report.verdict == "fail" and report.type != "damage" and report.selection is not None:
            return report.selection
    return None


def damage_is_due(past: Iterable[Report], every: int) -> bool:
    """Check whether the next drill has to damage what it fetches: every `every`-th drill does; with 0, none."""
    since = 0
    for report in (one for one in past if one.whole):
        since = 0 if report.type == "damage" else since + 1
    return every > 0 and since + 1 >= every


def _by_rule(ours: Sequence[DrillCandidate], rule: str, seed: str, generations: dict[GenerationId, int]) -> Chosen:
    in_order = sorted(ours, key=lambda one: (one.exported, one.name))
    population = _population(ours)
    if rule == "latest":
        return Chosen(in_order[-1], rule, None, population)
    if rule == "oldest":
        return Chosen(in_order[0], rule, None, population)
    longest_ago = min({one.generation for one in ours}, key=lambda one: (generations.get(one, 0), one))
    among = [one for one in in_order if one.generation == longest_ago]
    return Chosen(min(among, key=lambda one: _drawn(seed, one.name)), rule, seed, population)


def _drawn(seed: str, name: str) -> bytes:
    """Draw the lot of a snapshot: with the same seed it is the same, independent of which other snapshots there are."""
    return hashlib.sha256(f"backupd drill\n{seed}\n{name}".encode()).digest()


def _population(candidates: Sequence[DrillCandidate]) -> Population:
    instants = [one.exported for one in candidates]
    return Population(number=len(instants), oldest=stamp(min(instants)), newest=stamp(max(instants)))
