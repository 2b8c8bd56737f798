"""The rules by which snapshots stay or expire. Pure.

Everything is counted from the present. A rule that counts from the newest snapshot would stop expiring on the day
backups stop, and would break the promise to tenants.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from backupd.model.ids import SnapshotName
from backupd.model.text import spell

_SECOND = timedelta(seconds=1)
_LEAST_NOTICE = timedelta(days=7)
_BESIDE = "a newer one stands in another line of records"

Lines: TypeAlias = Sequence[Collection[SnapshotName]]
"""The lines of records, of which at most one is true; none where all are taken for one line."""


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """The rules of retention: a snapshot stays when any of them keeps it, and never beyond `max_age`."""

    keep_within: timedelta
    daily: int
    """How many UTC days, today included, keep one snapshot of the day, the newest proven; the next two count weeks
    from Monday, and months."""
    weekly: int
    monthly: int
    max_age: timedelta
    """The age, counted from the export, beyond which no snapshot stays, even if there is nothing newer."""
    keep_minimum: int
    """How many of the newest proven snapshots of a group stay when no other rule keeps them."""


@dataclass(frozen=True, slots=True)
class Dated:
    """The properties of a snapshot that retention depends on."""

    name: SnapshotName
    group: str
    """Database label and member. Can contain a tenant's name: never print it."""
    exported: datetime
    """When the snapshot's content was true, which is before anything of it was stored; aware."""
    proven: bool
    """Whether it was verified completely."""
    late: bool = False
    """Whether it came to the store longer after its export than any run takes: a thief who can sign dates it back."""
    empty: bool = False
    """Whether it names no section."""
    early: bool = False
    """Whether it was on the store before its export: somebody dated it ahead."""

    @property
    def counts(self) -> bool:
        """Check whether it may take the place of another one."""
        return not (self.late or self.early or self.empty)

    @property
    def doubt(self) -> str:
        """Return why it takes nobody's place; nothing for one that does."""
        if self.late:
            return "came to the store later than any run would bring it"
        if self.early:
            return "was on the store before its own export"
        return "names nothing" if self.empty else ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about one snapshot, with the rules that led to it: there is always at least one reason."""

    snapshot: Dated
    keep: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RetentionAlarm:
    """A group that `max_age` will leave with fewer proven snapshots than wanted, unless something newer is proven."""

    group: str
    lost: datetime
    """When the first snapshot that counts passes `max_age`; in the past when it already has."""
    proven: int
    """Number of proven snapshots in the group now."""
    message: str
    """The sentence, without the group, whose name may be a tenant's."""


def decide(snapshots: Iterable[Dated], policy: RetentionPolicy, now: datetime, lines: Lines = ()) -> list[Decision]:
    """Decide about each snapshot, oldest first.

    A snapshot dated after `now` is kept and does not replace any other: one of the two clocks is wrong, and what is
    removed by mistake does not come back. Of each day, week and month one snapshot counts: the newest proven one, or
    the newest where none is proven; of the present ones the newest stays, too. One that came too late, or names
    nothing, counts only where there is no other: a thief who can sign can date records back, and must drive out none.
    Of several lines of records each is judged as if it were alone, for any of them may be the false one.
    """
    groups = _groups(snapshots).values()
    decisions = [decision for group in groups for decision in _decide_group(group, policy, now, lines)]
    return sorted(decisions, key=lambda decision: (*_age_order(decision.snapshot), decision.snapshot.group))


def upcoming_losses(snapshots: Iterable[Dated], policy: RetentionPolicy, now: datetime) -> list[RetentionAlarm]:
    """Return the groups that `max_age` will soon leave below the minimum, the most urgent first.

    Notice is given a quarter of `max_age` ahead, at least 7 days (at most half of `max_age`). A group that has fewer
    proven snapshots than the minimum is reported when the oldest of them nears its end, so that a new database raises
    no alarm; a group in which nothing is proven, when its oldest snapshot does.
    """
    notice = max(policy.max_age / 4, min(_LEAST_NOTICE, policy.max_age / 2))
    alarms = [_alarm(name, group, policy, now) for name, group in _groups(snapshots).items()]
    return sorted(
        (alarm for alarm in alarms if alarm is not None and alarm.lost - now <= notice),
        key=lambda alarm: (alarm.lost, alarm.group),
    )


def kept_until(
    snapshot: Dated, group: Iterable[Dated], policy: RetentionPolicy, now: datetime, lines: Lines = ()
) -> datetime:
    """Return the first instant at which no rule keeps a snapshot, to the second, if nothing newer comes meanwhile.

    What is newer can only take its place earlier. The instant is `now` for a snapshot that expires today. `group` are
    the snapshots of its database, itself among them.
    """

    def kept(at: datetime) -> bool:
        decisions = _decide_group(ordered, policy, at, lines)
        return next(one.keep for one in decisions if one.snapshot.name == snapshot.name)

    ordered = sorted(group, key=_age_order)
    # A rule may keep it again once a better one of its month is too old, but by then it has expired. Between two such
    # instants nothing comes back.
    changes = sorted({at for one in ordered for at in (one.exported, one.exported + policy.max_age + _SECOND)})
    first = now
    for last in (at for at in changes if at > now):
        if not kept(first):
            return first
        if not kept(last - _SECOND):
            return _last_kept(kept, first, last - _SECOND)
        first = last
    return first


def _last_kept(kept: Callable[[datetime], bool], first: datetime, last: datetime) -> datetime:
    """Return where what holds at `first` and not at `last` ends, to the second."""
    while last - first > _SECOND:
        middle = first + (last - first) / 2
        first, last = (middle, last) if kept(middle) else (first, middle)
    return last


def _decide_group(group: list[Dated], policy: RetentionPolicy, now: datetime, lines: Lines) -> Iterator[Decision]:
    """Decide about the snapshots of one group, given oldest first."""
    present = [snapshot for snapshot in group if now - policy.max_age <= snapshot.exported <= now]
    reasons = _reasons(present, policy, now)
    counting = {snapshot.name for snapshot in present if snapshot.counts}
    for line in lines if len(lines) > 1 else ():
        alone = _reasons([snapshot for snapshot in present if snapshot.name in line], policy, now)
        for name in (alone.keys() & counting) - reasons.keys():
            reasons[name] = [*alone[name], _BESIDE]
    for snapshot in group:
        if snapshot.exported > now:
            yield Decision(snapshot, keep=True, reasons=("dated after the present: a clock is wrong",))
        elif snapshot.exported < now - policy.max_age:
            reason = f"older than the maximum of {spell(policy.max_age)}"
            yield Decision(snapshot, keep=False, reasons=(reason,))
        else:
            kept = tuple(reasons.get(snapshot.name, ()))
            doubt = (snapshot.doubt,) if snapshot.doubt else ()
            yield Decision(snapshot, keep=bool(kept), reasons=(*(kept or ("no rule keeps it",)), *doubt))


def _reasons(present: list[Dated], policy: RetentionPolicy, now: datetime) -> dict[SnapshotName, list[str]]:
    """Return why rules keep snapshots, those that are kept alone."""
    reasons: dict[SnapshotName, list[str]] = defaultdict(list)
    for rule in (_within, _periods, _minimum):
        for snapshot, reason in rule(present, policy, now):
            reasons[snapshot.name].append(reason)
    return reasons


def _within(group: list[Dated], policy: RetentionPolicy, now: datetime) -> Iterator[tuple[Dated, str]]:
    for snapshot in group:
        if snapshot.exported >= now - policy.keep_within:
            yield snapshot, f"within {spell(policy.keep_within)}"


def _periods(group: list[Dated], policy: RetentionPolicy, now: datetime) -> Iterator[tuple[Dated, str]]:
    rules: tuple[tuple[str, int, Callable[[datetime], int]], ...] = (
        ("daily", policy.daily, _day),
        ("weekly", policy.weekly, _week),
        ("monthly", policy.monthly, _month),
    )
    for word, count, number in rules:
        best = {number(now) - number(snapshot.exported): snapshot for snapshot in sorted(group, key=_worth)}
        for back, snapshot in best.items():
            if back < count:
                yield snapshot, f"{word} {back + 1} of {count}"
        newest = [one for one in group if one.counts and number(one.exported) == number(now)][-1:]
        for snapshot in newest if count else ():
            if snapshot != best[0]:
                yield snapshot, f"{word} 1 of {count}, not proven yet"


def _minimum(group: list[Dated], policy: RetentionPolicy, _now: datetime) -> Iterator[tuple[Dated, str]]:
    proven = sorted((snapshot for snapshot in group if snapshot.proven), key=_worth)
    for snapshot in proven[max(0, len(proven) - policy.keep_minimum) :]:
        yield snapshot, f"among the {policy.keep_minimum} newest proven"


def _day(instant: datetime) -> int:
    return instant.astimezone(UTC).toordinal()


def _week(instant: datetime) -> int:
    """Return the number of the week: day 1 of the calendar was a Monday."""
    return (_day(instant) - 1) // 7


def _month(instant: datetime) -> int:
    utc = instant.astimezone(UTC)
    return utc.year * 12 + utc.month


def _alarm(name: str, group: list[Dated], policy: RetentionPolicy, now: datetime) -> RetentionAlarm | None:
    past = [snapshot for snapshot in group if snapshot.exported <= now]
    proven = [one for one in past if one.proven and one.counts and one.exported >= now - policy.max_age]
    wanted = max(1, policy.keep_minimum)
    counting = proven[-wanted:] or past
    if not counting:
        return None
    lost = counting[0].exported + policy.max_age
    there = f"{len(proven) or 'none'} proven, {wanted} wanted"
    ends = f"leaves {len(counting) - 1} of them" if proven else "takes the oldest snapshot"
    message = f"{there}: the maximum of {spell(policy.max_age)} {ends} on {lost.astimezone(UTC):%Y-%m-%d}"
    return RetentionAlarm(name, lost, len(proven), message)


def _groups(snapshots: Iterable[Dated]) -> dict[str, list[Dated]]:
    """Group the snapshots, each group oldest first."""
    groups: dict[str, list[Dated]] = defaultdict(list)
    for snapshot in sorted(snapshots, key=_age_order):
        groups[snapshot.group].append(snapshot)
    return groups


def _worth(snapshot: Dated) -> tuple[bool, bool, bool, datetime, str]:
    """Return a key that orders snapshots of one day, week or month, the one that counts last."""
    timely = not (snapshot.late or snapshot.early)
    return timely, not snapshot.empty, snapshot.proven, snapshot.exported, snapshot.name


def _age_order(snapshot: Dated) -> tuple[datetime, str]:
    return snapshot.exported, snapshot.name
