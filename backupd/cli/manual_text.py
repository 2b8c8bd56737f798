"""Markdown of the manual laid out for a width: prose wrapped, and each table that is too wide as one block a row."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

_ITEM = re.compile(r"(\s*)([-*]|\d+\.) ")
_READABLE = 32
"""Columns that the last cell of a row has at least, if it fills them."""
_CELLS = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class ManualBlock:
    """Some lines of a topic that belong together."""

    lines: tuple[str, ...]
    kind: str
    """`table`, `code` (fenced or indented), `heading` or `prose`."""


def manual_blocks(text: str) -> Iterator[ManualBlock]:
    """Yield the blocks of a Markdown text, in order; empty lines between them are left out."""
    lines, fenced = list[str](), False
    for line in [*text.splitlines(), ""]:
        if fenced or line.startswith("```"):
            if not fenced:
                yield from _ended(lines)
            lines.append(line)
            if line.startswith("```"):
                fenced = not fenced
                if not fenced:
                    yield ManualBlock(tuple(lines), "code")
                    lines.clear()
            continue
        if not line.strip() or _kind(line) != (_kind(lines[0]) if lines else _kind(line)) or _begins(line):
            yield from _ended(lines)
        if line.strip():
            lines.append(line)


def fitted(text: str, width: int) -> Iterator[str]:
    """Yield the lines of a Markdown text, none wider than `width` but code and single words."""
    before = ""
    for block in manual_blocks(text):
        item = block.kind == "prose" and _ITEM.match(block.lines[0]) is not None
        if before and not (item and before == "item"):
            yield ""
        yield from fitted_block(block, width)
        before = "item" if item else block.kind


def fitted_block(block: ManualBlock, width: int) -> Iterator[str]:
    """Yield the lines of one block."""
    if block.kind == "table":
        if max(map(len, block.lines)) <= width:
            yield from block.lines
        else:
            yield from _squeezed(block, width) if needed_width(block) <= width else _rows(block, width)
    elif block.kind == "prose":
        yield from _wrapped(block, width)
    elif block.kind == "heading":
        mark = block.lines[0].partition(" ")[0]
        yield from textwrap.wrap(block.lines[0], width, subsequent_indent=f"{mark} ", break_on_hyphens=False)
    else:
        yield from block.lines


def needed_width(block: ManualBlock) -> int:
    """Return the width below which a table would break words, or its last column would be too narrow to read."""
    columns = list(zip(*map(_cells, (block.lines[0], *block.lines[2:])), strict=True))
    longest = [max((len(word) for cell in column for word in cell.split()), default=0) for column in columns]
    longest[-1] = max(longest[-1], min(_READABLE, max(map(len, columns[-1]))))
    return sum(longest) + 3 * len(longest) + 1


def _squeezed(block: ManualBlock, width: int) -> Iterator[str]:
    """Yield a table whose cells are wrapped within columns that together are as wide as there is room for."""
    headings, _, *rows = (_cells(line) for line in block.lines)
    columns = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    least = [
        max(len(word) for cell in column for word in [*cell.split(), ""])
        for column in zip(headings, *rows, strict=True)
    ]
    while sum(columns) + 3 * len(columns) + 1 > width:
        place = max(range(len(columns)), key=lambda at: columns[at] - least[at])
        columns[place] -= 1
    for number, row in enumerate([headings, *rows]):
        wrapped = [
            textwrap.wrap(cell, column, break_long_words=False, break_on_hyphens=False) or [""]
            for cell, column in zip(row, columns, strict=True)
        ]
        for line in range(max(map(len, wrapped))):
            cells = [cell[line] if line < len(cell) else "" for cell in wrapped]
            yield "| " + " | ".join(f"{cell:<{column}}" for cell, column in zip(cells, columns, strict=True)) + " |"
        if not number:
            yield "|" + "|".join("-" * (column + 2) for column in columns) + "|"


def _rows(block: ManualBlock, width: int) -> Iterator[str]:
    """Yield each row as lines of heading and cell, the first further left than the others."""
    headings, _, *rows = (_cells(line) for line in block.lines)
    names = [headings[0], *(f"  {heading}" for heading in headings[1:])]
    column = max(map(len, names))
    for number, row in enumerate(rows):
        if number:
            yield ""
        for name, cell in zip(names, row, strict=False):
            yield from textwrap.wrap(
                cell or "-",
                width,
                initial_indent=f"{name:<{column}}  ",
                subsequent_indent=" " * (column + 2),
                break_long_words=False,
                break_on_hyphens=False,
            )


def _wrapped(block: ManualBlock, width: int) -> list[str]:
    item = _ITEM.match(block.lines[0])
    return textwrap.wrap(
        " ".join(line.strip() for line in block.lines),
        width,
        initial_indent=item[1] if item else "",
        subsequent_indent=" " * len(item[0]) if item else "",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in _CELLS.split(line.strip())[1:-1]]


def _ended(lines: list[str]) -> Iterator[ManualBlock]:
    if lines:
        yield ManualBlock(tuple(lines), _kind(lines[0]))
        lines.clear()


def _begins(line: str) -> bool:
    """Say whether a line begins a block even without an empty line before it."""
    return line.startswith("#") or _ITEM.match(line) is not None


def _kind(line: str) -> str:
    if line.startswith("|"):
        return "table"
    if line.startswith("#"):
        return "heading"
    return "code" if line.startswith("    ") and not _ITEM.match(line) else "prose"
