"""Which of PostgreSQL's client programs are used: new enough for the server, and without flaws that were mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.errors import ConfigError
from backupd.postgres import client_programs
from backupd.postgres.client_programs import client, failure, find_programs


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
    [("14.22", "14.23"), ("15.17", "15.18"), ("16.13", "16.14"), ("17.9", "17.10"), ("18.3", "18.4")],
)
def test_programs_that_a_hostile_server_gets_into_are_refused(folder_of, flawed: str, mended: str) -> None:
    """The reason is said, and the version that has it no longer."""
    bad, major = folder_of(flawed), int(flawed.partition(".")[0])
    with pytest.raises(ConfigError, match=rf"of PostgreSQL {flawed}, and before {mended} .*CVE-2026-6477") as told:
        find_programs((bad,), major * 10000)
    assert told.value.hint == f"Update postgresql-client-{major}."
    good = folder_of(mended)
    assert find_programs((bad, good), major * 10000).folder == good


def test_programs_that_were_never_mended_serve_no_server(folder_of) -> None:
    """PostgreSQL 13 ended before; those of a newer major version read its servers."""
    old, newer = folder_of("13.23"), folder_of("14.23")
    with pytest.raises(ConfigError, match=r"of PostgreSQL 13\.23, and before 14\.23") as told:
        find_programs((old,), 130000)
    assert told.value.hint == "Install postgresql-client-14 or newer."
    assert find_programs((old, newer), 130000).folder == newer


def test_sound_programs_of_a_newer_major_version_are_taken_instead(folder_of) -> None:
    """What is too old for the server is no reason to speak of flaws."""
    bad, newer = folder_of("16.1"), folder_of("19.0")
    assert find_programs((bad, newer), 160000).folder == newer
    with pytest.raises(ConfigError, match="no client programs of PostgreSQL 17 or newer"):
        find_programs((bad,), 170000)


def test_a_program_is_asked_for_its_version_once_until_it_is_another(folder_of) -> None:
    """A command chooses its programs several times, and each answer takes the start of a process."""
    folder = folder_of("18.4")
    program, asked = folder / "pg_dump", folder / "asked"
    for version, times in ((4, 1), (5, 2)):
        (folder / "new").write_text(f"#!/bin/sh\necho once >> '{asked}'\necho 'pg_dump (PostgreSQL) 18.{version}'\n")
        (folder / "new").chmod(0o755)
        (folder / "new").rename(program)
        assert {find_programs((folder,), 180000).version for _ in range(3)} == {(18, version)}
        assert asked.read_text().count("once") == times


def test_a_program_has_the_options_of_its_database_before_ours(folder_of) -> None:
    """Of two that say the same, the later one rules. Nothing of it stands in the environment, which names a file."""
    programs = find_programs((folder_of("17.10"),), 170000)
    with client(programs, {"options": "-c jit=on"}, "-c jit=off") as started:
        assert "options=-c jit=on -c jit=off\n" in Path(started.environment["PGSERVICEFILE"]).read_text()
        assert "PGOPTIONS" not in started.environment


def test_a_programs_warnings_are_not_taken_for_the_reason_of_its_end() -> None:
    """A setting of the database that the role may not have is warned of, in the words of a privilege that lacks."""
    words = (
        b'WARNING:  permission denied to set role "marker"\npg_dump: error: server closed the connection unexpectedly'
    )
    assert failure("pg_dump", 1, words).message == "pg_dump failed: the connection to PostgreSQL broke"
