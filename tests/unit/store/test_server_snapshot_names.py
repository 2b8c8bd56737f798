"""Names of a server's snapshots are read as the times at which they were made."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from backupd.store.server import oldest_first, snapshot_time


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("daily_2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("weekly_2026-11-16", datetime(2026, 11, 16, tzinfo=UTC)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("autosnap_2026-11-20_14:25:01_daily", datetime(2026, 11, 20, 14, 25, 1, tzinfo=UTC)),
        ("zfs-auto-snap_hourly-2026-11-20-1425", datetime(2026, 11, 20, 14, 25, tzinfo=UTC)),
        ("daily_2026-11-20-1", datetime(2026, 11, 20, tzinfo=UTC)),
        ("daily_2026-13-40", None),
        ("daily_2026-11-20_99:00", None),
        ("daily_12026-11-20", None),
        ("before-upgrade", None),
        ("", None),
    ],
)
def test_time_in_a_name(name, made):
    """A day, with the time where there is one; None when no calendar has it."""
    assert snapshot_time(name) == made


def test_unknown_times_come_first():
    """What may be old is listed as such, and one order is kept among equals."""
    names = ["b_2026-01-01", "other", "a_2026-01-01", "z_2025-12-31"]
    assert [shown.name for shown in oldest_first(names)] == ["other", "z_2025-12-31", "a_2026-01-01", "b_2026-01-01"]
