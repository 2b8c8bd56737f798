"""Alarms name what is wrong with a region, and notices say what people read of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from doubles.samples.region_facts import DAY, HOUR, NOW, database, job, region, store

from backupd.model.status import (
    Alarm,
    AlarmCode,
    AlarmSeverity,
    Change,
    Head,
    Promises,
    RegionFacts,
    ServerChange,
    SpaceFacts,
    StoreFacts,
    StoreFault,
    UnreadFacts,
)
from backupd.planning.alarms import ShownSnapshots, Watch, judge, server_changes
from backupd.planning.notices import Memory, NoticeKind, NoticeLimits, due, follow_alarms, mark_sent

WATCH = Watch(NOW, HOUR)
LIMITS = NoticeLimits(24 * HOUR, 6)
GONE = StoreFault("StoreGone", "the connection broke", "Wait.", retryable=True)
WRONG: dict[AlarmCode, tuple[dict[str, Any], str]] = {
    AlarmCode.NOT_OBSERVED: ({"at": NOW - 2 * HOUR}, ""),
    AlarmCode.DEADLINE_MISSED: ({"late": ({"tenant": "ab" * 16},)}, ""),
    AlarmCode.DEADLINE_NEAR: ({"next_deadline": NOW + 6 * DAY, "endangered": NOW - DAY}, ""),
    AlarmCode.PROOF_STALE: ({"proven": NOW - 9 * DAY}, ""),
    AlarmCode.BACKUP_OLD: ({"stores": (store(databases=(database(published=NOW - 27 * HOUR),)),)}, "zurich/app"),
    AlarmCode.UNREAD_DIFFERS: (
        {"stores": (store(databases=(database(unread=UnreadFacts(distrusted=True)),)),)},
        "zurich/app",
    ),
    AlarmCode.CLOCK_BEHIND: (
        {"stores": (store(databases=(database(published=NOW + HOUR),)),)},
        "zurich/app",
    ),
    AlarmCode.KEEPER_IDLE: ({"stores": (store(kept=NOW - 3 * DAY),)}, "zurich"),
    AlarmCode.LEDGER_BEHIND: ({"ledger": Head(41), "stores": (store(),)}, "zurich"),
    AlarmCode.LEDGER_AHEAD: ({"ledger_ahead": 12}, ""),
    AlarmCode.STORE_FULL: ({"stores": (store(space=SpaceFacts(9, 100)),)}, "zurich"),
    AlarmCode.STORE_SNAPSHOTS: ({"stores": (store(server_changes=(ServerChange.FEWER,)),)}, "zurich"),
    AlarmCode.CAPABILITY_CHANGED: (
        {"stores": (store(changes=(Change("append_only", "yes", "no", worse=True),)),)},
        "zurich",
    ),
    AlarmCode.SIGNER_UNNAMED: ({"stores": (store(unnamed_signers=("cd" * 32,)),)}, "zurich"),
    AlarmCode.STORE_UNREACHABLE: ({"stores": (StoreFacts(store="zurich", error=GONE),)}, "zurich"),
    AlarmCode.JOB_FAILED: ({"jobs": (job(outcome="refused", well=False, final=True),)}, "backup"),
    AlarmCode.JOB_FOUND: ({"jobs": (job("verify", outcome="found"),)}, "verify"),
}


def alarms(facts: RegionFacts) -> list[tuple[AlarmCode, str]]:
    return [(alarm.code, alarm.subject) for alarm in judge(facts, WATCH)]


def test_all_is_well() -> None:
    """A region where everything is as promised has no alarm."""
    assert judge(region(), WATCH) == ()


@pytest.mark.parametrize("code", AlarmCode)
def test_each_alarm_goes_off_alone(code: AlarmCode) -> None:
    """What is wrong is told by its code, with the thing it is about, a sentence and a way out; nothing else is."""
    changes, subject = WRONG[code]
    facts = region(**changes)
    assert alarms(facts) == [(code, subject)]
    (alarm,) = judge(facts, WATCH)
    assert not alarm.message[0].isupper()
    assert not alarm.message.endswith(".")
    assert alarm.hint.endswith(".")
    assert "ab" * 16 not in alarm.message + alarm.hint


def test_edges_of_the_alarms() -> None:
    """At the promise itself nothing is wrong; what was never done counts from the founding; nobody held is late."""
    promises = Promises(rpo=26 * 3600, drill_every=7 * 86400, repair_slack=7 * 86400)
    at = {"published": NOW - 26 * HOUR}
    exact = region(
        stores=(store(databases=(database(**at),)),),
        proven=NOW - 8.75 * DAY,
        next_deadline=NOW + 7 * DAY,
        endangered=NOW,
        promises=promises,
    )
    assert alarms(exact) == []
    never = region(
        stores=(store(databases=(database(published=None),), kept=None),), proven=None, founded=NOW - 27 * HOUR
    )
    assert alarms(never) == [(AlarmCode.BACKUP_OLD, "zurich/app")]
    assert alarms(region(promises=Promises(), proven=None, next_deadline=NOW)) == []


def test_a_database_without_a_snapshot_is_never_well() -> None:
    """Whatever is promised, and however young its region is."""
    none = (store(databases=(database(published=None),)),)
    for promises in (Promises(), Promises(rpo=26 * 3600)):
        found = judge(region(stores=none, founded=NOW, promises=promises), WATCH)
        assert [(alarm.code, alarm.severity) for alarm in found] == [(AlarmCode.BACKUP_OLD, AlarmSeverity.ERROR)]


def test_without_a_promise_a_backup_that_was_due_twice_is_old() -> None:
    """The sentence says what is due, and promises nothing."""
    for hours, expected in ((47, []), (49, [AlarmCode.BACKUP_OLD])):
        stores = (store(databases=(database(published=NOW - hours * HOUR),)),)
        found = judge(region(stores=stores, promises=Promises(backup_every=86400)), WATCH)
        assert [alarm.code for alarm in found] == expected
    assert found[0].message == "the newest snapshot of 'app' on 'zurich' is 2 d 1 h old, and one is due every 1 d"


@pytest.mark.parametrize(
    ("minutes", "said"), [(49 * 60, "2 d 1 h"), (49 * 60 + 59, "2 d 1 h"), (61, "1 h"), (59, "59 min"), (5, "5 min")]
)
def test_no_age_is_more_than_it_is(minutes: int, said: str) -> None:
    """A snapshot of five minutes ago is not an hour old."""
    stores = (store(databases=(database(published=NOW - minutes * timedelta(minutes=1)),)),)
    (found,) = judge(region(stores=stores, promises=Promises(rpo=60)), WATCH)
    assert f" is {said} old, " in found.message


def test_a_snapshot_of_the_next_minutes_is_no_alarm() -> None:
    """Clocks differ a little; one of the day after tomorrow is, since nobody knows then how old anything is."""
    (ahead,) = judge(region(stores=(store(databases=(database(published=NOW + 2 * DAY),)),)), WATCH)
    assert ahead.code is AlarmCode.CLOCK_BEHIND
    assert ahead.message == "the newest snapshot of 'app' on 'zurich' is dated 2 d ahead of this machine's clock"
    assert alarms(region(stores=(store(databases=(database(published=NOW + HOUR / 12),)),))) == []


def test_a_failure_that_may_pass_is_told_at_the_third_try() -> None:
    """One that cannot pass is told at once; being busy or stopped is no failure."""
    for outcome, attempt, final, told in (
        ("failed", 1, False, False),
        ("failed", 3, False, True),
        ("failed", 1, True, True),
        ("busy", 9, True, False),
        ("stopped", 1, True, False),
        ("hung", 1, True, True),
    ):
        found = region(jobs=(job(outcome=outcome, attempt=attempt, final=final, well=False),))
        assert bool(judge(found, WATCH)) is told, outcome


def alarm(code: AlarmCode = AlarmCode.PROOF_STALE, **changes: Any) -> Alarm:
    return Alarm(**{"code": code, "region": "be", "message": "it is so", "hint": "Do it.", **changes})


def heard(memory: Memory, now: Any, *found: Alarm) -> tuple[Memory, list[tuple[NoticeKind, AlarmCode]]]:
    """One turn, with a target that takes what it is sent."""
    memory = follow_alarms(memory, found, now)
    told = due(memory, LIMITS, now)
    return mark_sent(memory, told, now) if told else memory, [(one.about, one.alarm.code) for one in told]


def test_people_hear_of_changes_and_are_reminded() -> None:
    """Once when it begins, again after the time set, once when it is over, and nothing when nothing changes."""
    memory, told = heard(Memory(), NOW, alarm())
    assert told == [(NoticeKind.NEW, AlarmCode.PROOF_STALE)]
    for hours, expected in ((1, []), (23, []), (24, [NoticeKind.STILL]), (25, []), (48, [NoticeKind.STILL])):
        memory, told = heard(memory, NOW + hours * HOUR, alarm(message=f"it is so for {hours} h"))
        assert [about for about, _ in told] == expected, hours
    memory, told = heard(memory, NOW + 49 * HOUR, alarm(state="other"))
    assert [about for about, _ in told] == [NoticeKind.NEW]
    memory, told = heard(memory, NOW + 50 * HOUR)
    assert [about for about, _ in told] == [NoticeKind.OVER]
    assert heard(memory, NOW + 51 * HOUR)[1] == []


def test_what_passes_by_itself_is_not_told() -> None:
    """An alarm with patience is told only when it lasts, and its end only when its begin was told."""
    short = alarm(patience=1800)
    memory, told = heard(Memory(), NOW, short)
    memory, later = heard(memory, NOW + timedelta(minutes=10))
    assert (told, later, memory.known) == ([], [], {})
    memory, _ = heard(memory, NOW + HOUR, short)
    memory, told = heard(memory, NOW + 2 * HOUR, short)
    assert [about for about, _ in told] == [NoticeKind.NEW]


def test_messages_are_few_however_much_happens() -> None:
    """Alarms that come and go every minute make no more messages an hour than may be; then the state as it is."""
    memory, messages = Memory(), []
    for minute in range(180):
        found = [alarm(region=f"r{minute}")] if minute % 2 else []
        memory, told = heard(memory, NOW + timedelta(minutes=minute), *found)
        messages += [minute] if told else []
    for minute in range(120):
        assert sum(minute <= sent < minute + 60 for sent in messages) <= LIMITS.most_an_hour
    memory, told = heard(memory, NOW + 10 * HOUR)
    assert {about for about, _ in told} <= {NoticeKind.OVER}
    assert heard(memory, NOW + 11 * HOUR)[1] == []


def test_what_could_not_be_sent_is_said_later() -> None:
    """While no target takes it, nothing counts as told: neither a begin nor an end is lost."""
    memory = follow_alarms(Memory(), [alarm()], NOW)
    assert due(memory, LIMITS, NOW)
    memory, told = heard(memory, NOW + HOUR, alarm())
    assert [about for about, _ in told] == [NoticeKind.NEW]
    memory = follow_alarms(memory, [], NOW + 2 * HOUR)
    assert due(memory, LIMITS, NOW + 2 * HOUR)
    memory, told = heard(memory, NOW + 3 * HOUR)
    assert [about for about, _ in told] == [NoticeKind.OVER]


def test_changes_of_the_stores_own_snapshots() -> None:
    """Three observations make a habit; what vanishes, shrinks, grows, lives on or stops is told, rotation is not."""

    def shown(number: int, newest: timedelta = 12 * HOUR) -> ShownSnapshots:
        return ShownSnapshots(number, [NOW - newest - day * DAY for day in reversed(range(number))])

    week = [(NOW - day * DAY, 7) for day in range(1, 10)]
    for now, seen, expected in (
        (shown(7), week, []),
        (shown(6), week, []),
        (shown(8), week, []),
        (shown(0), week, [ServerChange.VANISHED]),
        (shown(3), week, [ServerChange.FEWER]),
        (shown(3), week[:2], []),
        (shown(3), [(NOW - 31 * DAY, 7)] * 5, []),
        (shown(9), [(NOW - day * DAY, 6) for day in range(1, 10)], [ServerChange.MORE, ServerChange.LONGER]),
        (shown(7, 3.5 * DAY), week, [ServerChange.LONGER, ServerChange.STOPPED]),
        (ShownSnapshots(7, []), week, []),
    ):
        assert list(server_changes(now, seen, 8 * DAY, NOW)) == expected


def test_a_changed_store_names_the_command_that_accepts_it() -> None:
    """Hardening a store would alarm for ever otherwise."""
    changed = store(changes=(Change("hash", "sha256sum", "no", worse=True),), unnamed_signers=("cd" * 32,))
    found = judge(region(stores=(changed,)), WATCH)
    assert [alarm.code for alarm in found] == [AlarmCode.CAPABILITY_CHANGED, AlarmCode.SIGNER_UNNAMED]
    assert all("`backupd store accept zurich --reason REFERENCE`" in alarm.hint for alarm in found)


def test_a_store_out_of_reach_keeps_the_alarms_of_its_last_known_facts() -> None:
    """They do not improve by not being seen; of a store never seen there is nothing to say."""
    old = (database(published=NOW - 27 * HOUR),)
    assert sorted(alarms(region(stores=(store(databases=old, error=GONE),)))) == [
        (AlarmCode.BACKUP_OLD, "zurich/app"),
        (AlarmCode.STORE_UNREACHABLE, "zurich"),
    ]
    assert alarms(region(stores=(store(databases=old, error=GONE, mode=None),))) == [
        (AlarmCode.STORE_UNREACHABLE, "zurich")
    ]


def test_no_alarm_of_a_region_that_nobody_looked_at_is_over() -> None:
    """What people were told of the others ends, and notices that were not sent stay."""
    memory, _ = heard(Memory(), NOW, alarm(), alarm(region="ch"))
    memory = follow_alarms(memory, [], NOW + HOUR, unseen={"be"})
    assert [(one.alarm.region, one.over) for one in memory.known.values()] == [("be", False), ("ch", True)]
    told = due(memory, LIMITS, NOW + HOUR)
    assert [(one.about, one.alarm.region) for one in told] == [(NoticeKind.OVER, "ch")]
    assert [one.alarm.region for one in mark_sent(memory, told, NOW + HOUR).known.values()] == ["be"]
    assert mark_sent(memory, [], NOW + HOUR).known == memory.known
