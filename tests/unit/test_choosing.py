"""Which snapshot a person's words mean."""

from __future__ import annotations

import pytest

from backupd.errors import UsageError
from backupd.model.ids import SnapshotName
from backupd.planning.restoring.choosing import candidates

FIRST = SnapshotName("20260101T020000Z-" + "aa11" * 16)
SECOND = SnapshotName("20260102T020000Z-" + "bb22" * 16)
THIRD = SnapshotName("20260102T140000Z-" + "aa11cc" + "3" * 58)
NAMES = [FIRST, SECOND, THIRD]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("latest", ([THIRD, SECOND, FIRST], False)),
        (THIRD, ([THIRD], True)),
        ("20260102T", ([THIRD, SECOND], True)),
        ("20260102", ([THIRD, SECOND], True)),
        ("20260102T02", ([SECOND], True)),
        ("bb22bb", ([SECOND], True)),
        ("aa11cc", ([THIRD], True)),
        ("ffffff", ([], True)),
        ("2026-01-02T14:00:00", ([THIRD, SECOND, FIRST], False)),
        ("2026-01-02T13:59:59Z", ([SECOND, FIRST], False)),
        ("2026-01-02 03:00+01:00", ([SECOND, FIRST], False)),
        ("2026-01-02", ([FIRST], False)),
        ("2025-12-31", ([], False)),
    ],
)
def test_words_mean_snapshots(wanted: str, found: tuple[list[SnapshotName], bool]) -> None:
    """Newest first; a name's or hash's beginning names one, a time the newest at or before it."""
    assert candidates(NAMES, wanted) == found


@pytest.mark.parametrize("wanted", ["", "newest", "aa1", "2026-13-01", "yesterday"])
def test_other_words_are_refused(wanted: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(UsageError):
        candidates(NAMES, wanted)
