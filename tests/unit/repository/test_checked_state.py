"""What verify remembers, with two runs of one machine at once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from backupd.model.ids import GenerationId, ObjectHash, ObjectName, RepositoryId, SnapshotName
from backupd.repository.state import checked
from backupd.repository.state.checked import CONTENT, READ, CheckedState
from backupd.store.base import ObjectInfo

GENERATION = GenerationId("20300101T000000Z-00000000")


def test_two_runs_remember_beside_each_other(tmp_path: Path, monkeypatch) -> None:
    """Neither holds the file for as long as it runs, nor waits for the other to end."""
    monkeypatch.setattr(checked, "_PATIENCE", 0.0)
    one, other = (CheckedState(tmp_path / "state" / "checked.sqlite") for _ in range(2))
    with one, other:
        for number, state in enumerate((one, other)):
            state.belong_to(RepositoryId("0" * 32))
            state.take_listing([ObjectInfo(ObjectName(f"elsewhere-{number}"), 1, datetime(2030, 1, 1, tzinfo=UTC))])
            state.remember(READ, GENERATION, ObjectHash(f"{number:064x}"), 1.0 + number)
            state.remember_records([SnapshotName(f"record-{number}")])
        one.forget(READ, GENERATION, ObjectHash(f"{1:064x}"))
        other.remember(CONTENT, GENERATION, ObjectHash(f"{2:064x}"), 3.0)

        assert one.times(READ, GENERATION) == {ObjectHash(f"{0:064x}"): 1.0}
        assert other.records() == {"record-0", "record-1"}
    with CheckedState(tmp_path / "state" / "checked.sqlite") as again:
        assert again.times(CONTENT, GENERATION) == {ObjectHash(f"{2:064x}"): 3.0}
