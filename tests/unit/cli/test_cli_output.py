"""Tables, amounts, and text that cannot steer a terminal."""

from datetime import timedelta

import pytest

from backupd.cli.output import TextTable, aligned, printable
from backupd.model.text import human_bytes, human_duration


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (742_000_000, "742 MB"),
        (999_600_000, "1.0 GB"),
        (5 * 10**13, "50.0 TB"),
    ],
)
def test_bytes_for_people(count, text):
    """Three digits and a decimal unit."""
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (4.21, "4.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (28 * 86400, "28 d")],
)
def test_durations_for_people(seconds, text):
    """As exact as anybody cares for."""
    assert human_duration(timedelta(seconds=seconds)) == text


def test_columns_are_aligned_and_nothing_is_cut():
    """Numbers to the right, text to the left, missing values as dashes."""
    table = TextTable(("table", "rows", "class"), [("public.a", 5, "uploaded"), ("public.longer", 1234567, None)])

    assert aligned(table) == [
        "table               rows  class",
        "public.a               5  uploaded",
        "public.longer  1 234 567  -",
    ]


def test_a_table_without_rows_is_its_headings():
    """Nothing is no fault."""
    assert aligned(TextTable(("a", "b"), [])) == ["a  b"]


def test_control_characters_are_spelt_out():
    """A table's name cannot clear the screen, or turn the text around."""
    assert printable("a\x1b[2J\u202eb\nc") == "a\\x1b[2J\\u202eb\\nc"
    assert printable("räume") == "räume"
