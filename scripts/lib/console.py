"""Output of the demo and the bench: numbered steps, commands as one types them, small tables."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence

_WIDTH = 96
_COLOURS = {"bold": "1", "dim": "2", "green": "32", "red": "31", "cyan": "36"}


class Voice:
    """Writes to standard output; in colour on a terminal, unless NO_COLOR is set."""

    def __init__(self) -> None:
        self._coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._step = 0

    def title(self, text: str) -> None:
        self._print(self._paint("bold", text))

    def step(self, text: str) -> None:
        """The heading of the next numbered step."""
        self._step += 1
        self._print("", self._paint("bold", f"{self._step:>2}  {text}"))

    def say(self, text: str) -> None:
        """A paragraph, filled."""
        self._print(*self._filled(text, "    "))

    def command(self, line: str) -> None:
        self._print(self._paint("cyan", f"    $ {line}"))

    def output(self, lines: Sequence[str]) -> None:
        """What a program printed."""
        self._print(*(self._paint("dim", "    │ ") + line for line in lines))

    def good(self, text: str) -> None:
        self._print(*(self._paint("green", line) for line in self._filled(text, "    ✓ ")))

    def bad(self, text: str) -> None:
        self._print(*(self._paint("red", line) for line in self._filled(text, "    ✗ ")))

    def table(
        self, headings: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()
    ) -> None:
        """Columns under headings; those in `right` hold numbers."""
        lines = [list(headings), *map(list, rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
        for place, line in enumerate(lines):
            cells = (cell.rjust(widths[n]) if n in right else cell.ljust(widths[n]) for n, cell in enumerate(line))
            text = "    " + "  ".join(cells).rstrip()
            self._print(self._paint("bold", text) if place == 0 else text)

    def _filled(self, text: str, lead: str) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), _WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead))

    def _paint(self, colour: str, text: str) -> str:
        return f"\033[{_COLOURS[colour]}m{text}\033[0m" if self._coloured else text

    def _print(self, *lines: str) -> None:
        print("\n".join(lines), flush=True)


def megabytes(count: float) -> str:
    """`12.3 MB`, and kilobytes below one."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def thousands(count: int) -> str:
    """`12 345`."""
    return f"{count:,}".replace(",", " ")
