"""The arithmetic of deadlines holds for all terms."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from backupd.config.fields import spell_duration
from backupd.config.policy import LifecycleSection
from backupd.planning.deadlines import (
    DeletionBudget,
    Observation,
    as_observed,
    check_observed,
    dates,
    latest_purge,
    prove,
)

TERMS = ("expiry_gap", "store_snapshots", "clock", "repair")
spans = st.integers(0, 60 * 24 * 250).map(lambda minutes: timedelta(minutes=minutes))
small = st.integers(0, 60 * 24 * 40).map(lambda minutes: timedelta(minutes=minutes))
budgets = st.builds(
    DeletionBudget,
    window=spans,
    expiry_gap=small,
    store_snapshots=small,
    clock=small,
    repair=small,
    grace=small,
    early=small,
    purge_after=st.none() | spans,
)
instants = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001 - hypothesis wants naive limits
    datetime(2040, 1, 1),  # noqa: DTZ001 - hypothesis wants naive limits
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=13)), timezone(timedelta(hours=-11))]),
)


def after_purge(budget: DeletionBudget) -> timedelta:
    return budget.expiry_gap + budget.store_snapshots + budget.clock


@given(budgets, instants, st.booleans())
def test_the_purge_leaves_time_for_everything_after_it(budget: DeletionBudget, since: datetime, early: bool) -> None:
    """Purged when due, the last byte is gone before the deadline with the whole repair slack left."""
    told = dates(since, budget, early=early)
    assert told.purge_by <= told.deadline - after_purge(budget) - budget.repair
    assert told.purge_by <= told.gone_by <= told.deadline - budget.repair
    assert told.gone_by == told.purge_by + after_purge(budget)


@given(budgets, instants, st.booleans())
def test_the_deadline_is_the_last_midnight_within_the_window(
    budget: DeletionBudget, since: datetime, early: bool
) -> None:
    """Never after the window's end, and less than a day before it; always a midnight of UTC."""
    deadline = dates(since, budget, early=early).deadline
    assert timedelta() <= since + budget.window - deadline < timedelta(days=1)
    assert (deadline.utcoffset(), deadline.hour, deadline.minute, deadline.second) == (timedelta(), 0, 0, 0)


@given(budgets, instants, st.booleans(), st.sampled_from(TERMS), small)
def test_more_of_a_term_never_moves_the_purge_later(
    budget: DeletionBudget, since: datetime, early: bool, term: str, more: timedelta
) -> None:
    """Whatever takes longer leaves less time; and what a proof refused stays refused."""
    larger = replace(budget, **{term: getattr(budget, term) + more})
    assert dates(since, larger, early=early).purge_by <= dates(since, budget, early=early).purge_by
    assert latest_purge(larger) <= latest_purge(budget)
    assert prove(budget).holds or not prove(larger).holds


@given(budgets, instants)
def test_a_proof_that_holds_is_kept_by_every_tenant_s_dates(budget: DeletionBudget, since: datetime) -> None:
    """The grace is left, but for the part of a day before the deadline; the worst case is that of the proof."""
    enough = budget.window + budget.grace + after_purge(budget) + budget.repair
    chosen = None if budget.purge_after is None else budget.grace + min(budget.purge_after, budget.window)
    budget = replace(budget, window=enough, purge_after=chosen)
    proof = prove(budget)
    assert proof.holds
    told = dates(since, budget, early=False)
    assert told.purge_by > since + budget.grace - timedelta(days=1)
    assert told.gone_by - since <= proof.gone <= budget.window - budget.repair


@given(budgets)
def test_the_inequality_is_what_decides(budget: DeletionBudget) -> None:
    """The terms of the proof add up to the window or less exactly when it holds, given the grace is left."""
    proof = prove(budget)
    fits = budget.window >= sum((term.value for term in proof.terms), timedelta())
    assert proof.holds == (fits and (budget.purge_after is None or budget.purge_after >= budget.grace))
    assert proof.inequality.split(" and ")[0].count(" + ") == len(proof.terms) - 1


@given(budgets, st.lists(spans, max_size=5), instants, st.lists(st.integers(-9, 40), max_size=9), st.integers(0, 40))
def test_what_is_proved_again_as_observed_is_observed_without_findings(
    budget: DeletionBudget, ages: list[timedelta], since: datetime, runs: list[int], length: int
) -> None:
    """The observed budget is the least one that reality does not exceed, and no term gets smaller."""
    end = since + timedelta(days=length)
    observation = Observation(tuple(ages), tuple(since + timedelta(days=run) for run in runs), since, end)
    truth = as_observed(budget, observation)
    assert check_observed(truth, observation) == ()
    codes = {finding.code for finding in check_observed(budget, observation)}
    assert codes == {name for name in TERMS if getattr(truth, name) > getattr(budget, name)}


hours = st.integers(1, 24 * 200).map(lambda number: timedelta(hours=number))
few = st.integers(1, 24 * 40).map(lambda number: timedelta(hours=number))


@given(st.tuples(hours, few, few, few, few, few), st.none() | hours)
def test_the_configuration_refuses_what_cannot_be_proved(
    terms: tuple[timedelta, ...], purge_after: timedelta | None
) -> None:
    """`config check` and the proof agree, although neither knows the other."""
    window, grace, gap, store, clock, repair = terms
    window += timedelta(days=1)
    proof = prove(
        DeletionBudget(
            window=window,
            expiry_gap=gap,
            store_snapshots=store,
            clock=clock,
            repair=repair,
            grace=grace,
            early=timedelta(),
            purge_after=purge_after,
        )
    )
    text = {
        "window": window,
        "grace": grace,
        "expiry_gap": gap,
        "store_snapshots": store,
        "clock_tolerance": clock,
        "repair_slack": repair,
    } | ({"purge_after": purge_after} if purge_after is not None else {})
    written = {key: spell_duration(span) for key, span in text.items()}
    if proof.holds:
        LifecycleSection.model_validate(written)
    else:
        with pytest.raises(ValidationError):
            LifecycleSection.model_validate(written)
