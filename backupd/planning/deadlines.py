"""The arithmetic of the promise: what may pass between a purge and the last byte gone, and so when it is due. Pure.

A tenant's own keys and packs are removed, segment by segment, so the age of the oldest snapshot does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise

from backupd.model.findings import Finding, Severity
from backupd.model.text import spell, spell_about


@dataclass(frozen=True, slots=True)
class DeletionBudget:
    """The terms, all at least zero. The letters are those of the formulas below."""

    window: timedelta
    """W: from unsubscribing to the last byte gone."""
    expiry_gap: timedelta
    """E: the longest time between two successful keeper runs."""
    store_snapshots: timedelta
    """S: the longest that a store's own snapshots live, one rotation included."""
    clock: timedelta
    """C: what clocks and civil dates may differ."""
    repair: timedelta
    """X: time to notice that something stands still, and to mend it."""
    grace: timedelta
    """So long at least after unsubscribing, coming back is instant."""
    early: timedelta
    """From a request to erase to the purge."""
    purge_after: timedelta | None = None
    """From unsubscribing to the purge; None: as late as the window allows."""
    copies: timedelta = timedelta()
    """The longest that a declared copy of a store lives."""
    run: timedelta = timedelta()
    """The longest a run lasts: one that was under way at a purge adds what the next keeper run removes."""
    leftovers: timedelta = timedelta()
    """The grace of what an upload left that was cut off."""

    @property
    def aging(self) -> timedelta:
        """From the last removal on a store until no copy of that store is left which is from before."""
        return max(self.store_snapshots, self.copies)


@dataclass(frozen=True, slots=True)
class Term:
    name: str
    value: timedelta
    source: str
    """The key below `[regions.NAME]` that says it, or the section whose rules do."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether a budget keeps its window, with the numbers."""

    latest_purge: timedelta
    """After unsubscribing; negative when nothing would be early enough."""
    gone: timedelta
    """After unsubscribing, the last byte's end in the worst case without a repair: purged as late as planned."""
    terms: tuple[Term, ...]
    """What is added up against the window, the earliest allowed or the chosen time of the purge first."""
    inequality: str
    """As in `180 d >= 30 d + 2 d + 8 d + 1 d + 7 d`: what must hold, whether or not it does. A chosen time of the purge
    must also leave the grace: `... and 60 d >= 30 d`."""
    holds: bool


@dataclass(frozen=True, slots=True)
class Deadlines:
    """One tenant's own dates, all UTC."""

    deadline: datetime
    """The START of the window's last day: nobody has to ask until which hour."""
    purge_by: datetime
    """When the purge is due; the first keeper run from then on does it."""
    gone_by: datetime
    """When at the latest nothing is left, in a store's own snapshots neither; repairs still fit before the deadline."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one store and the keeper's runs on it really showed."""

    snapshot_ages: tuple[timedelta, ...]
    """Of the snapshots that the store makes of itself."""
    keeper_runs: tuple[datetime, ...]
    """When runs succeeded, in any order; what is later than `now` is not believed."""
    since: datetime
    """From when on runs are expected: the repository's founding, or the beginning of what is looked at."""
    now: datetime


def latest_purge(budget: DeletionBudget) -> timedelta:
    """After unsubscribing: W - (E+S+C+X)."""
    return budget.window - time_to_vanish(budget) - budget.repair


def prove(budget: DeletionBudget) -> Proof:
    """Whether the purge can be late enough for the grace and early enough for the window."""
    terms = (_purge_term(budget), *_terms(budget))
    latest = latest_purge(budget)
    planned = latest if budget.purge_after is None else budget.purge_after
    inequality = f"{spell(budget.window)} >= {' + '.join(spell(term.value) for term in terms)}"
    if budget.purge_after is not None:
        inequality += f" and {spell(planned)} >= {spell(budget.grace)}"
    return Proof(
        latest_purge=latest,
        gone=planned + time_to_vanish(budget),
        terms=terms,
        inequality=inequality,
        holds=budget.grace <= planned <= latest,
    )


def dates(since: datetime, budget: DeletionBudget, *, early: bool) -> Deadlines:
    """The dates of a tenant that unsubscribed, or with `early` asked to be erased, at `since` (aware).

    The deadline goes before everything: where it begins less than a day after the last possible moment, or the budget
    does not hold, the purge is due before the grace is over. With `early`, the deadline is that of a request alone; a
    tenant that also unsubscribed has the earlier one of its two.
    """
    utc = since.astimezone(UTC)
    deadline = datetime.combine((utc + budget.window).date(), time(), UTC)
    last = deadline - time_to_vanish(budget) - budget.repair
    wanted = budget.early if early else budget.purge_after
    purge = last if wanted is None else min(last, utc + wanted)
    return Deadlines(deadline, purge, purge + time_to_vanish(budget))


def repair_terms(budget: DeletionBudget) -> tuple[Term, ...]:
    """What the repair slack must have room for besides, because it happens only when something did not go as usual:
    a run that was under way at the purge, and what it leaves when it is cut off, are removed by the keeper run after.
    """
    return (
        Term("run under way", budget.run, "the longest a run lasts"),
        Term("grace of leftovers", budget.leftovers, "the age from which uploads that were cut off are removed"),
        Term("one more keeper run", budget.expiry_gap, "lifecycle.expiry_gap"),
    )


def check_repair_slack(budget: DeletionBudget) -> tuple[Finding, ...]:
    """An error when the repair slack has no room for all of that."""
    needed = sum((term.value for term in repair_terms(budget)), timedelta())
    if needed <= budget.repair:
        return ()
    told = " + ".join(f"{term.name} {spell(term.value)}" for term in repair_terms(budget))
    message = f"repair slack {spell(budget.repair)} < {told}"
    hint = "Raise lifecycle.repair_slack: a run under way at a purge may be cut off, and its leftovers count, too."
    return (Finding(Severity.ERROR, "repair_slack", message, hint),)


def check_observed(budget: DeletionBudget, observation: Observation) -> tuple[Finding, ...]:
    """An error for every term that is less as declared than as observed: what was proved with it is not so."""
    longest, gap = _oldest_age(observation), _longest_gap(observation)
    found = []
    if longest > budget.store_snapshots:
        message = f"store snapshots live up to {spell_about(longest)}, {spell(budget.store_snapshots)} declared"
        hint = "Have the store keep its own snapshots for less long, or declare the truth as lifecycle.store_snapshots."
        found.append(Finding(Severity.ERROR, "store_snapshots", message, hint))
    if gap > budget.expiry_gap:
        message = f"keeper runs are up to {spell_about(gap)} apart, {spell(budget.expiry_gap)} declared"
        hint = "Find out why runs fail or do not start, or declare the truth as lifecycle.expiry_gap."
        found.append(Finding(Severity.ERROR, "expiry_gap", message, hint))
    return tuple(found)


def as_observed(budget: DeletionBudget, observation: Observation) -> DeletionBudget:
    """The budget with the greater one of what is declared and what was observed, to be proved again."""
    return replace(
        budget,
        store_snapshots=max(budget.store_snapshots, _oldest_age(observation)),
        expiry_gap=max(budget.expiry_gap, _longest_gap(observation)),
    )


def time_to_vanish(budget: DeletionBudget) -> timedelta:
    """From the purge to the last byte gone, in the worst case."""
    return sum((term.value for term in _terms(budget)), -budget.repair)


def _terms(budget: DeletionBudget) -> tuple[Term, ...]:
    beyond = budget.aging - budget.store_snapshots
    return (
        Term("expiry gap", budget.expiry_gap, "lifecycle.expiry_gap"),
        Term("store snapshots", budget.store_snapshots, "lifecycle.store_snapshots"),
        *((Term("declared copies beyond", beyond, "copies.keep"),) if beyond else ()),
        Term("clock tolerance", budget.clock, "lifecycle.clock_tolerance"),
        Term("repair slack", budget.repair, "lifecycle.repair_slack"),
    )


def _purge_term(budget: DeletionBudget) -> Term:
    if budget.purge_after is None:
        return Term("grace", budget.grace, "lifecycle.grace")
    return Term("purge after", budget.purge_after, "lifecycle.purge_after")


def _oldest_age(observation: Observation) -> timedelta:
    return max(observation.snapshot_ages, default=timedelta())


def _longest_gap(observation: Observation) -> timedelta:
    """Up to the present: runs that stopped are a gap that grows."""
    before = [run for run in observation.keeper_runs if run <= observation.since]
    after = sorted(run for run in observation.keeper_runs if observation.since < run <= observation.now)
    points = [max(before, default=observation.since), *after, observation.now]
    return max(timedelta(), *(later - earlier for earlier, later in pairwise(points)))
