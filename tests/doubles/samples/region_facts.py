"""Regions that never were, as facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from backupd.model.status import (
    DatabaseFacts,
    DrillFacts,
    DueDay,
    Head,
    JobFacts,
    Promises,
    RegionFacts,
    SpaceFacts,
    StoreFacts,
    UnreadFacts,
)

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def database(label: str = "app", **changes: Any) -> DatabaseFacts:
    said = {
        "published": NOW - 5 * HOUR,
        "published_snapshot": "20300601T070000Z-" + "ab" * 32,
        "verified": NOW - 29 * HOUR,
        "verified_snapshot": "20300531T070000Z-" + "cd" * 32,
        "verified_at": NOW - 20 * HOUR,
        "restored": NOW - 3 * DAY,
        "restored_snapshot": "20300529T120000Z-" + "ef" * 32,
        "restored_at": NOW - 2 * DAY,
        "unread": UnreadFacts(bytes=5 * 10**9, audited=NOW - 3 * DAY),
        "recent": tuple(NOW - 5 * HOUR - number * 6 * HOUR for number in reversed(range(60))),
    }
    return DatabaseFacts(label=label, **{**said, **changes})


def store(name: str = "zurich", **changes: Any) -> StoreFacts:
    said = {
        "append_only": True,
        "mode": "append-only",
        "separate_keeper": True,
        "databases": (database(),),
        "space": SpaceFacts(600 * 10**9, 10**12),
        "server_snapshots": tuple(f"daily_2030-05-{day}" for day in range(25, 32)),
        "server_oldest": datetime(2030, 5, 25, tzinfo=UTC),
        "server_newest": datetime(2030, 5, 31, tzinfo=UTC),
        "ledger_entries": 40,
        "kept": NOW - 8 * HOUR,
        "expired": NOW - 8 * HOUR,
        "verifications": tuple(NOW - day * DAY for day in (9, 5, 1)),
    }
    return StoreFacts(store=name, **{**said, **changes})


def job(kind: str = "backup", **changes: Any) -> JobFacts:
    said = {
        "started": NOW - 5 * HOUR,
        "ended": NOW - 5 * HOUR + timedelta(minutes=3),
        "outcome": "done",
        "well": True,
        "seconds": 180.0,
        "good": NOW - 5 * HOUR,
        "next_at": NOW + HOUR,
        "runs": tuple((NOW - 5 * HOUR - number * 6 * HOUR, 180.0 + number, "done") for number in reversed(range(20))),
    }
    return JobFacts(kind=kind, **{**said, **changes})


def region(name: str = "be", **changes: Any) -> RegionFacts:
    said = {
        "at": NOW - timedelta(minutes=5),
        "stores": (store(), store("cellar", append_only=False, mode="plain", separate_keeper=False)),
        "ledger": Head(40, "5e" * 32),
        "founded": NOW - 100 * DAY,
        "leaving": 3,
        "next_deadline": NOW + 40 * DAY,
        "endangered": NOW + 33 * DAY,
        "deadlines": (DueDay(NOW + 40 * DAY, 1), DueDay(NOW + 90 * DAY, 2)),
        "drilled": NOW - 2 * DAY,
        "proven": NOW - 2 * DAY,
        "drills": tuple(DrillFacts(NOW - 2 * DAY - week * 7 * DAY, "pass") for week in reversed(range(8))),
        "promises": Promises(
            rpo=26 * 3600, rto=4 * 3600, drill_every=7 * 86400, repair_slack=7 * 86400, expiry_gap=2 * 86400
        ),
        "jobs": (job(), job("verify", next_at=NOW + 17 * HOUR)),
    }
    return RegionFacts(region=name, **{**said, **changes})
