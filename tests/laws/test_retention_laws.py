"""Retention keeps its laws for all snapshots and rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.model.ids import SnapshotName
from backupd.planning.retention import Dated, Decision, RetentionPolicy, decide, kept_until, upcoming_losses

NOW = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)

spans = st.integers(0, 24 * 120).map(lambda hours: hours * HOUR)
policies = st.builds(
    RetentionPolicy,
    keep_within=spans,
    daily=st.integers(0, 40),
    weekly=st.integers(0, 9),
    monthly=st.integers(0, 5),
    max_age=spans,
    keep_minimum=st.integers(0, 4),
)


def dated(hours: int, group: str, proven: bool, doubt: tuple[bool, ...]) -> Dated:
    return Dated(SnapshotName(f"{group}{hours:+}"), group, NOW - hours * HOUR, proven, *doubt)


doubts = st.sampled_from([(), (), (True,), (False, True), (True, True), (False, False, True)])
one = st.builds(dated, st.integers(-48, 24 * 130), st.sampled_from("ab"), st.booleans(), doubts)
several = st.lists(one, max_size=25, unique_by=lambda snapshot: snapshot.name)


def worth(snapshot: Dated) -> tuple[object, ...]:
    """By what one snapshot of a day is better than another."""
    timely = not (snapshot.late or snapshot.early)
    return timely, not snapshot.empty, snapshot.proven, snapshot.exported, snapshot.name


def kept(snapshots: list[Dated], policy: RetentionPolicy, now: datetime = NOW) -> set[Dated]:
    return {decision.snapshot for decision in decide(snapshots, policy, now) if decision.keep}


@settings(deadline=None)
@given(several, policies)
def test_each_is_decided_once_with_a_reason_oldest_first(snapshots: list[Dated], policy: RetentionPolicy) -> None:
    """Nothing is left out, nothing invented, and nobody has to guess why."""
    decisions = decide(snapshots, policy, NOW)
    assert sorted(d.snapshot.name for d in decisions) == sorted(s.name for s in snapshots)
    assert [d.snapshot.exported for d in decisions] == sorted(s.exported for s in snapshots)
    assert all(d.reasons and all(d.reasons) for d in decisions)


@settings(deadline=None)
@given(several, policies)
def test_nothing_older_than_the_maximum_is_kept(snapshots: list[Dated], policy: RetentionPolicy) -> None:
    """Whatever other rules say, and whether or not anything newer exists."""
    assert all(NOW - snapshot.exported <= policy.max_age for snapshot in kept(snapshots, policy))


@settings(deadline=None)
@given(several, policies)
def test_nothing_is_kept_against_the_rules(snapshots: list[Dated], policy: RetentionPolicy) -> None:
    """What stays is young, in one of the days, weeks or months, proven and among the newest, or from the future."""
    for snapshot in kept(snapshots, policy):
        age = (NOW.date() - snapshot.exported.date()).days
        others = [s for s in snapshots if s.group == snapshot.group and NOW - policy.max_age <= s.exported <= NOW]
        of_day = [s for s in others if s.exported.date() == snapshot.exported.date()]
        newest = max((s for s in of_day if s.counts), key=lambda s: s.exported, default=None)
        outdone = snapshot not in (max(of_day, key=worth, default=snapshot), newest)
        better = [s for s in others if worth(s) > worth(snapshot)]
        months = (NOW.year - snapshot.exported.year) * 12 + NOW.month - snapshot.exported.month
        assert (
            NOW - snapshot.exported <= policy.keep_within
            or (age < policy.daily and not outdone)
            or (age < policy.weekly * 7 and not outdone)
            or (months < policy.monthly and not outdone)
            or (snapshot.proven and sum(s.proven for s in better) < policy.keep_minimum)
        )


@settings(deadline=None)
@given(several, policies)
def test_what_a_rule_asks_for_is_kept(snapshots: list[Dated], policy: RetentionPolicy) -> None:
    """Short of the maximum: the young, the best of each day, today's newest, and the newest proven, all stay."""
    stays = kept(snapshots, policy)
    alive = [s for s in snapshots if timedelta() <= NOW - s.exported <= policy.max_age]
    assert {s for s in alive if NOW - s.exported <= policy.keep_within} <= stays
    for group in "ab":
        own = sorted((s for s in alive if s.group == group), key=worth, reverse=True)
        assert set([s for s in own if s.proven][: policy.keep_minimum]) <= stays
        for back in range(policy.daily):
            of_day = [s for s in own if s.exported.date() == NOW.date() - timedelta(days=back)]
            assert set(of_day[:1]) <= stays
        today = [s for s in own if s.exported.date() == NOW.date() and s.counts]
        assert not policy.daily or set(sorted(today, key=lambda s: s.exported)[-1:]) <= stays


@settings(deadline=None)
@given(several, policies)
def test_what_lies_or_is_empty_drives_nothing_out(snapshots: list[Dated], policy: RetentionPolicy) -> None:
    """However many are added, and whatever they say of their time: what stays without them stays with them."""
    true = [snapshot for snapshot in snapshots if snapshot.counts]
    assert kept(true, policy) <= kept(snapshots, policy)


@settings(deadline=None)
@given(several, policies)
def test_the_future_is_kept_and_changes_nothing(snapshots: list[Dated], policy: RetentionPolicy) -> None:
    """A snapshot dated after the present stays, and decides about no other."""
    future = {snapshot for snapshot in snapshots if snapshot.exported > NOW}
    past = [snapshot for snapshot in snapshots if snapshot.exported <= NOW]
    assert kept(snapshots, policy) == kept(past, policy) | future


@settings(deadline=None)
@given(several, policies, st.randoms(use_true_random=False))
def test_the_order_they_come_in_does_not_matter(
    snapshots: list[Dated], policy: RetentionPolicy, random: object
) -> None:
    """A store may list in any order."""
    shuffled = list(snapshots)
    random.shuffle(shuffled)
    assert decide(shuffled, policy, NOW) == decide(snapshots, policy, NOW)
    assert upcoming_losses(shuffled, policy, NOW) == upcoming_losses(snapshots, policy, NOW)


@settings(deadline=None)
@given(several, policies)
def test_what_is_decided_twice_is_decided_the_same(snapshots: list[Dated], policy: RetentionPolicy) -> None:
    """With what expires removed, nothing more expires, and each reason is as before."""
    first = [decision for decision in decide(snapshots, policy, NOW) if decision.keep]
    assert decide([decision.snapshot for decision in first], policy, NOW) == first


@settings(deadline=None)
@given(several, one, policies)
def test_one_more_snapshot_makes_no_other_stay(snapshots: list[Dated], new: Dated, policy: RetentionPolicy) -> None:
    """Neither a newer nor an older one is a reason to keep what would have gone."""
    others = [snapshot for snapshot in snapshots if snapshot.name != new.name]
    assert kept([*others, new], policy) - {new} <= kept(others, policy)


@settings(deadline=None)
@given(several, one, policies)
def test_one_more_snapshot_takes_no_more_than_its_own_places(
    snapshots: list[Dated], new: Dated, policy: RetentionPolicy
) -> None:
    """The best of its own day, week and month, the newest of the present ones, and one of the newest proven."""
    others = [snapshot for snapshot in snapshots if snapshot.name != new.name]
    gone = kept(others, policy) - kept([*others, new], policy)
    assert len(gone) <= 7
    assert all(snapshot.group == new.group for snapshot in gone)
    assert all(worth(snapshot) < worth(new) or snapshot.exported <= new.exported for snapshot in gone)


@settings(deadline=None)
@given(several, policies, spans)
def test_time_alone_only_takes_away(snapshots: list[Dated], policy: RetentionPolicy, later: timedelta) -> None:
    """What is in the past only gets older. A rule returns to what a better one had replaced only once that one is older
    than anything may be, and what it returns to has expired long since.
    """
    past = [snapshot for snapshot in snapshots if snapshot.exported <= NOW]
    outlived = [one for one in past if NOW - one.exported <= policy.max_age < NOW + later - one.exported]
    for snapshot in kept(past, policy, NOW + later) - kept(past, policy, NOW):
        assert any(one.group == snapshot.group and worth(one) > worth(snapshot) for one in outlived)
    there = [one for one in past if one in kept(past, policy, NOW)]
    assert kept(there, policy, NOW + later) <= set(there)


@settings(deadline=None)
@given(several, policies)
def test_groups_do_not_know_of_each_other(snapshots: list[Dated], policy: RetentionPolicy) -> None:
    """Each is decided as if it were alone."""

    def of(group: str, decisions: list[Decision]) -> list[Decision]:
        return [decision for decision in decisions if decision.snapshot.group == group]

    together = decide(snapshots, policy, NOW)
    for group in "ab":
        alone = [snapshot for snapshot in snapshots if snapshot.group == group]
        assert of(group, together) == decide(alone, policy, NOW)


@settings(deadline=None)
@given(several, policies)
def test_no_minimum_is_lost_without_an_alarm_before(snapshots: list[Dated], policy: RetentionPolicy) -> None:
    """Where the maximum takes one of the minimum within a step, that was told at the beginning of the step."""
    step = policy.max_age / 4
    told = {alarm.group for alarm in upcoming_losses(snapshots, policy, NOW)}
    past = [one for one in snapshots if one.exported <= NOW and one.proven and one.counts]
    for group in "ab":
        alive = [s for s in past if s.group == group and NOW - s.exported <= policy.max_age]
        later = [s for s in alive if NOW + step - s.exported <= policy.max_age]
        if alive and len(later) < min(len(alive), max(1, policy.keep_minimum)):
            assert group in told


@settings(deadline=None)
@given(several, policies, st.integers(0, 24 * 130))
def test_a_snapshot_is_kept_until_the_instant_that_is_said(
    snapshots: list[Dated], policy: RetentionPolicy, hours: int
) -> None:
    """At any time before it a rule keeps it, and then none does, as long as nothing newer comes."""
    for snapshot in snapshots:
        group = [one for one in snapshots if one.group == snapshot.group]
        until, at = kept_until(snapshot, group, policy, NOW), NOW + hours * HOUR
        assert until >= NOW
        assert snapshot not in kept(snapshots, policy, until)
        if at < until - timedelta(seconds=1):
            assert snapshot in kept(snapshots, policy, at)


@st.composite
def two_lines(draw: st.DrawFn) -> tuple[list[Dated], list[set[SnapshotName]]]:
    """Snapshots that two lines share up to where somebody else went on, and those of each alone."""
    snapshots = draw(several)
    sides = draw(st.lists(st.sampled_from("bth"), min_size=len(snapshots), max_size=len(snapshots)))
    return snapshots, [
        {one.name for one, side in zip(snapshots, sides, strict=True) if side in wanted} for wanted in ("bt", "bh")
    ]


@settings(deadline=None)
@given(two_lines(), policies, st.integers(0, 24 * 130))
def test_no_line_of_records_drives_anything_out_of_another(
    forked: tuple[list[Dated], list[set[SnapshotName]]], policy: RetentionPolicy, hours: int
) -> None:
    """What would stay if a line were alone stays, whatever stands in the other one."""
    snapshots, lines = forked
    at = NOW + hours * HOUR
    decisions = {one.snapshot.name: one.keep for one in decide(snapshots, policy, at, lines)}
    for line in lines:
        alone = [one for one in snapshots if one.name in line]
        assert all(decisions[one.name] for one in kept(alone, policy, at) if one.counts)
    for snapshot in snapshots:
        group = [one for one in snapshots if one.group == snapshot.group]
        until = kept_until(snapshot, group, policy, NOW, lines)
        assert not next(one.keep for one in decide(snapshots, policy, until, lines) if one.snapshot == snapshot)
