"""Every topic of the manual can be read at 80 columns, and says there what it says elsewhere."""

from __future__ import annotations

import re

import pytest

from backupd.cli import application
from backupd.cli.commands.manual import text_of, topics
from backupd.cli.manual_text import fitted, manual_blocks, needed_width

TABLE = (
    """| key | type | meaning |
|---|---|---|
| `a` | number | how many, where "a \\| b" is one cell |
| `b` | text | """
    + "words " * 20
    + """|
"""
)


@pytest.mark.parametrize("topic", topics())
def test_no_line_of_a_topic_is_wider_than_80_columns(topic: str) -> None:
    """But those that hold one long word, and those of code, which are as long as they have to be."""
    text = text_of(application.build(), topic)
    code = {line for block in manual_blocks(text) if block.kind == "code" for line in block.lines}

    wide = [line for line in fitted(text, 80) if len(line) > 80 and line not in code and " " in line.strip()]

    assert [line for line in wide if max(map(len, line.split())) < 60] == []


@pytest.mark.parametrize("topic", topics())
def test_no_word_of_a_topic_is_lost(topic: str) -> None:
    """What is laid out in another way says the same."""
    text = text_of(application.build(), topic)

    def words(lines: str) -> set[str]:
        return {word for word in re.split(r"[\s|\\]+", lines) if word and not re.fullmatch("[-*|:]+", word)}

    assert words(text) <= words("\n".join(fitted(text, 80)))


def test_a_table_that_does_not_fit_is_one_block_a_row() -> None:
    """Each cell behind its heading, wrapped beside it."""
    lines = list(fitted(TABLE, 44))

    assert lines[:2] == ["key        `a`", "  type     number"]
    assert lines[2:4] == ['  meaning  how many, where "a | b" is one', "           cell"]
    assert lines[4:7] == ["", "key        `b`", "  type     text"]
    assert all(len(line) <= 44 for line in lines)
    assert lines[8].startswith("           words")


def test_cells_are_wrapped_where_their_words_fit_beside_each_other() -> None:
    """Columns are aligned, no word is broken, and no line is wider than it may be."""
    cell = "one two three four five six seven eight nine ten"
    lines = list(fitted(f"| n | meaning |\n|---|---|\n| 1 | {cell} |\n| 22 | five |\n", 41))

    assert lines == [
        f"| n  | {'meaning':<32} |",
        f"|----|{'-' * 34}|",
        f"| 1  | {'one two three four five six':<32} |",
        f"|    | {'seven eight nine ten':<32} |",
        f"| 22 | {'five':<32} |",
    ]


def test_a_table_that_fits_stays_a_table() -> None:
    """As it was written, for programs and for people."""
    short = "\n".join(TABLE.splitlines()[:3])

    assert list(fitted(short, 80)) == short.splitlines()


def test_what_a_table_needs_is_its_longest_words() -> None:
    """Words are never broken; sentences are, where the last column stays wide enough to read."""
    (block,) = manual_blocks(TABLE)

    assert needed_width(block) == len("`a`") + len("number") + 32 + 10


def test_items_and_code_stay_what_they_are() -> None:
    """Each item begins a line, its text goes on under its text; code is not touched."""
    text = "One two three.\n\n- first item of a list\n- second\n\n```sh\n" + "x" * 99 + "\n```\n"

    assert list(fitted(text, 16)) == [
        "One two three.", "", "- first item of", "  a list", "- second", "", "```sh", "x" * 99, "```",
    ]  # fmt: skip
