"""The text and the exit status by which `backup` says what an audit found."""

from __future__ import annotations

from typing import Any

from backupd.cli.commands.backup import _reply
from backupd.model.answers import BackupReport, UnreadAnswer
from backupd.model.ids import RegionName, SnapshotName
from backupd.operations.backup.region import BackupOutcome

OBSTACLE = "summarize_wal is off on the server"


def reply(**unread: Any) -> tuple[int, str]:
    figures: dict[str, int] = dict.fromkeys(("tables", "segments", "rows", "left_out", "read", "new", "sent"), 1)
    report = BackupReport(
        snapshot=SnapshotName(f"20300101T000000Z-{'ab' * 32}"),
        label="app",
        exported="",
        generation="",
        objects=1,
        held_seconds=1.0,
        seconds=1.0,
        unread=UnreadAnswer(**unread),
        **figures,
    )
    found = _reply(BackupOutcome(RegionName("be"), "zurich", "app", report=report))
    return found.status, "\n".join(map(str, found.lines))


def test_a_difference_is_a_verdict_and_no_success() -> None:
    """The daemon counts it as found: the work was done, and something is wrong."""
    status, text = reply(compared=9, differences=[(16400, 1024)])
    assert (status, "9 unchanged parts of tables compared: 1 difference" in text) == (10, True)
    assert reply(compared=9)[0] == 0


def test_an_obstacle_of_the_server_is_told_once() -> None:
    """It stays until somebody changes the server; `status` has it all the while."""
    assert f"everything was read: {OBSTACLE}" in reply(reason=OBSTACLE)[1]
    assert "everything was read" not in reply(reason=OBSTACLE, told=True)[1]


def test_a_snapshots_name_fits_a_terminal() -> None:
    """Its beginning, which every command takes, stands in place of 81 characters that would be broken."""
    lines = reply()[1].splitlines()
    assert lines[0] == "be/app on zurich: snapshot 20300101T000000Z-abababab"
    assert max(map(len, lines)) <= 80
