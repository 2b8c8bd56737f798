"""Tables, amounts, and text that cannot steer a terminal."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from backupd.cli.output import TextTable, age, aligned, broken, print_prose, print_table, printable
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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "never"),
        (-7500, "2 h 5 min ago"),
        (30, "0.0 s ago"),
        (3 * 86400, "dated 3 d ahead of this clock"),
    ],
)
def test_an_age_is_never_negative(seconds, text):
    """Clocks differ a little; where they differ much, that is what is said."""
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert age(None if seconds is None else now + timedelta(seconds=seconds), now) == text


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_no_name_is_broken_on_a_narrow_terminal(columns, monkeypatch):
    """A row that does not fit is a block of lines; a name stands whole on one of them, to be copied."""
    monkeypatch.setenv("COLUMNS", columns)
    name, ident = "20261129T164646Z-6bbd617b44c4411a", "7431c7" * 5 + "ab"
    table = TextTable(("snapshot", "database", "tenant", "rows"), [(name, "app", ident, 1234567)] * 2)
    out = Terminal()

    print_table(table, out)

    assert sum(name in line for line in out.getvalue().splitlines()) == 2
    assert sum(ident in line for line in out.getvalue().splitlines()) == 2
    assert out.getvalue().count("1 234 567") == 2


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


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("short", ["short"]),
        ("", [""]),
        ("  two blanks, and more words", ["  two blanks, and", "    more words"]),
        ("say `backupd verify be` then", ["say", "  `backupd verify be`", "  then"]),
        ("a (`key rotate --dry`), b", ["a", "  (`key rotate --dry`),", "  b"]),
        ("/a/path/that/is/longer/than/all", ["/a/path/that/is/longer/than/all"]),
        ("one ` alone stays where it is", ["one ` alone stays", "  where it is"]),
    ],
)
def test_long_lines_are_broken_between_words(line, parts):
    """No word is: names and commands in backticks are there to be copied."""
    assert broken(line, 20) == parts


def test_only_a_terminal_gets_broken_lines():
    """A pipe has every line as it is, for programs and for grep."""
    terminal, pipe, line = Terminal(), io.StringIO(), "word " * 20 + "end"
    print_prose([line], terminal)
    print_prose([line], pipe)
    assert pipe.getvalue() == f"{line}\n"
    assert max(map(len, terminal.getvalue().splitlines())) <= 80
    assert terminal.getvalue().split() == line.split()
