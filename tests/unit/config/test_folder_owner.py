"""What root leaves in the folders of a service is the service's afterwards, and nothing else is given away."""

from __future__ import annotations

import os
from pathlib import Path

from backupd.wiring.owner import hand_over, owner_of

NOBODY = 65534


def made(folder: Path) -> Path:
    """A state folder with files of root's in it, of another user where we may give one away."""
    state = folder / "state"
    (state / "be" / "zurich").mkdir(parents=True)
    (state / "be" / "zurich" / "index.sqlite").write_text("x")
    (folder / "precious").write_text("x")
    (state / "be" / "second").hardlink_to(folder / "precious")
    (state / "be" / "link").symlink_to(folder / "precious")
    (state / "scratch").mkdir()
    if os.getuid() == 0:
        os.chown(state, NOBODY, NOBODY)
    return state


def owners(*paths: Path) -> set[int]:
    return {path.lstat().st_uid for path in paths}


def test_what_root_made_is_given_to_the_folders_owner(tmp_path: Path) -> None:
    """Files and folders, but none with a second name, and none behind a symbolic link."""
    state, we = made(tmp_path), os.getuid()

    given = hand_over(state)

    theirs = NOBODY if we == 0 else we
    assert given == (4 if we == 0 else 0)
    assert owners(state / "be", state / "be" / "zurich" / "index.sqlite", state / "scratch") == {theirs}
    assert owners(tmp_path / "precious", state / "be" / "second", state / "be" / "link") == {we}


def test_folders_that_are_not_named_stay(tmp_path: Path) -> None:
    """Beside the regions' there may be a drill's."""
    state, we = made(tmp_path), os.getuid()

    hand_over(state, ["be"])

    assert owners(state / "be", state / "be" / "zurich") == {NOBODY if we == 0 else we}
    assert owners(state / "scratch") == {we}


def test_a_folder_of_root_or_none_is_left_alone(tmp_path: Path) -> None:
    """Nothing is to be given where the owner is who runs this, and nothing where there is no folder."""
    (tmp_path / "own" / "be").mkdir(parents=True)

    assert hand_over(tmp_path / "own") == 0
    assert hand_over(tmp_path / "none") == 0
    assert owner_of(tmp_path / "own" / "no" / "such") == owner_of(tmp_path)
