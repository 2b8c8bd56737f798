"""Random histories of a database against random backups; `scripts/unread-model` takes thousands of steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles.servers.unread_backup import DifferenceError
from doubles.servers.unread_model import UnreadModel
from fix_postgres import Database

from backupd.planning.incremental import window
from backupd.planning.incremental.facts import Base


def test_what_is_taken_over_unread_is_what_the_snapshot_shows(summarized: Database, tmp_path: Path) -> None:
    """Every extent that is taken over is read as well and compared; a good part of them is taken over.

    So is every extent that is read, also together with others, as a backup reads them.
    """
    model = UnreadModel(summarized.server, summarized.name, tmp_path, seed=1003)
    try:
        model.begin()
        model.backup()
        assert model.figures.together > 5
        model.steps(200)
    finally:
        model.close()
    assert model.figures.taken > 50


def test_the_model_notices_a_window_that_begins_too_late(
    summarized: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last snapshot, that is, where transactions were running that have committed since."""

    def late(base: Base) -> int:
        return base.lsn

    monkeypatch.setattr(window, "_start", late)
    model = UnreadModel(summarized.server, summarized.name, tmp_path, seed=1)
    try:
        model.begin()
        with pytest.raises(DifferenceError):
            _commit_between_backups(model, summarized)
    finally:
        model.close()


def _commit_between_backups(model: UnreadModel, database: Database) -> None:
    with database.server.connect(database.name) as connection:
        for _ in range(20):
            model.backup()
            connection.execute("BEGIN; UPDATE note SET n = -1 WHERE id = (SELECT min(id) FROM note)")
            model.backup()
            connection.execute("COMMIT")
