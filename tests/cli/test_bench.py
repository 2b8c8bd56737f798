"""The bench, small: that it measures what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from doubles.paths import ROOT


def bench(*options):
    return subprocess.run(
        [ROOT / "scripts" / "bench", *options],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "BACKUPD_PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_measures_every_phase():
    """A small run gives plausible figures for first and second backup and restore, and ratios to the others'."""
    done = bench("--size", "6", "--tenants", "9", "--rounds", "1", "--only", "backupd,pg_dump", "--json")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    figures = {(one["contender"], one["phase"]): one for one in told["figures"]}
    first, second, restore = (figures["backupd", phase] for phase in ("first", "second", "restore"))
    (sample,) = told["samples"]
    assert sample["tenants"] == 9
    assert 5_000_000 < sample["bytes"] < 7_000_000
    assert 100_000 < second["sent"] < first["sent"] / 2 < sample["bytes"] / 2
    assert 0 < first["held"] < first["wall"]
    assert first["objects"] > 1
    assert all(
        one["cpu"] > 0.1 and one["wall"] > 0.1 and one["memory"] > 20_000_000 for one in (first, second, restore)
    )
    assert set(told["ratios"]["of-9"]) == {"second backup to pg_dump > /dev/null", "restore to pg_restore -j2"}


def test_it_sweeps_tenants_and_prints_markdown():
    """A database for each number of tenants, a table for each, and where, with what and when it was measured."""
    done = bench(
        *("--size", "1", "--tenants", "3,20", "--rounds", "1"),
        *("--only", "backupd,pg_dump", "--phases", "first", "--markdown"),
    )

    assert done.returncode == 0, done.stderr
    assert [line.rpartition(" rows of ")[2] for line in done.stdout.splitlines() if " rows of " in line] == [
        "3 tenants:",
        "20 tenants:",
    ]
    assert done.stdout.count("| first | backupd |") == 2
    assert "Measured on 20" in done.stdout
    assert "pg_dump 1" in done.stdout


def test_the_matrix_measures_what_is_chosen_and_names_what_is_not():
    """Every target has a row; what was left out says so, and smaller databases give no verdict."""
    done = bench("--matrix", "--scenarios", "rows,start,days", "--scale", "0.001", "--rounds", "1", "--json")

    assert done.returncode == 0, done.stderr
    targets = {one["what"]: one for one in json.loads(done.stdout)["targets"]}
    assert 0 < targets["backupd status, processor time"]["figure"] < 60_000
    assert targets["50,000 tenants of one small row: objects"]["figure"] > 1
    assert targets["purge after 30 days: bytes moved / bytes of changed files"]["figure"] > 0
    assert targets["50,000 tenants of one small row: first / the other build"]["why"] == (
        "before: no other build was given (--beside CHECKOUT)"
    )
    assert targets["700 MB, 500 tenants: first / pipe"]["why"] == "scenario main was not chosen"
    assert all(one["reached"] is None for one in targets.values())
    assert all((one["figure"] is None) == bool(one["why"]) for one in targets.values())


@pytest.fixture
def open_folder():
    """A temporary folder that the server's own user reaches, too."""
    with tempfile.TemporaryDirectory(prefix="backupd-test-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_an_interrupted_matrix_prints_what_it_knows_and_leaves_nothing(open_folder):
    """Rows that were not measured say so; servers and folders are gone."""
    command = [ROOT / "scripts" / "bench", "--matrix", "--scenarios", "start,rows", "--scale", "0.001"]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "BACKUPD_PYTHON": sys.executable}
    with subprocess.Popen(
        command, env=environment | {"TMPDIR": str(open_folder)}, stdout=subprocess.PIPE, text=True
    ) as process:
        said = ""
        while "backupd first" not in said:
            said = process.stdout.readline()
            assert said, "ended before it was interrupted"
        process.terminate()
        printed = process.stdout.read()

    assert process.returncode == 1
    assert "50,000 tenants of one small row: objects" in printed
    assert "interrupted" in next(line for line in printed.splitlines() if "backupd status" in line)
    assert list(open_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--only", "tar"), "tar: choose from backupd, pipe, pg_dump, pg_dump-Fd, restic, borg, pgbackrest"),
        (("--tenants", "10,none"), "'10,none': write numbers from 1 on"),
        (("--matrix", "--scenarios", "moon"), "moon: choose from main, many"),
    ],
)
def test_what_nobody_knows_is_refused(options, words):
    """The message says what may be written instead."""
    done = bench(*options)

    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
