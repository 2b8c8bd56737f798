"""Files that come into being together: all, or none, and never over another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.errors import InterruptedRunError
from backupd.new_files import NewFiles


def names(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def made(folder: Path) -> NewFiles:
    files = NewFiles(folder)
    for name in ("key", "second", "config"):
        (files.folder / name).write_text(f"new {name}")
    return files


def places(folder: Path) -> dict[str, Path]:
    return {"key": folder / "key", "second": folder / "second"}


def test_all_are_put_and_the_last_replaces(tmp_path):
    """And nothing else is left of them."""
    (tmp_path / "config").write_text("old")
    with made(tmp_path) as files:
        files.put(places(tmp_path), ("config", tmp_path / "config"))
    assert names(tmp_path) == {"key": "new key", "second": "new second", "config": "new config"}
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_one_that_is_taken_keeps_all_away(tmp_path):
    """What stood there stays, whatever was put before it."""
    (tmp_path / "second").write_text("somebody's")
    (tmp_path / "config").write_text("old")
    with pytest.raises(FileExistsError), made(tmp_path) as files:
        files.put(places(tmp_path), ("config", tmp_path / "config"))
    assert names(tmp_path) == {"second": "somebody's", "config": "old"}


def test_an_interruption_takes_back_what_was_put(tmp_path, monkeypatch):
    """At any place before the last file."""
    linked = []

    def interrupted(source, target, **_options):
        if linked:
            raise InterruptedRunError("stopped")
        linked.append(target)
        Path(target).hardlink_to(source)

    monkeypatch.setattr("os.link", interrupted)
    with pytest.raises(InterruptedRunError), made(tmp_path) as files:
        files.put(places(tmp_path), ("config", tmp_path / "config"))
    assert len(linked) == 1
    assert names(tmp_path) == {}
