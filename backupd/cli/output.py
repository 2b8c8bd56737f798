"""The form of everything that is printed: one JSON object for programs, or lines and tables for people.

A failure is a sentence or a JSON object, and an exit status.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TextIO

import msgspec

from backupd.errors import BackupdError, EndingError
from backupd.model.text import human_bytes, human_duration

if TYPE_CHECKING:
    from backupd.model.answers import ErrorAnswer

__all__ = [
    "Cell",
    "TextTable",
    "age",
    "aligned",
    "as_object",
    "exit_code",
    "fact_lines",
    "failure_lines",
    "human_bytes",
    "human_duration",
    "print_json",
    "print_lines",
    "print_prose",
    "print_table",
    "printable",
    "report",
    "unnamed_lines",
]

Cell = str | int | None
_WIDTH = 80
_PIECE = re.compile(r"\s*(?:[^\s`]|`[^`]*`|`)+")
"""A word with the blanks before it; what stands in backticks counts as one."""


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of rows under headings; numbers stand at the right of their column."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def print_json(facts: object) -> None:
    """Print one object on one line, stable for programs: keys are only ever added."""
    _print(msgspec.json.encode(facts).decode())


def print_lines(lines: Iterable[str], out: TextIO | None = None) -> None:
    """Print lines, without `out` to standard output; control characters in them are spelt out."""
    for line in lines:
        _print(printable(line), out)


def _print(line: str, out: TextIO | None = None) -> None:
    try:
        print(line, file=out or sys.stdout)
    except BrokenPipeError:
        raise
    except OSError as error:
        if out in (None, sys.stdout):
            raise unwritten(error) from error
        raise


def unwritten(error: OSError) -> BackupdError:
    """Return the error of a standard output that takes nothing, as a file on a full disk."""
    return BackupdError(
        f"standard output cannot be written: {(error.strerror or 'unknown error').lower()}",
        hint="What it was to hold is incomplete; have it go to where there is room.",
    )


def print_prose(lines: Iterable[str], out: TextIO | None = None) -> None:
    """Print lines; a terminal gets those that are longer than it is wide broken between words.

    What stands in backticks is a command to copy, and stays in one piece.
    """
    stream = out or sys.stdout
    if not stream.isatty():
        print_lines(lines, stream)
        return
    width = _columns(stream)
    print_lines((part for line in lines for part in broken(line, width)), stream)


def broken(line: str, width: int) -> list[str]:
    """Return the line in parts of at most `width` characters where its words allow that, all but the first indented."""
    parts, begun = list[str](), ""
    further = " " * (len(line) - len(line.lstrip()) + 2)
    for piece in _PIECE.findall(line):
        if begun.strip() and len(begun) + len(piece) > width:
            parts.append(begun)
            begun = further + piece.lstrip()
        else:
            begun += piece
    return [*parts, begun]


def _columns(stream: TextIO) -> int:
    """Return the width of a terminal; 80 where it does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _WIDTH
    except (OSError, ValueError):
        return _WIDTH


def print_table(table: TextTable, out: TextIO | None = None) -> None:
    """Print a drawn table on a terminal that is wide enough for it, else one block a row; aligned columns elsewhere.

    No cell is ever broken over lines: names are there to be copied.
    """
    stream = out or sys.stdout
    if stream.isatty():
        _draw(table, stream)
    else:
        print_lines(aligned(table), stream)


def fact_lines(facts: Mapping[str, Cell]) -> list[str]:
    """Return a line `name  value` for each fact, with all values in one column."""
    width = max(map(len, facts), default=0)
    return [f"{name:<{width}}  {_text(value)}" for name, value in facts.items()]


def age(instant: datetime | None, now: datetime) -> str:
    """Return how long ago something was; what is dated more than a minute ahead says that a clock is wrong."""
    if instant is None:
        return "never"
    if instant - now > timedelta(minutes=1):
        return f"dated {human_duration(instant - now)} ahead of this clock"
    return f"{human_duration(max(timedelta(), now - instant))} ago"


def aligned(table: TextTable) -> list[str]:
    """Return the table as plain lines, two blanks between columns, nothing cut off."""
    texts = [list(table.headings), *([_text(cell) for cell in row] for row in table.rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(table.headings))]
    right = [_is_numeric(table, column) for column in range(len(table.headings))]
    return [
        "  ".join(
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in texts
    ]


def printable(text: str) -> str:
    """Return the text with control characters spelt out, so that a name cannot steer the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def blocks(table: TextTable) -> Iterator[str]:
    """Write each row as lines of heading and cell, with an empty line between two rows."""
    width = max(map(len, table.headings), default=0)
    for number, row in enumerate(table.rows):
        if number:
            yield ""
        for heading, cell in zip(table.headings, row, strict=True):
            yield f"{heading:<{width}}  {_text(cell)}"


def _draw(table: TextTable, stream: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

    console = Console(file=stream)
    drawn = Drawn(box=None, header_style="bold", pad_edge=False)
    for column, heading in enumerate(table.headings):
        drawn.add_column(heading, justify="right" if _is_numeric(table, column) else "left", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*(Text(printable(_text(cell))) for cell in row))
    if max(map(len, aligned(table)), default=0) <= console.width:
        console.print(drawn)
    else:
        print_lines(blocks(table), stream)


def _is_numeric(table: TextTable, column: int) -> bool:
    return bool(table.rows) and all(isinstance(row[column], int | None) for row in table.rows)


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:,}".replace(",", " ") if isinstance(cell, int) else cell


_BUG_HINT = "This is a fault in backupd; report the lines above. They hold no data of yours."


def report(error: BaseException, *, as_json: bool) -> int:
    """Print the failure and return its exit status."""
    if as_json:
        from backupd.model.answers import FailedAnswer

        print_json(FailedAnswer(error=as_object(error)))
    elif isinstance(error, EndingError):
        print_prose(_lines(error), sys.stderr)
    else:
        print_lines([*_frames(error), f"backupd: internal error: {type(error).__name__}", f"  {_BUG_HINT}"], sys.stderr)
    return exit_code(error)


def failure_lines(error: EndingError, where: str) -> list[str]:
    """Return the text of one of several failures, with the place where it happened."""
    return _lines(error, f"backupd: {where}")


def unnamed_lines(keepers: Iterable[str]) -> list[str]:
    """Return the warning about each trusted keeper, 64 hex digits, that a repository does not name."""
    return [
        line
        for key in keepers
        for line in (
            f"  warning: the repository does not name the keeper {key}",
            "    It is one of trust.keepers, and joined after `init`. Nothing is damaged, but `recover` needs this key",
            "    as --keeper until `backupd store accept STORE --reason REFERENCE` names it.",
        )
    ]


def exit_code(error: BaseException) -> int:
    """Return the exit status of a run that ends with this error: 1 for a fault of backupd itself."""
    return error.exit_code if isinstance(error, EndingError) else 1


def as_object(error: BaseException) -> ErrorAnswer:
    """Return the failure as `--json` prints it."""
    from backupd.model.answers import ErrorAnswer, FaultAnswer, of_value

    if not isinstance(error, EndingError):
        return ErrorAnswer(
            kind="internal",
            exit_code=1,
            message=f"internal error: {type(error).__name__}",
            hint=_BUG_HINT,
            retryable=False,
            frames=tuple(_frames(error)),
        )
    faults = getattr(error, "faults", None)
    return ErrorAnswer(
        kind=type(error).__name__.removesuffix("Error"),
        exit_code=error.exit_code,
        message=error.message,
        hint=error.hint,
        retryable=error.retryable,
        faults=msgspec.UNSET if faults is None else tuple(of_value(fault, FaultAnswer) for fault in faults),
    )


def _lines(error: EndingError, prefix: str = "backupd") -> list[str]:
    lines = [f"{prefix}: {error.message}"]
    for fault in getattr(error, "faults", ()):
        name = f"{fault.key}: " if fault.key else ""
        lines.append(f"  {fault.place}{name}{fault.message}")
        if fault.hint:
            lines.append(f"    {fault.hint}")
    return [*lines, f"  {error.hint}"] if error.hint else lines


def _frames(error: BaseException) -> list[str]:
    """Return the places in the code where the error passed; never its message, which may quote a row or a secret."""
    return [
        f"  {frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__, limit=-12)
    ]
