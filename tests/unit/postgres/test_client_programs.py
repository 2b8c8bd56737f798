"""Which of PostgreSQL's client programs are used: new enough for the server, and without flaws that were mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.errors import ConfigError
from backupd.postgres import client_programs
from backupd.postgres.client_programs import find_programs


@pytest.fixture
def folder_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a folder of programs that say they are of this version; no others are found."""

    def make(version: str) -> Path:
        folder = tmp_path / version
        folder.mkdir()
        for name in client_programs.PROGRAMS:
            (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
            (folder / name).chmod(0o755)
        return folder

    monkeypatch.setattr(client_programs, "program_folders", lambda folders, _: iter(folders))
    return make


@pytest.mark.parametrize(
    ("flawed", "mended"),
    [("13.21", "13.22"), ("14.18", "14.19"), ("15.13", "15.14"), ("16.9", "16.10"), ("17.5", "17.6")],
)
def test_programs_whose_output_could_hold_an_owners_commands_are_refused(folder_of, flawed: str, mended: str) -> None:
    """The reason is said, and the version that has it no longer."""
    bad, major = folder_of(flawed), int(flawed.partition(".")[0])
    with pytest.raises(ConfigError, match=rf"of PostgreSQL {flawed}, and before {mended} .*CVE-2025-8714") as told:
        find_programs((bad,), major * 10000)
    assert told.value.hint == f"Update postgresql-client-{major}."
    good = folder_of(mended)
    assert find_programs((bad, good), major * 10000).folder == good


def test_sound_programs_of_a_newer_major_version_are_taken_instead(folder_of) -> None:
    """What is too old for the server is no reason to speak of flaws."""
    bad, newer = folder_of("16.1"), folder_of("18.0")
    assert find_programs((bad, newer), 160000).folder == newer
    with pytest.raises(ConfigError, match="no client programs of PostgreSQL 17 or newer"):
        find_programs((bad,), 170000)
