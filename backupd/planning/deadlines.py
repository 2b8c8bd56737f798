"""The arithmetic of the promise: the time that may pass between a purge and the last byte gone, and its due date. Pure.

A tenant's own keys and packs are removed, segment by segment, so the age of the oldest snapshot does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise

from backupd.model.findings import Finding, Severity
from backupd.model.text import spell, spell_about


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionBudget:
    """The durations that deadlines are computed from, all at least zero; letters are those of the formulas below."""

    window: timedelta
    """W, from unsubscribing to the last byte gone."""
    expiry_gap: timedelta
    """E, the longest time between two successful keeper runs."""
    store_snapshots: timedelta
    """S, the longest time that a store's own snapshots live, including one rotation."""
    clock: timedelta
    """C, the difference that clocks and civil dates may have."""
    repair: timedelta
    """X, the time to notice that something does not run, and to repair it."""
    grace: timedelta
    """The shortest time after unsubscribing in which the tenant can come back instantly."""
    early: timedelta
    """The time from a request to erase to the purge."""
    purge_after: timedelta | None = None
    """The time from unsubscribing to the purge; None: as late as the window allows."""
    copies: timedelta = timedelta()
    """The longest time that a declared copy of a store lives."""
    run: timedelta = timedelta()
    """The longest time a run lasts: the keeper run after it removes what a run under way at the purge has added."""
    leftovers: timedelta = timedelta()
    """The age from which remains of an upload that was cut off are removed."""

    @property
    def aging(self) -> timedelta:
        """The time from the last removal on a store until every copy of that store from before is gone."""
        return max(self.store_snapshots, self.copies)


@dataclass(frozen=True, slots=True)
class Term:
    """One duration of a sum, with its name and the place where it is configured."""

    name: str
    value: timedelta
    source: str
    """The key below `[regions.NAME]` that sets the value, or the section whose rules do."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The proof that a budget keeps its window, or that it does not, with the numbers."""

    latest_purge: timedelta
    """The latest time after unsubscribing; negative when nothing would be early enough."""
    gone: timedelta
    """When the last byte is gone after unsubscribing, in the worst case without a repair, purged as late as planned."""
    terms: tuple[Term, ...]
    """The durations that are added up against the window; the earliest allowed or the chosen time of the purge comes
    first."""
    inequality: str
    """The condition that must hold, whether or not it does, as in `180 d >= 30 d + 2 d + 8 d + 1 d + 7 d`. A chosen
    time of the purge must also leave the grace: `... and 60 d >= 30 d`."""
    holds: bool


@dataclass(frozen=True, slots=True)
class Deadlines:
    """One tenant's own dates, all in UTC."""

    deadline: datetime
    """The START of the window's last day, so that nobody has to ask until which hour."""
    purge_by: datetime
    """When the purge is due; the first keeper run from then on purges."""
    gone_by: datetime
    """When at the latest nothing is left, not even in a store's own snapshots; repairs still fit before the deadline.
    """


@dataclass(frozen=True, slots=True)
class Observation:
    """The ages and runs that were really observed on one store."""

    snapshot_ages: tuple[timedelta, ...]
    """Ages of the snapshots that the store makes of itself."""
    keeper_runs: tuple[datetime, ...]
    """When runs succeeded, in any order; instants later than `now` are ignored."""
    since: datetime
    """The instant from which runs are expected: the repository's founding, or the beginning of what is looked at."""
    now: datetime


def latest_purge(budget: DeletionBudget) -> timedelta:
    """Return the latest time of the purge after unsubscribing: W - (E+S+C+X)."""
    return budget.window - time_to_vanish(budget) - budget.repair


def prove(budget: DeletionBudget) -> Proof:
    """Check whether the purge can be late enough for the grace and early enough for the window."""
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
    """Compute the dates of a tenant that unsubscribed, or with `early` asked to be erased, at `since` (aware).

    The deadline takes precedence: where it begins less than a day after the last possible moment, or the budget does
    not hold, the purge is due before the grace is over. With `early`, the deadline is that of a request alone; a tenant
    that also unsubscribed has the earlier one of its two.
    """
    utc = since.astimezone(UTC)
    deadline = datetime.combine((utc + budget.window).date(), time(), UTC)
    last = deadline - time_to_vanish(budget) - budget.repair
    wanted = budget.early if early else budget.purge_after
    purge = last if wanted is None else min(last, utc + wanted)
    return Deadlines(deadline, purge, purge + time_to_vanish(budget))


def repair_terms(budget: DeletionBudget) -> tuple[Term, ...]:
    """Return the durations that the repair slack must have room for besides repairs.

    They count only when something did not run as usual: a run that was under way at the purge, and its leftovers when
    it is cut off, are removed by the next keeper run.
    """
    return (
        Term("run under way", budget.run, "the longest a run lasts"),
        Term("grace of leftovers", budget.leftovers, "the age from which uploads that were cut off are removed"),
        Term("one more keeper run", budget.expiry_gap, "lifecycle.expiry_gap"),
    )


def check_repair_slack(budget: DeletionBudget) -> tuple[Finding, ...]:
    """Return an error when the repair slack has no room for the durations of `repair_terms`."""
    needed = sum((term.value for term in repair_terms(budget)), timedelta())
    if needed <= budget.repair:
        return ()
    spelt = " + ".join(f"{term.name} {spell(term.value)}" for term in repair_terms(budget))
    message = f"repair slack {spell(budget.repair)} < {spelt}"
    hint = "Raise lifecycle.repair_slack: a run under way at a purge may be cut off, and its leftovers count, too."
    return (Finding(Severity.ERROR, "repair_slack", message, hint),)


def check_observed(budget: DeletionBudget, observation: Observation) -> tuple[Finding, ...]:
    """Return an error for every term that was observed longer than declared: what was proved with it does not hold."""
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
    """Return the budget with the greater one of each declared and observed term, to be proved again."""
    return replace(
        budget,
        store_snapshots=max(budget.store_snapshots, _oldest_age(observation)),
        expiry_gap=max(budget.expiry_gap, _longest_gap(observation)),
    )


def time_to_vanish(budget: DeletionBudget) -> timedelta:
    """Return the time from the purge to the last byte gone, in the worst case."""
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
    """Return the longest time between two runs, up to the present: when runs stopped, the gap grows."""
    before = [run for run in observation.keeper_runs if run <= observation.since]
    after = sorted(run for run in observation.keeper_runs if observation.since < run <= observation.now)
    points = [max(before, default=observation.since), *after, observation.now]
    return max(timedelta(), *(later - earlier for earlier, later in pairwise(points)))
