"""The folders that a scratch server's jail shows are those of the whole installation, wherever it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.postgres.scratch.programs import SERVER, ServerPrograms, find_server


def test_a_copy_of_debians_packages_has_its_files_beside_lib(tmp_path: Path) -> None:
    """Without them initdb finds no share folder; of the libraries, `ldd` would tell more here."""
    programs, files = tmp_path / "usr/lib/postgresql/15/bin", tmp_path / "usr/share/postgresql/15"
    programs.mkdir(parents=True)
    assert ServerPrograms(programs, "15.18").folders == (str(programs.parent),)
    files.mkdir(parents=True)
    assert ServerPrograms(programs, "15.18").folders == (str(programs.parent), str(files))


@pytest.mark.parametrize("version", ["19rc1", "19beta2", "19devel", "19.1 (Debian 19.1-1.pgdg13+1)"])
def test_a_version_that_is_not_out_yet_is_one_of_its_major(tmp_path: Path, version: str) -> None:
    """Distributions have servers before they are released, and a drill of such a source takes one."""
    for program in SERVER:
        (tmp_path / program).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (tmp_path / program).chmod(0o755)
    found = find_server((tmp_path,), 19, "")
    assert (found.folder, found.major) == (tmp_path, 19)


def test_an_installation_in_one_folder_is_that_folder(tmp_path: Path) -> None:
    programs = tmp_path / "pginstall/bin"
    programs.mkdir(parents=True)
    assert ServerPrograms(programs, "17.10").folders == (str(programs.parent),)
