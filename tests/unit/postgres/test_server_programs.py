"""The folders that a scratch server's jail shows are those of the whole installation, wherever it lies."""

from __future__ import annotations

from pathlib import Path

from backupd.postgres.scratch.programs import ServerPrograms


def test_a_copy_of_debians_packages_has_its_files_beside_lib(tmp_path: Path) -> None:
    """Without them initdb finds no share folder; of the libraries, `ldd` would tell more here."""
    programs, files = tmp_path / "usr/lib/postgresql/15/bin", tmp_path / "usr/share/postgresql/15"
    programs.mkdir(parents=True)
    assert ServerPrograms(programs, "15.18").folders == (str(programs.parent),)
    files.mkdir(parents=True)
    assert ServerPrograms(programs, "15.18").folders == (str(programs.parent), str(files))


def test_an_installation_in_one_folder_is_that_folder(tmp_path: Path) -> None:
    programs = tmp_path / "pginstall/bin"
    programs.mkdir(parents=True)
    assert ServerPrograms(programs, "17.10").folders == (str(programs.parent),)
